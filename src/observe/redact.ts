/**
 * Takes secrets out of text. Everything that comes from outside passes here before it is written anywhere, and passes
 * again where it is written. Pure, and linear in the length of the text whatever the text is: every finder either
 * steps forward or masks what it has scanned, so that no input makes it scan twice.
 *
 * What is found: the values of keys that name a secret, credentials after their scheme, cookies, PEM blocks, JWTs,
 * tokens of known shapes, passwords in URLs, every run of 16 or more characters whose SHA-256 is that of a known
 * token, and runs that look like key material even if unknown. What is percent-encoded is looked at decoded.
 */
import { fingerprint, sha256Hex } from '../secret/digest.js';
import { escapeControls } from './control-characters.js';
import { looksRandom } from './randomness.js';

declare const printable: unique symbol;

/** Text without secrets and without control characters: the only kind of outside text a log takes. Made here alone. */
export type Printable = string & { readonly [printable]: true };

/** For literals of our own and for names out of the policy. They are not searched: never pass what a request said. */
export function constant(text: string): Printable {
  return escapeControls(text) as Printable;
}

/** What stands where a secret stood. The fingerprint is that of the access log's `guardbee.credential`. */
const MASK = '[redacted]';
/** A mask, ours or another's, and nothing more than punctuation after it. */
const IS_MASK = /^\s?\[(?:redacted(?::[0-9a-f]{6})?|secret|REDACTED)\][\s,;.)\]}'|]{0,8}$/;

/** Tokens are at least this long (policy), so only runs of this length are looked up. */
const MIN_TOKEN = 16;
const MAX_TOKEN = 1024;

/** A shorter secret can be guessed from its fingerprint, so it gets none. */
function mask(secret: string): string {
  return secret.length < MIN_TOKEN ? MASK : `[redacted:${fingerprint(secret)}]`;
}

export interface RedactorOptions {
  /** Is this the SHA-256 (64 lowercase hex digits) of a credential of ours? */
  readonly knowsDigest: (sha256hex: string) => boolean;
}

export class Redactor {
  readonly #knowsDigest: (sha256hex: string) => boolean;
  #generation = 0;

  constructor(options: RedactorOptions) {
    this.#knowsDigest = options.knowsDigest;
  }

  /** Changes when the known digests do: whoever remembers what was redacted then forgets it. */
  get generation(): number {
    return this.#generation;
  }

  /** To be called when `knowsDigest` would now answer otherwise, that is after a reload. */
  digestsChanged(): void {
    this.#generation++;
  }

  /** For one value of a log line. Longer text is cut at `limit`, never inside a secret. */
  redactText(text: string, limit = 16_384): Printable {
    if (text.length <= limit) {
      const clean = escapeControls(this.mask(text));
      return (clean.length <= limit ? clean : shorten(clean, limit)) as Printable;
    }
    return shorten(escapeControls(this.mask(window(text, limit))), limit) as Printable;
  }

  /** A request path, raw. */
  redactPath(path: string): Printable {
    return this.ordinaryPath(path) ?? this.redactText(path, MAX_PATH);
  }

