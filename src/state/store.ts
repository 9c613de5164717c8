import type { Revocable } from '../identity/identity.js';
import type { Revocations } from '../identity/revocation.js';
import type { RevocationSettings } from '../policy/policy.js';

/** One thing that is void: a credential by its `jti`, or all of a subject's that were issued before a moment. */
export type Revocation =
  | {
      readonly kind: 'jti';
      readonly issuer: string;
      readonly jti: string;
      /** Until when it is kept, epoch milliseconds; Infinity where the credential never ends by itself. */
      readonly untilMs: number;
    }
  | {
      readonly kind: 'subject';
      readonly issuer: string;
      readonly subject: string;
      /** What was issued before it is void, epoch milliseconds. */
      readonly beforeMs: number;
      readonly untilMs: number;
    };

/** How a store is. `unknown`: it can't be asked, or has lost what it held; nobody is then known to be good. */
export interface StoreStatus {
  readonly state: 'up' | 'unknown';
  /** One clause without full stop; holds no secret. */
  readonly detail: string;
  /** True where only an operator can mend it: `guardbee revoke --accept-loss`. */
  readonly lost: boolean;
  /** Revocations that this process knows of and that still matter. */
  readonly entries: number;
}

/** Where revocations are kept. */
export interface RevocationStore extends Revocations {
  readonly status: StoreStatus;
  /**
   * Keeps a revocation; one that is over already is not kept. Resolves when it is safe (on the disk, in Redis).
   * @throws StateError when it can't be kept
   */
  put(revocation: Revocation, settings: RevocationSettings, nowMs: number): Promise<void>;
  /** What this process knows of, newest first; `total` counts those too that are not listed. */
  list(nowMs: number, most: number): { readonly entries: readonly Revocation[]; readonly total: number };
  /**
   * An operator says that what the store has lost stays lost. What this process still knows is written again.
   * Resolves to false where nothing was lost. @throws StateError when the store can't be written
   */
  acceptLoss(nowMs: number): Promise<boolean>;
  close(): Promise<void>;
}

/** Something about the state directory or the shared store, in a sentence for people. Never holds a secret. */
export class StateError extends Error {
  override readonly name = 'StateError';
}

/** Said when a store changes its state, once for each change. */
export interface StoreNotice {
  readonly store: 'embedded' | 'shared';
  readonly level: 'info' | 'warn' | 'error';
  /** `revocations.…`, `limits.…` */
  readonly event: string;
  readonly message: string;
}

export type Tell = (notice: StoreNotice) => void;

/** What is kept of a credential that is revoked by itself. @throws StateError where it has no `jti` */
export function revocationOf(of: Revocable): Revocation {
  if (of.jti === null) {
    throw new StateError('this credential has no jti, so it cannot be revoked alone: revoke all of its subject');
  }
  return { kind: 'jti', issuer: of.issuer, jti: of.jti, untilMs: of.expiresAtMs };
}

/**
 * Issued before the moment, or at an unknown time: it is void. Times in tokens are whole seconds, cut off: of what was
 * issued in the very second of the moment, all is void.
 */
export function isBefore(of: Revocable, beforeMs: number): boolean {
  return of.issuedAtMs === null || of.issuedAtMs < beforeMs;
}
