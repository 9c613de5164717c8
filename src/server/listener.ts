import { constants as cryptoConstants } from 'node:crypto';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type SecureContext, type TLSSocket, type TlsOptions, createServer as createTlsServer } from 'node:tls';
import { ACME_TLS_PROTOCOL } from '../acme/pending-challenges.js';
import type { DenialReason } from '../denial.js';
import { peerAllowed } from '../gate/admit.js';
import { formatAddress, parsePeerAddress } from '../net/address.js';
import type { ProxiedConnection } from '../net/proxy-protocol.js';
import { isVouchedFor } from '../identity/mtls.js';
import { authorityDigest } from '../policy/client-authority.js';
import type { HttpListener, Listener, TcpListener } from '../policy/policy.js';
import type { Challenged, SniContexts } from './sni-contexts.js';
import { readClientCertificate } from './client-certificate.js';
import type { Caller, ClientCertificate } from '../identity/caller.js';
import { type ConnectionEvents, type Refused, turnsAway } from './connection-events.js';
import { ConnectionsPerAddress } from './connections-per-address.js';
import { keepOpen, openFronts } from './fronts.js';
import type { Surroundings } from './handle.js';
import type { Http1Hooks } from './http1.js';
import type { InheritedSockets } from './inherited-sockets.js';
import { ProxyHeaders } from './proxy-headers.js';
import { type Speaker, speakHttp, speakRedirect } from './speaker.js';
import { speakTcp } from './tcp.js';
import type { HttpTerms, Terms } from './terms.js';

export interface OpenListener {
  /** As the policy in force has it. */
  readonly listener: Listener;
  /** Of its first port. */
  readonly address: AddressInfo;
  /** Takes connections, on all of its ports. */
  readonly listening: boolean;
  /**
   * Serves by another policy from here on, on the same ports: new handshakes get its certificates, new requests its rules.
   * What is underway goes on as it began, but for tcp sessions that the new listener refuses: those end.
   *
   * @param leaveMs how long connections may go on that the new listener could not have (another type, TLS or none)
   */
  swap(listener: Listener, tls: SniContexts | null, around: Surroundings, leaveMs: number): void;
  /** Takes no new connections and closes those with nothing to do. */
  drain(): void;
  /** The same, where the process goes on without it: what is still asked on its connections is refused. */
  leave(): void;
  /** Resolves when the last connection is gone. */
  readonly ended: Promise<void>;
  /** Closes whatever is left. */
  destroy(): void;
}

/** TLS 1.2 at least, no renegotiation (CVE-2011-1473); Node has no 0-RTT for servers. */
const TLS_OPTIONS: Readonly<TlsOptions> = Object.freeze({
  minVersion: 'TLSv1.2',
  honorCipherOrder: true,
  secureOptions: cryptoConstants.SSL_OP_NO_RENEGOTIATION,
});

/** Opens one listener of the policy, on all of its ports. Rejects with the system's error when one can't be had. */
export async function openListener(
  listener: Listener,
  tls: SniContexts | null,
  around: Surroundings,
  events: ConnectionEvents,
  inherited: InheritedSockets | null,
): Promise<OpenListener> {
  const entrances = new Entrances(listener, tls, around, events);
  const fronts = await openFronts(
    listener,
    inherited,
    (peer) => turnsAway(entrances.listener, peer, events),
    (socket, nth) => {
      entrances.connected(socket, nth);
    },
    (peer) => {
      events.refused(entrances.listener.name, 'connections_exhausted', peer);
    },
  );
  return {
    get listener() {
      return entrances.listener;
    },
    address: fronts.address,
    get listening() {
      return fronts.listening;
    },
    swap: (next, contexts, surroundings, leaveMs) => {
      fronts.limit(next);
      entrances.swap(next, contexts, surroundings, leaveMs);
    },
    drain: () => {
      fronts.close();
      entrances.drain();
    },
    leave: () => {
      fronts.close();
      entrances.leave();
    },
    ended: fronts.ended,
    destroy: () => {
      fronts.close();
      entrances.destroy();
    },
  };
}

/** A listener whose connections are accepted elsewhere, and brought here. */
export interface FedListener extends OpenListener {
  /** @param nth of the listener's ports, from 0 */
  connected(socket: Socket, nth: number): void;
}

