import { IS_MASK, MASK, MAX_TOKEN } from './mask.js';
import { SENTENCE_WORDS } from './sentence.js';
import type { Spans } from './spans.js';

/** A scheme and what follows it, wherever it stands. */
const SCHEMES =
  // eslint-disable-next-line no-control-regex -- ESC begins a colour
  /(?:(?<![A-Za-z0-9])|(?<=\x1b\[[\d;:]{0,16}[mK]))(bearer|basic|token|apikey|negotiate|dpop)((?:[\s,]|\\{0,7}["']|\x1b\[[\d;:]{0,16}[mK]){1,16})/gi;
// No separator of SCHEMES may be in it: a value that is left alone is then never scanned twice.
// Of escapes those that JSON writers put in the place of `+`, `/` and `=`.
// eslint-disable-next-line no-control-regex -- ESC begins a colour
const CREDENTIAL = /(?![:=])(?:[^\s"'<>,;\\\x1b]|\\(?:\/|u00[0-9A-Fa-f]{2}))+/y;
const PLAIN_WORD = /^[A-Za-z]{1,15}[.:!?)\]]{0,3}$/;
const CHALLENGE = /^(?:realm|error|error_description|error_uri|scope|charset)=/;
const AFTER_BEARER: ReadonlySet<string> = new Set([
  ...SENTENCE_WORDS,
  ...'api auth authentication authenticator authorization challenge credential credentials header jwt key keys method scheme token tokens type'.split(
    ' ',
  ),
]);

export function findSchemes(text: string, spans: Spans): void {
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
    if (scheme === 'basic') spans.add('scheme', from, from + value.length, MASK);
    else {
      value = value.replace(/[).\]}]{1,4}$/, '');
      spans.mask('scheme', from, from + value.length);
    }
    done = from + value.length;
  }
}

/** RFC 7617: base64 of `user:password`. */
function isUserAndPassword(text: string): boolean {
  if (!/^[A-Za-z0-9+/_-]{4,}={0,2}$/.test(text.slice(0, MAX_TOKEN))) return false;
  return Buffer.from(text.slice(0, MAX_TOKEN), 'base64').includes(':');
}
