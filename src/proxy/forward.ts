import type { Client, Dispatcher } from 'undici';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';
import { type Permit, assertPermit } from '../gate/authorize.js';
import { clientHead } from '../http/client-head.js';
import { hasBody } from '../http/message.js';
import { requestHead } from './request-head.js';
import { RequestBody } from './request-body.js';
import type { Respond } from './respond.js';
import type { UpstreamPool, Upstreams } from './upstream.js';
import { GivenUp, upstreamFailure } from './upstream-failure.js';

/**
 * Sends a permitted request to its upstream and the answer back, both as streams with back pressure. Nothing is sent
 * twice: in rbee a GET runs the job.
 */
export function forward(exchange: Exchange, permit: Permit, upstreams: Upstreams, respond: Respond): void {
  assertPermit(permit);
  const { message } = permit.admission;
  const pool = upstreams.pool(permit.upstream);
  const client = pool.acquire();
  if (client === null) {
    respond.failure(exchange, 'upstream_saturated');
    return;
  }
  const handler = new ForwardHandler(exchange, permit, pool, client, respond);
  client.dispatch(
    {
      method: message.method,
      path: message.target.raw,
      headers: requestHead(permit, exchange.requestId),
      body: handler.body,
      headersTimeout: timeout(permit.route.upstreamMs),
    },
    handler,
  );
}

/** undici: 0 is no limit. */
export function timeout(ms: number): number {
  return ms === Number.POSITIVE_INFINITY ? 0 : ms;
}

/** Flat names and values out of undici's buffers; bytes stay bytes (latin1). */
export function rawFields(raw: unknown): string[] {
  return Array.isArray(raw)
    ? raw.map((item: unknown) => (Buffer.isBuffer(item) ? item.toString('latin1') : String(item)))
    : [];
}

/**
 * undici's handler in the form that its core calls (decision 18): the newer form is a layer on top of this one, which
 * makes an object of every answer's fields and trailers for nobody to read.
 */
class ForwardHandler implements Dispatcher.DispatchHandler {
  readonly body: RequestBody | null;
  readonly #exchange: Exchange;
  readonly #permit: Permit;
  readonly #pool: UpstreamPool;
  readonly #client: Client;
  readonly #respond: Respond;
  /** Ends the request and its connection; null until the request is on a connection. */
  #abort: ((error: Error) => void) | null = null;
  /** Goes on reading the answer; null until its head is here. */
  #resume: (() => void) | null = null;
  /** The client is slower than the upstream. */
  #paused = false;
  /** Why we gave up, when it was us. */
  #givenUp: GivenUp | null = null;
  /** The answer's head is out, and there is no body to it by definition. */
  #bodiless = false;
  #over = false;

  constructor(exchange: Exchange, permit: Permit, pool: UpstreamPool, client: Client, respond: Respond) {
    this.#exchange = exchange;
    this.#permit = permit;
    this.#pool = pool;
    this.#client = client;
    this.#respond = respond;
    const { answer } = exchange;
    const { message } = permit.admission;
    this.body = !hasBody(message.framing)
      ? null
      : new RequestBody(
          answer.body,
          permit.route.bodyMs,
          (count) => {
            exchange.bytesIn += count;
          },
          (reason) => {
            this.#giveUp(reason);
          },
        );
    if (message.expectsContinue) answer.sendContinue();
    answer.onDrain = () => {
      if (!this.#paused) return;
      this.#paused = false;
      this.#resume?.();
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

  onConnect(abort: (error?: Error) => void): void {
    this.#abort = abort;
    // The client left while the connection was being made; nothing has been sent yet.
    if (this.#givenUp !== null) abort(this.#givenUp);
  }

  onHeaders(status: number, rawHeaders: Buffer[], resume: () => void): boolean {
    this.#resume = resume;
    // Interim answers (RFC 9110 §15.2) are between the upstream and us.
    if (status >= 200 && !this.#over) this.#answer(status, rawFields(rawHeaders));
    return !this.#paused;
  }

  onData(chunk: Buffer): boolean {
    if (this.#over) return true;
    this.#exchange.bytesOut += chunk.length;
    this.#paused = !this.#exchange.answer.write(chunk);
    return !this.#paused;
  }

  onComplete(): void {
    if (this.#over) return;
    this.#over = true;
    this.#pool.release(this.#client);
    this.#exchange.answer.end();
  }

  onError(error: Error): void {
    if (this.#bodiless && this.#givenUp === null && !this.#over) {
      // The answer was whole with its head. undici holds the length that a 304 may state (RFC 9110 §15.4.5) against the
      // body that it does not have.
      this.#over = true;
      this.#pool.discard(this.#client);
      this.#exchange.answer.end();
      return;
    }
    this.#end(this.#givenUp?.reason ?? upstreamFailure(error));
  }

  #answer(status: number, fields: readonly string[]): void {
    const { admission, upstream } = this.#permit;
    const head = clientHead(status, fields, {
      scheme: admission.scheme,
      authority: admission.message.authority,
      requestId: this.#exchange.requestId,
      upstreamAuthority: upstream.authority,
      method: admission.message.method,
    });
    if (head === null) {
      this.#giveUp('upstream_malformed');
      return;
    }
    this.#exchange.answered(status);
    if (head.eventStream) this.#exchange.becomes('sse');
    this.#bodiless = head.bodiless;
    this.#exchange.answer.sendHead(status, head.fields, head.bodiless);
  }

  #giveUp(reason: FailureReason): void {
    if (this.#over) {
      // The upstream was done; the client was not.
      this.#respond.failure(this.#exchange, reason);
      return;
    }
    if (this.#givenUp !== null) return;
    this.#givenUp = new GivenUp(reason);
    if (this.#abort !== null) this.#abort(this.#givenUp);
    // Not sent yet: destroying the client ends the waiting request with an error of its own.
    else this.#pool.discard(this.#client);
    this.#end(reason);
  }

  #end(reason: FailureReason): void {
    if (this.#over) return;
    this.#over = true;
    this.#pool.discard(this.#client);
    this.#exchange.failed(reason);
    this.body?.destroy();
    this.#respond.failure(this.#exchange, reason);
  }
}
