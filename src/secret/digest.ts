import { hash } from 'node:crypto';

/** SHA-256 of the UTF-8 bytes, 64 lowercase hex digits: the only form in which tokens are kept. */
export function sha256Hex(text: string): string {
  // One-shot `hash` costs a third of `createHash().update().digest()` for something as short as a token.
  return hash('sha256', text, 'hex');
}

/** First 6 hex digits of the SHA-256: tells two credentials apart in a log without telling what they are. */
export function fingerprint(text: string): string {
  return sha256Hex(text).slice(0, 6);
}
