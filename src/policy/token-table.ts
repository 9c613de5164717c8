import type { TokenEntry } from './policy.js';

/**
 * Tokens by digest. A look-up costs the same for ten tokens and for ten thousand. What an attacker can influence is
 * the SHA-256 of a guess, so the time of the map look-up says nothing useful about a stored digest; the final
 * comparison is constant-time all the same.
 */
export class TokenTable {
  readonly #byDigest: ReadonlyMap<string, TokenEntry>;

  constructor(entries: readonly TokenEntry[]) {
    this.#byDigest = new Map(entries.map((entry) => [entry.sha256, entry]));
  }

  get size(): number {
    return this.#byDigest.size;
  }

  /** @param sha256 64 lowercase hex digits. */
  find(sha256: string): TokenEntry | null {
    const found = this.#byDigest.get(sha256);
    if (found === undefined) return null;
    return sameDigest(found.sha256, sha256) ? found : null;
  }

  entries(): TokenEntry[] {
    return [...this.#byDigest.values()];
  }
}

/** Looks at every digit, whatever the first ones were. Two Buffers for `timingSafeEqual` would cost ten times as much. */
function sameDigest(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i += 1) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}
