import { Redactor } from '../../src/observe/redact.js';
import { fingerprint, sha256Hex } from '../../src/secret/digest.js';

/** What a mask of `secret` looks like. */
export function masked(secret: string): string {
  return `[redacted:${fingerprint(secret)}]`;
}

/** A redactor that knows these tokens, as it would from the policy: by their digests. */
export function redactorThatKnows(...tokens: readonly string[]): Redactor {
  const known = new Set(tokens.map(sha256Hex));
  return new Redactor({ knowsDigest: (digest) => known.has(digest) });
}
