import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { MalformedAnswer } from './answer-head.js';
import { type AnswerEvents, AnswerReader, type Question } from './answer-reader.js';
import { BodySender } from './body-sender.js';
import type { Connected, Connecting } from './connect.js';
import type { RequestHead } from './head-text.js';
import { GivenUp } from './upstream-failure.js';
import { type ConnectedSocket, UpstreamSocket } from './upstream-socket.js';

/** A request as it is written to an upstream. */
export interface UpstreamRequest {
  readonly head: RequestHead;
  readonly requestId: string;
  /** As the head says it. Null: there is none. */
  readonly body: Readable | Buffer | null;
  /**
   * From the end of the request, or from when the upstream last took something of it, until the answer's head,
   * milliseconds; Infinity: as long as it takes. While there is more of the request to come, nobody waits for an answer.
   */
  readonly headTimeoutMs: number;
}

/**
 * Hears of an answer, of status 200 and above. What was not ready for more hears of it after `resume`. After `ended`,
 * `failed` or `upgraded` nothing more is said.
 */
export interface AnswerHandler extends AnswerEvents {
  ended(): void;
  failed(error: Error): void;
  /** A 101 came to a request that asked for it. The socket is paused, and nobody else's any more. */
  upgraded?(fields: readonly string[], socket: Socket): void;
}

type Connect = (done: Connected) => Connecting;

/** Limits from here on are kept by the pool's sweep, which is coarse. */
const SWEEP_FROM_MS = 5_000;

/**
 * One connection to an upstream, for one request at a time (decision 22). It writes the head in one piece, the body with
 * back pressure, and leaves reading to `AnswerReader`. Whatever is wrong with an answer ends the connection, and so does
 * anything that comes unasked.
 */
export class UpstreamConnection {
  readonly #connect: Connect;
  readonly #idleMs: number;
  readonly #mostIdleMs: number;
  #connecting: Connecting | null = null;
  #socket: ConnectedSocket | null = null;
  #reader: AnswerReader | null = null;
  #sender: BodySender | null = null;
  #handler: AnswerHandler | null = null;
  /** Monotonic milliseconds after which `expire` ends it; Infinity: nothing is waited for. */
  #deadline = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;
  #headTimeoutMs = Number.POSITIVE_INFINITY;
  #spent = false;
  #unwritable = false;
  #gone = false;
  /** Set by whoever keeps it: it ended while nobody used it. */
  onGone: (() => void) | null = null;

  /**
   * @param idleMs how long it may lie unused
   * @param mostIdleMs the same, where the upstream says for how long it keeps it (`Keep-Alive: timeout`)
   */
  constructor(connect: Connect, idleMs: number, mostIdleMs = idleMs) {
    this.#connect = connect;
    this.#idleMs = idleMs;
    this.#mostIdleMs = mostIdleMs;
  }

  /** No other request may be sent on it. */
  get spent(): boolean {
    return this.#spent || this.#gone;
  }

