import { type ClientAuthority, authorityDigest, wouldVouch } from '../policy/client-authority.js';
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
  if (!isVouchedFor(certificate, authenticator.authority)) return { ok: false, reason: 'credential_invalid' };
  if (nowMs >= certificate.notAfterMs) return { ok: false, reason: 'credential_expired' };
  const identity = identityOf(authenticator, certificate);
  return identity === 'nobody' ? { ok: false, reason: 'credential_invalid' } : { ok: true, identity };
}

const vouched = new WeakMap<ClientAuthority, WeakMap<ClientCertificate, boolean>>();

/**
 * Is it good by these authorities and lists: a connection outlives the policy that it began with. Where they are others
 * than those of its handshake, this says whether they would have let it in; asked once of each connection.
 */
export function isVouchedFor(certificate: ClientCertificate, authority: ClientAuthority): boolean {
  if (!certificate.verified) return false;
  if (certificate.judgedBy === authorityDigest(authority)) return true;
  let byThis = vouched.get(authority);
  if (byThis === undefined) {
    byThis = new WeakMap();
    vouched.set(authority, byThis);
  }
  let good = byThis.get(certificate);
  if (good === undefined) {
    const shown = certificate.shown();
    good = shown !== null && wouldVouch(authority, shown.sent, shown.authorities);
    byThis.set(certificate, good);
  }
  return good;
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
