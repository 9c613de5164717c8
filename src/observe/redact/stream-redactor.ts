import { bytesOf, textOf } from './byte-text.js';
import { Glance } from './glance.js';
import { LineRedactor } from './line-redactor.js';
import { OpenLine } from './open-line.js';
import { MASK } from './mask.js';
import { PEM_BEGIN } from './pem.js';
import type { SecretSearch } from './search.js';
import { apply } from './spans.js';

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const MASK_BYTES = Buffer.from(MASK);

/** Of one line no more than this is held, in bytes. */
export const LONGEST_LINE = 1024 * 1024;

/** Where a stream's bytes go. They may be overwritten once it returns. */
export type Write = (bytes: Buffer) => void;

/**
 * Redacts a stream of bytes, line by line: as many lines come out as went in, in their order, each as soon as its line
 * end is there. What is not masked comes out byte for byte, UTF-8 or not. Holds no more than `LONGEST_LINE` bytes and
 * what goes with them.
 */
export class StreamRedactor {
  readonly #write: Write;
  readonly #lines: LineRedactor;
  readonly #glance: Glance;
  readonly #search: SecretSearch;
  /** Of the line that has no end yet. */
  #begun: Buffer[] = [];
  #begunLength = 0;
  /** The same, where a part of it is already written. */
  #open: OpenLine | null = null;

  /** @param glance remembers megabytes of what it saw: one of its own, unless there are very many streams */
  constructor(search: SecretSearch, write: Write, glance = new Glance(search)) {
    this.#search = search;
    this.#lines = new LineRedactor(search);
    this.#glance = glance;
    this.#write = write;
  }

  /** Is there a line that has no end yet? */
  get hasUnfinishedLine(): boolean {
    return this.#open !== null || this.#begunLength > 0;
  }

  push(chunk: Buffer): void {
    let from = 0;
    if (this.hasUnfinishedLine) {
      const end = chunk.indexOf(NEWLINE);
      if (end < 0) {
        this.#begin(chunk);
        return;
      }
      this.#finish(chunk.subarray(0, end + 1));
      from = end + 1;
    }
    const to = chunk.lastIndexOf(NEWLINE) + 1;
    if (to > from) this.#whole(chunk, from, to);
    if (chunk.length > Math.max(from, to)) this.#begin(chunk.subarray(Math.max(from, to)));
  }

  /** Nothing has come for a while: writes what is certain of a line that has no end yet. */
  pause(): void {
    if (!this.hasUnfinishedLine || this.#lines.insidePem) return;
    this.#write(this.#opened().pause());
  }

  /** The end of the stream: the last line may have no line end. */
  end(): void {
    if (this.hasUnfinishedLine) this.#finish(Buffer.alloc(0));
  }

  /** Lines from `from` to `to`, each with its line end. */
  #whole(bytes: Buffer, from: number, to: number): void {
    let pem = bytes.indexOf(PEM_BEGIN, from, 'latin1');
    for (let at = from; at < to;) {
      const line = this.#lines.insidePem ? at : this.#glance.suspect(bytes, at, to, pem);
      if (line > at) this.#write(bytes.subarray(at, line));
      if (line === to) return;
      at = bytes.indexOf(NEWLINE, line) + 1;
      this.#line(bytes.subarray(line, at));
      if (pem >= 0 && pem < at) pem = bytes.indexOf(PEM_BEGIN, at, 'latin1');
    }
  }

  /** @param bytes with its line end, if it has one. */
  #line(bytes: Buffer): void {
    const content = withoutLineEnd(bytes);
    const text = textOf(content);
    const edits = this.#lines.edits(text);
    if (edits.length === 0) {
      this.#write(bytes);
      return;
    }
    this.#write(bytesOf(apply(text, edits)));
    this.#write(bytes.subarray(content.length));
  }

  #begin(bytes: Buffer): void {
    if (this.#open === null && this.#begunLength + bytes.length <= LONGEST_LINE) {
      this.#begun.push(Buffer.from(bytes));
      this.#begunLength += bytes.length;
      return;
    }
    const open = this.#opened();
    open.add(bytes);
    if (open.length > LONGEST_LINE) this.#write(open.shorten());
  }

  /** @param bytes the rest of the line that was begun, with its line end if it has one. */
  #finish(bytes: Buffer): void {
    const open = this.#open;
    if (open === null) {
      const line = Buffer.concat([...this.#begun, bytes]);
      this.#begun = [];
      this.#begunLength = 0;
      if (line.at(-1) === NEWLINE) this.#whole(line, 0, line.length);
      else this.#line(line);
      return;
    }
    const content = withoutLineEnd(bytes);
    open.add(content);
    this.#write(open.finish());
    this.#write(bytes.subarray(content.length));
    this.#lines.passed(open.insidePem);
    this.#open = null;
  }

  #opened(): OpenLine {
    if (this.#open !== null) return this.#open;
    const open = new OpenLine((text) => this.#search.edits(text));
    if (this.#lines.insidePem) {
      this.#write(MASK_BYTES);
      open.maskAll();
    }
    for (const bytes of this.#begun) open.add(bytes);
    this.#begun = [];
    this.#begunLength = 0;
    this.#open = open;
    return open;
  }
}

function withoutLineEnd(bytes: Buffer): Buffer {
  let end = bytes.length;
  if (end > 0 && bytes[end - 1] === NEWLINE) {
    end--;
    if (end > 0 && bytes[end - 1] === RETURN) end--;
  }
  return bytes.subarray(0, end);
}
