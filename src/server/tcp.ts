import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ExchangeRecord, Outcome } from '../exchange-record.js';
import type { FailureReason } from '../failure.js';
import { type ConnectionPermit, admitConnection } from '../gate/admit-connection.js';
import type { Caller } from '../identity/caller.js';
import { parsePeerAddress } from '../net/address.js';
import { type ProxiedConnection, proxyHeader } from '../net/proxy-protocol.js';
import type { TcpListener } from '../policy/policy.js';
import { TcpTunnel, abort } from '../proxy/tcp-tunnel.js';
import type { ConnectionEvents } from './connection-events.js';
import type { Surroundings } from './handle.js';
import type { Terms } from './terms.js';

type Around = Pick<Surroundings, 'sink' | 'clock' | 'witness' | 'broke' | 'draining'>;

/** A Node timer set for longer fires at once: https://nodejs.org/api/timers.html#settimeoutcallback-delay-args */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const NOTHING = Buffer.alloc(0);

export interface TcpSpeaker {
  /** @param nth of the listener's ports, from 0 */
  accept(socket: Socket, caller: Caller, nth: number): void;
  /** Another policy is in force: ends every session that it refuses. */
  decideAgain(): void;
  /** Ends every session. */
  stop(): void;
}

/** Takes connections over once they are let in (and their TLS is up), asks the gate, and passes them on. */
export function speakTcp(
  terms: Pick<Terms<TcpListener>, 'listener'> & { readonly around: Around },
  events: ConnectionEvents,
): TcpSpeaker {
  const sessions = new Set<Session>();
  return {
    accept: (socket, caller, nth) => {
      const { listener, around } = terms;
      const decision = admitConnection(listener, caller, nth, around.clock.now());
      if (!decision.allow) {
        const { reason, client, identity } = decision;
        events.refused(listener.name, reason, caller.text, { client, identity: identity?.name ?? null });
        abort(socket);
        return;
      }
      const session = new Session(decision, socket, caller, nth, around, events, () => {
        sessions.delete(session);
      });
      sessions.add(session);
      session.begin();
    },
    decideAgain: () => {
      const { listener, around } = terms;
      for (const session of [...sessions]) {
        const decision = admitConnection(listener, session.caller, session.nth, around.clock.now());
        if (decision.allow) continue;
        session.cut(decision.reason.startsWith('credential_') ? 'credential_ended' : 'access_withdrawn');
      }
    },
    stop: () => {
      for (const session of [...sessions]) session.cut('shutting_down');
    },
  };
}

