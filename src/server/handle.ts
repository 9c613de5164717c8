import { randomUUID } from 'node:crypto';
import { type Answer, type Clock, Exchange, type ExchangeSink } from '../exchange.js';
import { decide } from '../gate/decide.js';
import { type RawHead, hasBody, readMessage } from '../http/message.js';
import type { Address } from '../net/address.js';
import type { HttpListener } from '../policy/policy.js';
import { forward } from '../proxy/forward.js';
import { type UpgradingClient, tunnel } from '../proxy/tunnel.js';
import type { Upstreams } from '../proxy/upstream.js';
import { respond } from './respond.js';

/** The socket's other end. */
export interface Peer {
  readonly address: Address;
  readonly text: string;
}

/** What every request of the process shares. */
export interface Surroundings {
  readonly upstreams: Upstreams;
  readonly sink: ExchangeSink;
  readonly clock: Clock;
  /** True once the process is on its way out. */
  draining(): boolean;
  /** A throw on the way of a request: a bug of ours. The message is redacted by the log. */
  broke(error: unknown, requestId: string): void;
}

/**
 * One request, whatever protocol brought it: read, decide, forward. Whatever is not a permit is refused, and a throw is
 * a 500, never a forward.
 */
export function handle(
  listener: HttpListener,
  raw: RawHead,
  peer: Peer,
  answer: Answer,
  upgrading: UpgradingClient | null,
  around: Surroundings,
): void {
  const exchange = new Exchange({
    requestId: randomUUID(),
    listener,
    answer,
    peer: peer.text,
    raw,
    sink: around.sink,
    clock: around.clock,
  });
  // Until somebody forwards, a client that leaves is simply gone.
  answer.onClose = (flushed) => {
    if (!flushed) exchange.failed('client_gone');
  };
  try {
    if (around.draining()) {
      respond.denial(exchange, 'draining', null);
      return;
    }
    const read = readMessage(raw, listener.limits);
    if (!read.ok) {
      respond.denial(exchange, read.reason, null);
      return;
    }
    exchange.read(read.message);
    if (!hasBody(read.message.framing)) answer.expectNoBody();
    const decision = decide(listener, read.message, peer.address, exchange.startedAtMs);
    exchange.decided(decision);
    if (!decision.allow) {
      respond.denial(exchange, decision.reason, decision.route?.authenticators[0]?.realm ?? null);
      return;
    }
    if (upgrading === null) forward(exchange, decision, around.upstreams, respond);
    else tunnel(exchange, decision, upgrading, around.upstreams, respond);
  } catch (error) {
    around.broke(error, exchange.requestId);
    respond.failure(exchange, 'sidecar_error');
  }
}
