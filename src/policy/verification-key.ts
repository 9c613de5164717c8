/**
 * Public keys that tokens are verified with, out of JWK Sets (RFC 7517) and PEM. What a key may be used for is decided
 * here, by the key itself and never by a token (RFC 8725 §3.1).
 */
import { type KeyObject, createHash, createPublicKey } from 'node:crypto';
import { isObject, member, parseStrictJson } from '../http/strict-json.js';
import {
  EC_ALGORITHMS,
  ED25519_ALGORITHMS,
  JWS_ALGORITHMS,
  type JwsAlgorithm,
  RSA_ALGORITHMS,
} from './jws-algorithms.js';
import { type Parsed, parsed, refused } from './parsed.js';

/** A key, and what may be verified with it. */
export class VerificationKey {
  /** Null: it has no name, and may be meant by any token. */
  readonly kid: string | null;
  readonly algorithms: readonly JwsAlgorithm[];
  /** SHA-256 over key, name and algorithms: two of the same are the same key. */
  readonly digest: string;
  // Behind a private name: Node remembers what it found out of a key in the object, and a policy is frozen.
  readonly #key: KeyObject;

  constructor(key: KeyObject, kid: string | null, algorithms: readonly JwsAlgorithm[]) {
    this.kid = kid;
    this.algorithms = algorithms;
    this.digest = createHash('sha256')
      .update(JSON.stringify([kid, algorithms]))
      .update(key.export({ type: 'spki', format: 'der' }))
      .digest('hex');
    this.#key = key;
  }

  get key(): KeyObject {
    return this.#key;
  }
}

/** No key set that anybody publishes is larger. */
export const LARGEST_KEY_SET = 256 * 1024;
const MOST_KEYS = 256;
/** A `kid` is an opaque text; those in use have a few dozen characters. */
export const LONGEST_KEY_ID = 256;
/** RFC 7518 §3.3. */
const FEWEST_RSA_BITS = 2048;
/** A signature of a larger key costs milliseconds to check. */
const MOST_RSA_BITS = 8192;

const SYMMETRIC = 'it holds a symmetric key: whoever can check a token with it can also make one';
const PRIVATE = 'it holds a private key: whoever reads it can make tokens';

/**
 * The usable keys of a JWK Set. Keys for something else (another `use`, an unknown type) are passed over, as RFC 7517 §5
 * wants it; a secret among them condemns the whole set, since then nothing about it is as it should be.
 */
export function readJwkSet(bytes: Uint8Array): Parsed<readonly VerificationKey[]> {
  const json = parseStrictJson(bytes);
  if (!json.ok) {
    const pem = Buffer.from(bytes.subarray(0, 64)).toString('latin1').includes('-----BEGIN ');
    return refused(
      pem ? 'this is PEM, not a JWK Set' : 'it is no JSON, or has a member twice',
      pem ? 'write public_key: { file: PATH } for a key in PEM' : undefined,
    );
  }
  const list = member(json.value, 'keys');
  if (!Array.isArray(list)) {
    return refused(
      'it is no JWK Set',
      isObject(json.value) && 'kty' in json.value ? 'write { "keys": [ … ] } around the key' : undefined,
    );
  }
  const jwks: readonly unknown[] = list;
  if (jwks.length > MOST_KEYS) return refused(`it holds more than ${MOST_KEYS} keys`);
  if (jwks.some((jwk) => member(jwk, 'kty') === 'oct' || member(jwk, 'k') !== undefined)) return refused(SYMMETRIC);
  if (
    jwks.some((jwk) => ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'priv'].some((name) => member(jwk, name) !== undefined))
  )
    return refused(PRIVATE);
  const keys = jwks.map(readJwk).filter((key) => key !== null);
  if (keys.length === 0) {
    return refused(
      'there is no key in it to verify signatures with',
      'put in RSA keys of 2048 bits or more, EC keys on P-256, P-384 or P-521, or Ed25519 keys',
    );
  }
  return parsed(keys);
}

function readJwk(jwk: unknown): VerificationKey | null {
  if (!isObject(jwk)) return null;
  const [kid, use, operations, alg] = ['kid', 'use', 'key_ops', 'alg'].map((name) => member(jwk, name));
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > LONGEST_KEY_ID)) return null;
  if (use !== undefined && use !== 'sig') return null;
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return null;
  const key = importJwk(jwk);
  if (key === null) return null;
  const fitting = algorithmsOf(key);
  if (!fitting.ok) return null;
  // Ed25519 has two names, and a set says one of them.
  const pinned =
    alg === undefined || fitting.value === ED25519_ALGORITHMS
      ? fitting.value
      : fitting.value.filter((one) => one === alg);
  if (alg !== undefined && !fitting.value.some((one) => one === alg)) return null;
  return new VerificationKey(key, kid ?? null, pinned);
}

function importJwk(jwk: Readonly<Record<string, unknown>>): KeyObject | null {
  try {
    // The members that make the key, and no others.
    const { kty, crv, x, y, n, e } = jwk as Readonly<Record<string, string>>;
    const made = Object.fromEntries(
      Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined),
    );
    return createPublicKey({ key: made, format: 'jwk' });
  } catch {
    return null;
  }
}

/** The one public key of a PEM text: SPKI, PKCS #1, or that of a certificate. */
export function readPublicKeyPem(bytes: Buffer): Parsed<readonly VerificationKey[]> {
  const text = bytes.toString('latin1');
  // Node would make the public key out of a private one, and the private one would lie where it is not needed.
  if (text.includes('PRIVATE KEY-----')) {
    return refused(PRIVATE, 'write the public one into a file: openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem');
  }
  if (/^\s*\{/.test(text)) return refused('this is JSON, not PEM', 'write jwks: { file: PATH } for a JWK Set');
  const blocks = text.match(/-----BEGIN [A-Z0-9 ]+-----/g) ?? [];
  if (blocks.length > 1)
    return refused('it holds more than one key', 'keep one; for several write jwks: { file: PATH }');
  let key: KeyObject;
  try {
    key = createPublicKey(bytes);
  } catch {
    return refused('there is no public key in PEM in it', 'it begins with -----BEGIN PUBLIC KEY-----');
  }
  const algorithms = algorithmsOf(key);
  return algorithms.ok ? parsed([new VerificationKey(key, null, algorithms.value)]) : algorithms;
}

/** What may be verified with a key, by its type, curve and size. */
function algorithmsOf(key: KeyObject): Parsed<readonly JwsAlgorithm[]> {
  const details = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa': {
      const { modulusLength: bits = 0, publicExponent: exponent = 0n } = details;
      if (bits < FEWEST_RSA_BITS) return refused(`an RSA key of ${bits} bits is too short`, 'make one of 2048 or more');
      if (bits > MOST_RSA_BITS)
        return refused(`an RSA key of ${bits} bits is too long`, `make one of ${MOST_RSA_BITS} or fewer`);
      // With the exponent 1 everything is its own signature.
      if (exponent < 3n || exponent % 2n === 0n) return refused('the exponent of the RSA key makes it worthless');
      return parsed(RSA_ALGORITHMS);
    }
    case 'ec': {
      const algorithms = EC_ALGORITHMS.get(details.namedCurve ?? '');
      return algorithms === undefined
        ? refused('the curve of the EC key is none of P-256, P-384 and P-521')
        : parsed(algorithms);
    }
    case 'ed25519':
      return parsed(ED25519_ALGORITHMS);
    default:
      return refused(
        `a key of type ${key.asymmetricKeyType ?? 'unknown'} verifies no tokens`,
        `needed is one for ${JWS_ALGORITHMS.join(', ')}`,
      );
  }
}
