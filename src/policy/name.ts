import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

/** Names of listeners, routes, authenticators, tokens, roles and permissions. Logs and metrics print them as they are. */
export const NAME = /^[A-Za-z][A-Za-z0-9\-_.:]{0,63}$/;

export const NAME_FORM = 'a name: a letter, then letters, digits, "-", "_", "." or ":", at most 64 in all';

export function parseName(text: string): Parsed<string> {
  if (NAME.test(text)) return parsed(text);
  if (text === '') return refused(`a name is not empty; allowed is ${NAME_FORM}`);
  if (text.length > 64) return refused('a name is at most 64 characters long');
  if (!/^[A-Za-z]/.test(text)) return refused(`a name begins with a letter; allowed is ${NAME_FORM}`);
  return refused(`allowed is ${NAME_FORM}`);
}