/** Serves connections that another process has accepted for this listener. */
export function feedListener(
  listener: Listener,
  tls: SniContexts | null,
  around: Surroundings,
  events: ConnectionEvents,
): FedListener {
  const entrances = new Entrances(listener, tls, around, events);
  let over = false;
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const checkLast = (): void => {
    if (over && entrances.size === 0) end();
  };
  const close = (): void => {
    over = true;
    checkLast();
  };
  return {
    get listener() {
      return entrances.listener;
    },
    address: { address: listener.bind.host, port: listener.bind.port, family: '' },
    get listening() {
      return !over;
    },
    connected: (socket, nth) => {
      if (over) {
        socket.on('error', () => undefined);
        if (listener.bind.path === undefined) socket.resetAndDestroy();
        else socket.destroy();
        return;
      }
      entrances.connected(socket, nth);
      socket.once('close', checkLast);
    },
    swap: (next, contexts, surroundings, leaveMs) => {
      entrances.swap(next, contexts, surroundings, leaveMs);
    },
    drain: () => {
      entrances.drain();
      close();
    },
    leave: () => {
      entrances.leave();
      close();
    },
    ended,
    destroy: () => {
      entrances.destroy();
      close();
    },
  };
}

/** The entrance of a listener, and those of policies before, with connections that the listener could not have now. */
class Entrances {
  readonly #shared: Shared;
  #current: Entrance;
  readonly #leaving = new Set<Entrance>();

  constructor(listener: Listener, tls: SniContexts | null, around: Surroundings, events: ConnectionEvents) {
    this.#shared = { events, perAddress: new ConnectionsPerAddress(listener), sockets: new Set() };
    this.#current = new Entrance(listener, tls, around, this.#shared);
  }

  get listener(): Listener {
    return this.#current.listener;
  }

  /** Connections that are open. */
  get size(): number {
    return this.#shared.sockets.size;
  }

  connected(socket: Socket, nth: number): void {
    this.#current.connected(socket, nth);
  }

