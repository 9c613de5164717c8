import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Answer } from '../exchange.js';

/** What is still read of a request body that nobody wants, so that the client gets to see the answer. */
const DISCARD_BYTES = 1024 * 1024;
const DISCARD_MS = 1_000;
const JOINED_BYTES = 16 * 1024;

/** An answer over HTTP/1.x. Node writes the framing and keeps pipelined answers in order. */
export class Http1Answer implements Answer {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #over: (() => void) | null;
  #drainAwaited = false;
  #closed = false;
  #bodyBegun = false;
  #bodyExpected = true;
  #flushScheduled = false;
  /**
   * The first piece of the body, until the end of the turn that brought it: with the head as one string it is one write, and
   * the end can be part of it. As string and buffer they are a vector of three, which costs a tenth of the whole request.
   * latin1 keeps every byte as it is.
   */
  #first: string | null = null;
  #bodyBroken = false;
  #ended = false;
  #stopDiscarding: (() => void) | null = null;
  onDrain: (() => void) | null = null;
  onClose: ((flushed: boolean) => void) | null = null;

  /** @param over called after `onClose`: the connection is free for what comes next. */
  constructor(request: IncomingMessage, response: ServerResponse, over: (() => void) | null) {
    this.#request = request;
    this.#response = response;
    this.#over = over;
    response.on('close', this.#onResponseClose);
    // It reports through `close`; an unheard `error` would end the process. That of a request Node keeps to itself where
    // nobody listens.
    response.on('error', ignore);
  }

  get headSent(): boolean {
    return this.#response.headersSent;
  }

  get body(): Readable {
    return this.#request;
  }

  expectNoBody(): void {
    this.#bodyExpected = false;
  }

  sendHead(status: number, fields: readonly string[], bodiless: boolean): void {
    if (this.#gone()) return;
    // `writeHead` takes names and values in turn; its type only knows the object form and arrays of them.
    this.#response.writeHead(status, fields as string[]);
    if (bodiless || this.#flushScheduled) return;
    // The body usually comes in the same read as the head and then shares its packet; a stream's head must not wait.
    this.#flushScheduled = true;
    process.nextTick(this.#flush);
  }

  write(chunk: Buffer): boolean {
    if (this.#gone()) return true;
    if (this.#bodyBegun) {
      this.#sendFirst();
      if (this.#writeChunk(chunk)) return true;
    } else {
      this.#bodyBegun = true;
      if (this.#flushScheduled && chunk.length <= JOINED_BYTES) {
        this.#first = chunk.toString('latin1');
        return true;
      }
    }
    return this.#response.write(Buffer.from(chunk)) || this.#awaitDrain();
  }

  writeChunks(bytes: Buffer, from: number, to: number): boolean {
    const socket = this.#freeSocket();
    if (socket === null) return false;
    socket.write(bytes.toString('latin1', from, to), 'latin1');
    return true;
  }

  /** One chunk as one string: what Node makes of it is a vector of four, and a tick to send them together. */
  #writeChunk(chunk: Buffer): boolean {
    const socket = chunk.length > 0 && chunk.length <= JOINED_BYTES ? this.#freeSocket() : null;
    if (socket === null) return false;
    socket.write(`${chunk.length.toString(16)}\r\n${chunk.toString('latin1')}\r\n`, 'latin1');
    return true;
  }

  /**
   * Where chunks may be written past Node's response: its turn has come, and all before it is on its way, so that order, and
   * what is said of a full socket, stay Node's. Null: not now.
   */
  #freeSocket(): Socket | null {
    if (!this.#bodyBegun || this.#first !== null || this.#gone()) return null;
    const { socket, chunkedEncoding } = this.#response;
    return chunkedEncoding && socket?.writableLength === 0 ? socket : null;
  }

  end(): void {
    if (this.#gone()) return;
    this.#ended = true;
    if (this.#complete()) {
      const first = this.#first;
      this.#first = null;
      if (first === null) this.#response.end();
      else this.#response.end(first, 'latin1');
      return;
    }
    this.#sendFirst();
    this.#endAfterBody();
  }

  sendWhole(status: number, fields: readonly string[], body: Buffer): void {
    if (this.#gone()) return;
    const response = this.#response;
    const all = [...fields];
    if (!this.#complete()) all.push('connection', 'close');
    response.writeHead(status, all);
    if (this.#request.method === 'HEAD') response.flushHeaders();
    else response.write(body);
    this.end();
  }

  closeAfterwards(): void {
    this.#response.shouldKeepAlive = false;
  }

  sendContinue(): void {
    // After an answer it would be taken for the beginning of the next one.
    if (!this.#gone() && !this.headSent) this.#response.writeContinue();
  }

  abort(): void {
    this.#response.destroy();
    this.#request.socket.destroy();
  }

  /**
   * What follows on the connection can't be read. What was already said goes out whole, and whoever waits for the rest
   * of the body hears that there is none; the connection then ends. False: this answer is in the middle of something.
   */
  cutOff(): boolean {
    if (!this.#ended && this.#request.complete) return false;
    if (!this.#bodyBroken) {
      this.#bodyBroken = true;
      if (this.#request.listenerCount('error') > 0)
        this.#request.emit('error', new Error('the rest of the request could not be read'));
    }
    this.#stopDiscarding?.();
    if (this.#ended) this.#request.socket.destroySoon();
    return true;
  }

  /**
   * The answer is complete but the request is not. Closing now could reset the connection before the client has read
   * the answer (RFC 9112 §9.6), so a bounded part of the rest is read and thrown away first.
   */
  #endAfterBody(): void {
    const request = this.#request;
    let left = DISCARD_BYTES;
    const finish = (): void => {
      clearTimeout(timer);
      this.#stopDiscarding = null;
      request.off('data', onData);
      request.off('end', finish);
      if (this.#gone()) return;
      this.#response.end();
      if (!request.complete) request.socket.destroySoon();
    };
    const onData = (chunk: Buffer): void => {
      left -= chunk.length;
      if (left < 0) finish();
    };
    const timer = setTimeout(finish, this.#bodyBroken ? 0 : DISCARD_MS);
    this.#stopDiscarding = finish;
    request.on('data', onData);
    request.once('end', finish);
    request.resume();
    // Node 24.12 on: a request that announces no body has ended before anybody could listen (`optimizeEmptyRequests`).
    if (request.readableEnded) setImmediate(finish);
  }

  /** The parser says `complete` a little later than the request is announced, also where there is no body. */
  #complete(): boolean {
    return !this.#bodyExpected || this.#request.complete;
  }

  #gone(): boolean {
    return this.#closed || this.#response.destroyed;
  }

  readonly #flush = (): void => {
    this.#flushScheduled = false;
    if (this.#gone() || this.#response.writableEnded) return;
    if (this.#first === null) this.#response.flushHeaders();
    else this.#sendFirst();
  };

  #sendFirst(): void {
    const first = this.#first;
    if (first === null) return;
    this.#first = null;
    if (!this.#response.write(first, 'latin1')) this.#awaitDrain();
  }

  /** Most answers never fill a socket: who listens for the drain does so when there is one to come. */
  #awaitDrain(): false {
    if (!this.#drainAwaited) {
      this.#drainAwaited = true;
      this.#response.on('drain', this.#onResponseDrain);
    }
    return false;
  }

  readonly #onResponseDrain = (): void => {
    this.onDrain?.();
  };

  readonly #onResponseClose = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose?.(this.#response.writableFinished);
    this.#over?.();
  };
}

function ignore(): void {
  // Reported elsewhere.
}
