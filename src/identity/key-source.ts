import type { JwsAlgorithm } from '../policy/jws-algorithms.js';
import type { VerificationKey } from '../policy/verification-key.js';

/** The keys of an issuer, wherever they come from. */
export interface KeySource {
  /**
   * Keys that a token may have been signed with; none where no key fits. Null: there are no keys to be had. At once where
   * the keys are known, a promise where they must be asked for; it never rejects.
   */
  fitting(kid: string | null, algorithm: JwsAlgorithm): FittingKeys | Promise<FittingKeys>;
  /** Is it still one of them. */
  holds(key: VerificationKey): boolean;
}

export type FittingKeys = readonly VerificationKey[] | null;

/** A token without `kid` is tried with so many keys. */
const MOST_TRIED = 16;

/** Keys by what they are for, and by name where both have one. */
export function pickKeys(
  keys: Iterable<VerificationKey>,
  kid: string | null,
  algorithm: JwsAlgorithm,
): readonly VerificationKey[] {
  const picked: VerificationKey[] = [];
  for (const key of keys) {
    if (kid !== null && key.kid !== null && key.kid !== kid) continue;
    if (key.algorithms.includes(algorithm)) picked.push(key);
    if (picked.length === MOST_TRIED) break;
  }
  return picked;
}

/** Keys that stood in a file when the policy was read. */
export class FileKeys implements KeySource {
  readonly #keys: ReadonlySet<VerificationKey>;

  constructor(keys: readonly VerificationKey[]) {
    this.#keys = new Set(keys);
  }

  fitting(kid: string | null, algorithm: JwsAlgorithm): FittingKeys {
    return pickKeys(this.#keys, kid, algorithm);
  }

  holds(key: VerificationKey): boolean {
    return this.#keys.has(key);
  }
}