  /**
   * The path itself where a glance is enough: short lower-case segments and UUIDs, and none that is a known token. It
   * then needs no escaping either, in JSON or elsewhere.
   */
  ordinaryPath(path: string): Printable | null {
    if (path.length > MAX_PATH || !ORDINARY_PATH.test(path) || this.#holdsKnownSegment(path)) return null;
    return path as Printable;
  }

  #holdsKnownSegment(path: string): boolean {
    if (path.length <= MIN_TOKEN) return false;
    for (let start = 1; start < path.length;) {
      const slash = path.indexOf('/', start);
      const end = slash < 0 ? path.length : slash;
      if (end - start >= MIN_TOKEN && this.#isKnown(path.slice(start, end))) return true;
      start = end + 1;
    }
    return false;
  }

  /** A query, raw: names stay where they are ordinary, values never do. */
  redactQuery(query: string): Printable {
    const pieces: string[] = [];
    let start = 0;
    while (start <= query.length) {
      if (pieces.length === MAX_PARAMETERS) {
        pieces.push('…');
        break;
      }
      const next = query.indexOf('&', start);
      const end = next < 0 ? query.length : next;
      pieces.push(this.#redactParameter(query, start, end));
      start = end + 1;
    }
    return pieces.join('&') as Printable;
  }

  #redactParameter(query: string, start: number, end: number): string {
    if (start === end) return '';
    const equals = query.indexOf('=', start);
    if (equals < 0 || equals >= end) return MASK;
    const name = query.slice(start, Math.min(equals, start + MAX_NAME + 1));
    const tame = TAME_NAME.test(name) && (name.length < MIN_TOKEN || this.mask(name) === name);
    return `${tame ? name : MASK}=${equals + 1 === end ? '' : MASK}`;
  }

  /**
   * The chosen fields of an error: its code, its name, its message, redacted. Never the error itself: some carry what
   * they complain about (jose puts the whole claims set on it), and a stack repeats the message.
   */
  redactError(error: unknown): Readonly<Record<'error.type' | 'error.message', Printable>> {
    const type = property(error, 'code') ?? property(error, 'name') ?? typeof error;
    const message = typeof error === 'string' ? error : (property(error, 'message') ?? '');
    return { 'error.type': this.redactText(type, 64), 'error.message': this.redactText(message, 1024) };
  }

  /**
   * Secrets masked, all else as it was, line ends and control characters too: for streams of text that are not ours.
   * Idempotent: what is masked once stays as it is.
   */
  mask(text: string): string {
    // What is encoded comes first, and whole: of base64 with `%2F` in it the plain look would hide one part, and the
    // rest would then be too short to be seen.
    let masked = text;
    for (let round = MAX_DECODINGS; round > 0 && ENCODED.test(masked); round--) {
      // Each word is decoded as often as this round says, so that `%2570assword%253Dx` is found as well.
      masked = masked.replace(WHOLE_WORD, (word) => {
        if (!ENCODED.test(word)) return word;
        let decoded = word;
        for (let times = 0; times < round; times++) decoded = percentDecode(decoded);
        const found = this.#maskPlain(decoded);
        return found === decoded ? word : escapeControls(found);
      });
    }
    return this.#maskPlain(masked);
  }

  #maskPlain(text: string): string {
    if (text.length < MIN_TOKEN && !WORTH_A_LOOK.test(text)) return text;
    const spans = new Spans(text);
    findPem(text, spans);
    if (STRUCTURED.test(text)) {
      findKeyed(text, spans);
      findSchemes(text, spans);
      findUserInfo(text, spans);
    }
    this.#findRuns(text, spans);
    if (ODD.test(text)) this.#findOddWords(text, spans);
    return spans.apply();
  }

