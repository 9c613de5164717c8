import { knownDigests } from '../policy/known-digests.js';
import type { Policy } from '../policy/policy.js';

/** Digests of credentials that are no longer in the policy, and that somebody may still show. */
const MOST_FORMER = 100_000;

/** What the log never shows. */
export class KnownCredentials {
  readonly #digests = new Set<string>();

  constructor(policies: readonly Policy[]) {
    for (const policy of policies) this.add(policy);
  }

  has(digest: string): boolean {
    return this.#digests.has(digest);
  }

  add(policy: Policy): void {
    const now = knownDigests(policy);
    for (const digest of now) {
      // The last ones are those that there are.
      this.#digests.delete(digest);
      this.#digests.add(digest);
    }
    for (const digest of this.#digests) {
      if (this.#digests.size <= now.size + MOST_FORMER) break;
      this.#digests.delete(digest);
    }
  }
}
