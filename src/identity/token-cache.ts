import type { VerificationKey } from '../policy/verification-key.js';
import type { Identity } from './identity.js';

/** A token that was verified, without the token. */
export interface VerifiedToken {
  readonly identity: Identity;
  /** What it was verified with: a key that is no longer among the issuer's ends its tokens. */
  readonly key: VerificationKey;
  /** Good while fromMs <= now < untilMs, epoch milliseconds. */
  readonly fromMs: number;
  readonly untilMs: number;
}

/**
 * Verified tokens by their SHA-256: whoever reads this memory finds no token. Two generations, as in
 * `observe/bounded-cache`: when the young one is full it becomes the old one and the old one is forgotten, so a look-up
 * is one or two probes of a map. Only tokens that were verified get in, so nobody without one can push others out.
 */
export class TokenCache {
  readonly #size: number;
  #young = new Map<string, VerifiedToken>();
  #old = new Map<string, VerifiedToken>();

  /** @param most tokens that are held at once */
  constructor(most: number) {
    this.#size = Math.max(1, Math.floor(most / 2));
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** @param digest 64 lowercase hex digits. Null: not seen, or not good at this moment. */
  find(digest: string, nowMs: number): VerifiedToken | null {
    let found = this.#young.get(digest);
    if (found === undefined) {
      found = this.#old.get(digest);
      if (found === undefined) return null;
      this.#old.delete(digest);
      this.#put(digest, found);
    }
    if (nowMs >= found.fromMs && nowMs < found.untilMs) return found;
    this.forget(digest);
    return null;
  }

  remember(digest: string, token: VerifiedToken): void {
    this.#old.delete(digest);
    this.#put(digest, token);
  }

  forget(digest: string): void {
    this.#young.delete(digest);
    this.#old.delete(digest);
  }

  #put(digest: string, token: VerifiedToken): void {
    if (this.#young.size >= this.#size && !this.#young.has(digest)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(digest, token);
  }
}
