import { fingerprint } from '../../secret/digest.js';

/** What stands where a secret stood. The fingerprint is that of the access log's `guardbee.credential`. */
export const MASK = '[redacted]';
/** A mask, ours or another's, and nothing more than punctuation after it. */
export const IS_MASK = /^\s?\[(?:redacted(?::[0-9a-f]{6})?|secret|REDACTED)\][\s,;.)\]}'|]{0,8}$/;
/** A mask up to its bracket. */
export const BEGUN_MASK = /\[(?:redacted(?::[0-9a-f]{6})?|secret|REDACTED)$/;

/** Tokens are at least this long (policy), so only runs of this length are looked up. */
export const MIN_TOKEN = 16;
/** What is longer is not looked up: nobody can show it (policy). */
export const MAX_TOKEN = 1024;

/** A shorter secret can be guessed from its fingerprint, so it gets none. */
export function mask(secret: string): string {
  return secret.length < MIN_TOKEN ? MASK : `[redacted:${fingerprint(secret)}]`;
}
