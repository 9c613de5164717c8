import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';
import { type Permit, assertPermit } from '../gate/authorize.js';
import { type KnownHead, clientHead, upgradeHead } from '../http/client-head.js';
import type { WebSocketOffer } from '../http/message.js';
import { BEARER_SUBPROTOCOL } from '../identity/credential.js';
import { carry } from './carry.js';
import { FrameBoundary, closeFrame } from './frame-boundary.js';
import { limitedFields, openStream } from './open-stream.js';
import { offeredUpstream, requestHead } from './request-head.js';
import type { Respond } from './respond.js';
import type { UpstreamPool, Upstreams } from './upstream.js';
import type { AnswerHandler, UpstreamConnection } from './upstream-connection.js';
import { upstreamFailure } from './upstream-failure.js';

/** The client's side of an upgrade: until the 101 it is an ordinary answer, after it a pair of pipes. */
export interface UpgradingClient {
  readonly socket: Duplex;
  /** What the client sent after its head, before any 101: held, and given to the upstream after it. */
  readonly early: Buffer;
  /** Writes the 101 and takes the socket away from HTTP; nothing of `answer` may be used after it. */
  switchProtocols(fields: readonly string[]): void;
}

/**
 * Passes a permitted WebSocket handshake on (RFC 6455 §4). The client sees a 101 only after a valid one came from the
 * upstream; a refusal is relayed whole, status, fields and body.
 */
export function tunnel(
  exchange: Exchange,
  permit: Permit,
  client: UpgradingClient,
  upstreams: Upstreams,
  respond: Respond,
): void {
  assertPermit(permit);
  const { message } = permit.admission;
  if (message.webSocket === null) throw new TypeError('a tunnel needs a WebSocket handshake');
  const head = requestHead(permit, 'upgrade');
  const pool = upstreams.pool(permit.upstream);
  const connection = pool.acquire();
  if (connection === null) {
    respond.failure(exchange, 'upstream_saturated');
    return;
  }
  connection.send(
    {
      head,
      requestId: exchange.requestId,
      body: null,
      headTimeoutMs: permit.route.upstreamMs,
    },
    new TunnelHandler(exchange, permit, message.webSocket, client, pool, connection, respond),
  );
}

class TunnelHandler implements AnswerHandler {
  readonly #exchange: Exchange;
  readonly #permit: Permit;
  readonly #offer: WebSocketOffer;
  readonly #client: UpgradingClient;
  readonly #pool: UpstreamPool;
  readonly #connection: UpstreamConnection;
  readonly #respond: Respond;
  #over = false;

