import { constants as cryptoConstants } from 'node:crypto';
import { once } from 'node:events';
import type { ServerHttp2Session } from 'node:http2';
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { type SecureContextOptions, type TLSSocket, type TlsOptions, createServer as createTlsServer } from 'node:tls';
import type { DenialReason } from '../denial.js';
import { peerAllowed } from '../gate/admit.js';
import { formatAddress, parsePeerAddress } from '../net/address.js';
import type { ProxiedConnection } from '../net/proxy-protocol.js';
import type { HttpListener, Listener, RedirectListener, TcpListener } from '../policy/policy.js';
import type { SniContexts } from './certificate.js';
import { clientCertificateOptions, readClientCertificate } from './client-certificate.js';
import type { Caller, ClientCertificate } from '../identity/caller.js';
import { ConnectionsPerAddress } from './connections-per-address.js';
import type { Surroundings } from './handle.js';
import { type Http1Hooks, http1Server } from './http1.js';
import { http2Server } from './http2.js';
import { ProxyHeaders } from './proxy-headers.js';
import { redirectServer } from './redirect.js';
import { speakTcp } from './tcp.js';

/** Who was refused, as far as it is known. */
export interface Refused {
  /** Canonical form; after trusted proxies. */
  readonly client: string;
  /** Null: nobody proved to be anybody. */
  readonly identity: string | null;
}

/** What happens to connections before there is a request; counted and logged by whoever listens to this. */
export interface ConnectionEvents {
  opened(listener: string): void;
  closed(listener: string): void;
  /** A connection was refused, before a request of it was read or a byte of it passed on. */
  refused(listener: string, reason: DenialReason, peer: string | null, who?: Refused): void;
  /** Bytes of a client, and to it, that a tcp listener passed on. */
  passed(listener: string, bytesIn: number, bytesOut: number): void;
  tlsFailed(listener: string, peer: string | null, code: string): void;
  /** A client certificate that OpenSSL does not accept, and its code for why. The connection goes on without it. */
  certificateRefused(listener: string, peer: string | null, code: string): void;
  unreadable(
    listener: string,
    peer: Caller | null,
    scheme: 'http' | 'https',
    reason: DenialReason,
    requestId: string,
    /** Answers, when what is to be recorded of it is. */
    send: () => void,
  ): void;
}

export interface OpenListener {
  readonly listener: Listener;
  /** Of its first port. */
  readonly address: AddressInfo;
  /** Takes no new connections and closes those with nothing to do. */
  drain(): void;
  /** Resolves when the last connection is gone. */
  readonly ended: Promise<void>;
  /** Closes whatever is left. */
  destroy(): void;
}

/** TLS 1.2 at least, no renegotiation (CVE-2011-1473); Node has no 0-RTT for servers. */
export const TLS_OPTIONS: Readonly<TlsOptions> = Object.freeze({
  minVersion: 'TLSv1.2',
  honorCipherOrder: true,
  secureOptions: cryptoConstants.SSL_OP_NO_RENEGOTIATION,
});

/** What every TLS context of a listener needs besides its certificate. */
export function contextOptions(listener: HttpListener | TcpListener): SecureContextOptions {
  const { clientCertificates } = listener;
  return clientCertificates === null
    ? {}
    : clientCertificateOptions(clientCertificates, cryptoConstants.SSL_OP_NO_RENEGOTIATION);
}

