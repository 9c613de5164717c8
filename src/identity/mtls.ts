import type { MtlsAuthenticator } from '../policy/policy.js';
import type { ClientCertificate } from './caller.js';
import type { Proof } from './provers.js';

/** Finds the holder of a client certificate: the first entry of the list that matches wins. */
export function proveCertificate(
  authenticator: MtlsAuthenticator,
  certificate: ClientCertificate,
  nowMs: number,
): Proof {
  if (!certificate.verified) return { ok: false, reason: 'credential_invalid' };
  if (nowMs >= certificate.notAfterMs) return { ok: false, reason: 'credential_expired' };
  const found = authenticator.identities.find(({ match }) => matches(match, certificate));
  if (found === undefined) return { ok: false, reason: 'credential_invalid' };
  return {
    ok: true,
    identity: {
      ...found.holder,
      authenticator: authenticator.name,
      expiresAtMs: certificate.notAfterMs,
      revocables: [],
    },
  };
}

function matches(match: MtlsAuthenticator['identities'][number]['match'], certificate: ClientCertificate): boolean {
  switch (match.kind) {
    case 'san_dns':
      return certificate.dns.some((name) => name.toLowerCase() === match.value);
    case 'san_uri':
      return certificate.uris.includes(match.value);
    case 'san_email':
      return certificate.emails.includes(match.value);
    case 'cn':
      return certificate.commonName === match.value;
    case 'spki':
      return certificate.spki === match.value;
  }
}
