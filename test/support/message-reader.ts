/**
 * Two readers of HTTP/1.1 for tests, neither of them related to what guardbee uses. The upstream's is as lenient as
 * the worst server behind a proxy; the client's is strict, so that a malformed answer fails the test that got it.
 */

export type FieldList = readonly (readonly [name: string, value: string])[];

/** First value of a field, whatever its case; null where there is none. */
export function fieldValue(fields: FieldList, name: string): string | null {
  const wanted = name.toLowerCase();
  return fields.find(([key]) => key.toLowerCase() === wanted)?.[1] ?? null;
}

/** All values of a field, in order. */
export function fieldValues(fields: FieldList, name: string): string[] {
  const wanted = name.toLowerCase();
  return fields.filter(([key]) => key.toLowerCase() === wanted).map(([, value]) => value);
}

/** Where a head ends: the offset after the empty line, or -1. Lenient: bare LF counts as a line end. */
export function lenientHeadEnd(bytes: Buffer): number {
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1)) {
    if (bytes[at + 1] === 0x0a) return at + 2;
    if (bytes[at + 1] === 0x0d && bytes[at + 2] === 0x0a) return at + 3;
  }
  return -1;
}

/** What became of some bytes: how many were used up, the body found in them, and whether that was the end. */
export interface BodyPiece {
  readonly used: number;
  readonly data: readonly Buffer[];
  readonly done: boolean;
}

/** Takes a body out of a byte stream, piece by piece. */
export interface BodyReader {
  read(bytes: Buffer): BodyPiece;
  /** Fields after the last chunk. */
  readonly trailers: FieldList;
}

export class FixedLengthReader implements BodyReader {
  readonly trailers: FieldList = [];
  #left: number;

  constructor(length: number) {
    this.#left = length;
  }

  read(bytes: Buffer): BodyPiece {
    const used = Math.min(this.#left, bytes.length);
    this.#left -= used;
    return { used, data: used > 0 ? [bytes.subarray(0, used)] : [], done: this.#left === 0 };
  }
}

/** The body ends when the connection does. */
export class UntilCloseReader implements BodyReader {
  readonly trailers: FieldList = [];

  read(bytes: Buffer): BodyPiece {
    return { used: bytes.length, data: bytes.length > 0 ? [bytes] : [], done: false };
  }
}

export class ChunkedReader implements BodyReader {
  readonly trailers: (readonly [string, string])[] = [];
  readonly #strict: boolean;
  #state: 'size' | 'data' | 'data-end' | 'trailers' | 'done' = 'size';
  #left = 0;

  constructor(options: { strict: boolean }) {
    this.#strict = options.strict;
  }

  read(bytes: Buffer): BodyPiece {
    const data: Buffer[] = [];
    let at = 0;
    for (;;) {
      if (this.#state === 'done') return { used: at, data, done: true };
      if (this.#state === 'data') {
        const take = Math.min(this.#left, bytes.length - at);
        if (take > 0) data.push(bytes.subarray(at, at + take));
        at += take;
        this.#left -= take;
        if (this.#left > 0) return { used: at, data, done: false };
        this.#state = 'data-end';
        continue;
      }
      const newline = bytes.indexOf(0x0a, at);
      if (newline === -1) return { used: at, data, done: false };
      const line = this.#line(bytes, at, newline);
      at = newline + 1;
      if (this.#state === 'size') this.#size(line);
      else if (this.#state === 'data-end') this.#dataEnd(line);
      else this.#trailer(line);
    }
  }

  #line(bytes: Buffer, from: number, newline: number): string {
    const carriage = newline > from && bytes[newline - 1] === 0x0d;
    if (!carriage && this.#strict) throw new Error('chunked body: a line ends with a bare LF');
    return bytes.toString('latin1', from, carriage ? newline - 1 : newline);
  }

  #size(line: string): void {
    if (this.#strict && !/^[0-9a-fA-F]+(?:;.*)?$/.test(line)) {
      throw new Error(`chunked body: bad size line ${JSON.stringify(line)}`);
    }
    const size = Number.parseInt(line, 16);
    // What a careless server does with a size it cannot read: takes it for the end.
    this.#left = Number.isNaN(size) || size < 0 ? 0 : size;
    this.#state = this.#left === 0 ? 'trailers' : 'data';
  }

  #dataEnd(line: string): void {
    if (this.#strict && line !== '') throw new Error('chunked body: data longer than its size');
    this.#state = 'size';
  }

  #trailer(line: string): void {
    if (line === '') {
      this.#state = 'done';
      return;
    }
    const colon = line.indexOf(':');
    this.trailers.push([line.slice(0, Math.max(colon, 0)), line.slice(colon + 1).trim()]);
  }
}

export interface ResponseHead {
  readonly version: string;
  readonly status: number;
  readonly reason: string;
  readonly headers: FieldList;
}

/** Strict: CRLF only, one status line, token names, no folding, no control characters. */
export function parseResponseHead(text: string): ResponseHead {
  const lines = text.split('\r\n');
  const status = /^HTTP\/(\d\.\d) (\d{3})(?: (.*))?$/.exec(lines[0] ?? '');
  if (status === null) throw new Error(`not a status line: ${JSON.stringify(lines[0])}`);
  const headers = lines.slice(1).map((line): readonly [string, string] => {
    const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    // eslint-disable-next-line no-control-regex -- control characters are exactly what is looked for
    if (field === null || /[\0-\x08\n-\x1f\x7f]/.test(line)) throw new Error(`not a field: ${JSON.stringify(line)}`);
    return [field[1] ?? '', field[2] ?? ''];
  });
  return { version: status[1] ?? '', status: Number(status[2]), reason: status[3] ?? '', headers };
}

/** How the body of an answer ends (RFC 9112 §6.3); null: it has none. Throws on ambiguous framing. */
export function responseBodyReader(head: ResponseHead, method: string): BodyReader | null {
  const encodings = fieldValues(head.headers, 'transfer-encoding');
  const lengths = fieldValues(head.headers, 'content-length');
  if (method === 'HEAD' || head.status < 200 || head.status === 204 || head.status === 304) return null;
  if (encodings.length + lengths.length > 1) throw new Error('the answer states its length more than once');
  if (encodings.length === 1) {
    if (encodings[0] !== 'chunked') throw new Error(`unexpected transfer-encoding ${JSON.stringify(encodings[0])}`);
    return new ChunkedReader({ strict: true });
  }
  const length = lengths[0];
  if (length === undefined) return new UntilCloseReader();
  if (!/^\d+$/.test(length)) throw new Error(`bad content-length ${JSON.stringify(length)}`);
  return length === '0' ? null : new FixedLengthReader(Number(length));
}
