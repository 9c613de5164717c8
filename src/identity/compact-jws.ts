import { member, isObject, parseStrictJson } from '../http/strict-json.js';
import { type JwsAlgorithm, isJwsAlgorithm } from '../policy/jws-algorithms.js';
import { LONGEST_KEY_ID } from '../policy/verification-key.js';

/** What a token in compact form says, before anybody has verified it. */
export interface ClaimedJws {
  readonly algorithm: JwsAlgorithm;
  readonly kid: string | null;
  readonly claims: Readonly<Record<string, unknown>>;
}

/**
 * Takes a token apart (RFC 7515 §3.1, RFC 7519 §7.2), refusing all that two readers could read two ways: repeated
 * members, padding, bits behind the end of the base64url, a payload that is no claims set. Null: refused.
 *
 * Of the header only `alg`, `kid` and `typ` are ever used. `jwk`, `jku`, `x5c` and `x5u` are the sender's word for the
 * key to believe the sender with, and are not looked at (RFC 8725 §3.10).
 */
export function readCompactJws(text: string): ClaimedJws | null {
  const parts = text.split('.', 4);
  const [header, payload, signature] = parts;
  // Five parts are a JWE, two are JSON or nothing signed.
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined) return null;
  if (decode(signature) === null) return null;
  const read = readHeader(header);
  const claims = readObject(payload);
  return read === null || claims === null ? null : { ...read, claims };
}

function readHeader(part: string): Omit<ClaimedJws, 'claims'> | null {
  const header = readObject(part);
  if (header === null) return null;
  // No extension is understood here, and one that is critical must be (RFC 7515 §4.1.11); `b64` is one (RFC 7797).
  if (member(header, 'crit') !== undefined || member(header, 'b64') !== undefined) return null;
  const algorithm = member(header, 'alg');
  if (!isJwsAlgorithm(algorithm)) return null;
  const kid = member(header, 'kid');
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > LONGEST_KEY_ID)) return null;
  const type = member(header, 'typ');
  if (type !== undefined && (typeof type !== 'string' || isForSomethingElse(type))) return null;
  return { algorithm, kid: kid ?? null };
}

/**
 * Logout tokens, DPoP proofs and security events are JWTs of the same issuers, and say so in `typ` (RFC 8725 §3.11).
 * Access tokens say `at+jwt` (RFC 9068 §2.1), `JWT`, or nothing.
 */
function isForSomethingElse(type: string): boolean {
  const subtype = type.toLowerCase().replace(/^application\//, '');
  return subtype.endsWith('+jwt') && !/(?:^|-)at\+jwt$/.test(subtype);
}

function readObject(part: string): Readonly<Record<string, unknown>> | null {
  const bytes = decode(part);
  if (bytes === null) return null;
  const json = parseStrictJson(bytes);
  return json.ok && isObject(json.value) ? json.value : null;
}

/** Base64url in its one form (RFC 7515 §2): else one token had many digests. */
function decode(part: string): Buffer | null {
  const bytes = Buffer.from(part, 'base64url');
  return bytes.length > 0 && bytes.toString('base64url') === part ? bytes : null;
}
