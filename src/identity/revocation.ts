import type { DenialReason } from '../denial.js';
import type { Identity, Revocable } from './identity.js';

/** `unknown`: the store cannot be asked, or was emptied; what that means is the policy's to say (`on_unavailable`). */
export type Standing = 'good' | 'revoked' | 'unknown';

/**
 * What has been revoked. `state/` keeps it; asked on every request, also where the credential itself is remembered.
 * By issuer and `jti` (RFC 7519 §4.1.7), and by issuer and subject for all that was issued before a moment.
 */
export interface Revocations {
  /** At once where it is known, a promise where the store must be asked. Never rejects. */
  standing(of: Revocable, nowMs: number): Standing | Promise<Standing>;
  /** What is known without asking, at most a second old; for streams that are open. */
  known(of: Revocable, nowMs: number): Standing;
  /** Kept until the credential ends by itself. @throws Error with a sentence for people when it can't be kept. */
  revoke(of: Revocable, nowMs: number): Promise<void>;
}

/** Where nothing is ever revoked. */
export const NO_REVOCATIONS: Revocations = {
  standing: () => 'good',
  known: () => 'good',
  revoke: () => Promise.reject(new Error('this policy keeps no revocations')),
};

/**
 * Why an identity that was good is no longer; null: it still is. A store that cannot be asked ends nobody: that is
 * looked at again in a moment, and what is underway would be lost for good.
 */
export function endedBy(revocations: Revocations, identity: Identity, nowMs: number): DenialReason | null {
  for (const revocable of identity.revocables) {
    if (revocations.known(revocable, nowMs) === 'revoked') return 'credential_revoked';
  }
  return nowMs >= identity.expiresAtMs ? 'credential_expired' : null;
}
