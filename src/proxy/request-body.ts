import { Readable } from 'node:stream';
import type { FailureReason } from '../failure.js';

/**
 * Least average rate of a body, bytes per second, counted over the time spent waiting for the client. Slower than this
 * for longer than the idle limit is an attack that holds a connection open one byte at a time, not a slow line.
 */
const LEAST_RATE = 100;

export interface RequestBodyInit {
  /** Idle time between two pieces; Infinity: any. */
  readonly idleMs: number;
  /** In bytes; Infinity: any. */
  readonly most: number;
  /** Told of each piece that came in. */
  readonly onBytes: (count: number) => void;
  /** Told once or more why there will be no whole body. */
  readonly onFailure: (reason: FailureReason) => void;
}

/**
 * A request body on its way to the upstream. It stands between the client's stream and whoever sends it,
 * who destroys the body when a request fails: destroying the client's own stream would close the connection that the answer
 * must still go out on.
 */
export class RequestBody extends Readable {
  readonly #source: Readable;
  readonly #idleMs: number;
  readonly #most: number;
  readonly #onBytes: (count: number) => void;
  readonly #onFailure: (reason: FailureReason) => void;
  #timer: NodeJS.Timeout | null = null;
  #waitingSince = 0;
  #waitedMs = 0;
  #bytes = 0;
  #detached = false;

  constructor(source: Readable, init: RequestBodyInit) {
    super({ highWaterMark: 64 * 1024 });
    this.#source = source;
    this.#idleMs = init.idleMs;
    this.#most = init.most;
    this.#onBytes = init.onBytes;
    this.#onFailure = init.onFailure;
    source.on('data', this.#onData);
    source.on('end', this.#onEnd);
    source.on('error', this.#onError);
    source.on('close', this.#onSourceClose);
    source.pause();
    // Whoever sent it takes its listeners off when it is done; a late error must not become an uncaught one.
    this.on('error', () => undefined);
  }

  override _read(): void {
    if (this.#detached) return;
    this.#wait();
    this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#detach();
    callback(error);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes += chunk.length;
    this.#onBytes(chunk.length);
    if (this.#bytes > this.#most) {
      this.#onFailure('client_body_too_large');
      return;
    }
    this.#waitedMs += performance.now() - this.#waitingSince;
    if (this.#waitedMs > this.#idleMs && (this.#bytes / this.#waitedMs) * 1_000 < LEAST_RATE) {
      this.#onFailure('client_body_timeout');
      return;
    }
    if (this.push(chunk)) {
      this.#wait();
    } else {
      // The upstream is slower than the client: the client is not to blame for the silence that follows.
      this.#source.pause();
      this.#stopWaiting();
    }
  };

  readonly #onEnd = (): void => {
    this.#detach();
    this.push(null);
  };

  readonly #onError = (): void => {
    this.#detach();
    this.#onFailure('client_body_broken');
  };

  readonly #onSourceClose = (): void => {
    if (this.#detached) return;
    this.#detach();
    this.#onFailure('client_body_broken');
  };

  #wait(): void {
    // Whoever got the last piece may have had enough of it.
    if (this.#detached) return;
    this.#waitingSince = performance.now();
    if (this.#idleMs === Number.POSITIVE_INFINITY) return;
    if (this.#timer === null) {
      this.#timer = setTimeout(() => {
        this.#onFailure('client_body_timeout');
      }, this.#idleMs);
    } else {
      this.#timer.refresh();
    }
  }

  #stopWaiting(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    this.#stopWaiting();
    this.#source.off('data', this.#onData);
    this.#source.off('end', this.#onEnd);
    this.#source.off('close', this.#onSourceClose);
    // Stays on: the client's stream may still break, and nobody else listens.
    this.#source.pause();
  }
}
