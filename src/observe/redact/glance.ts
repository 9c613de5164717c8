/**
 * The fast path of a stream: reads bytes once and says in which line something may be found. It may be wrong in one
 * direction alone: a line that it passes over holds nothing that `SecretSearch` would find. A test holds the two
 * against each other.
 *
 * For each kind of finder there is a condition that everything it finds meets:
 * - keys and schemes: one of their words, with something after it that a value can follow;
 * - percent-encoding: `%` and two hex digits;
 * - users of URLs: `@` with `//` before it in the same word;
 * - PEM: its BEGIN;
 * - all else stands in a run of 16 characters or more, and a run is judged by itself, wherever it stands.
 */
import { ClearedRuns } from './cleared-runs.js';
import { textOf } from './byte-text.js';
import { MAX_TOKEN, MIN_TOKEN } from './mask.js';
import { holdsNothing, piecesToLookUp } from './run-glance.js';
import { ESCAPE, RUN, WORD, endOfColour, kindOf } from './runs.js';

/** What the glance asks about a run or a word of its own. */
export interface RunJudge {
  readonly knowsAny: boolean;
  /** Is it a known secret? */
  knows(text: string): boolean;
  findsInRun(run: string): boolean;
  findsInWord(word: string): boolean;
}

/** The names of `findKeyed` and of `findSchemes`; `apikey` and `api_key` end with `key`. */
const KEYS = [
  ...['authorization', 'cookie', 'key', 'token', 'secret', 'passphrase', 'password', 'passwd', 'passcode', 'pwd'],
  ...['pass', 'signature', 'sessionid', 'session_id', 'csrf'],
];
const SCHEMES = ['bearer', 'basic', 'token', 'apikey', 'negotiate', 'dpop'];

