import type { BearerAuthenticator, TokenEntry } from '../policy/policy.js';
import type { Credential } from './credential.js';
import type { Identity } from './identity.js';
import type { Proof } from './provers.js';

/** Shorter tokens can be guessed, so they are nobody's, even if somebody hashed one into a policy. */
export const SHORTEST_TOKEN = 16;

/** Looks a token up by digest. Valid while not_before <= now < not_after. */
export function proveToken(authenticator: BearerAuthenticator, credential: Credential, nowMs: number): Proof {
  const entry = credential.length < SHORTEST_TOKEN ? null : authenticator.tokens.find(credential.sha256);
  if (entry === null) return { ok: false, reason: 'credential_invalid' };
  if (nowMs < entry.notBeforeMs) return { ok: false, reason: 'credential_not_yet_valid' };
  if (nowMs >= entry.notAfterMs) return { ok: false, reason: 'credential_expired' };
  return { ok: true, identity: identityOfToken(entry) };
}

/** One object for a token, however often it is shown: what is remembered of an identity is then found again. */
const identities = new WeakMap<TokenEntry, Identity>();

export function identityOfToken(entry: TokenEntry): Identity {
  let identity = identities.get(entry);
  if (identity === undefined) {
    identity = {
      name: entry.name,
      authenticator: entry.authenticator,
      roles: entry.roles,
      grants: entry.grants,
      expiresAtMs: entry.notAfterMs,
      revocables: [],
    };
    identities.set(entry, identity);
  }
  return identity;
}
