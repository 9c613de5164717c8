import { randomUUID } from 'node:crypto';
import type { ExchangeRecord } from '../exchange-record.js';
import { type Answer, type Clock, Exchange, type ExchangeSink } from '../exchange.js';
import { isOwnPath } from '../gate/admit.js';
import type { Decision, Permit } from '../gate/authorize.js';
import { isPreflight } from '../gate/cors.js';
import { type Means, decide } from '../gate/decide.js';
import { type RawHead, hasBody } from '../http/message.js';
import { readHeadOn } from '../http/repeated-heads.js';
import type { Caller } from '../identity/caller.js';
import type { HttpListener } from '../policy/policy.js';
import { forward } from '../proxy/forward.js';
import { type UpgradingClient, tunnel } from '../proxy/tunnel.js';
import type { Upstreams } from '../proxy/upstream.js';
import type { OpenExchanges } from './open-exchanges.js';
import { servePreflight } from './preflight.js';
import { respond } from './respond.js';
import type { SessionPages } from './session-pages.js';
import type { Shadow } from './shadow.js';
import type { SlowDenials } from './slow-denials.js';

/** What every request of the process shares. */
export interface Surroundings {
  readonly upstreams: Upstreams;
  readonly sink: ExchangeSink;
  readonly clock: Clock;
  /** What deciding needs besides the policy. */
  readonly means: Means;
  /** What is underway and may lose its right to be. */
  readonly open: OpenExchanges;
  /** Of the policy that all this belongs to, as `open` counts them. */
  readonly generation: number;
  /** Answers below `/.guardbee/` where a listener has sessions; may be left out where none has. */
  readonly sessionPages?: SessionPages;
  /** Decides everything a second time, to no effect; left out where nothing is tried. */
  readonly shadow?: Pick<Shadow, 'heard' | 'settled'>;
  /** What an ACME authority is answered that asks for this path of a host; left out where none is asked anything. */
  readonly http01?: (host: string, path: string) => string | null;
  /** Records what is about to be done; null where nobody wants it recorded. */
  readonly witness: Witness | null;
  /** Answers those that are refused, some of them late. */
  readonly denials: Pick<SlowDenials, 'answer'>;
  /** True once the process is on its way out. */
  draining(): boolean;
  /** A throw on the way of a request: a bug of ours. The message is redacted by the log. */
  broke(error: unknown, requestId: string): void;
}

/** What is not on record does not happen, where the policy says so. */
export interface Witness {
  /** Whether anything goes on at present. */
  readonly accepts: boolean;
  /**
   * Of what may change something, or opens a stream whose end may be far away: whether it may go on, at once or when it is
   * known.
   */
  before(record: ExchangeRecord): boolean | Promise<boolean>;
}

/**
 * One request, whatever protocol brought it: read, decide, forward. Whatever is not a permit is refused, and a throw is
 * a 500, never a forward.
 */
export function handle(
  listener: HttpListener,
  raw: RawHead,
  caller: Caller,
  answer: Answer,
  upgrading: UpgradingClient | null,
  around: Surroundings,
): void {
  const exchange = new Exchange({
    requestId: randomUUID(),
    listener,
    answer,
    peer: caller.text,
    raw,
    sink: around.sink,
    clock: around.clock,
  });
  // Until somebody forwards, a client that leaves is simply gone.
  answer.onClose = (flushed) => {
    if (!flushed) exchange.failed('client_gone');
  };
  // Nor is there anything else to end by then.
  exchange.onCut = (reason) => {
    respond.failure(exchange, reason);
  };
  exchange.onBroken = (error) => {
    fail(exchange, error, around);
  };
  try {
    if (around.draining()) {
      respond.denial(exchange, 'draining', []);
      return;
    }
    around.shadow?.heard(exchange, raw, caller);
    const read = readHeadOn(caller, raw, listener.limits);
    if (!read.ok) {
      around.shadow?.settled(exchange, read.reason);
      respond.denial(exchange, read.reason, []);
      return;
    }
    exchange.read(read.message);
    if (!hasBody(read.message.framing)) answer.expectNoBody();
    if (isOwnPath(listener, read.message)) {
      around.shadow?.settled(exchange, null);
      if (around.sessionPages === undefined) throw new TypeError('nobody answers for the pages of sessions');
      if (around.witness?.accepts === false) {
        respond.denial(exchange, 'audit_unavailable', []);
        return;
      }
      around.sessionPages.serve(exchange, read.message, caller).catch((error: unknown) => {
        fail(exchange, error, around);
      });
      return;
    }
    if (isPreflight(listener, read.message)) {
      around.shadow?.settled(exchange, null);
      servePreflight(exchange, read.message, caller);
      return;
    }
    const decision = decide(listener, read.message, caller, exchange.startedAtMs, exchange, around.means);
    // A credential seen before is decided in the same turn; only what must be found out makes a request wait.
    if (decision instanceof Promise) settleLate(exchange, decision, caller, upgrading, around);
    else settle(exchange, decision, caller, upgrading, around);
  } catch (error) {
    fail(exchange, error, around);
  }
}