  swap(next: Listener, contexts: SniContexts | null, around: Surroundings, leaveMs: number): void {
    this.#shared.perAddress.listener = next;
    if (this.#current.becomes(next, contexts, around)) return;
    const old = this.#current;
    this.#current = new Entrance(next, contexts, around, this.#shared);
    this.#leaving.add(old);
    old.leave(leaveMs, () => {
      this.#leaving.delete(old);
    });
  }

  drain(): void {
    this.#current.drain();
  }

  leave(): void {
    this.#current.refuseNew();
  }

  destroy(): void {
    for (const entrance of [this.#current, ...this.#leaving]) entrance.destroy();
  }
}

/** Of one open listener, whatever policy it serves by. */
interface Shared {
  readonly events: ConnectionEvents;
  readonly perAddress: ConnectionsPerAddress;
  /** Every connection that was let in. */
  readonly sockets: Set<Socket>;
}

/** What becomes of connections, for as long as policies come and go whose listeners are of one kind. */
class Entrance {
  readonly #shared: Shared;
  readonly #callers = new WeakMap<Duplex, Caller>();
  readonly #sockets = new Set<Socket>();
  readonly #hooks: Http1Hooks;
  readonly #terms: { listener: Listener; around: Surroundings; outdated: (caller: Caller) => boolean };
  readonly #headers: ProxyHeaders | null;
  #tls: SniContexts | null;
  #secure: ReturnType<typeof createTlsServer> | null;
  #speaker: Speaker;
  /** Speak for connections that began before limits or timeouts changed. */
  readonly #before = new Set<Speaker>();
  #leaveTimer: NodeJS.Timeout | null = null;

  constructor(listener: Listener, tls: SniContexts | null, around: Surroundings, shared: Shared) {
    this.#shared = shared;
    this.#tls = tls;
    this.#terms = {
      listener,
      around,
      outdated: ({ certificate }) => certificate !== null && !isGoodAt(this.listener, certificate),
    };
    this.#hooks = {
      peerOf: (socket) => this.#callers.get(socket) ?? null,
      unreadable: (peer, at, reason, requestId, send) => {
        shared.events.unreadable(this.listener.name, peer, at, reason, requestId, send);
      },
    };
    this.#headers = listener.type !== 'redirect' && listener.proxyProtocol ? new ProxyHeaders(listener) : null;
    this.#speaker = this.#newSpeaker();
    this.#secure = this.#newSecure();
  }

  get listener(): Listener {
    return this.#terms.listener;
  }

  /** Somebody connected. @param nth of the listener's ports, from 0 */
  connected(socket: Socket, nth: number): void {
    const { listener } = this;
    const { events, sockets } = this.#shared;
    const peer = listener.bind.path === undefined ? callerAt(socket, null, null) : callerOnThisMachine();
    // It has left already, as those do who only look whether we are there.
    if (peer === null) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    // Where Node does not ask at the door.
    if (!peerAllowed(listener, peer.address)) {
      this.#refuse(socket, 'address_denied', peer.text);
      return;
    }
    // The system counts for each port by itself.
    if (sockets.size >= listener.limits.connections) {
      this.#refuse(socket, 'connections_exhausted', peer.text);
      return;
    }
    if (!this.#counted(socket, peer)) {
      this.#refuse(socket, 'connections_per_address_exhausted', peer.text);
      return;
    }
    keepOpen(socket);
    events.opened(listener.name);
    sockets.add(socket);
    this.#sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      this.#sockets.delete(socket);
      // Not that of above: with it every idle connection would keep the policy that it began with.
      events.closed(this.listener.name);
    });
    if (this.#headers?.expectsOf(peer.address) !== true) {
      this.#begin(socket, peer, nth);
      return;
    }
    this.#headers.read(socket, (read) => {
      if (!read.ok) {
        this.#refuse(socket, read.reason, peer.text);
        return;
      }
      const { proxied } = read;
      const source = proxied?.source.address ?? null;
      const from = source === null ? null : { address: source, text: formatAddress(source) };
      if (from !== null && !this.#counted(socket, from)) {
        this.#refuse(socket, 'connections_per_address_exhausted', peer.text, { client: from.text, identity: null });
        return;
      }
      this.#begin(socket, { ...peer, proxied }, nth);
    });
  }

  /** Goes on by another policy. False: its connections would be of another kind. */
  becomes(next: Listener, tls: SniContexts | null, around: Surroundings): boolean {
    const old = this.listener;
    if (next.type !== old.type || (tls === null) !== (this.#tls === null)) return false;
    if (next.type !== 'redirect') {
      if (next.proxyProtocol !== (this.#headers !== null)) return false;
      if (this.#headers !== null) this.#headers.listener = next;
    }
    const contextsAlike = tls === this.#tls;
    this.#tls = tls;
    this.#terms.listener = next;
    this.#terms.around = around;
    if (!isServedAlike(old, next)) {
      const speaker = this.#speaker;
      this.#before.add(speaker);
      speaker.retire(() => {
        this.#before.delete(speaker);
      });
      this.#speaker = this.#newSpeaker();
    }
    const judge = judgeOf(next);
    if (!contextsAlike || judge !== judgeOf(old) || handshakeMsOf(next) !== handshakeMsOf(old))
      this.#secure = this.#newSecure();
    for (const speaker of this.#speakers) speaker.termsChanged();
    return true;
  }

  /** Answers nothing new; what is left after `leaveMs` is closed. */
  leave(leaveMs: number, gone: () => void): void {
    this.refuseNew();
    const end = (): void => {
      this.destroy();
      gone();
    };
    this.#leaveTimer = setTimeout(end, leaveMs).unref();
    const last = (): void => {
      if (this.#sockets.size === 0) end();
    };
    for (const socket of this.#sockets) socket.once('close', last);
    last();
  }

  /** What is still asked is refused. */
  refuseNew(): void {
    this.#terms.around = { ...this.#terms.around, draining: () => true };
    this.drain();
  }

  drain(): void {
    this.#headers?.stop();
    for (const speaker of this.#speakers) speaker.drain();
  }

  destroy(): void {
    if (this.#leaveTimer !== null) clearTimeout(this.#leaveTimer);
    // Those that can say why they end do so before their sockets go.
    if (this.listener.type === 'tcp') for (const speaker of this.#speakers) speaker.stop();
    for (const socket of this.#sockets) socket.destroy();
    for (const speaker of this.#speakers) speaker.stop();
  }

  get #speakers(): readonly Speaker[] {
    return [this.#speaker, ...this.#before];
  }

  #refuse(socket: Socket, reason: DenialReason, peer: string | null, who?: Refused): void {
    this.#shared.events.refused(this.listener.name, reason, peer, who);
    socket.on('error', () => undefined);
    // Which a unix socket has no way to say.
    if (this.listener.bind.path === undefined) socket.resetAndDestroy();
    else socket.destroy();
  }

  /** Counts it among those of its address until it is closed. */
  #counted(socket: Socket, from: Pick<Caller, 'address' | 'text'>): boolean {
    const { perAddress } = this.#shared;
    const place = perAddress.take(from);
    if (place === null) return false;
    socket.once('close', () => {
      perAddress.giveBack(place);
    });
    return true;
  }

  #begin(socket: Socket, caller: Caller, nth: number): void {
    if (this.#secure === null) {
      this.#accept(socket, caller, nth);
      return;
    }
    // Who leaves in the middle of the handshake has left: half open, the socket would wait for the time-out, and so
    // would a drain. What TLS makes of this socket takes the setting over.
    socket.allowHalfOpen = false;
    this.#secure.emit('connection', socket);
  }

  #accept(socket: Socket, caller: Caller, nth: number): void {
    this.#callers.set(socket, caller);
    this.#speaker.accept(socket, caller, nth);
  }

  #newSpeaker(): Speaker {
    const terms = this.#terms;
    switch (terms.listener.type) {
      case 'http':
        return speakHttp(terms as HttpTerms, this.#tls === null ? 'http' : 'https', this.#hooks);
      case 'redirect':
        return speakRedirect(terms.listener, terms.around, this.#hooks);
      case 'tcp': {
        const tcp = speakTcp(terms as Terms<TcpListener>, this.#shared.events);
        return {
          ...tcp,
          // Sessions go on until they end, or until the drain does.
          drain: () => undefined,
          retire: () => undefined,
          termsChanged: () => {
            tcp.decideAgain();
          },
        };
      }
    }
  }

  #newSecure(): ReturnType<typeof createTlsServer> | null {
    const { listener } = this;
    const { events } = this.#shared;
    if (this.#tls === null || listener.type === 'redirect') return null;
    const secure = secureServer(listener, this.#tls, events);
    // The listener that the handshake began with: by its authorities was it judged.
    secure.on('secureConnection', (socket) => {
      // It has seen what it came for, and sends nothing else (RFC 8737 §4). One that never ends its own side is not waited for.
      if (proving.has(socket)) {
        socket.destroySoon();
        return;
      }
      const certificate = certificateOf(socket, listener, events);
      const caller = callerAt(socket, certificate, this.#headers?.proxied(socket) ?? null);
      socket.allowHalfOpen = true;
      if (caller === null) socket.destroy();
      else this.#accept(socket, caller, nthPort(listener, socket));
    });
    return secure;
  }
}

/** What it said in its handshake, the listener would believe now. */
function isGoodAt(listener: Listener, certificate: ClientCertificate): boolean {
  if (listener.type === 'redirect' || listener.clientCertificates === null) return false;
  return isVouchedFor(certificate, listener.clientCertificates.authority);
}

/** By whose word client certificates count there; null: none are asked for. */
function judgeOf(listener: Listener): string | null {
  if (listener.type === 'redirect' || listener.clientCertificates === null) return null;
  return authorityDigest(listener.clientCertificates.authority);
}

function handshakeMsOf({ timeouts }: Listener): number {
  return timeouts.handshakeMs;
}

/** A server that Node has made for the one serves the other as well; in tcp there is none. */
function isServedAlike(one: Listener, other: Listener): boolean {
  if (one.type === 'tcp') return true;
  if (one.type === 'redirect') return false;
  const settings = ({ limits, timeouts }: Listener): string =>
    JSON.stringify([limits, Object.entries(timeouts).map(String)]);
  return settings(one) === settings(other);
}

/** Which of the listener's ports it came to, from 0. */
function nthPort({ bind, type }: Listener, { localPort }: Socket): number {
  // Any port that is free is the only one.
  return type !== 'tcp' || bind.port === 0 || localPort === undefined ? 0 : localPort - bind.port;
}

/** Whoever connects to a unix socket. Another one for each connection: things are kept by it. */
function callerOnThisMachine(): Caller {
  return {
    address: { family: 4, words: [0, 0, 0xffff, 0x7f000001] },
    text: '127.0.0.1',
    certificate: null,
    proxied: null,
  };
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
  const shown = readClientCertificate(socket, listener.clientCertificates.authority);
  if (shown.kind === 'none') return null;
  if (shown.refusal !== null) events.certificateRefused(listener.name, socket.remoteAddress ?? null, shown.refusal);
  return shown.certificate;
}

const HTTP_PROTOCOLS = ['h2', 'http/1.1'];

/** Connections on which an authority looks whether a name is ours, with what it is shown. */
const proving = new WeakMap<TLSSocket, SecureContext>();

/** As Node picks among `ALPNProtocols`, and `acme-tls/1` where somebody offers nothing else (RFC 8737 §4). */
function pickProtocol(challenged: Challenged): NonNullable<TlsOptions['ALPNCallback']> {
  return function (this: TLSSocket, { servername, protocols }): string | undefined {
    if (protocols.length !== 1 || protocols[0] !== ACME_TLS_PROTOCOL) {
      return HTTP_PROTOCOLS.find((one) => protocols.includes(one));
    }
    const context = typeof servername === 'string' ? challenged(servername) : null;
    if (context === null) return undefined;
    // The certificate is picked afterwards in TLS 1.3, and has been picked in TLS 1.2.
    proving.set(this, context);
    this.setKeyCert(context);
    return ACME_TLS_PROTOCOL;
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
    ...(listener.type !== 'http'
      ? {}
      : tls.challenged === null
        ? { ALPNProtocols: HTTP_PROTOCOLS }
        : { ALPNCallback: pickProtocol(tls.challenged) }),
    // One that is not accepted does not end the handshake: other routes and credentials need none.
    requestCert: listener.clientCertificates !== null,
    rejectUnauthorized: false,
    handshakeTimeout: listener.timeouts.handshakeMs,
    SNICallback(this: TLSSocket, servername, callback) {
      callback(null, proving.get(this) ?? tls.select(servername));
    },
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    events.tlsFailed(listener.name, socket.remoteAddress ?? null, error.code ?? 'UNKNOWN');
    socket.destroy();
  });
  return server;
}
