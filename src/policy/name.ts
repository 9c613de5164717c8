import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

/** Names of listeners, routes, authenticators, tokens, roles and permissions. Logs and metrics print them as they are. */
export const NAME = /^[A-Za-z][A-Za-z0-9\-_.:]{0,63}$/;

export const NAME_FORM = 'a name: a letter, then letters, digits, "-", "_", "." or ":", at most 64 in all';

export function parseName(text: string): Parsed<string> {
  return NAME.test(text) ? parsed(text) : refused(`allowed is ${NAME_FORM}`);
}
