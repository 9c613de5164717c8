import { maskAuthorization, maskCookies } from './authorization.js';
import { BEGUN_MASK, IS_MASK, MASK } from './mask.js';
import { LineEnds } from './line-ends.js';
import { ERRNO, SENTENCE_WORDS } from './sentence.js';
import type { Spans } from './spans.js';
import { UNQUOTED } from './unquoted.js';

/** Names whose value is a secret, as the end of a longer name too: `X-API-Key`, `accessToken`, `DB_PASSWORD`. */
const KEYED =
  /authorization|cookie|api[_-]?key|key|token|secret|passphrase|password|passwd|passcode|pwd|pass|signature|session_?id|csrf/gi;
/** Words of every day: a name only before `=`, or where they stand in quotes. */
const EVERYDAY: ReadonlySet<string> = new Set(['pass', 'signature', 'sessionid', 'session_id', 'csrf']);

/**
 * Between the name and the value: the name's closing quote, the separator, opening brackets, `Some(` or `SecretStr(`
 * before a quote, the `b` of Python's bytes. Terminal colours may stand anywhere in between (Rust's tracing writes
 * them, and grep, with an erasure after each).
 */
const SEPARATOR =
  // eslint-disable-next-line no-control-regex -- ESC begins a colour
  /(?:\\{0,7}["'`]|\]|[ \t]|\x1b\[[\d;:]{0,16}[mK]){0,8}(=>|:=|[:=])(?:[ \t({]|\[(?!redacted|secret\]|REDACTED\])|\x1b\[[\d;:]{0,16}[mK]|[A-Za-z_]\w{0,23}\((?=\\{0,7}["'`])|[bru](?=["'])){0,8}/y;
/** As raw header lists are printed: `'authorization', 'Bearer …'`. */
const LIST_SEPARATOR = /\\{0,7}["'],[ \t]?/y;
/** `--api-key VALUE`. */
const OPTION_SEPARATOR = /[ \t]{1,4}/y;
const OPTION_BEFORE = /--[A-Za-z0-9-]{0,24}$/;
// eslint-disable-next-line no-control-regex -- ESC begins a colour
const COLOUR_BEFORE = /\x1b\[[\d;:]{0,16}[mK]$/;
const QUOTE = /(\\{0,7})(["'`])/y;

const NOT_A_SECRET = /^(?:null|undefined|none|nil|true|false|\*{3,})$/i;
const PUNCTUATION_AFTER = /[,;.)\]}'|]{1,8}$/;

export function findKeyed(text: string, spans: Spans): void {
  const lines = new LineEnds(text);
  let done = 0;
  for (const found of text.matchAll(KEYED)) {
    if (found.index < done) continue;
    const name = found[0].toLowerCase();
    const after = found.index + name.length;
    const before = found.index === 0 ? '' : text.charAt(found.index - 1);
    // `monkey` and `compass` are words; `apiKey` and `api_key` are names.
    const startsWord =
      !/[A-Za-z]/.test(before) ||
      (/[a-z]/.test(before) && /^[A-Z]/.test(found[0])) ||
      COLOUR_BEFORE.test(text.slice(Math.max(0, found.index - 20), found.index));
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
        spans.add('key_value', at, at + bare.length, `"${MASK}"`);
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
  if (name.startsWith('pass') || name === 'pwd') spans.add('key_value', from, to, MASK);
  else spans.mask('key_value', from, to);
  return to;
}