/** One connection that was permitted: one beginning, one ending, one record. */
class Session {
  readonly #permit: ConnectionPermit;
  readonly #socket: Socket;
  readonly caller: Caller;
  /** Of the listener's ports, from 0. */
  readonly nth: number;
  readonly #around: Around;
  readonly #events: ConnectionEvents;
  readonly #afterwards: () => void;
  readonly #id = randomUUID();
  readonly #startedAtMs: number;
  readonly #startedTicks: number;
  readonly #tls: boolean;
  #tunnel: TcpTunnel | null = null;
  #connectedTicks: number | null = null;
  #lastByteTicks: number;
  #bytesIn = 0;
  #bytesOut = 0;
  #granted = false;
  #over = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(
    permit: ConnectionPermit,
    socket: Socket,
    caller: Caller,
    nth: number,
    around: Around,
    events: ConnectionEvents,
    afterwards: () => void,
  ) {
    this.#permit = permit;
    this.#socket = socket;
    this.caller = caller;
    this.nth = nth;
    this.#around = around;
    this.#events = events;
    this.#afterwards = afterwards;
    this.#startedAtMs = around.clock.now();
    this.#startedTicks = around.clock.ticks();
    this.#lastByteTicks = this.#startedTicks;
    this.#tls = permit.listener.tls !== null;
  }

  /** What it is about to do is on record before it does. */
  begin(): void {
    const { witness } = this.#around;
    if (witness === null) {
      this.#goOn();
      return;
    }
    this.#granted = true;
    const recorded = witness.before(this.#record('underway', { kind: 'permitted' }));
    if (recorded === true) this.#goOn();
    else if (recorded === false) this.#refuse();
    else {
      const left = (): void => {
        this.#finish({ kind: 'failed', reason: 'client_gone' });
      };
      this.#socket.on('error', () => undefined);
      this.#socket.once('close', left);
      recorded
        .then((written) => {
          this.#socket.off('close', left);
          if (this.#over) return;
          if (written) this.#goOn();
          else this.#refuse();
        })
        .catch((error: unknown) => {
          this.#around.broke(error, this.#id);
          this.cut('sidecar_error');
        });
    }
  }

  /** Ends it at once, for a reason of ours. */
  cut(reason: FailureReason): void {
    if (this.#tunnel !== null) {
      this.#tunnel.end(reason);
      return;
    }
    abort(this.#socket);
    this.#finish({ kind: 'failed', reason });
  }

  #refuse(): void {
    const { client, identity, listener } = this.#permit;
    this.#granted = false;
    this.#over = true;
    this.#afterwards();
    const who = { client, identity: identity?.name ?? null };
    this.#events.refused(listener.name, 'audit_unavailable', this.caller.text, who);
    abort(this.#socket);
  }

  #goOn(): void {
    const { listener } = this.#permit;
    this.#around.sink.opened(this.#record('underway', { kind: 'permitted' }));
    const preface = listener.sendProxyProtocol === null ? NOTHING : this.#preface(listener.sendProxyProtocol);
    if (preface === null) {
      abort(this.#socket);
      this.#finish({ kind: 'failed', reason: 'client_gone' });
      return;
    }
    this.#tunnel = new TcpTunnel(this.#permit, this.#socket, preface, {
      connected: () => {
        this.#connectedTicks = this.#around.clock.ticks();
      },
      bytesIn: (count) => {
        this.#bytesIn += count;
        this.#said(count, 0);
      },
      bytesOut: (count) => {
        this.#bytesOut += count;
        this.#said(0, count);
      },
      ended: (reason) => {
        this.#finish(reason === null ? { kind: 'permitted' } : { kind: 'failed', reason });
      },
    });
    if (!this.#over) this.#watch();
  }

  #said(bytesIn: number, bytesOut: number): void {
    if (this.#permit.listener.idleMs !== Infinity) this.#lastByteTicks = this.#around.clock.ticks();
    this.#events.passed(this.#permit.listener.name, bytesIn, bytesOut);
  }

  /** Who connected, as the upstream is told; null where the socket has lost its other end. */
  #preface(version: 'v1' | 'v2'): Buffer | null {
    const own = this.#ends();
    const said = this.caller.proxied ?? own;
    return said === null ? null : proxyHeader(version, said);
  }

  #ends(): ProxiedConnection | null {
    const { remotePort, localAddress, localPort } = this.#socket;
    const destination = parsePeerAddress(localAddress);
    if (destination === null || remotePort === undefined || localPort === undefined) return null;
    return {
      source: { address: this.caller.address, port: remotePort },
      destination: { address: destination, port: localPort },
    };
  }

  /** Waits for the earliest moment at which it may have to end; where there is none, there is no timer. */
  #watch(): void {
    const { listener, identity } = this.#permit;
    const { clock } = this.#around;
    const ticks = clock.ticks();
    const idleLeft = listener.idleMs - (ticks - this.#lastByteTicks);
    const longestLeft = listener.maxMs - (ticks - this.#startedTicks);
    const expiresAtMs = listener.endAtExpiry ? (identity?.expiresAtMs ?? Infinity) : Infinity;
    const credentialLeft = expiresAtMs - clock.now();
    if (credentialLeft <= 0) this.cut('credential_ended');
    else if (longestLeft <= 0) this.cut('stream_expired');
    else if (idleLeft <= 0) this.cut('idle_timeout');
    else {
      const left = Math.min(idleLeft, longestLeft, credentialLeft);
      if (left === Infinity) return;
      this.#timer = setTimeout(
        () => {
          this.#watch();
        },
        Math.min(Math.ceil(left), LONGEST_TIMER_MS),
      );
    }
  }

  #finish(outcome: Outcome): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#afterwards();
    void this.#around.sink.finished(this.#record('over', outcome));
  }

  #record(stage: ExchangeRecord['stage'], outcome: Outcome): ExchangeRecord {
    const { listener, upstream, client, identity } = this.#permit;
    return {
      stage,
      granted: this.#granted,
      requestId: this.#id,
      startedAtMs: this.#startedAtMs,
      durationMs: this.#around.clock.ticks() - this.#startedTicks,
      listener: listener.name,
      scheme: this.#tls ? 'tls' : 'tcp',
      protocol: 'unknown',
      method: '',
      path: '',
      query: null,
      host: null,
      upgrade: false,
      userAgent: null,
      peer: this.caller.text,
      client,
      route: null,
      identity,
      credentialFingerprint: this.caller.certificate?.sha256.slice(0, 6) ?? null,
      outcome,
      invalid: null,
      status: 0,
      upstream: upstream.name,
      upstreamMs: this.#connectedTicks === null ? null : this.#connectedTicks - this.#startedTicks,
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      stream: 'tcp',
    };
  }
}
