import { IS_MASK, MASK } from './mask.js';
import type { Spans } from './spans.js';
import { TAME_NAME } from './tame-name.js';
import { UNQUOTED } from './unquoted.js';

/** RFC 9110 §11.4 and the schemes met in the wild. An unknown first word may be the secret itself. */
const ONE_TOKEN_SCHEMES: ReadonlySet<string> = new Set(
  'bearer basic token apikey negotiate ntlm dpop key jwt'.split(' '),
);
const PARAMETER_SCHEMES: ReadonlySet<string> = new Set(
  'digest hawk oauth hmac signature sharedkey aws4-hmac-sha256 scram-sha-256 mutual vapid'.split(' '),
);
const SCHEME = /[ \t]*([A-Za-z][A-Za-z0-9-]{1,31})[ \t]+/y;

export function maskAuthorization(text: string, from: number, to: number, spans: Spans): number {
  SCHEME.lastIndex = from;
  const scheme = SCHEME.exec(text)?.[1]?.toLowerCase() ?? '';
  const value = SCHEME.lastIndex;
  if (value === 0 || value >= to || (!ONE_TOKEN_SCHEMES.has(scheme) && !PARAMETER_SCHEMES.has(scheme))) {
    if (!IS_MASK.test(text.slice(from, to))) spans.mask('authorization', from, to);
    return to;
  }
  let end = to;
  if (ONE_TOKEN_SCHEMES.has(scheme)) {
    UNQUOTED.lastIndex = value;
    end = Math.min(value + (UNQUOTED.exec(text)?.[0].length ?? 0), to);
  }
  if (IS_MASK.test(text.slice(value, end))) return end;
  if (scheme === 'basic') spans.add('authorization', value, end, MASK);
  else spans.mask('authorization', value, end);
  return end;
}

const COOKIE_ATTRIBUTES: ReadonlySet<string> = new Set(
  'path domain expires max-age samesite secure httponly partitioned priority'.split(' '),
);

export function maskCookies(text: string, from: number, to: number, spans: Spans): number {
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
      if (value < end && !IS_MASK.test(field.slice(value, end))) spans.mask('cookie', from + value, from + end);
    }
    start = end + 1;
  }
  return to;
}
