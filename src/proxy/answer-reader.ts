import {
  type AnswerHead,
  MalformedAnswer,
  NO_STATUS,
  STATUS_LINE,
  answerHead,
  hasHalfALineEnd,
} from './answer-head.js';
import type { KnownHead } from '../http/client-head.js';

export interface AnswerEvents {
  /**
   * Names as sent and values without the whitespace around, in turn. False: the reader of the body is not ready.
   * @param known null: a head like this has not come before
   */
  head(status: number, fields: readonly string[], known: KnownHead | null): boolean;
  /** The bytes are those of `read`. False: enough for now. What is in hand already still comes. */
  data(chunk: Buffer): boolean;
  /**
   * The bytes from one place to another are whole chunks with all of their framing, plainly written.
   * @param content how many of them are of the body
   * @returns false: they are not wanted like this, and come by `data`
   */
  chunks(bytes: Buffer, from: number, to: number, content: number): boolean;
}

const HEAD_BYTES = 64 * 1024;
/** Size and extensions of a chunk; a trailer section as a whole. */
const CHUNK_LINE_BYTES = 1_024;
const TRAILER_BYTES = 16 * 1024;
const MOST_INTERIM = 16;

const LF = 0x0a;
const CR = 0x0d;
const ZERO = 0x30;
const END_OF_HEAD = Buffer.from('\r\n\r\n');
/** RFC 9112 §7.1; extensions mean nothing here. */
const CHUNK_SIZE = /^([0-9A-Fa-f]{1,12})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
/** As many as the pattern above takes. */
const SIZE_DIGITS = 12;
/** Chunks that go on as they came are shorter than this together with their framing. */
const MOST_AS_THEY_CAME = 16 * 1024;
/** What the request was: there is no body to the answer of a HEAD, whatever the fields say, and a 101 only to an upgrade. */
export type Question = 'ordinary' | 'head' | 'upgrade';

type State = 'head' | 'length' | 'until_close' | 'chunk_size' | 'chunk_data' | 'chunk_end' | 'trailers' | 'done';

/**
 * Reads one HTTP/1.x answer from an upstream (RFC 9112 §4 to §7), to the letter: a line ends in CRLF, a length is stated
 * in one way, and nothing may follow. Fields are judged by `client-head`, which everything passes; what is here is how
 * long the message is, and whether the connection may be used again.
 */
export class AnswerReader {
  readonly #events: AnswerEvents;
  readonly #question: Question;
  #state: State = 'head';
  /** Bytes of a head, a size line or trailers that are not whole yet. */
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  /** Of the body, or of the chunk. */
  #left = 0;
  #interim = 0;
  #upgraded: readonly string[] | null = null;
  #position = 0;
  /** Where whole chunks end, in what is being read, that were not wanted as they came. */
  #unwantedUntil = 0;
  #ready = true;
  #reusable = true;
  #keepAliveMs = Number.POSITIVE_INFINITY;

  constructor(question: Question, events: AnswerEvents) {
    this.#question = question;
    this.#events = events;
  }

  /** The head is here, of the answer itself. */
  get begun(): boolean {
    return this.#state !== 'head';
  }

  get complete(): boolean {
    return this.#state === 'done';
  }

  /** The body goes on until the upstream closes (RFC 9112 §6.3, number 8). */
  get endsWithConnection(): boolean {
    return this.#state === 'until_close';
  }

  /** The fields of a 101; null: there was none. */
  get upgraded(): readonly string[] | null {
    return this.#upgraded;
  }

  /** How far into the latest chunk the 101 went; what follows is of the other protocol. */
  get position(): number {
    return this.#position;
  }

  /** Known once complete. */
  get reusable(): boolean {
    return this.#reusable;
  }

  /** How long the upstream says it keeps the connection, with room for the way; Infinity where it says nothing. */
  get keepAliveMs(): number {
    return this.#keepAliveMs;
  }

