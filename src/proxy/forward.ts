import { Readable } from 'node:stream';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';
import { type Permit, assertPermit } from '../gate/authorize.js';
import { sharingOfAnswer } from '../gate/cors.js';
import { TOO_MANY_STREAMS } from '../gate/limit.js';
import type { Owners } from '../gate/owners.js';
import { type ClientHead, type KnownHead, clientHead } from '../http/client-head.js';
import { hasBody } from '../http/message.js';
import { HeldAnswer, unreadable } from './held-answer.js';
import { requestHead } from './request-head.js';
import { RequestBody } from './request-body.js';
import type { Respond } from './respond.js';
import { limitedFields, openStream } from './open-stream.js';
import type { AnswerHandler, UpstreamConnection } from './upstream-connection.js';
import type { UpstreamPool, Upstreams } from './upstream.js';
import { upstreamFailure } from './upstream-failure.js';

/**
 * Sends a permitted request to its upstream and the answer back, both as streams with back pressure. Nothing is sent
 * twice: in rbee a GET runs the job.
 */
export function forward(
  exchange: Exchange,
  permit: Permit,
  upstreams: Upstreams,
  respond: Respond,
  owners: Owners,
): void {
  assertPermit(permit);
  const bodied = permit.body !== null || hasBody(permit.admission.message.framing);
  const head = requestHead(permit, bodied ? 'body' : 'nothing');
  const pool = upstreams.pool(permit.upstream);
  const connection = pool.acquire();
  if (connection === null) {
    respond.failure(exchange, 'upstream_saturated');
    return;
  }
  const handler = new ForwardHandler(exchange, permit, pool, connection, respond, owners);
  connection.send(
    {
      head,
      requestId: exchange.requestId,
      body: handler.body,
      headTimeoutMs: permit.route.upstreamMs,
    },
    handler,
  );
}

/** What the upstream gets: what was judged, or else what the client sends, as it comes. */
function bodyOf(permit: Permit, exchange: Exchange, onFailure: (reason: FailureReason) => void): Readable | null {
  const { body, route, admission } = permit;
  if (body !== null) return onePiece(body.bytes);
  if (!hasBody(admission.message.framing)) return null;
  return new RequestBody(exchange.answer.body, {
    idleMs: route.bodyMs,
    most: route.demands?.body?.most ?? Number.POSITIVE_INFINITY,
    onBytes: (count) => {
      exchange.bytesIn += count;
    },
    onFailure,
  });
}

/** Not the bytes themselves: they would be kept until the answer ends, which may be hours after they were sent. */
function onePiece(bytes: Buffer): Readable {
  let piece: Buffer | null = bytes;
  return new Readable({
    read() {
      this.push(piece);
      if (piece !== null) this.push(null);
      piece = null;
    },
  });
}

/** Carries an answer to the client. */
class ForwardHandler implements AnswerHandler {
  readonly body: Readable | null;
  readonly #exchange: Exchange;
  readonly #permit: Permit;
  readonly #pool: UpstreamPool;
  readonly #connection: UpstreamConnection;
  readonly #respond: Respond;
  readonly #owners: Owners;
  /** An answer that may name something, until that is known. */
  #held: HeldAnswer | null = null;
  /** What came while it was asked elsewhere whether the caller may have this stream. */
  #early: { readonly pieces: Buffer[]; ended: boolean } | null = null;
  /** The client is slower than the upstream. */
  #paused = false;
  #over = false;