/** Opens one listener of the policy, on all of its ports. Rejects with the system's error when one can't be had. */
export async function openListener(
  listener: Listener,
  tls: SniContexts | null,
  around: Surroundings,
  events: ConnectionEvents,
): Promise<OpenListener> {
  const callers = new WeakMap<Duplex, Caller>();
  const scheme = tls === null ? 'http' : 'https';
  const hooks: Http1Hooks = {
    peerOf: (socket) => callers.get(socket) ?? null,
    unreadable: (peer, at, reason, requestId, send) => {
      events.unreadable(listener.name, peer, at, reason, requestId, send);
    },
  };
  const speaker = speakerOf(listener, scheme, around, events, hooks);
  const accept = (socket: Socket, caller: Caller, nth: number): void => {
    callers.set(socket, caller);
    speaker.accept(socket, caller, nth);
  };

  const sockets = new Set<Socket>();
  const perAddress = new ConnectionsPerAddress(listener);
  const headers = listener.type !== 'redirect' && listener.proxyProtocol ? new ProxyHeaders(listener) : null;
  const secure = tls === null || listener.type === 'redirect' ? null : secureServer(listener, tls, events);
  secure?.on('secureConnection', (socket) => {
    const certificate = certificateOf(socket, listener, events);
    const caller = callerAt(socket, certificate, headers?.proxied(socket) ?? null);
    socket.allowHalfOpen = true;
    if (caller === null) socket.destroy();
    else accept(socket, caller, nthPort(listener, socket));
  });
  const begin = (socket: Socket, caller: Caller, nth: number): void => {
    if (secure === null) {
      accept(socket, caller, nth);
      return;
    }
    // Who leaves in the middle of the handshake has left: half open, the socket would wait for the time-out, and so
    // would a drain. What TLS makes of this socket takes the setting over.
    socket.allowHalfOpen = false;
    secure.emit('connection', socket);
  };
  const refuse = (socket: Socket, reason: DenialReason, peer: string | null, who?: Refused): void => {
    events.refused(listener.name, reason, peer, who);
    socket.on('error', () => undefined);
    socket.resetAndDestroy();
  };
  /** Counts it among those of its address until it is closed. */
  const counted = (socket: Socket, from: Pick<Caller, 'address' | 'text'>): boolean => {
    const place = perAddress.take(from);
    if (place === null) return false;
    socket.once('close', () => {
      perAddress.giveBack(place);
    });
    return true;
  };
  const connected = (socket: Socket, nth: number): void => {
    const peer = callerAt(socket, null, null);
    // It has left already, as those do who only look whether we are there.
    if (peer === null) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    // Before TLS costs anything. A stranger is told nothing, not even that there is TLS.
    if (!peerAllowed(listener, peer.address)) {
      refuse(socket, 'address_denied', peer.text);
      return;
    }
    // The system counts for each port by itself.
    if (sockets.size >= listener.limits.connections) {
      refuse(socket, 'connections_exhausted', peer.text);
      return;
    }
    if (!counted(socket, peer)) {
      refuse(socket, 'connections_per_address_exhausted', peer.text);
      return;
    }
    events.opened(listener.name);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      events.closed(listener.name);
    });
    if (headers?.expectsOf(peer.address) !== true) {
      begin(socket, peer, nth);
      return;
    }
    headers.read(socket, (read) => {
      if (!read.ok) {
        refuse(socket, read.reason, peer.text);
        return;
      }
      const { proxied } = read;
      const source = proxied?.source.address ?? null;
      const from = source === null ? null : { address: source, text: formatAddress(source) };
      if (from !== null && !counted(socket, from)) {
        refuse(socket, 'connections_per_address_exhausted', peer.text, { client: from.text, identity: null });
        return;
      }
      begin(socket, { ...peer, proxied }, nth);
    });
  };

  const fronts: Server[] = [];
  const close = (): void => {
    for (const front of fronts) front.close();
  };
  const { host, port } = listener.bind;
  const count = listener.type === 'tcp' ? listener.lastPort - port + 1 : 1;
  for (let nth = 0; nth < count; nth += 1) {
    const front = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
    front.maxConnections = listener.limits.connections;
    front.on('drop', (data) => {
      events.refused(listener.name, 'connections_exhausted', data?.remoteAddress ?? null);
    });
    front.on('connection', (socket: Socket) => {
      connected(socket, nth);
    });
    try {
      await listen(front, host, port + nth);
    } catch (error) {
      close();
      throw error;
    }
    fronts.push(front);
  }
  const ended = Promise.all(fronts.map((front) => once(front, 'close'))).then(() => undefined);
  return {
    listener,
    address: fronts[0]?.address() as AddressInfo,
    drain: () => {
      close();
      headers?.stop();
      speaker.drain();
    },
    ended,
    destroy: () => {
      close();
      // Those that can say why they end do so before their sockets go.
      if (listener.type === 'tcp') speaker.stop();
      for (const socket of sockets) socket.destroy();
      speaker.stop();
    },
  };
}

/** Which of the listener's ports it came to, from 0. */
function nthPort({ bind, type }: Listener, { localPort }: Socket): number {
  // Any port that is free is the only one.
  return type !== 'tcp' || bind.port === 0 || localPort === undefined ? 0 : localPort - bind.port;
}

