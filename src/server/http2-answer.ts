import { type OutgoingHttpHeaders, type ServerHttp2Stream, constants } from 'node:http2';
import type { Readable } from 'node:stream';
import type { Answer } from '../exchange.js';
import { withoutWhitespace } from '../http/fields.js';

/** Fields that HTTP/2 in Node refuses to send twice; the first one counts, as it does for most readers of HTTP/1. */
const SINGLE: ReadonlySet<string> = new Set(
  (
    'access-control-allow-credentials access-control-max-age age authorization content-disposition content-encoding ' +
    'content-language content-length content-location content-md5 content-range content-type date dnt etag expires ' +
    'if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards ' +
    'proxy-authorization range referer retry-after tk upgrade-insecure-requests user-agent x-content-type-options'
  ).split(' '),
);

/**
 * Fields that are never joined with commas: cookies hold commas (RFC 6265 §3), and browsers read one challenge of each
 * WWW-Authenticate, so that a second one behind a comma is never asked.
 */
const APART: ReadonlySet<string> = new Set(['set-cookie', 'www-authenticate', 'proxy-authenticate']);

/** An answer on one HTTP/2 stream. */
export class Http2Answer implements Answer {
  readonly #stream: ServerHttp2Stream;
  readonly #head: boolean;
  #closed = false;
  onDrain: (() => void) | null = null;
  onClose: ((flushed: boolean) => void) | null = null;

  constructor(stream: ServerHttp2Stream, method: string) {
    this.#stream = stream;
    this.#head = method === 'HEAD';
    stream.on('drain', () => {
      this.onDrain?.();
    });
    // A reset by the client arrives as an error too; `close` tells of it.
    stream.on('error', () => undefined);
    // A reset with NO_ERROR is no error to Node: a body that it cut short would end like a whole one, and the stream
    // would live on until somebody had read it. This comes first, and only while our side has not ended.
    stream.once('aborted', () => {
      this.#onStreamClose(false);
      process.nextTick(() => stream.destroy());
    });
    stream.once('close', () => {
      // No error and an end: the last frame is out, and the stream closed because of it. Node reports `finish` and empties
      // `writableLength` only after that, or never, where the client closes the connection on seeing the last frame.
      this.#onStreamClose(stream.rstCode === constants.NGHTTP2_NO_ERROR && stream.writableEnded);
    });
  }

  get headSent(): boolean {
    return this.#stream.headersSent;
  }

  get body(): Readable {
    return this.#stream;
  }

  expectNoBody(): void {
    // The stream's own end says so.
  }

  sendHead(status: number, fields: readonly string[], bodiless: boolean): void {
    if (this.#gone()) return;
    this.#stream.respond(outgoing(status, fields), { endStream: bodiless });
  }

  write(chunk: Buffer): boolean {
    return this.#gone() || this.#stream.write(Buffer.from(chunk));
  }

  writeChunks(): boolean {
    // HTTP/2 has no chunks (RFC 9113 §8.1).
    return false;
  }

  end(): void {
    if (this.#gone()) return;
    this.#stream.end();
    this.#dropRest();
  }

  sendWhole(status: number, fields: readonly string[], body: Buffer): void {
    if (this.#gone()) return;
    this.#stream.respond(outgoing(status, fields), { endStream: this.#head });
    if (!this.#head) this.#stream.end(body);
    this.#dropRest();
  }

  closeAfterwards(): void {
    // GOAWAY: what is underway ends first (RFC 9113 §6.8).
    this.#stream.session?.close();
  }

  sendContinue(): void {
    if (!this.#gone() && !this.headSent) this.#stream.additionalHeaders({ ':status': 100 });
  }

  abort(): void {
    // Not `close`: that ends the body first, and the client would take what it has for the whole.
    this.#stream.destroy(new Error('the answer was cut'));
  }

  /** RFC 9113 §8.1: a complete answer to an incomplete request ends with a reset of NO_ERROR. */
  #dropRest(): void {
    const stream = this.#stream;
    if (stream.readableEnded) return;
    if (stream.writableFinished) this.#resetUnread();
    else
      stream.once('finish', () => {
        this.#resetUnread();
      });
    stream.resume();
  }

  #resetUnread(): void {
    // A body that has come in whole by now ends by itself.
    setImmediate(() => {
      if (!this.#stream.destroyed && !this.#stream.readableEnded) this.#stream.close(constants.NGHTTP2_NO_ERROR);
    });
  }

  #onStreamClose(flushed: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose?.(flushed);
  }

  #gone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }
}

function outgoing(status: number, fields: readonly string[]): OutgoingHttpHeaders {
  // Without a prototype: an upstream's field may be named `constructor` or `__proto__`.
  const headers = Object.create(null) as Record<string, string | number | string[]>;
  headers[':status'] = status;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const value = withoutWhitespace(fields[i + 1] ?? '');
    const known = headers[name];
    if (known === undefined) headers[name] = value;
    else if (APART.has(name)) headers[name] = [...(Array.isArray(known) ? known : [String(known)]), value];
    else if (!SINGLE.has(name)) headers[name] = `${String(known)}, ${value}`;
  }
  return headers;
}
