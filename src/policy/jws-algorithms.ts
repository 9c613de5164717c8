/**
 * Signatures that a token may have: RFC 7518 §3.1, RFC 8037 §3.1 and RFC 9864 §2.2. Those of a shared secret (HS256 and
 * its kin) are not here: whoever can check such a token can make one. Neither is `none`.
 */
export const JWS_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const;

export type JwsAlgorithm = (typeof JWS_ALGORITHMS)[number];

export function isJwsAlgorithm(name: unknown): name is JwsAlgorithm {
  return (JWS_ALGORITHMS as readonly unknown[]).includes(name);
}

export const RSA_ALGORITHMS: readonly JwsAlgorithm[] = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];

/** One curve, one hash (RFC 7518 §3.4); by the name that OpenSSL has for the curve. */
export const EC_ALGORITHMS: ReadonlyMap<string, readonly JwsAlgorithm[]> = new Map([
  ['prime256v1', ['ES256']],
  ['secp384r1', ['ES384']],
  ['secp521r1', ['ES512']],
]);

/** Ed25519 by its old and its new name; Ed448, the other curve that `EdDSA` once meant, is not supported. */
export const ED25519_ALGORITHMS: readonly JwsAlgorithm[] = ['EdDSA', 'Ed25519'];