  send(request: UpstreamRequest, handler: AnswerHandler): void {
    if (this.#handler !== null || this.spent) throw new TypeError('one request at a time');
    this.#handler = handler;
    this.#stopWaiting();
    let head: string;
    try {
      head = request.head.text(request.requestId);
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#socket !== null) {
      this.#write(this.#socket, head, request, handler);
      return;
    }
    this.#connecting = this.#connect((result) => {
      this.#connecting = null;
      if ('error' in result) {
        this.#fail(result.error);
        return;
      }
      this.#adopt(result);
      this.#write(result, head, request, handler);
    });
  }

  /** Goes on with a body that had to wait. */
  resume(): void {
    this.#socket?.resume();
  }

  /** It lies unused and may be used again. @param now monotonic milliseconds */
  ready(now: number): boolean {
    return !this.spent && now < this.#deadline;
  }

  /** Ends what has waited too long. @param now monotonic milliseconds */
  expire(now: number): void {
    if (now < this.#deadline) return;
    if (this.#sender?.awaitsMore === true) this.#await();
    else this.#fail(new GivenUp('upstream_timeout'));
  }

  /** At once, and without another word to anybody. */
  destroy(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#stopWaiting();
    this.#stopSending();
    this.#handler = null;
    this.#reader = null;
    this.#connecting?.cancel();
    this.#socket?.destroy();
  }

  #adopt(socket: ConnectedSocket): void {
    this.#socket = socket;
    socket.onUnwritable = this.#onUnwritable;
    if (socket instanceof UpstreamSocket) socket.onBytes = this.#onData;
    else socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
  }

  #write(socket: Socket, head: string, request: UpstreamRequest, handler: AnswerHandler): void {
    this.#reader = new AnswerReader(questionOf(request.head), handler);
    this.#headTimeoutMs = request.headTimeoutMs;
    this.#await();
    socket.write(head, 'latin1');
    if (request.body === null) return;
    this.#sender = new BodySender(socket, request.body, request.head.length, {
      failed: (error) => {
        this.#fail(error);
      },
      moved: () => {
        if (this.#deadline !== Number.POSITIVE_INFINITY) this.#await();
      },
    });
    this.#sender.start();
  }

  /** The sweep of the pool is coarse; a short limit has a timer of its own. */
  #await(): void {
    this.#deadline = performance.now() + this.#headTimeoutMs;
    if (this.#headTimeoutMs >= SWEEP_FROM_MS) return;
    if (this.#timer === null) {
      this.#timer = setTimeout(() => {
        this.expire(Number.POSITIVE_INFINITY);
      }, this.#headTimeoutMs);
    } else {
      this.#timer.refresh();
    }
  }

  #stopWaiting(): void {
    this.#deadline = Number.POSITIVE_INFINITY;
    if (this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #stopSending(): void {
    this.#sender?.stop();
    this.#sender = null;
  }

  readonly #onData = (chunk: Buffer): void => {
    const reader = this.#reader;
    if (reader === null) {
      // Nobody asked: the answer to a request that was never sent, for the next one to take for its own.
      this.#fail(new GivenUp('upstream_malformed'));
      return;
    }
    try {
      const more = reader.read(chunk);
      if (this.#gone) return;
      if (reader.begun && this.#deadline !== Number.POSITIVE_INFINITY) this.#stopWaiting();
      if (reader.complete) this.#complete(reader);
      else if (reader.upgraded !== null) this.#handOver(reader.upgraded, chunk.subarray(reader.position));
      else if (!more) this.#socket?.pause();
    } catch (error) {
      // What came before may still be on its way to the client, who must see an answer that is cut, and not none.
      this.#socket?.pause();
      setImmediate(() => {
        this.#fail(error instanceof MalformedAnswer ? new GivenUp('upstream_malformed') : error);
      });
    }
  };

  readonly #onEnd = (): void => {
    const reader = this.#reader;
    // Behind a broken connection this may be any end, also one in the middle.
    if (reader?.endsWithConnection !== true || this.#unwritable) {
      this.#fail(new GivenUp('upstream_gone'));
      return;
    }
    this.#complete(reader);
    this.destroy();
  };

  readonly #onError = (error: Error): void => {
    this.#fail(error);
  };

  /** What was said before the upstream left is still read, and its end or error follows. */
  readonly #onUnwritable = (): void => {
    this.#spent = true;
    this.#unwritable = true;
    this.#stopSending();
  };

  readonly #onClose = (): void => {
    this.#fail(new GivenUp('upstream_gone'));
  };

  #complete(reader: AnswerReader): void {
    const handler = this.#handler;
    this.#handler = null;
    this.#reader = null;
    // Answered before it was asked in full: what is left of the question would be the next one's beginning.
    if (this.#sender?.done === false) this.#spent = true;
    this.#stopSending();
    const said = reader.keepAliveMs;
    const idleMs = said === Number.POSITIVE_INFINITY ? this.#idleMs : Math.min(this.#mostIdleMs, said);
    if (!reader.reusable || idleMs <= 0) this.#spent = true;
    else this.#deadline = performance.now() + idleMs;
    // A slow reader may have paused it; whatever comes now comes unasked, and must be seen.
    this.#socket?.resume();
    handler?.ended();
  }

  #handOver(fields: readonly string[], early: Buffer): void {
    const socket = this.#socket;
    const handler = this.#handler;
    if (socket === null || handler === null) return;
    this.#stopWaiting();
    this.#socket = null;
    this.#handler = null;
    this.#reader = null;
    this.#gone = true;
    socket.pause();
    socket.onUnwritable = null;
    if (socket instanceof UpstreamSocket) socket.onBytes = null;
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('error', this.#onError);
    socket.off('close', this.#onClose);
    if (early.length > 0) socket.unshift(Buffer.from(early));
    handler.upgraded?.(fields, socket);
  }

  #fail(error: unknown): void {
    if (this.#gone) return;
    const handler = this.#handler;
    this.destroy();
    if (handler === null) this.onGone?.();
    else handler.failed(error instanceof Error ? error : new TypeError('thrown was what is no error'));
  }
}

function questionOf({ method, following }: RequestHead): Question {
  if (method === 'HEAD') return 'head';
  return following === 'upgrade' ? 'upgrade' : 'ordinary';
}
