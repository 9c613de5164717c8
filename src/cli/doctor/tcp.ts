import type { TcpListener } from '../../policy/policy.js';
import { either } from '../../policy/found.js';
import { type Finding, ok } from './finding.js';

/** What a tcp listener passes on, and for whom. Nothing is connected: the service behind would take it for a caller. */
export function lookAtTcp({ name, bind, lastPort, upstream, ...listener }: TcpListener): Finding[] {
  const { allowFrom, from, clientCertificates, anyOf, inner, tls } = listener;
  const range = lastPort === bind.port ? '' : `-${lastPort}`;
  const host = bind.host.includes(':') ? `[${bind.host}]` : bind.host;
  const who = [
    ...(allowFrom === null
      ? []
      : [`from ${either(allowFrom.texts.slice(0, 4))}${allowFrom.texts.length > 4 ? ', …' : ''}`]),
    ...(from === null ? [] : [`for clients at ${either(from.texts.slice(0, 4))}${from.texts.length > 4 ? ', …' : ''}`]),
    ...(clientCertificates === null
      ? []
      : [`with a certificate of ${clientCertificates.name} that has ${either(anyOf)}`]),
  ];
  const how = tls !== null ? 'TLS' : inner !== null ? `${inner} inside` : 'as it is';
  return [
    ok(
      `tcp ${name}`,
      `${host}:${bind.port}${range} goes on to ${upstream.name}, ${how}, ${who.length === 0 ? 'for anybody who reaches it' : who.join(', ')}`,
    ),
  ];
}