  constructor(
    exchange: Exchange,
    permit: Permit,
    offer: WebSocketOffer,
    client: UpgradingClient,
    pool: UpstreamPool,
    connection: UpstreamConnection,
    respond: Respond,
  ) {
    this.#exchange = exchange;
    this.#permit = permit;
    this.#offer = offer;
    this.#client = client;
    this.#pool = pool;
    this.#connection = connection;
    this.#respond = respond;
    const { answer } = exchange;
    answer.onDrain = () => {
      if (!this.#over) this.#connection.resume();
    };
    exchange.onCut = (reason) => {
      this.#giveUp(reason);
    };
    answer.onClose = (flushed) => {
      if (flushed) exchange.permitted();
      else this.#giveUp('client_gone');
    };
  }

  upgraded(raw: readonly string[], upstreamSocket: Socket): void {
    this.#pool.detach(this.#connection);
    if (this.#over) {
      upstreamSocket.destroy();
      return;
    }
    this.#over = true;
    const fields = upgradeHead(raw, this.#upgradeContext());
    if (fields === null) {
      // Errors of a socket that nobody uses any more must not become uncaught ones.
      upstreamSocket.on('error', () => undefined);
      upstreamSocket.destroy();
      this.#exchange.failed('upstream_malformed');
      this.#respond.failure(this.#exchange, 'upstream_malformed');
      return;
    }
    this.#exchange.answered(101);
    openStream(this.#exchange, this.#permit, 'ws');
    this.#client.switchProtocols(limitedFields(fields, this.#permit.allowance));
    join(this.#exchange, this.#client, upstreamSocket);
  }

  // The upstream said no: its answer goes back whole.

  head(status: number, raw: readonly string[], known: KnownHead | null): boolean {
    if (this.#over) return true;
    const head = clientHead(status, raw, this.#headContext(), known);
    if (head === null) {
      this.#giveUp('upstream_malformed');
      return true;
    }
    const { allowance } = this.#permit;
    this.#exchange.answered(status);
    // Who asks for a WebSocket may get events, and holds them as long: the place that was taken for the one is the other's.
    if (head.eventStream) openStream(this.#exchange, this.#permit, 'sse');
    else allowance?.stream?.isNone();
    this.#exchange.answer.sendHead(status, limitedFields(head.fields, allowance), head.bodiless);
    return true;
  }

  data(chunk: Buffer): boolean {
    if (this.#over) return true;
    this.#exchange.bytesOut += chunk.length;
    return this.#exchange.answer.write(chunk);
  }

  chunks(): boolean {
    return false;
  }

  ended(): void {
    if (this.#over) return;
    this.#over = true;
    this.#pool.release(this.#connection);
    this.#exchange.answer.end();
  }

  failed(error: Error): void {
    this.#end(upstreamFailure(error));
  }

  #headContext(): Parameters<typeof clientHead>[2] {
    const { admission, upstream } = this.#permit;
    return {
      scheme: admission.scheme,
      authority: admission.message.authority,
      requestId: this.#exchange.requestId,
      upstreamAuthority: upstream.authority,
      upstreamSecure: upstream.tls !== null,
      method: 'GET',
      sharing: null,
    };
  }

  #upgradeContext(): Parameters<typeof upgradeHead>[1] {
    const offered = this.#offer.subprotocols;
    const subprotocols = offeredUpstream(this.#permit) ?? offered;
    return {
      ...this.#headContext(),
      key: this.#offer.key,
      subprotocols,
      extensions: this.#offer.extensions,
      fallbackSubprotocol: subprotocols.length < offered.length ? BEARER_SUBPROTOCOL : null,
    };
  }

  #giveUp(reason: FailureReason): void {
    if (this.#over) {
      // The upstream was done; the client was not.
      this.#respond.failure(this.#exchange, reason);
      return;
    }
    this.#end(reason);
  }

  #end(reason: FailureReason): void {
    if (this.#over) return;
    this.#over = true;
    this.#pool.discard(this.#connection);
    this.#exchange.failed(reason);
    this.#respond.failure(this.#exchange, reason);
  }
}

/**
 * Joins the two sockets, each direction with its own back pressure and its own end: a half that was closed on one side
 * is closed on the other, and the other half goes on. A broken side breaks the other at once. No idle limit: quiet is
 * normal on a WebSocket, and pings belong to its two ends.
 */
function join(exchange: Exchange, client: UpgradingClient, upstream: Duplex): void {
  const { socket, early } = client;
  if (early.length > 0) {
    exchange.bytesIn += early.length;
    upstream.write(early);
  }
  const toUpstream = new FrameBoundary();
  toUpstream.passed(early);
  const toClient = new FrameBoundary();
  const stopAsking = carry(socket, upstream, (chunk) => {
    exchange.bytesIn += chunk.length;
    toUpstream.passed(chunk);
  });
  const stopAnswering = carry(upstream, socket, (chunk) => {
    exchange.bytesOut += chunk.length;
    toClient.passed(chunk);
  });
  exchange.onCut = (reason) => {
    exchange.failed(reason);
    if (reason !== 'shutting_down') {
      socket.destroy();
      upstream.destroy();
      return;
    }
    // Both hear why, unless they are in the middle of a frame; nothing may follow that.
    stopAsking();
    stopAnswering();
    endWith(socket, toClient.between ? closeFrame(GOING_AWAY, null) : null);
    endWith(upstream, toUpstream.between ? closeFrame(GOING_AWAY, randomBytes(4)) : null);
  };
  let open = 2;
  const closed = (side: Duplex, other: Duplex, hadError: boolean): void => {
    open -= 1;
    // A side that closed after both its halves ended has passed everything on; the other ends by itself once flushed.
    if (hadError || !side.readableEnded || !side.writableFinished) other.destroy();
    if (open === 0) exchange.permitted();
  };
  socket.on('error', () => undefined);
  upstream.on('error', () => undefined);
  socket.once('close', (hadError: boolean) => {
    closed(socket, upstream, hadError);
  });
  upstream.once('close', (hadError: boolean) => {
    closed(upstream, socket, hadError);
  });
}

/** RFC 6455 §7.4.1. */
const GOING_AWAY = 1001;

/** Whoever does not take the last word is cut off when the listener closes. */
function endWith(side: Duplex, last: Buffer | null): void {
  if (last === null) {
    side.destroy();
    return;
  }
  side.end(last, () => {
    side.destroy();
  });
}
