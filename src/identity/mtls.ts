import { authorityDigest } from '../policy/client-authority.js';
import type { Holder, MtlsAuthenticator } from '../policy/policy.js';
import type { ClientCertificate } from './caller.js';
import type { Identity } from './identity.js';
import type { Proof } from './provers.js';

/**
 * What was found for a certificate: one object for as long as its connection lasts, so that a request costs no search,
 * and what is remembered of an identity is found again. By authenticator, since a policy may be exchanged meanwhile.
 */
const found = new WeakMap<MtlsAuthenticator, WeakMap<ClientCertificate, Identity | 'nobody'>>();

/**
 * Finds the holder of a client certificate. That OpenSSL verified it in the handshake is not enough for a connection
 * that stays open: it stops counting the moment it, or the authority above it, expires.
 */
export function proveCertificate(
  authenticator: MtlsAuthenticator,
  certificate: ClientCertificate,
  nowMs: number,
): Proof {
  if (!certificate.verified) return { ok: false, reason: 'credential_invalid' };
  // A connection outlives the policy that it began with; what other authorities or lists say of it nobody has asked.
  if (certificate.judgedBy !== authorityDigest(authenticator.authority))
    return { ok: false, reason: 'credential_invalid' };
  if (nowMs >= certificate.notAfterMs) return { ok: false, reason: 'credential_expired' };
  const identity = identityOf(authenticator, certificate);
  return identity === 'nobody' ? { ok: false, reason: 'credential_invalid' } : { ok: true, identity };
}

function identityOf(authenticator: MtlsAuthenticator, certificate: ClientCertificate): Identity | 'nobody' {
  let ofThis = found.get(authenticator);
  if (ofThis === undefined) {
    ofThis = new WeakMap();
    found.set(authenticator, ofThis);
  }
  let identity = ofThis.get(certificate);
  if (identity === undefined) {
    const holder = authenticator.identities.find(certificate);
    identity = holder === null ? 'nobody' : identityFor(holder, authenticator, certificate);
    ofThis.set(certificate, identity);
  }
  return identity;
}

function identityFor(holder: Holder, { name }: MtlsAuthenticator, { notAfterMs }: ClientCertificate): Identity {
  return { ...holder, authenticator: name, expiresAtMs: notAfterMs, revocables: [] };
}