  /**
   * @param chunk not needed any more once it returns
   * @returns false when whoever takes the body is not ready for more
   * @throws MalformedAnswer
   */
  read(chunk: Buffer): boolean {
    this.#ready = true;
    this.#unwantedUntil = 0;
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'head':
          at = this.#readHead(chunk, at);
          if (this.#upgraded === null) break;
          this.#position = at;
          return true;
        case 'length':
        case 'chunk_data':
          at = this.#readCounted(chunk, at);
          break;
        case 'until_close':
          this.#pass(at === 0 ? chunk : chunk.subarray(at));
          return this.#ready;
        case 'chunk_size':
          at = this.#readChunkSize(chunk, at);
          break;
        case 'chunk_end':
          at = this.#readChunkEnd(chunk, at);
          break;
        case 'trailers':
          at = this.#readTrailers(chunk, at);
          break;
        case 'done':
          // What follows an answer was not asked for. The answer itself is whole.
          this.#reusable = false;
          return this.#ready;
      }
    }
    return this.#ready;
  }

  #pass(chunk: Buffer): void {
    if (!this.#events.data(chunk)) this.#ready = false;
  }

  #readHead(chunk: Buffer, from: number): number {
    const inOne = this.#pieces.length === 0;
    const end = inOne ? chunk.indexOf(END_OF_HEAD, from) : -1;
    if (end !== -1) {
      if (end - from > HEAD_BYTES) throw new MalformedAnswer('the head is too large');
      this.#head(chunk.toString('latin1', from, end));
      return end + 4;
    }
    const before = this.#pieceBytes;
    // Behind the end of a head that came in pieces there may be more of the body than a head has room for.
    const rest = chunk.subarray(from, from + HEAD_BYTES + END_OF_HEAD.length - before);
    this.#keep(rest, HEAD_BYTES, 'the head is too large');
    // Only the end of a line can end a head, or show that its lines end wrongly.
    const all = rest.includes(LF) ? this.#joined() : null;
    const found = all?.indexOf(END_OF_HEAD) ?? -1;
    if (found === -1 && from + rest.length < chunk.length) throw new MalformedAnswer('the head is too large');
    if (all === null) return chunk.length;
    if (found === -1) {
      // The rest may never come. A CR at the end may still get its LF.
      const lines = all.toString('latin1', 0, all.at(-1) === CR ? all.length - 1 : all.length);
      if (hasHalfALineEnd(lines)) throw new MalformedAnswer('a line ends without CR and LF');
      if (!STATUS_LINE.test(lines.slice(0, Math.max(0, lines.indexOf('\r\n'))))) throw new MalformedAnswer(NO_STATUS);
      return chunk.length;
    }
    this.#forget();
    this.#head(all.toString('latin1', 0, found));
    return from + (found + 4 - before);
  }

  #head(text: string): void {
    const head = answerHead(text);
    const { status, fields, length, chunked } = head;
    if (status === 101 && this.#question === 'upgrade') {
      this.#upgraded = fields;
      return;
    }
    if (status < 200) {
      this.#passOver(head);
      return;
    }
    if (chunked && (length !== null || head.http10)) throw new MalformedAnswer('the length is ambiguous');
    this.#keepAliveMs = head.keepAliveMs;
    if (head.closes) this.#reusable = false;
    if (this.#question === 'head' || status === 204 || status === 304) {
      this.#state = 'done';
      // Some services send the body that there is not, a moment later, to whoever has the connection by then.
      if (chunked || (length !== null && length > 0)) this.#reusable = false;
    } else if (status === 205 && length === null) {
      // RFC 9110 §15.3.6: nothing may follow. Node says that it will in chunks, and sends none; nobody waits to see.
      this.#state = 'done';
      this.#reusable = false;
    } else if (chunked) this.#state = 'chunk_size';
    else if (length === null) {
      this.#state = 'until_close';
      this.#reusable = false;
    } else {
      this.#left = length;
      this.#state = length === 0 ? 'done' : 'length';
    }
    if (!this.#events.head(status, fields, head.known)) this.#ready = false;
  }

  /** Interim answers (RFC 9110 §15.2) are between the upstream and us. Nobody asked to switch protocols here. */
  #passOver({ status, length, chunked }: AnswerHead): void {
    this.#interim += 1;
    if (status === 101 || length !== null || chunked || this.#interim > MOST_INTERIM) {
      throw new MalformedAnswer('an interim answer is malformed');
    }
  }

  #readCounted(chunk: Buffer, from: number): number {
    const end = Math.min(chunk.length, from + this.#left);
    this.#left -= end - from;
    if (this.#left === 0) this.#state = this.#state === 'length' ? 'done' : 'chunk_end';
    this.#pass(from === 0 && end === chunk.length ? chunk : chunk.subarray(from, end));
    return end;
  }

  /**
   * An event of a stream is mostly one chunk in one read. It need not be taken out of its framing and put into one that is
   * the same. @returns where such chunks end: `from`, where none is there or they are not wanted
   */
  #passWholeChunks(chunk: Buffer, from: number): number {
    if (this.#pieces.length > 0 || from < this.#unwantedUntil) return from;
    const most = Math.min(chunk.length, from + MOST_AS_THEY_CAME);
    let content = 0;
    let end = from;
    for (;;) {
      // Zeros in front would be as good, but whoever wrote no plain size has it written anew.
      const data = chunk[end] === ZERO ? -1 : this.#readPlainChunkSize(chunk, end);
      if (data === -1 || data + this.#left + 2 > most) break;
      const after = data + this.#left;
      if (chunk[after] !== CR || chunk[after + 1] !== LF) break;
      content += this.#left;
      end = after + 2;
    }
    this.#state = 'chunk_size';
    if (end === from) return from;
    if (this.#events.chunks(chunk, from, end, content)) return end;
    // Else each of them would be looked for once for every one before it.
    this.#unwantedUntil = end;
    return from;
  }

  #readChunkSize(chunk: Buffer, from: number): number {
    const passed = this.#passWholeChunks(chunk, from);
    if (passed > from) return passed;
    const end = this.#readPlainChunkSize(chunk, from);
    if (end !== -1) return end;
    const line = this.#line(chunk, from, CHUNK_LINE_BYTES);
    if (line === null) return chunk.length;
    const size = CHUNK_SIZE.exec(line.text)?.[1];
    if (size === undefined) throw new MalformedAnswer('the size of a chunk is malformed');
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? 'trailers' : 'chunk_data';
    return line.end;
  }

  /** A size alone and whole, as nearly all are, without a text of it: an event of a stream is little more. -1: not that. */
  #readPlainChunkSize(chunk: Buffer, from: number): number {
    if (this.#pieces.length > 0) return -1;
    let size = 0;
    let at = from;
    for (const last = from + SIZE_DIGITS; at < last; at += 1) {
      const digit = hexDigit(chunk[at] ?? 0);
      if (digit === -1) break;
      size = size * 16 + digit;
    }
    if (at === from || chunk[at] !== CR || chunk[at + 1] !== LF) return -1;
    this.#left = size;
    this.#state = size === 0 ? 'trailers' : 'chunk_data';
    return at + 2;
  }

  #readChunkEnd(chunk: Buffer, from: number): number {
    if (this.#pieces.length === 0 && chunk[from] === CR && chunk[from + 1] === LF) {
      this.#state = 'chunk_size';
      return from + 2;
    }
    const line = this.#line(chunk, from, 2);
    if (line === null) return chunk.length;
    if (line.text !== '') throw new MalformedAnswer('a chunk is longer than it says');
    this.#state = 'chunk_size';
    return line.end;
  }

  /** Read and dropped: nobody listed any (RFC 9110 §6.5). */
  #readTrailers(chunk: Buffer, from: number): number {
    const line = this.#line(chunk, from, TRAILER_BYTES);
    if (line === null) return chunk.length;
    if (line.text === '') {
      this.#state = 'done';
    } else {
      this.#left += line.text.length;
      if (this.#left > TRAILER_BYTES || !line.text.includes(':')) throw new MalformedAnswer('a trailer is malformed');
    }
    return line.end;
  }

  /** A line without its CRLF, and where in the chunk it ends; null: not whole yet, and kept. */
  #line(chunk: Buffer, from: number, most: number): { readonly text: string; readonly end: number } | null {
    const lf = chunk.indexOf(LF, from);
    if (lf === -1) {
      this.#keep(chunk.subarray(from), most, 'a line is too long');
      return null;
    }
    let text: string;
    if (this.#pieces.length === 0) {
      text = chunk.toString('latin1', from, lf);
    } else {
      this.#keep(chunk.subarray(from, lf), most, 'a line is too long');
      text = this.#joined().toString('latin1');
      this.#forget();
    }
    if (!text.endsWith('\r')) throw new MalformedAnswer('a line ends without CR');
    if (text.length - 1 > most) throw new MalformedAnswer('a line is too long');
    return { text: text.slice(0, -1), end: lf + 1 };
  }

  #keep(piece: Buffer, most: number, otherwise: string): void {
    // What was handed in may be overwritten.
    this.#pieces.push(Buffer.from(piece));
    this.#pieceBytes += piece.length;
    // CR and LF of a head's end are not counted against it.
    if (this.#pieceBytes > most + 4) throw new MalformedAnswer(otherwise);
  }

  #joined(): Buffer {
    const all = this.#pieces.length === 1 ? this.#pieces[0] : undefined;
    const joined = all ?? Buffer.concat(this.#pieces, this.#pieceBytes);
    this.#pieces = [joined];
    return joined;
  }

  #forget(): void {
    this.#pieces = [];
    this.#pieceBytes = 0;
  }
}

/** Value of the hexadecimal digit with this code; -1: it is none. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
