import type { Socket } from 'node:net';
import type { Address } from '../net/address.js';
import { type ProxiedConnection, readProxyHeader } from '../net/proxy-protocol.js';
import type { HttpListener, TcpListener } from '../policy/policy.js';

export type HeaderRead =
  | { readonly ok: true; readonly proxied: ProxiedConnection | null }
  | { readonly ok: false; readonly reason: 'proxy_header_malformed' | 'proxy_header_timeout' };

/** The PROXY headers that trusted proxies begin their connections with, read before TLS, and before HTTP. */
export class ProxyHeaders {
  /** Another one after a reload. */
  listener: HttpListener | TcpListener;
  /** Sockets whose header is not here yet. */
  readonly #waiting = new Set<Socket>();
  /** What TLS makes of a socket is another one, which has the same two ends. */
  readonly #byEnds = new Map<string, ProxiedConnection>();

  constructor(listener: HttpListener | TcpListener) {
    this.listener = listener;
  }

  /** Must it send one. Of anybody else a header is what they say of themselves, and not read. */
  expectsOf(peer: Address): boolean {
    return this.listener.trustedProxies.has(peer);
  }

  /**
   * Reads the header and leaves what follows to be read.
   * @param done called once, unless the proxy leaves without having said anything: that is how it looks whether we are there
   */
  read(socket: Socket, done: (read: HeaderRead) => void): void {
    let held: Buffer = Buffer.alloc(0);
    this.#waiting.add(socket);
    const settle = (): void => {
      clearTimeout(timer);
      this.#waiting.delete(socket);
      socket.off('readable', onReadable);
      socket.off('end', onEnd);
    };
    const finish = (read: HeaderRead): void => {
      settle();
      done(read);
    };
    const onReadable = (): void => {
      for (let chunk = take(socket); chunk !== null; chunk = take(socket)) {
        held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
        const header = readProxyHeader(held);
        if (header.kind === 'more') continue;
        if (header.kind === 'malformed') {
          finish({ ok: false, reason: 'proxy_header_malformed' });
          return;
        }
        const { connection } = header;
        if (connection !== null) this.#remember(socket, connection);
        settle();
        const rest = held.subarray(header.length);
        if (rest.length > 0) socket.unshift(rest);
        done({ ok: true, proxied: connection });
        return;
      }
    };
    const onEnd = (): void => {
      if (held.length > 0) finish({ ok: false, reason: 'proxy_header_malformed' });
      else {
        settle();
        socket.destroy();
      }
    };
    const timer = setTimeout(() => {
      finish({ ok: false, reason: 'proxy_header_timeout' });
    }, this.listener.timeouts.headMs);
    socket.on('error', () => undefined);
    socket.once('close', settle);
    socket.on('readable', onReadable);
    socket.on('end', onEnd);
  }

  /** What was said of it before its TLS began. */
  proxied(socket: Socket): ProxiedConnection | null {
    return this.#byEnds.get(endsOf(socket)) ?? null;
  }

  /** Ends those that have not said yet who they are for. */
  stop(): void {
    for (const socket of [...this.#waiting]) socket.destroy();
  }

  #remember(socket: Socket, connection: ProxiedConnection): void {
    if (this.listener.tls === null) return;
    const ends = endsOf(socket);
    this.#byEnds.set(ends, connection);
    socket.once('close', () => {
      this.#byEnds.delete(ends);
    });
  }
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return [remoteAddress, remotePort, localAddress, localPort].join(' ');
}

/** Sockets give bytes, whatever the type of streams says. */
function take(socket: Socket): Buffer | null {
  return socket.read() as Buffer | null;
}