  /** Everything a token68 (RFC 9110 §11.2) can hold: hex, base64, base64url, JWTs, and our own tokens. */
  #findRuns(text: string, spans: Spans): void {
    runs(RUN, text, (run, start) => {
      if (run.includes('eyJ'))
        each(JWT, run, (jwt, at) => {
          spans.mask(start + at, start + at + jwt.length);
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
    if (this.#isKnown(piece)) {
      spans.mask(start, end);
      return;
    }
    const bare = withoutTail(piece);
    if (bare.length < piece.length && this.#isKnown(bare)) {
      spans.mask(start, start + bare.length);
      return;
    }
    const equals = bare.indexOf('=');
    if (equals >= 0) {
      const value = start + equals + 1;
      if (this.#isKnown(piece.slice(equals + 1))) {
        spans.mask(value, end);
        return;
      }
      if (this.#isKnown(bare.slice(equals + 1))) {
        spans.mask(value, start + bare.length);
        return;
      }
    }
    runs(SEGMENT, piece, (segment, at) => {
      const from = start + at;
      const to = from + segment.length;
      const shape = SHAPED.exec(segment);
      if (shape !== null) spans.mask(from + shape.index, to);
      else if (segment.length < bare.length && this.#isKnown(segment)) spans.mask(from, to);
      else if (looksRandom(withoutUuids(segment))) spans.mask(from, to);
      else if (segment.length >= 32) findHex(segment, from, spans);
    });
  }

  /**
   * Standard base64 may hold slashes, and so may a path: the parts are tried alone and with up to three neighbours.
   * What is not a known token is masked only where it does not look like a path.
   */
  #judgeBase64(run: string, start: number, spans: Spans): void {
    if (!MIXED.test(run)) return;
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
        const found = this.#isKnown(candidate) ? candidate : bare !== candidate && this.#isKnown(bare) ? bare : null;
        if (found === null) continue;
        spans.mask(start + from, start + from + found.length);
        known = true;
      }
    }
    if (known) return;
    const longest = Math.max(...run.split('/', 256).map((part) => part.length));
    const likeBase64 = run.includes('+') || run.endsWith('=') || longest >= 12;
    if (likeBase64 && looksRandom(run)) spans.mask(start, start + run.length);
  }

  /** A token shown in `X-API-Key` may hold any visible character: whole words are looked up as well. */
  #findOddWords(text: string, spans: Spans): void {
    runs(WORD, text, (word, at) => {
      if (word.length > MAX_TOKEN || !ODD.test(word)) return;
      const end = at + word.length;
      if (this.#isKnown(word)) {
        spans.mask(at, end);
        return;
      }
      let from = 0;
      while (from < word.length && AROUND.has(word.charAt(from))) from++;
      let to = word.length;
      for (let cut = 0; cut < 4 && AROUND.has(word.charAt(to - 1)); cut++) {
        to--;
        const start = this.#isKnown(word.slice(0, to)) ? 0 : this.#isKnown(word.slice(from, to)) ? from : -1;
        if (start < 0) continue;
        spans.mask(at + start, at + to);
        return;
      }
      if (from > 0 && this.#isKnown(word.slice(from))) {
        spans.mask(at + from, end);
        return;
      }
      const equals = word.indexOf('=');
      const value = (equals < 0 ? word.indexOf(':') : equals) + 1;
      if (value > 0 && this.#isKnown(word.slice(value))) spans.mask(at + value, end);
      else if (value > 0 && this.#isKnown(word.slice(value, to))) spans.mask(at + value, at + to);
    });
  }

  #isKnown(text: string): boolean {
    return text.length >= MIN_TOKEN && text.length <= MAX_TOKEN && this.#knowsDigest(sha256Hex(text));
  }
}

/**
 * `Redactor.mask` for a stream, line by line: never a line more or less, and none waits for another. It remembers
 * only whether it stands inside a PEM block.
 */
export class LineRedactor {
  readonly #redactor: Redactor;
  #pemLines = 0;

  constructor(redactor: Redactor) {
    this.#redactor = redactor;
  }

