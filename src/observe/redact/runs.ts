import { looksRandom } from '../randomness.js';
import { MAX_TOKEN, MIN_TOKEN } from './mask.js';
import type { Spans } from './spans.js';

/** What a character may be part of. Whatever is not ASCII is part of a word. */
const SEGMENT = 1;
const PIECE = 2;
export const RUN = 4;
export const WORD = 8;
const KINDS = new Uint8Array(128);
for (let code = 0x21; code < 0x7f; code++) {
  const character = String.fromCharCode(code);
  if (/[A-Za-z0-9_-]/.test(character)) KINDS[code] = SEGMENT | PIECE | RUN | WORD;
  else if (/[+=.~]/.test(character)) KINDS[code] = PIECE | RUN | WORD;
  else if (character === '/') KINDS[code] = RUN | WORD;
  else if (!/["'`<>]/.test(character)) KINDS[code] = WORD;
}

/** What the character, or the byte, may be part of: bits of the above. */
export function kindOf(code: number): number {
  return KINDS[code] ?? WORD;
}

/** The runs of one kind that are long enough for a token. */
function runs(kind: number, text: string, found: (run: string, at: number) => void): void {
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const code = at < text.length ? text.charCodeAt(at) : 0;
    if ((kindOf(code) & kind) !== 0) continue;
    if (at - start >= MIN_TOKEN) found(text.slice(start, at), start);
    if (code === ESCAPE) at = endOfColour(text, at);
    start = at + 1;
  }
}

export const ESCAPE = 0x1b;
const LONGEST_COLOUR = 20;

/** Where the colour ends that may begin at `at` with ESC: its `m` (or `K`) is no part of the word after it. */
export function endOfColour(text: string | Uint8Array, at: number): number {
  if (codeAt(text, at + 1) !== 0x5b) return at;
  for (let end = at + 2; end < at + LONGEST_COLOUR; end++) {
    const code = codeAt(text, end);
    if (code === 0x6d || code === 0x4b) return end;
    // Digits, `:` and `;`.
    if (!(code >= 0x30 && code <= 0x3b)) return at;
  }
  return at;
}

function codeAt(text: string | Uint8Array, index: number): number {
  return typeof text === 'string' ? text.charCodeAt(index) : (text[index] ?? Number.NaN);
}

const BASE64 = /[A-Za-z0-9+/]{16,}={0,2}/g;
const TRAILING_PUNCTUATION = /[=.~-]{1,8}$/;
const TWO_CASES = /^(?=.{0,4096}[a-z])(?=.{0,4096}[A-Z])/;
const MIXED = /^(?=.{0,4096}[a-z])(?=.{0,4096}[A-Z])(?=.{0,4096}[0-9])/;

/** A JWT or JWE, or the first part of one that was cut: `eyJ` is how base64url begins a JSON object. */
const JWT = /eyJ[A-Za-z0-9_-]{5,}(?:\.{1,2}[A-Za-z0-9_-]+){1,4}|eyJ[A-Za-z0-9_-]{17,}/g;

const SHAPED =
  /(?<![A-Za-z0-9])(?=[Aghnrsx])(?:gbee_[A-Za-z0-9_-]{8}|sk-[A-Za-z0-9_-]{16}|gh[pousr]_[A-Za-z0-9]{16}|github_pat_[A-Za-z0-9_]{16}|hf_[A-Za-z0-9]{16}|A(?:KI|SI)A[A-Z0-9]{12}|xox[a-z]-[A-Za-z0-9-]{10}|xapp-[A-Za-z0-9-]{10}|glpat-[A-Za-z0-9_-]{16}|npm_[A-Za-z0-9]{20}|AIza[A-Za-z0-9_-]{30}|[rs]k_(?:live|test)_[A-Za-z0-9]{10})/;

const UUID = /[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}/g;
const HEX = /[0-9A-Fa-f]{32,}/g;

/** Not of a token68, and no space or quote. */
export const ODD = /[^A-Za-z0-9_\-+/=.~\s"'`<>]/;
const AROUND: ReadonlySet<string> = new Set(',;:.!?()[]{}|');

/** What `matchAll` does, for a tenth of its price. `found` must not use the same pattern. */
function each(pattern: RegExp, text: string, found: (match: string, at: number) => void): void {
  pattern.lastIndex = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) found(match[0], match.index);
}

/** Without the padding of base64, without the full stop of a sentence. */
function withoutTail(text: string): string {
  return TAILS.has(text.charAt(text.length - 1)) ? text.replace(TRAILING_PUNCTUATION, '') : text;
}

const TAILS: ReadonlySet<string> = new Set('=.~-');

function withoutUuids(segment: string): string {
  return segment.length >= 36 ? segment.replace(UUID, '') : segment;
}

function findHex(segment: string, start: number, spans: Spans): void {
  for (const found of segment.matchAll(HEX)) {
    // A long number is a time or a count; hex of this length is a digest, a key or a session.
    if (/[A-Fa-f]/.test(found[0]) && /[0-9]/.test(found[0])) {
      spans.mask('hex', start + found.index, start + found.index + found[0].length);
    }
  }
}

/** Finds what has no name before it: known secrets, tokens of known shapes, and what looks like key material. */
export class RunFinder {
  /** False: the words of `findOddWords` need not be looked at. */
  readonly knowsAny: boolean;
  readonly knows: (text: string) => boolean;

  /** @param knows is this a known secret? Asked for whatever is long enough for a token. Null: none is known. */
  constructor(knows: ((text: string) => boolean) | null) {
    this.knowsAny = knows !== null;
    this.knows = knows ?? (() => false);
  }

  /** Everything a token68 (RFC 9110 §11.2) can hold: hex, base64, base64url, JWTs, and our own tokens. */
  findRuns(text: string, spans: Spans): void {
    runs(RUN, text, (run, start) => {
      if (run.includes('eyJ'))
        each(JWT, run, (jwt, at) => {
          spans.mask('jwt', start + at, start + at + jwt.length);
        });
      runs(PIECE, run, (piece, at) => {
        this.#judgePiece(piece, start + at, spans);
      });
      if (run.includes('/') || run.includes('+')) {
        each(BASE64, run, (base64, at) => {
          this.#judgeBase64(base64, start + at, spans);
        });
      }
    });
  }

  /** `piece` holds no slash. */
  #judgePiece(piece: string, start: number, spans: Spans): void {
    const end = start + piece.length;
    if (this.knows(piece)) {
      spans.mask('known', start, end);
      return;
    }
    const bare = withoutTail(piece);
    if (bare.length < piece.length && this.knows(bare)) {
      spans.mask('known', start, start + bare.length);
      return;
    }
    const equals = bare.indexOf('=');
    if (equals >= 0) {
      const value = start + equals + 1;
      if (this.knows(piece.slice(equals + 1))) {
        spans.mask('known', value, end);
        return;
      }
      if (this.knows(bare.slice(equals + 1))) {
        spans.mask('known', value, start + bare.length);
        return;
      }
    }
    runs(SEGMENT, piece, (segment, at) => {
      const from = start + at;
      const to = from + segment.length;
      const shape = SHAPED.exec(segment);
      if (shape !== null) spans.mask('token_shape', from + shape.index, to);
      else if (segment.length < bare.length && this.knows(segment)) spans.mask('known', from, to);
      else if (looksRandom(withoutUuids(segment))) spans.mask('random', from, to);
      else if (segment.length >= 32) findHex(segment, from, spans);
    });
  }

  /**
   * Standard base64 may hold slashes, and so may a path: the parts are tried alone and with up to three neighbours.
   * What is not a known token is masked only where it does not look like a path.
   */
  #judgeBase64(run: string, start: number, spans: Spans): void {
    // One in a thousand secrets of AWS has no digit; a plus is in few names.
    if (!MIXED.test(run) && !(run.includes('+') && TWO_CASES.test(run))) return;
    const cuts: number[] = [-1];
    for (let at = run.indexOf('/'); at >= 0; at = run.indexOf('/', at + 1)) cuts.push(at);
    cuts.push(run.length);
    let known = false;
    for (let first = 0; first + 1 < cuts.length; first++) {
      const from = (cuts[first] ?? 0) + 1;
      for (let last = first + 1; last < cuts.length && last <= first + 4; last++) {
        const to = cuts[last] ?? run.length;
        if (to - from > MAX_TOKEN) break;
        const candidate = run.slice(from, to);
        const bare = withoutTail(candidate);
        const found = this.knows(candidate) ? candidate : bare !== candidate && this.knows(bare) ? bare : null;
        if (found === null) continue;
        spans.mask('known', start + from, start + from + found.length);
        known = true;
      }
    }
    if (known) return;
    const longest = Math.max(...run.split('/', 256).map((part) => part.length));
    const likeBase64 = run.includes('+') || run.endsWith('=') || longest >= 12;
    if (likeBase64 && looksRandom(run)) spans.mask('random', start, start + run.length);
  }

  /** A token shown in `X-API-Key` may hold any visible character: whole words are looked up as well. */
  findOddWords(text: string, spans: Spans): void {
    if (!this.knowsAny) return;
    runs(WORD, text, (word, at) => {
      if (word.length > MAX_TOKEN || !ODD.test(word)) return;
      const end = at + word.length;
      if (this.knows(word)) {
        spans.mask('known', at, end);
        return;
      }
      let from = 0;
      while (from < word.length && AROUND.has(word.charAt(from))) from++;
      let to = word.length;
      for (let cut = 0; cut < 4 && AROUND.has(word.charAt(to - 1)); cut++) {
        to--;
        const start = this.knows(word.slice(0, to)) ? 0 : this.knows(word.slice(from, to)) ? from : -1;
        if (start < 0) continue;
        spans.mask('known', at + start, at + to);
        return;
      }
      if (from > 0 && this.knows(word.slice(from))) {
        spans.mask('known', at + from, end);
        return;
      }
      const equals = word.indexOf('=');
      const value = (equals < 0 ? word.indexOf(':') : equals) + 1;
      if (value > 0 && this.knows(word.slice(value))) spans.mask('known', at + value, end);
      else if (value > 0 && this.knows(word.slice(value, to))) spans.mask('known', at + value, at + to);
    });
  }
}
