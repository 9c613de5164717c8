import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { GivenUp } from './upstream-failure.js';

const LAST_CHUNK = '0\r\n\r\n';

export interface BodySenderEvents {
  failed(error: Error): void;
  /** Whom it waits for has changed, or the upstream has taken something. */
  moved(): void;
}

/** Writes a request's body to an upstream: as it comes, no faster than it is taken, and exactly as long as was stated. */
export class BodySender {
  readonly #socket: Socket;
  readonly #body: Readable | Buffer;
  /** Bytes that the head has stated; null: chunked (RFC 9112 §7.1). */
  readonly #length: number | null;
  readonly #events: BodySenderEvents;
  #sent = 0;
  #blocked = false;
  #done = false;
  #stopped = false;

  constructor(socket: Socket, body: Readable | Buffer, length: number | null, events: BodySenderEvents) {
    this.#socket = socket;
    this.#body = body;
    this.#length = length;
    this.#events = events;
  }

  /** Everything was handed to the socket. */
  get done(): boolean {
    return this.#done;
  }

  /** The upstream has taken all there was, and waits for more, as we do. */
  get awaitsMore(): boolean {
    return !this.#done && !this.#stopped && !this.#blocked;
  }

  start(): void {
    if (Buffer.isBuffer(this.#body)) {
      this.#onData(this.#body);
      this.#onEnd();
      return;
    }
    this.#socket.on('drain', this.#onDrain);
    this.#body.on('data', this.#onData);
    this.#body.on('end', this.#onEnd);
    this.#body.resume();
  }

  /** Nothing more is sent; the source is told that nobody listens. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (Buffer.isBuffer(this.#body)) return;
    this.#socket.off('drain', this.#onDrain);
    this.#body.off('data', this.#onData);
    this.#body.off('end', this.#onEnd);
    if (!this.#done) this.#body.destroy();
  }

  readonly #onData = (piece: Buffer): void => {
    if (this.#stopped || piece.length === 0) return;
    this.#sent += piece.length;
    const socket = this.#socket;
    let ready: boolean;
    if (this.#length === null) {
      socket.cork();
      socket.write(`${piece.length.toString(16)}\r\n`, 'latin1');
      socket.write(piece);
      ready = socket.write('\r\n', 'latin1');
      socket.uncork();
    } else if (this.#sent > this.#length) {
      this.#mismatch();
      return;
    } else {
      ready = socket.write(piece);
    }
    if (ready || Buffer.isBuffer(this.#body)) return;
    this.#body.pause();
    if (this.#blocked) return;
    this.#blocked = true;
    this.#events.moved();
  };

  readonly #onEnd = (): void => {
    if (this.#stopped) return;
    if (this.#length !== null && this.#sent !== this.#length) {
      this.#mismatch();
      return;
    }
    this.#done = true;
    if (this.#length === null) this.#socket.write(LAST_CHUNK, 'latin1');
    this.#events.moved();
  };

  readonly #onDrain = (): void => {
    if (this.#stopped || Buffer.isBuffer(this.#body)) return;
    this.#blocked = false;
    this.#events.moved();
    this.#body.resume();
  };

  /** Node's parser holds clients to their word; this holds against anybody between. */
  #mismatch(): void {
    this.#events.failed(new GivenUp('client_body_broken'));
  }
}