  /** @param text one line, without its line end. */
  line(text: string): string {
    if (this.#pemLines > 0) {
      const end = text.indexOf(PEM_END);
      if (end < 0) {
        // A block that never ends must not silence the rest of the stream.
        this.#pemLines = this.#pemLines < MAX_PEM_LINES ? this.#pemLines + 1 : 0;
        return MASK;
      }
      this.#pemLines = 0;
      const after = afterPemEnd(text, end);
      return MASK + this.line(text.slice(after));
    }
    const begin = text.lastIndexOf(PEM_BEGIN);
    if (begin >= 0 && !text.includes(PEM_END, begin)) this.#pemLines = 1;
    return this.#redactor.mask(text);
  }
}

const MAX_PEM_LINES = 200;

const MAX_PATH = 1024;
const MAX_NAME = 40;
const MAX_PARAMETERS = 64;
const MAX_DECODINGS = 2;

/** Each segment is too short for a token, or a UUID, or one after a word: `job-0b6f1c1e-…`. */
const ORDINARY_PATH =
  /^(?:\/(?:[a-z0-9_.~-]{0,15}|(?:(?!xox|xapp|glpat)[a-z]{3,12}-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?=\/|$))*$/;
const TAME_NAME = /^[A-Za-z0-9_.\-[\]]{1,40}$/;

/** Nothing can be found in a text shorter than any token that has none of these. */
const WORTH_A_LOOK = /[:=@,]|bearer|basic|token|apikey|negotiate|dpop|-----/i;

/** Keys and their values, schemes, and users of URLs need one of these. */
const STRUCTURED = /[\s:=@,"'`]/;

const ENCODED = /%[0-9A-Fa-f]{2}/;
const WHOLE_WORD = /\S+/g;

/** What a character may be part of. Whatever is not ASCII is part of a word. */
const SEGMENT = 1;
const PIECE = 2;
const RUN = 4;
const WORD = 8;
const KINDS = new Uint8Array(128);
for (let code = 0x21; code < 0x7f; code++) {
  const character = String.fromCharCode(code);
  if (/[A-Za-z0-9_-]/.test(character)) KINDS[code] = SEGMENT | PIECE | RUN | WORD;
  else if (/[+=.~]/.test(character)) KINDS[code] = PIECE | RUN | WORD;
  else if (character === '/') KINDS[code] = RUN | WORD;
  else if (!/["'`<>]/.test(character)) KINDS[code] = WORD;
}

/** The runs of one kind that are long enough for a token. */
function runs(kind: number, text: string, found: (run: string, at: number) => void): void {
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const code = at < text.length ? text.charCodeAt(at) : 0;
    if (((KINDS[code] ?? WORD) & kind) !== 0) continue;
    if (at - start >= MIN_TOKEN) found(text.slice(start, at), start);
    start = at + 1;
  }
}

const BASE64 = /[A-Za-z0-9+/]{16,}={0,2}/g;
const TRAILING_PUNCTUATION = /[=.~-]{1,8}$/;
const MIXED = /^(?=.{0,4096}[a-z])(?=.{0,4096}[A-Z])(?=.{0,4096}[0-9])/;

/** A JWT or JWE, or the first part of one that was cut: `eyJ` is how base64url begins a JSON object. */
const JWT = /eyJ[A-Za-z0-9_-]{5,}(?:\.{1,2}[A-Za-z0-9_-]+){1,4}|eyJ[A-Za-z0-9_-]{17,}/g;

const SHAPED =
  /(?<![A-Za-z0-9])(?=[Aghnrsx])(?:gbee_[A-Za-z0-9_-]{8}|sk-[A-Za-z0-9_-]{16}|gh[pousr]_[A-Za-z0-9]{16}|github_pat_[A-Za-z0-9_]{16}|hf_[A-Za-z0-9]{16}|A(?:KI|SI)A[A-Z0-9]{12}|xox[a-z]-[A-Za-z0-9-]{10}|xapp-[A-Za-z0-9-]{10}|glpat-[A-Za-z0-9_-]{16}|npm_[A-Za-z0-9]{20}|AIza[A-Za-z0-9_-]{30}|[rs]k_(?:live|test)_[A-Za-z0-9]{10})/;

const UUID = /[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}/g;
const HEX = /[0-9A-Fa-f]{32,}/g;

/** Not of a token68, and no space or quote. */
const ODD = /[^A-Za-z0-9_\-+/=.~\s"'`<>]/;
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
      spans.mask(start + found.index, start + found.index + found[0].length);
    }
  }
}

const PEM_BEGIN = '-----BEGIN';
const PEM_END = '-----END';

/** From BEGIN to END, or to the end of the text where END is missing: the middle of a key is a key as well. */
function findPem(text: string, spans: Spans): void {
  let begin = text.indexOf(PEM_BEGIN);
  while (begin >= 0) {
    const end = text.indexOf(PEM_END, begin);
    const stop = end < 0 ? text.length : afterPemEnd(text, end);
    spans.mask(begin, stop);
    begin = text.indexOf(PEM_BEGIN, stop);
  }
}

function afterPemEnd(text: string, end: number): number {
  const label = text.slice(end + PEM_END.length, end + PEM_END.length + 80);
  const dashes = label.indexOf('-----');
  return end + PEM_END.length + (dashes < 0 ? 0 : dashes + 5);
}

/** Names whose value is a secret, as the end of a longer name too: `X-API-Key`, `accessToken`, `DB_PASSWORD`. */
const KEYED =
  /authorization|cookie|api[_-]?key|key|token|secret|passphrase|password|passwd|passcode|pwd|pass|signature|session_?id|csrf/gi;
/** Words of every day: a name only before `=`, or where they stand in quotes. */
const EVERYDAY: ReadonlySet<string> = new Set(['pass', 'signature', 'sessionid', 'session_id', 'csrf']);

/**
 * Between the name and the value: the name's closing quote, the separator, opening brackets. Terminal colours may
 * stand anywhere in between (Rust's tracing writes them).
 */
const SEPARATOR =
  // eslint-disable-next-line no-control-regex -- ESC begins a colour
  /(?:\\{0,7}["'`]|\]|[ \t]|\x1b\[[\d;]{0,16}m){0,8}(=>|:=|[:=])(?:[ \t({]|\[(?!redacted|secret\]|REDACTED\])|\x1b\[[\d;]{0,16}m){0,8}/y;
/** As raw header lists are printed: `'authorization', 'Bearer …'`. */
const LIST_SEPARATOR = /\\{0,7}["'],[ \t]?/y;
/** `--api-key VALUE`. */
const OPTION_SEPARATOR = /[ \t]{1,4}/y;
const OPTION_BEFORE = /--[A-Za-z0-9-]{0,24}$/;
const QUOTE = /(\\{0,7})(["'`])/y;
// eslint-disable-next-line no-control-regex -- ESC begins a colour
const UNQUOTED = /[^\s"<>&\x1b]+/y;

const NOT_A_SECRET = /^(?:null|undefined|none|nil|true|false|\*{3,})$/i;
const PUNCTUATION_AFTER = /[,;.)\]}'|]{1,8}$/;

/** `the key: the file is missing` is a sentence, not a value, and so is `token: EACCES`. */
const SENTENCE_WORDS: ReadonlySet<string> = new Set(
  'a an and are at been can cannot could does expected file for found from had has have in is it its may missing must needs no not of on only or should that the there this to too unknown unreadable was were what which will with'.split(
    ' ',
  ),
);
const ERRNO = /^E[A-Z0-9]{3,15}:?$/;

/** Where lines begin and end; asked in order, each line is looked for once. */
class LineEnds {
  readonly #text: string;
  #start = 0;
  #from = 0;
  #end = -1;

  constructor(text: string) {
    this.#text = text;
  }

  start(position: number): number {
    this.#find(position);
    return this.#start;
  }

  after(position: number): number {
    this.#find(position);
    return this.#end;
  }

  #find(position: number): void {
    if (position >= this.#from && position <= this.#end) return;
    // Not before the line end that was found last: it was looked at then.
    const known = position > this.#end ? this.#end : 0;
    let start = position;
    while (start > known && start > 0 && !/[\r\n]/.test(this.#text.charAt(start - 1))) start--;
    LINE_END.lastIndex = position;
    this.#start = start;
    this.#from = position;
    this.#end = LINE_END.exec(this.#text)?.index ?? this.#text.length;
  }
}

const LINE_END = /[\r\n]/g;

function findKeyed(text: string, spans: Spans): void {
  const lines = new LineEnds(text);
  let done = 0;
  for (const found of text.matchAll(KEYED)) {
    if (found.index < done) continue;
    const name = found[0].toLowerCase();
    const after = found.index + name.length;
    const before = found.index === 0 ? '' : text.charAt(found.index - 1);
    // `monkey` and `compass` are words; `apiKey` and `api_key` are names.
    const startsWord = !/[A-Za-z]/.test(before) || (/[a-z]/.test(before) && /^[A-Z]/.test(found[0]));
    if ((name === 'key' || name === 'pass') && !startsWord) continue;

    const separator = separatorAt(text, found.index, after, name);
    if (separator === null) continue;
    const { sign, at } = separator;
    const quotedName = /["'`]/.test(text.charAt(after)) || text.charAt(after) === '\\';
    if (EVERYDAY.has(name) && sign !== '=' && !quotedName) continue;

    const line = lines.after(at);
    QUOTE.lastIndex = at;
    if (QUOTE.test(text)) {
      done = maskQuoted(text, name, at, line, separator.list, spans);
    } else if (separator.list) {
      done = maskValue(text, name, at, at + endOfList(text.slice(at, line)), spans);
    } else if (name === 'passphrase' || ((name === 'authorization' || name === 'cookie') && sign === ':')) {
      done = maskValue(text, name, at, endOfField(text, lines.start(at), at, line), spans);
    } else {
      UNQUOTED.lastIndex = at;
      const value = UNQUOTED.exec(text)?.[0] ?? '';
      const bare = withoutPunctuation(value);
      // Our own logs name a credential so: `token:ab12cd`.
      if (name === 'token' && text.charAt(after) === ':' && at === after + 1 && /^[0-9a-f]{6}$/.test(bare)) continue;
      const sentence = /^(?:key|api[_-]?key|token|secret)$/.test(name) && sign === ':' && at > after + 1;
      if (sentence && (SENTENCE_WORDS.has(bare.toLowerCase()) || ERRNO.test(bare))) continue;
      if (/^-?\d+$/.test(bare) && sign === ':' && text.charAt(after) === '"') {
        // A number in JSON: the line stays JSON.
        spans.add(at, at + bare.length, `"${MASK}"`);
        done = at + bare.length;
      } else {
        done = maskValue(text, name, at, at + bare.length, spans);
      }
    }
  }
}

/** The bracket that closes a list without quotes; a mask ends with a bracket of its own. */
function endOfList(list: string): number {
  for (let at = list.indexOf(']'); at >= 0; at = list.indexOf(']', at + 1)) {
    if (!BEGUN_MASK.test(list.slice(Math.max(0, at - MASK.length - 7), at))) return at;
  }
  return list.length;
}

/** What follows a value in a sentence or a list is not part of it; the bracket of a mask is. */
function withoutPunctuation(value: string): string {
  const cut = PUNCTUATION_AFTER.exec(value)?.index;
  if (cut === undefined) return value;
  return BEGUN_MASK.test(value.slice(0, cut)) && value.charAt(cut) === ']'
    ? value.slice(0, cut + 1)
    : value.slice(0, cut);
}

const BEGUN_MASK = /\[(?:redacted(?::[0-9a-f]{6})?|secret|REDACTED)$/;

/** One quoted value, or all of a list's. @returns where the search goes on. */
function maskQuoted(text: string, name: string, at: number, line: number, list: boolean, spans: Spans): number {
  let next = at;
  for (;;) {
    QUOTE.lastIndex = next;
    const quote = QUOTE.exec(text);
    if (quote === null || next >= line) return next;
    const from = QUOTE.lastIndex;
    const to = endOfQuoted(text, from, line, quote[1]?.length ?? 0, quote[2] ?? '"');
    const done = maskValue(text, name, from, to, spans);
    if (!list || to >= line) return done;
    LIST_NEXT.lastIndex = to;
    if (!LIST_NEXT.test(text)) return to;
    next = LIST_NEXT.lastIndex;
  }
}

const LIST_NEXT = /\\{0,7}["'`][ \t]{0,8},[ \t]{0,8}/y;

/** Of a field that goes to the end of its line; in a line of JSON it goes to the end of its string. */
function endOfField(text: string, lineStart: number, from: number, lineEnd: number): number {
  if (text.charAt(lineStart) !== '{') return lineEnd;
  return endOfQuoted(text, from, lineEnd, 0, '"');
}

interface Separator {
  readonly sign: string;
  /** Where the value begins. */
  readonly at: number;
  /** The value is a list in brackets. */
  readonly list: boolean;
}

function separatorAt(text: string, start: number, after: number, name: string): Separator | null {
  SEPARATOR.lastIndex = after;
  const separator = SEPARATOR.exec(text);
  if (separator !== null) {
    return {
      sign: separator[1] ?? '',
      at: SEPARATOR.lastIndex,
      list: /\[[ \t({[]*$/.test(separator[0]),
    };
  }
  LIST_SEPARATOR.lastIndex = after;
  const field = name === 'authorization' || name === 'cookie' || name.includes('-') || text.charAt(start - 1) === '-';
  if (field && LIST_SEPARATOR.test(text)) return { sign: ',', at: LIST_SEPARATOR.lastIndex, list: false };
  OPTION_SEPARATOR.lastIndex = after;
  if (OPTION_BEFORE.test(text.slice(Math.max(0, start - 26), start)) && OPTION_SEPARATOR.test(text)) {
    return { sign: ' ', at: OPTION_SEPARATOR.lastIndex, list: false };
  }
  return null;
}

/** Where the value ends that began after `depth` backslashes and a quote (`\"` inside JSON inside JSON has one). */
function endOfQuoted(text: string, from: number, lineEnd: number, depth: number, quote: string): number {
  const line = text.slice(from, lineEnd);
  for (let at = line.indexOf(quote); at >= 0; at = line.indexOf(quote, at + 1)) {
    let slashes = 0;
    while (slashes < at && line.charAt(at - slashes - 1) === '\\') slashes++;
    if (slashes < depth || slashes % (2 * (depth + 1)) === depth) return from + at - Math.min(slashes, depth);
  }
  return lineEnd;
}

/** @returns where the search goes on. */
function maskValue(text: string, name: string, from: number, to: number, spans: Spans): number {
  if (to <= from) return from;
  if (name === 'authorization') return maskAuthorization(text, from, to, spans);
  if (name === 'cookie') return maskCookies(text, from, to, spans);
  const value = text.slice(from, to);
  if (NOT_A_SECRET.test(value) || IS_MASK.test(value)) return to;
  // People choose passwords, so their fingerprints can be guessed.
  if (name.startsWith('pass') || name === 'pwd') spans.add(from, to, MASK);
  else spans.mask(from, to);
  return to;
}

/** RFC 9110 §11.4 and the schemes met in the wild. An unknown first word may be the secret itself. */
const ONE_TOKEN_SCHEMES: ReadonlySet<string> = new Set(
  'bearer basic token apikey negotiate ntlm dpop key jwt'.split(' '),
);
const PARAMETER_SCHEMES: ReadonlySet<string> = new Set(
  'digest hawk oauth hmac signature sharedkey aws4-hmac-sha256 scram-sha-256 mutual vapid'.split(' '),
);
const SCHEME = /[ \t]*([A-Za-z][A-Za-z0-9-]{1,31})[ \t]+/y;

function maskAuthorization(text: string, from: number, to: number, spans: Spans): number {
  SCHEME.lastIndex = from;
  const scheme = SCHEME.exec(text)?.[1]?.toLowerCase() ?? '';
  const value = SCHEME.lastIndex;
  if (value === 0 || value >= to || (!ONE_TOKEN_SCHEMES.has(scheme) && !PARAMETER_SCHEMES.has(scheme))) {
    if (!IS_MASK.test(text.slice(from, to))) spans.mask(from, to);
    return to;
  }
  let end = to;
  if (ONE_TOKEN_SCHEMES.has(scheme)) {
    UNQUOTED.lastIndex = value;
    end = Math.min(value + (UNQUOTED.exec(text)?.[0].length ?? 0), to);
  }
  if (IS_MASK.test(text.slice(value, end))) return end;
  if (scheme === 'basic') spans.add(value, end, MASK);
  else spans.mask(value, end);
  return end;
}

const COOKIE_ATTRIBUTES: ReadonlySet<string> = new Set(
  'path domain expires max-age samesite secure httponly partitioned priority'.split(' '),
);

function maskCookies(text: string, from: number, to: number, spans: Spans): number {
  const field = text.slice(from, to);
  let start = 0;
  while (start < field.length) {
    const semicolon = field.indexOf(';', start);
    const end = semicolon < 0 ? field.length : semicolon;
    while (start < end && field.charAt(start) === ' ') start++;
    const piece = field.slice(start, end);
    const equals = piece.indexOf('=');
    const name = equals < 0 ? piece : piece.slice(0, equals);
    if (!COOKIE_ATTRIBUTES.has(name.toLowerCase())) {
      const value = equals >= 0 && TAME_NAME.test(name) ? start + equals + 1 : start;
      if (value < end && !IS_MASK.test(field.slice(value, end))) spans.mask(from + value, from + end);
    }
    start = end + 1;
  }
  return to;
}

/** A scheme and what follows it, wherever it stands. */
const SCHEMES = /(?<![A-Za-z0-9])(bearer|basic|token|apikey|negotiate|dpop)((?:[\s,]|\\{0,7}["']){1,16})/gi;
// No separator of SCHEMES may be in it: a value that is left alone is then never scanned twice.
// eslint-disable-next-line no-control-regex -- ESC begins a colour
const CREDENTIAL = /(?![:=])[^\s"'<>,;\\\x1b]+/y;
const PLAIN_WORD = /^[A-Za-z]{1,15}[.:!?)\]]{0,3}$/;
const CHALLENGE = /^(?:realm|error|error_description|error_uri|scope|charset)=/;
const AFTER_BEARER: ReadonlySet<string> = new Set([
  ...SENTENCE_WORDS,
  ...'api auth authentication authenticator authorization challenge credential credentials header jwt key keys method scheme token tokens type'.split(
    ' ',
  ),
]);

function findSchemes(text: string, spans: Spans): void {
  let done = 0;
  for (const found of text.matchAll(SCHEMES)) {
    if (found.index < done) continue;
    const scheme = found[1]?.toLowerCase() ?? '';
    const from = found.index + found[0].length;
    CREDENTIAL.lastIndex = from;
    let value = CREDENTIAL.exec(text)?.[0] ?? '';
    if (value === '' || IS_MASK.test(value) || CHALLENGE.test(value)) continue;
    const word = PLAIN_WORD.test(value) ? value.toLowerCase().replace(/[^a-z]+$/, '') : null;
    if (scheme === 'bearer') {
      // `Bearer hunter` is a credential; `bearer token` and `basic, bearer, network` are not.
      if (word !== null && (AFTER_BEARER.has(word) || !/^\s+$/.test(found[2] ?? ''))) continue;
    } else if (scheme === 'basic') {
      if (!isUserAndPassword(value)) continue;
    } else if (word !== null || value.length < 6 || /^[a-z_-]{1,24}[.:!?)]?$/i.test(value)) {
      continue;
    }
    if (scheme === 'basic') spans.add(from, from + value.length, MASK);
    else {
      value = value.replace(/[).\]}]{1,4}$/, '');
      spans.mask(from, from + value.length);
    }
    done = from + value.length;
  }
}

/** RFC 7617: base64 of `user:password`. */
function isUserAndPassword(text: string): boolean {
  if (!/^[A-Za-z0-9+/_-]{4,}={0,2}$/.test(text.slice(0, MAX_TOKEN))) return false;
  return Buffer.from(text.slice(0, MAX_TOKEN), 'base64').includes(':');
}

/** `//user:password@host`, in URLs of any scheme. The user's name stays. */
const URL_MARKS = /\/\/|[@\s"'<>`]/g;

function findUserInfo(text: string, spans: Spans): void {
  if (!text.includes('@') || !text.includes('//')) return;
  let start = -1;
  for (const found of text.matchAll(URL_MARKS)) {
    if (found[0] === '//') {
      start = found.index + 2;
    } else if (found[0] !== '@') {
      start = -1;
    } else if (start >= 0 && found.index - start <= MAX_TOKEN) {
      const info = text.slice(start, found.index);
      const colon = info.indexOf(':');
      const slash = info.search(/[/?#]/);
      // Past the first slash an `@` belongs to the path, but where a password with a slash in it was not encoded.
      if (slash >= 0 && (colon < 0 || colon > slash || /^:\d{1,5}(?:[/?#]|$)/.test(info.slice(colon)))) continue;
      const from = start + colon + 1;
      if (from < found.index && !IS_MASK.test(text.slice(from, found.index))) spans.add(from, found.index, MASK);
    }
  }
}

/** What to replace, collected by the finders in any order; where two overlap the earlier begins and both are hidden. */
class Spans {
  readonly #text: string;
  readonly #spans: { readonly from: number; readonly to: number; readonly put: string }[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  mask(from: number, to: number): void {
    this.#spans.push({ from, to, put: mask(this.#text.slice(from, to)) });
  }

  add(from: number, to: number, put: string): void {
    this.#spans.push({ from, to, put });
  }

  apply(): string {
    if (this.#spans.length === 0) return this.#text;
    this.#spans.sort((a, b) => a.from - b.from || b.to - a.to);
    const pieces: string[] = [];
    let at = 0;
    for (const span of this.#spans) {
      if (span.from >= at) {
        pieces.push(this.#text.slice(at, span.from), span.put);
        at = span.to;
      } else if (span.to > at) {
        at = span.to;
      }
    }
    pieces.push(this.#text.slice(at));
    return pieces.join('');
  }
}

/** %XX of ASCII becomes the character; what is not ASCII stays encoded, it is in no token. */
function percentDecode(text: string): string {
  return text.replace(/%([0-7][0-9A-Fa-f])/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

const DELIMITERS: ReadonlySet<string> = new Set(' \t\r\n"\'/&?,;');
const MARGIN = 4096;

/**
 * The beginning of a text that is too long, ending where a word ends: a secret that crosses the limit is then either
 * whole, and masked, or not there.
 */
function window(text: string, limit: number): string {
  for (let end = Math.min(text.length, limit + MARGIN); end > limit; end--) {
    if (DELIMITERS.has(text.charAt(end))) return text.slice(0, end);
  }
  let end = limit;
  while (end > 0 && !DELIMITERS.has(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}

function shorten(clean: string, limit: number): string {
  let end = Math.min(limit, clean.length);
  const begun = clean.lastIndexOf('[redacted', end - 1);
  if (begun >= 0 && begun + 17 > end && !clean.slice(begun, end).includes(']')) end = begun;
  if (/[\ud800-\udbff]/.test(clean.charAt(end - 1))) end--;
  return `${clean.slice(0, end)}…`;
}

/** Errors can be anything, and a getter can throw. */
function property(value: unknown, name: string): string | null {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return null;
  try {
    const found: unknown = Reflect.get(value, name);
    return typeof found === 'string' && found !== '' ? found : null;
  } catch {
    return null;
  }
}