  constructor(
    exchange: Exchange,
    permit: Permit,
    pool: UpstreamPool,
    connection: UpstreamConnection,
    respond: Respond,
    owners: Owners,
  ) {
    this.#exchange = exchange;
    this.#permit = permit;
    this.#pool = pool;
    this.#connection = connection;
    this.#respond = respond;
    this.#owners = owners;
    const { answer } = exchange;
    const { message } = permit.admission;
    this.body = bodyOf(permit, exchange, (reason) => {
      this.#giveUp(reason);
    });
    if (message.expectsContinue && permit.body === null) answer.sendContinue();
    answer.onDrain = () => {
      if (!this.#paused || this.#over) return;
      this.#paused = false;
      this.#connection.resume();
    };
    exchange.onCut = (reason) => {
      this.#giveUp(reason);
    };
    answer.onClose = (flushed) => {
      // The upstream must hear at once that nobody listens: for a worker it is the only way to cancel.
      if (flushed) exchange.permitted();
      else this.#giveUp('client_gone');
    };
  }

  head(status: number, fields: readonly string[], known: KnownHead | null): boolean {
    // Whoever answers has what was sent, or wants no more of it.
    this.#permit.body?.release();
    if (!this.#over) this.#answer(status, fields, known);
    return !this.#paused;
  }

  data(chunk: Buffer): boolean {
    if (this.#over) return true;
    if (this.#early !== null) {
      // What the connection hands over it may use again.
      this.#early.pieces.push(Buffer.from(chunk));
      return false;
    }
    this.#exchange.bytesOut += chunk.length;
    if (this.#held !== null) return this.#hold(this.#held, chunk);
    // One piece that fits says nothing of those before it, which still wait for the drain.
    if (!this.#exchange.answer.write(chunk)) this.#paused = true;
    return !this.#paused;
  }

  chunks(bytes: Buffer, from: number, to: number, content: number): boolean {
    if (this.#over || this.#early !== null || this.#held !== null || this.#paused) return false;
    if (!this.#exchange.answer.writeChunks(bytes, from, to)) return false;
    this.#exchange.bytesOut += content;
    return true;
  }

  ended(): void {
    if (this.#over) return;
    if (this.#early !== null) {
      this.#early.ended = true;
      return;
    }
    this.#over = true;
    this.#pool.release(this.#connection);
    if (this.#held !== null) this.#name(this.#held);
    else this.#exchange.answer.end();
  }

  failed(error: Error): void {
    this.#end(upstreamFailure(error));
  }

  #answer(status: number, fields: readonly string[], known: KnownHead | null): void {
    const { admission, upstream } = this.#permit;
    const context = {
      scheme: admission.scheme,
      authority: admission.message.authority,
      requestId: this.#exchange.requestId,
      upstreamAuthority: upstream.authority,
      upstreamSecure: upstream.tls !== null,
      method: admission.message.method,
      sharing: sharingOfAnswer(admission, this.#permit.carrier),
    };
    const head = clientHead(status, fields, context, known);
    if (head === null) {
      this.#giveUp('upstream_malformed');
      return;
    }
    const { allowance } = this.#permit;
    if (allowance !== null) {
      const opens = head.eventStream ? (allowance.stream?.opens() ?? true) : true;
      if (!head.eventStream) allowance.stream?.isNone();
      if (opens instanceof Promise) {
        this.#wait(opens, status, head);
        return;
      }
      if (!opens) {
        this.#refuse();
        return;
      }
    }
    this.#begin(status, head);
  }

  /** Another process knows how many streams the caller has open. */
  #wait(opens: Promise<boolean>, status: number, head: ClientHead): void {
    const early: { readonly pieces: Buffer[]; ended: boolean } = { pieces: [], ended: false };
    this.#early = early;
    this.#paused = true;
    opens
      .then((may) => {
        this.#early = null;
        this.#paused = false;
        if (this.#over) return;
        if (!may) {
          this.#refuse();
          return;
        }
        this.#begin(status, head);
        let more = true;
        for (const piece of early.pieces) more = this.data(piece);
        if (early.ended) this.ended();
        else if (more) this.#connection.resume();
      })
      .catch(() => {
        this.#end('sidecar_error');
      });
  }

  #begin(status: number, head: ClientHead): void {
    const { allowance } = this.#permit;
    this.#exchange.answered(status);
    if (head.eventStream) openStream(this.#exchange, this.#permit, 'sse');
    const ours = limitedFields(head.fields, allowance);
    if (this.#permit.route.owns !== null && status < 300 && !head.bodiless) {
      const why = unreadable(head);
      if (why === null) {
        this.#held = new HeldAnswer({ ...head, fields: [...ours] });
        return;
      }
      this.#owners.unnamed(this.#permit.route.name, why);
    }
    this.#exchange.answer.sendHead(status, ours, head.bodiless);
  }

  /** The answer is a stream, and the caller has as many open as they may. */
  #refuse(): void {
    this.#over = true;
    this.#pool.discard(this.#connection);
    this.body?.destroy();
    this.#respond.denial(this.#exchange, 'streams_exceeded', [], TOO_MANY_STREAMS);
  }

  #hold(held: HeldAnswer, chunk: Buffer): boolean {
    // What the connection hands over it may use again.
    if (held.add(Buffer.from(chunk))) return true;
    this.#owners.unnamed(this.#permit.route.name, 'too_large');
    this.#paused = !this.#send(held);
    return !this.#paused;
  }

  /** All that was held. False: wait for the drain. */
  #send({ head, pieces }: HeldAnswer): boolean {
    this.#held = null;
    this.#exchange.answer.sendHead(head.status, head.fields, head.bodiless);
    return this.#exchange.answer.write(Buffer.concat(pieces));
  }

  /** The whole answer is here; its reader gets it when it is known whose the thing is that it names. */
  #name(held: HeldAnswer): void {
    const { route, identity, upstream } = this.#permit;
    const send = (): void => {
      // The time may be up meanwhile, or the client gone.
      if (this.#exchange.finished) return;
      this.#send(held);
      this.#exchange.answer.end();
    };
    const id = route.owns === null ? null : held.named(route.owns.from);
    if (route.owns === null || id === null || identity === null) {
      this.#owners.unnamed(route.name, 'no_name');
      send();
      return;
    }
    this.#owners.remember(upstream.name, id, identity, route.owns, route.name).then(send, () => {
      this.#respond.failure(this.#exchange, 'sidecar_error');
    });
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
    this.body?.destroy();
    this.#respond.failure(this.#exchange, reason);
  }
}
