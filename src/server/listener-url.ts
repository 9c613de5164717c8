import type { AddressInfo } from 'node:net';
import type { Listener } from '../policy/policy.js';

/** `https://192.168.1.10:7833`, `tcp://192.168.1.10:9000-9099`, `tls://…`. */
export function urlOf(listener: Listener, { address, port }: AddressInfo): string {
  if (listener.bind.path !== undefined) return `unix:${listener.bind.path}`;
  const at = hostPort(address, port);
  if (listener.type === 'redirect') return `http://${at}`;
  if (listener.type === 'http') return `${listener.tls === null ? 'http' : 'https'}://${at}`;
  const range = listener.lastPort === listener.bind.port ? '' : `-${String(listener.lastPort)}`;
  return `${listener.tls === null ? 'tcp' : 'tls'}://${at}${range}`;
}

export function hostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${String(port)}`;
}
