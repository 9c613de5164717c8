import { readOrigin } from '../http/origin.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const ORIGIN_FORM = 'an origin such as https://app.lan or https://app.lan:8443';

/** Reads an origin into the one form in which it is compared. */
export function parseOrigin(text: string): Parsed<string> {
  if (text === '*')
    return refused('"*" would let every site speak in the name of who is signed in', 'list each origin');
  if (text === 'null') return refused('"null" is what any sandboxed page calls itself', 'list the origin itself');
  const origin = readOrigin(text);
  if (origin !== null) return parsed(origin);
  const shortened = /^(https?:\/\/[^/?#\s]+)[/?#]/i.exec(text)?.[1];
  const readable = shortened === undefined ? null : readOrigin(shortened);
  return refused(
    'an origin is a scheme (http or https), a host, and a port where it is not the usual one',
    readable === null ? (readOrigin(`https://${text}`) ?? undefined)?.replace(/^/, 'write ') : `write ${readable}`,
  );
}