function settleLate(
  exchange: Exchange,
  pending: Promise<Decision>,
  caller: Caller,
  upgrading: UpgradingClient | null,
  around: Surroundings,
): void {
  pending
    .then((decision) => {
      if (!exchange.finished) {
        settle(exchange, stillGood(decision, around), caller, upgrading, around);
        return;
      }
      around.shadow?.settled(exchange, decision);
      // The client has gone meanwhile, or was told that time is up; a guess counts, whoever waits for its answer.
      if (!decision.allow) around.denials.answer(exchange, decision, () => undefined);
    })
    .catch((error: unknown) => {
      fail(exchange, error, around);
    });
}

/** A body may have taken its time, and the credential that it came with may have ended meanwhile. */
function stillGood(decision: Decision, around: Surroundings): Decision {
  if (!decision.allow || decision.identity === null) return decision;
  const ended = around.open.endedBy(decision.identity, around.clock.now());
  if (ended === null) return decision;
  const { admission, route, identity, fingerprint } = decision;
  decision.body?.release();
  return {
    allow: false,
    reason: ended,
    route,
    client: admission.client,
    identity,
    fingerprint,
    attempt: null,
    particulars: null,
  };
}

function settle(
  exchange: Exchange,
  decision: Decision,
  caller: Caller,
  upgrading: UpgradingClient | null,
  around: Surroundings,
): void {
  exchange.decided(decision);
  around.shadow?.settled(exchange, decision);
  if (!decision.allow) {
    around.denials.answer(exchange, decision, () => {
      respond.denial(exchange, decision.reason, decision.route?.authenticators ?? [], decision.particulars);
    });
    return;
  }
  const { witness } = around;
  if (witness === null) {
    goOn(exchange, decision, caller, upgrading, around);
    return;
  }
  if (!isUnsafe(decision)) {
    // Recorded when it is over.
    if (witness.accepts) goOn(exchange, decision, caller, upgrading, around);
    else respond.denial(exchange, 'audit_unavailable', []);
    return;
  }
  const recorded = witness.before(exchange.soFar);
  exchange.recorded();
  if (recorded === true) goOn(exchange, decision, caller, upgrading, around);
  else if (recorded === false) respond.denial(exchange, 'audit_unavailable', []);
  else {
    recorded
      .then((written) => {
        // The client may have gone meanwhile.
        if (exchange.finished) return;
        const still = stillGood(decision, around);
        if (!written) respond.denial(exchange, 'audit_unavailable', []);
        else if (still.allow) goOn(exchange, still, caller, upgrading, around);
        else respond.denial(exchange, still.reason, still.route?.authenticators ?? []);
      })
      .catch((error: unknown) => {
        fail(exchange, error, around);
      });
  }
}

/** It may change something (RFC 9110 §9.2.1), or it is a WebSocket, through which anything may be asked. */
function isUnsafe({ admission, route }: Permit): boolean {
  const { method, webSocket } = admission.message;
  return !route.safe || webSocket !== null || !(method === 'GET' || method === 'HEAD' || method === 'OPTIONS');
}

function goOn(
  exchange: Exchange,
  decision: Permit,
  caller: Caller,
  upgrading: UpgradingClient | null,
  around: Surroundings,
): void {
  around.open.add(exchange, decision, caller, around.generation);
  if (upgrading === null) forward(exchange, decision, around.upstreams, respond, around.means.owners);
  else tunnel(exchange, decision, upgrading, around.upstreams, respond);
}

function fail(exchange: Exchange, error: unknown, around: Surroundings): void {
  around.broke(error, exchange.requestId);
  respond.failure(exchange, 'sidecar_error');
}
