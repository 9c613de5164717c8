import { timingSafeEqual } from 'node:crypto';
import type { TokenEntry } from './policy.js';

/**
 * Tokens by digest. A look-up costs the same for ten tokens and for ten thousand. What an attacker can influence is
 * the SHA-256 of a guess, so the time of the map look-up says nothing useful about a stored digest; the final
 * comparison is constant-time all the same.
 */
export class TokenTable {
  readonly #byDigest: ReadonlyMap<string, { readonly digest: Buffer; readonly entry: TokenEntry }>;

  constructor(entries: readonly TokenEntry[]) {
    this.#byDigest = new Map(
      entries.map((entry) => [entry.sha256, { digest: Buffer.from(entry.sha256, 'hex'), entry }]),
    );
  }

  get size(): number {
    return this.#byDigest.size;
  }

  /** @param sha256 64 lowercase hex digits. */
  find(sha256: string): TokenEntry | null {
    const found = this.#byDigest.get(sha256);
    if (found === undefined) return null;
    return timingSafeEqual(found.digest, Buffer.from(sha256, 'hex')) ? found.entry : null;
  }

  entries(): TokenEntry[] {
    return [...this.#byDigest.values()].map((held) => held.entry);
  }
}