/** Bits of a byte's row: five for the letter (a to z from 1, `_` 27), and what to do with it. */
const LETTER = 0x1f;
const STOP = 0x20;
const AFTER_NAME = 0x40;
const SPECIAL = 0x80;
const ROWS = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) {
  const character = String.fromCharCode(byte);
  const inRun = (kindOf(byte) & RUN) !== 0;
  let row = /[A-Za-z]/.test(character) ? byte & LETTER : character === '_' ? 27 : 0;
  if (!inRun || character === '=') row |= STOP;
  // Between a name and its value: quotes, brackets, white space of any script, the escape that begins a colour.
  if (/[\s"'`\\\]=:,\x1b\x7f-\xff]/.test(character)) row |= AFTER_NAME; // eslint-disable-line no-control-regex -- ESC
  if (/[%@\n\x1b]/.test(character)) row |= SPECIAL; // eslint-disable-line no-control-regex -- ESC begins a colour
  ROWS[byte] = row;
}

interface Name {
  readonly bytes: Buffer;
  /** Its value may follow after nothing more than white space. */
  readonly scheme: boolean;
}

/** By the last three letters: the names that end so, or nothing. */
const ENDINGS: (readonly Name[] | undefined)[] = [];
for (const name of new Set([...KEYS, ...SCHEMES])) {
  let code = 0;
  for (const letter of name.slice(-3)) code = (code << 5) | ((ROWS[letter.charCodeAt(0)] ?? 0) & LETTER);
  ENDINGS[code] = [...(ENDINGS[code] ?? []), { bytes: Buffer.from(name), scheme: SCHEMES.includes(name) }];
}
const IS_ENDING = Uint8Array.from({ length: 1 << 15 }, (_, code) => (ENDINGS[code] === undefined ? 0 : 1));

/** The same for the last two letters: a table small enough to stay near, and most words end here. */
const MAY_BE_ENDING = new Uint8Array(1 << 10);
for (let code = 0; code < 1 << 15; code++) if (IS_ENDING[code] === 1) MAY_BE_ENDING[code & 0x3ff] = 1;

const NEWLINE = 0x0a;
const PERCENT = 0x25;
const SLASH = 0x2f;
const EQUALS = 0x3d;
const DASH = 0x2d;

const SHORTEST_NAME = 3;

export class Glance {
  readonly #judge: RunJudge;
  readonly #knowsAny: boolean;
  readonly #clearedRuns: ClearedRuns;
  readonly #clearedWords: ClearedRuns;

  /** @param remembered how many runs, and as many words, it remembers; a power of two */
  constructor(judge: RunJudge, remembered?: number) {
    this.#judge = judge;
    this.#clearedRuns = new ClearedRuns(remembered);
    this.#clearedWords = new ClearedRuns(remembered);
    this.#knowsAny = judge.knowsAny;
  }

  /**
   * Where the first line begins, from `from` on, in which something may be found; `to` where there is none.
   * @param from where a line begins
   * @param to after a line end
   * @param pem where `PEM_BEGIN` stands next, -1 if nowhere
   */
  suspect(bytes: Buffer, from: number, to: number, pem: number): number {
    const rows = ROWS;
    let line = from;
    let run = from;
    let word = from;
    let odd = false;
    let ascii = true;
    let lastAt = -1;
    for (let at = from; at < to; at++) {
      let row = rows[bytes[at] ?? 0] ?? 0;
      // The line end before `to` stops this.
      while ((row & STOP) === 0) row = rows[bytes[++at] ?? NEWLINE] ?? STOP;
      if ((row & AFTER_NAME) !== 0 && at - line >= SHORTEST_NAME && MAY_BE_ENDING[lastTwoLetters(bytes, at)] === 1) {
        const letters = lastLetters(bytes, at);
        if (IS_ENDING[letters] === 1 && namedAt(bytes, line, at, letters)) return line;
      }
      const byte = bytes[at] ?? 0;
      if (byte === EQUALS) continue;
      if (at - run >= MIN_TOKEN && this.#runHoldsSomething(bytes, run, at)) return line;
      run = at + 1;
      if (this.#knowsAny) {
        if (byte >= 0x80) ascii = false;
        if ((kindOf(byte) & WORD) !== 0) odd = true;
        else {
          if (odd && at - word >= MIN_TOKEN && this.#wordHoldsSomething(bytes, word, at, ascii)) return line;
          word = at + 1;
          odd = false;
          ascii = true;
        }
      }
      if ((row & SPECIAL) === 0) continue;
      if (byte === NEWLINE) {
        if (pem >= line && pem < at) return line;
        line = at + 1;
      } else if (byte === PERCENT) {
        if (isHex(bytes[at + 1]) && isHex(bytes[at + 2])) return line;
      } else if (byte === ESCAPE) {
        at = endOfColour(bytes, at);
        run = at + 1;
        word = at + 1;
      } else {
        if (slashesBefore(bytes, Math.max(line, lastAt), at)) return line;
        // Each byte is looked at for one `@` alone.
        lastAt = at;
      }
    }
    return to;
  }

  #runHoldsSomething(bytes: Buffer, from: number, to: number): boolean {
    const plain = holdsNothing(bytes, from, to);
    if (plain && !this.#knowsAny) return false;
    if (this.#clearedRuns.has(bytes, from, to)) return false;
    const pieces = plain ? piecesToLookUp(bytes, from, to) : null;
    const found =
      pieces === null
        ? this.#judge.findsInRun(bytes.toString('latin1', from, to))
        : pieces.some((piece) => this.#judge.knows(piece));
    if (!found) this.#clearedRuns.add(bytes, from, to);
    return found;
  }

  #wordHoldsSomething(bytes: Buffer, from: number, to: number, ascii: boolean): boolean {
    // In UTF-8 no character takes more than three bytes for each of JavaScript's units.
    if (to - from > 3 * MAX_TOKEN) return false;
    if (this.#clearedWords.has(bytes, from, to)) return false;
    const word = ascii ? bytes.toString('latin1', from, to) : textOf(bytes.subarray(from, to));
    if (this.#judge.findsInWord(word)) return true;
    this.#clearedWords.add(bytes, from, to);
    return false;
  }
}

/** The three bytes before `at`. */
function lastLetters(bytes: Buffer, at: number): number {
  return (((ROWS[bytes[at - 3] ?? 0] ?? 0) & LETTER) << 10) | lastTwoLetters(bytes, at);
}

function lastTwoLetters(bytes: Buffer, at: number): number {
  const rows = ROWS;
  return (((rows[bytes[at - 2] ?? 0] ?? 0) & LETTER) << 5) | ((rows[bytes[at - 1] ?? 0] ?? 0) & LETTER);
}

/** Does a whole name end before `at`, with something after it that a value can follow? */
function namedAt(bytes: Buffer, line: number, at: number, letters: number): boolean {
  for (const name of ENDINGS[letters] ?? []) {
    if (!endsWith(bytes, line, at, name.bytes)) continue;
    if (name.scheme || !isBlank(bytes[at])) return true;
    // `the key is` and `no such key in`: a separator comes next, or it was an option.
    let next = at;
    while (isBetween(bytes[next])) next++;
    if (SEPARATES[bytes[next] ?? 0] === 1 || isOption(bytes, line, at - name.bytes.length)) return true;
  }
  return false;
}

function endsWith(bytes: Buffer, line: number, at: number, name: Buffer): boolean {
  const from = at - name.length;
  if (from < line) return false;
  for (let index = 0; index < name.length; index++) {
    // The case of a letter is one bit; `_` has it as well, and what it stands for elsewhere is no name's letter.
    if (((bytes[from + index] ?? 0) | 0x20) !== ((name[index] ?? 0) | 0x20)) return false;
  }
  return true;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09;
}

/** Of what may stand between a name and its separator: white space, quotes, a closing bracket. */
function isBetween(byte: number | undefined): boolean {
  return isBlank(byte) || (byte !== undefined && BETWEEN.includes(byte));
}

const BETWEEN: readonly number[] = [...Buffer.from('\\"\'`]')];

/** `:`, `=`, `,`, and the escape that begins a colour. */
const SEPARATES = new Uint8Array(256);
for (const byte of Buffer.from(':=,\u001b')) SEPARATES[byte] = 1;

/** `--api-` before a name. */
function isOption(bytes: Buffer, line: number, from: number): boolean {
  for (let at = from - 1; at > line && at >= from - 26; at--) {
    if (bytes[at] === DASH && bytes[at - 1] === DASH) return true;
  }
  return false;
}

function isHex(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  const letter = byte | 0x20;
  return (byte >= 0x30 && byte <= 0x39) || (letter >= 0x61 && letter <= 0x66);
}

/** Are there two slashes before `at`, and neither white space nor a quote in between? */
function slashesBefore(bytes: Buffer, line: number, at: number): boolean {
  for (let back = at - 1; back > line; back--) {
    const byte = bytes[back] ?? 0;
    if (byte === SLASH && bytes[back - 1] === SLASH) return true;
    if (byte <= 0x20 || byte === 0x22 || byte === 0x27 || byte === 0x3c || byte === 0x3e || byte === 0x60) return false;
  }
  return false;
}
