import type { DenialReason } from '../denial.js';
import type { BasicAuthenticator, HttpListener, JwtAuthenticator } from '../policy/policy.js';
import type { Credential } from './credential.js';
import type { Identity } from './identity.js';

/** What came of looking at a credential. */
export type Proof =
  | { readonly ok: true; readonly identity: Identity }
  | {
      readonly ok: false;
      readonly reason: DenialReason;
      /** Stands for the name that the credential claims, where it claims one; a digest, since people mistake the field. */
      readonly claimed?: string;
    };

/**
 * Proofs that need more than the policy: keys from elsewhere, a cache, a thread, a store of revocations. Each answers at
 * once when it can (a token seen before), and with a promise when it must ask. None rejects: what cannot be found out
 * is a denial.
 */
export interface Provers {
  jwt(authenticator: JwtAuthenticator, credential: Credential, nowMs: number): Proof | Promise<Proof>;
  /** The client is the canonical address, after trusted proxies: who asks much waits for itself. */
  basic(
    authenticator: BasicAuthenticator,
    credential: Credential,
    client: string,
    nowMs: number,
  ): Proof | Promise<Proof>;
  /** The credential is the session cookie's value. */
  session(listener: HttpListener, credential: Credential, nowMs: number): Proof | Promise<Proof>;
  /** Is it still good, while its stream is open? Null: yes. Asked often, answers at once. */
  ended(identity: Identity, nowMs: number): DenialReason | null;
}

const UNPROVED: Proof = { ok: false, reason: 'credential_invalid' };

/** Where there is nothing but the policy: bearer tokens, certificates and addresses. */
export const POLICY_ALONE: Provers = {
  jwt: () => UNPROVED,
  basic: () => UNPROVED,
  session: () => UNPROVED,
  ended: (identity, nowMs) => (nowMs >= identity.expiresAtMs ? 'credential_expired' : null),
};
