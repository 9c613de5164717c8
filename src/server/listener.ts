import { constants as cryptoConstants } from 'node:crypto';
import type { ServerHttp2Session } from 'node:http2';
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { type SecureContextOptions, type TLSSocket, type TlsOptions, createServer as createTlsServer } from 'node:tls';
import type { DenialReason } from '../denial.js';
import { peerAllowed } from '../gate/admit.js';
import { formatAddress, parsePeerAddress } from '../net/address.js';
import type { HttpListener, Listener, RedirectListener } from '../policy/policy.js';
import type { SniContexts } from './certificate.js';
import { clientCertificateOptions, readClientCertificate } from './client-certificate.js';
import type { Caller, ClientCertificate } from '../identity/caller.js';
import { ConnectionsPerAddress } from './connections-per-address.js';
import type { Surroundings } from './handle.js';
import { type Http1Hooks, http1Server } from './http1.js';
import { http2Server } from './http2.js';
import { redirectServer } from './redirect.js';

/** Why a connection is refused before it says anything. */
export type ConnectionRefusal = 'address_denied' | 'connections_exhausted' | 'connections_per_address_exhausted';

/** What happens to connections before there is a request; counted and logged by whoever listens to this. */
export interface ConnectionEvents {
  opened(listener: string): void;
  closed(listener: string): void;
  refused(listener: string, reason: ConnectionRefusal, peer: string | null): void;
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
export function contextOptions(listener: HttpListener): SecureContextOptions {
  const { clientCertificates } = listener;
  return clientCertificates === null
    ? {}
    : clientCertificateOptions(clientCertificates, cryptoConstants.SSL_OP_NO_RENEGOTIATION);
}

/** Opens one listener of the policy. Rejects with the system's error when the address can't be had. */
export async function openListener(
  listener: Listener,
  tls: SniContexts | null,
  around: Surroundings,
  events: ConnectionEvents,
): Promise<OpenListener> {
  const peers = new WeakMap<Duplex, Caller>();
  const peerOf = (socket: Duplex): Caller | null => peers.get(socket) ?? null;
  const remember = (socket: Socket, certificate: ClientCertificate | null = null): Caller | null => {
    const peer = peerAt(socket.remoteAddress, certificate);
    if (peer !== null) peers.set(socket, peer);
    return peer;
  };

  const sockets = new Set<Socket>();
  const perAddress = new ConnectionsPerAddress(listener);
  const scheme = tls === null ? 'http' : 'https';
  const hooks: Http1Hooks = {
    peerOf,
    unreadable: (peer, at, reason, requestId, send) => {
      events.unreadable(listener.name, peer, at, reason, requestId, send);
    },
  };
  const http =
    listener.type === 'http' ? speakHttp(listener, scheme, around, hooks) : speakRedirect(listener, around, hooks);
  const secure = tls === null || listener.type !== 'http' ? null : secureServer(listener, tls, events);
  secure?.on('secureConnection', (socket) => {
    const peer = remember(socket, certificateOf(socket, listener, events));
    socket.allowHalfOpen = true;
    if (peer === null) socket.destroy();
    else http.accept(socket, peer, socket.alpnProtocol === 'h2');
  });

  const front = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
  front.maxConnections = listener.limits.connections;
  front.on('drop', (data) => {
    events.refused(listener.name, 'connections_exhausted', data?.remoteAddress ?? null);
  });
  front.on('connection', (socket: Socket) => {
    const peer = remember(socket);
    // Before TLS costs anything. A stranger is told nothing, not even that there is TLS.
    if (peer === null || !peerAllowed(listener, peer.address)) {
      events.refused(listener.name, 'address_denied', peer?.text ?? null);
      socket.on('error', () => undefined);
      socket.resetAndDestroy();
      return;
    }
    const place = perAddress.take(peer);
    if (place === null) {
      events.refused(listener.name, 'connections_per_address_exhausted', peer.text);
      socket.on('error', () => undefined);
      socket.resetAndDestroy();
      return;
    }
    events.opened(listener.name);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      perAddress.giveBack(place);
      events.closed(listener.name);
    });
    if (secure === null) {
      http.accept(socket, peer, false);
      return;
    }
    // Who leaves in the middle of the handshake has left: half open, the socket would wait for the time-out, and so
    // would a drain. What TLS makes of this socket takes the setting over.
    socket.allowHalfOpen = false;
    secure.emit('connection', socket);
  });

  await listen(front, listener.bind.host, listener.bind.port);
  const ended = new Promise<void>((resolve) => {
    front.once('close', resolve);
  });
  return {
    listener,
    address: front.address() as AddressInfo,
    drain: () => {
      front.close();
      http.drain();
    },
    ended,
    destroy: () => {
      front.close();
      for (const socket of sockets) socket.destroy();
      http.stop();
    },
  };
}

/** Null when the socket has already lost its other end. */
function peerAt(remoteAddress: string | undefined, certificate: ClientCertificate | null): Caller | null {
  const address = parsePeerAddress(remoteAddress);
  return address === null ? null : { address, text: formatAddress(address), certificate };
}

/** What the client showed in its handshake, where it was asked to. */
function certificateOf(socket: TLSSocket, listener: Listener, events: ConnectionEvents): ClientCertificate | null {
  if (listener.type !== 'http' || listener.clientCertificates === null) return null;
  const shown = readClientCertificate(socket);
  if (shown.kind === 'none') return null;
  if (shown.refusal !== null) events.certificateRefused(listener.name, socket.remoteAddress ?? null, shown.refusal);
  return shown.certificate;
}

/** What takes connections over once they are let in (and their TLS is up). */
interface Speaker {
  accept(socket: Socket, peer: Caller, http2: boolean): void;
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
    accept: (socket, peer, isHttp2) => {
      if (isHttp2) {
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
  listener: HttpListener,
  tls: SniContexts,
  events: ConnectionEvents,
): ReturnType<typeof createTlsServer> {
  const server = createTlsServer({
    ...TLS_OPTIONS,
    ...tls.defaultOptions(),
    ALPNProtocols: ['h2', 'http/1.1'],
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
