import type { Credential } from './credential.js';

/**
 * Is it meant to be a JWT? Only the shape is asked, to pick who judges it: `eyJ` is `{"` in base64url, with which the
 * JOSE header of every JWS and JWE in compact form begins (RFC 7515 §7.1), and a point follows.
 */
export function looksLikeJwt(credential: Credential): boolean {
  const text = credential.reveal();
  return text.startsWith('eyJ') && text.includes('.');
}

/** The issuer a JWT names, unverified: picks the authenticator, which then verifies it. Null: it names none. */
export function claimedIssuer(credential: Credential): string | null {
  const payload = credential.reveal().split('.', 2)[1];
  if (payload === undefined) return null;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    if (typeof claims !== 'object' || claims === null || !('iss' in claims)) return null;
    return typeof claims.iss === 'string' ? claims.iss : null;
  } catch {
    return null;
  }
}