function speakerOf(
  listener: Listener,
  scheme: 'http' | 'https',
  around: Surroundings,
  events: ConnectionEvents,
  hooks: Http1Hooks,
): Speaker {
  switch (listener.type) {
    case 'http':
      return speakHttp(listener, scheme, around, hooks);
    case 'redirect':
      return speakRedirect(listener, around, hooks);
    case 'tcp':
      // Sessions go on until they end, or until the drain does.
      return { ...speakTcp(listener, around, events), drain: () => undefined };
  }
}

/** Null when the socket has already lost its other end. */
function callerAt(
  socket: Socket,
  certificate: ClientCertificate | null,
  proxied: ProxiedConnection | null,
): Caller | null {
  const address = parsePeerAddress(socket.remoteAddress);
  return address === null ? null : { address, text: formatAddress(address), certificate, proxied };
}

/** What the client showed in its handshake, where it was asked to. */
function certificateOf(socket: TLSSocket, listener: Listener, events: ConnectionEvents): ClientCertificate | null {
  if (listener.type === 'redirect' || listener.clientCertificates === null) return null;
  const shown = readClientCertificate(socket);
  if (shown.kind === 'none') return null;
  if (shown.refusal !== null) events.certificateRefused(listener.name, socket.remoteAddress ?? null, shown.refusal);
  return shown.certificate;
}

/** What takes connections over once they are let in (and their TLS is up). */
interface Speaker {
  /** @param nth of the listener's ports, from 0 */
  accept(socket: Socket, peer: Caller, nth: number): void;
  drain(): void;
  /** Ends its timers. */
  stop(): void;
}

function speakHttp(listener: HttpListener, scheme: 'http' | 'https', around: Surroundings, hooks: Http1Hooks): Speaker {
  const sessions = new Set<ServerHttp2Session>();
  const plain = new Set<Socket>();
  const http1 = http1Server(listener, scheme, around, hooks);
  const http2 = http2Server(listener, around, {
    sessionOpened: (session) => {
      sessions.add(session);
      session.once('close', () => {
        sessions.delete(session);
      });
    },
  });
  return {
    accept: (socket, peer) => {
      if ('alpnProtocol' in socket && socket.alpnProtocol === 'h2') {
        // A connection of many streams has no use for a half-close; left half open, it would outlive its client.
        socket.allowHalfOpen = false;
        http2.accept(socket, peer);
        return;
      }
      plain.add(socket);
      socket.once('close', () => {
        plain.delete(socket);
      });
      http1.server.emit('connection', socket);
    },
    drain: () => {
      // GOAWAY: streams in flight end, new ones go elsewhere (RFC 9113 §6.8).
      for (const session of sessions) session.close();
      for (const socket of plain) if (!http1.busy(socket)) socket.destroy();
      http1.server.close();
    },
    stop: () => {
      for (const session of sessions) session.destroy();
      http1.server.close();
    },
  };
}

function speakRedirect(listener: RedirectListener, around: Surroundings, hooks: Http1Hooks): Speaker {
  const server = redirectServer(listener, around, hooks);
  const open = new Set<Socket>();
  return {
    accept: (socket) => {
      open.add(socket);
      socket.once('close', () => {
        open.delete(socket);
      });
      server.emit('connection', socket);
    },
    drain: () => {
      for (const socket of open) socket.destroySoon();
      server.close();
    },
    stop: () => {
      server.close();
    },
  };
}

function secureServer(
  listener: HttpListener | TcpListener,
  tls: SniContexts,
  events: ConnectionEvents,
): ReturnType<typeof createTlsServer> {
  const server = createTlsServer({
    ...TLS_OPTIONS,
    ...tls.defaultOptions(),
    ...(listener.type === 'http' ? { ALPNProtocols: ['h2', 'http/1.1'] } : {}),
    // One that is not accepted does not end the handshake: other routes and credentials need none.
    requestCert: listener.clientCertificates !== null,
    rejectUnauthorized: false,
    handshakeTimeout: listener.timeouts.handshakeMs,
    SNICallback: (servername, callback) => {
      callback(null, tls.select(servername));
    },
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    events.tlsFailed(listener.name, socket.remoteAddress ?? null, error.code ?? 'UNKNOWN');
    socket.destroy();
  });
  return server;
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 511 }, () => {
      server.off('error', reject);
      // EMFILE and the like while accepting: the connection is lost, the listener is not.
      server.on('error', () => undefined);
      resolve();
    });
  });
}
