import type { RevocationSettings } from '../policy/policy.js';

/** Who a credential proved the caller to be. One object for as long as the proof stands: logs remember text by it. */
export interface Identity {
  readonly name: string;
  readonly authenticator: string;
  readonly roles: readonly string[];
  /** Roles and permissions together: what `require` is looked up in. */
  readonly grants: ReadonlySet<string>;
  /** When this identity stops being valid, epoch milliseconds; Infinity where it does not. */
  readonly expiresAtMs: number;
  /** What could be revoked of it; empty where nothing can. */
  readonly revocables: readonly Revocable[];
}

/** A token or session that somebody may declare void before its time. */
export interface Revocable {
  readonly settings: RevocationSettings;
  readonly issuer: string;
  /** Null: the token has none, and can be revoked by its subject alone. */
  readonly jti: string | null;
  readonly subject: string | null;
  /** Epoch milliseconds; null: it does not say, and "all before now" then means it too. */
  readonly issuedAtMs: number | null;
  /** When the token ends by itself, clock tolerance included: a revocation need not be kept longer. */
  readonly expiresAtMs: number;
}
