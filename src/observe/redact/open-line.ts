import { bytesOf, textOf, unfinishedCharacter } from './byte-text.js';
import { PEM_BEGIN, PEM_END } from './pem.js';
import type { Edit, Rule } from './spans.js';

/**
 * How far, in characters, is looked back and ahead of where a long line is cut. What is secret is found on both sides
 * of a cut as long as it, together with its key, is not longer.
 */
const OVERLAP = 64 * 1024;

/** Punctuation that may stand at the end, and was taken for the end of what is masked. */
const REACH = 16;

/** What a secret of these rules cannot hold, so that its end is known when it comes; others go to the end of the line. */
const RUN_RULES: ReadonlySet<Rule> = new Set<Rule>(['jwt', 'token_shape', 'known', 'random', 'hex']);
const END_OF_RUN = /[\s"'<>`]/;
const ENDS_WITH_WHITE_SPACE = /\s\S*$/;

/**
 * A line of which a part is written before its end is there: because it is longer than what is held of one line, or
 * because it has stood unfinished for a while.
 *
 * Each look is at all that is held: what was written before, as far as it matters, and what came since. Nothing is
 * written that belongs to something found, but its mask; where something found reaches to the end of what is there,
 * all that follows is masked as well until its end is certain.
 */
export class OpenLine {
  readonly #edits: (text: string) => Edit[];
  #text = '';
  /** Up to here `#text` is written. */
  #sent = 0;
  /** The beginning of a character. */
  #rest: Buffer = Buffer.alloc(0);
  /** What comes is masked, and the mask is written. */
  #masked: 'no' | 'run' | 'line' = 'no';
  #lookedAt = 0;
  /** Does a PEM block begin in the line that does not end in it? Null: no line of one was seen. */
  #insidePem: boolean | null = null;
  #pemTail = '';

  /** @param edits what to mask in a text. */
  constructor(edits: (text: string) => Edit[]) {
    this.#edits = edits;
  }

  /** True or false where a BEGIN or an END was the last of the two in the line, null where there was neither. */
  get insidePem(): boolean | null {
    return this.#insidePem;
  }

  /** Characters that are held. */
  get length(): number {
    return this.#text.length;
  }

  add(bytes: Buffer): void {
    const whole = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const keep = unfinishedCharacter(whole);
    // A copy: what is read next is read into the same memory.
    this.#rest = Buffer.from(whole.subarray(whole.length - keep));
    this.#addText(textOf(whole.subarray(0, whole.length - keep)));
  }

  /** What can be written though it is not known how the line goes on: up to its last white space. */
  pause(): Buffer {
    if (this.#masked !== 'no' || this.#text.length === this.#lookedAt) return NOTHING;
    this.#lookedAt = this.#text.length;
    const last = ENDS_WITH_WHITE_SPACE.exec(this.#text.slice(-OVERLAP));
    if (last === null) return NOTHING;
    const limit = Math.max(0, this.#text.length - OVERLAP) + last.index + 1;
    const edits = this.#edits(this.#text.slice(0, limit));
    // What reaches so far may go on.
    const open = edits.at(-1);
    const end = open !== undefined && /^\s*$/.test(this.#text.slice(open.to, limit)) ? open.from : limit;
    return bytesOf(this.#write(edits, end));
  }

  /** What can be written of a line that is too long to be held: all but the last `OVERLAP` characters. */
  shorten(): Buffer {
    if (this.#masked !== 'no') return NOTHING;
    const edits = this.#edits(this.#text);
    const out = this.#write(edits, Math.max(this.#sent, this.#text.length - OVERLAP));
    const last = edits.at(-1);
    if (last !== undefined && last.to + REACH >= this.#text.length && this.#sent >= last.to) {
      this.#masked = RUN_RULES.has(last.rule) ? 'run' : 'line';
      this.#text = '';
      this.#sent = 0;
    } else {
      const forget = Math.max(0, this.#sent - OVERLAP);
      // A copy, or all that was ever held would stay.
      this.#text = Buffer.from(this.#text.slice(forget), 'utf16le').toString('utf16le');
      this.#sent -= forget;
    }
    this.#lookedAt = 0;
    return bytesOf(out);
  }

  /** The rest, when the line end has come. */
  finish(): Buffer {
    const rest = this.#rest;
    this.#rest = NOTHING;
    if (rest.length > 0) this.#addText(textOf(rest));
    if (this.#masked !== 'no') return NOTHING;
    return bytesOf(this.#write(this.#edits(this.#text), this.#text.length));
  }

  /** Masks the line to its end, but for what was written of it. */
  maskAll(): void {
    this.#masked = 'line';
    this.#text = '';
    this.#sent = 0;
  }

  #addText(text: string): void {
    this.#watchPem(text);
    if (this.#masked === 'line') return;
    if (this.#masked === 'no') {
      this.#text += text;
      return;
    }
    const end = text.search(END_OF_RUN);
    if (end < 0) return;
    this.#masked = 'no';
    this.#text = text.slice(end);
  }

  /** Writes from `#sent` up to `end`, and further where a mask begins before and ends after it. */
  #write(edits: readonly Edit[], end: number): string {
    let out = '';
    for (const { from, to, put } of edits) {
      if (to <= this.#sent) continue;
      if (from >= end) break;
      if (from > this.#sent) out += this.#text.slice(this.#sent, from);
      out += put;
      this.#sent = to;
    }
    if (this.#sent < end) {
      out += this.#text.slice(this.#sent, end);
      this.#sent = end;
    }
    return out;
  }

  #watchPem(text: string): void {
    const seen = this.#pemTail + text;
    const begin = seen.lastIndexOf(PEM_BEGIN);
    const end = seen.lastIndexOf(PEM_END);
    if (begin >= 0 || end >= 0) this.#insidePem = begin > end;
    this.#pemTail = seen.slice(1 - PEM_BEGIN.length);
  }
}

const NOTHING: Buffer = Buffer.alloc(0);
