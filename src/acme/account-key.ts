/** The key of an account, and what is signed with it (RFC 8555 §6.2, RFC 7515). */
import {
  type KeyObject,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
} from 'node:crypto';
import type { Secret } from '../secret/secret.js';

/** A new ECDSA P-256 key. */
export function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

export function keyToPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** Null: this is no such key. */
export function keyFromPem(pem: string): KeyObject | null {
  try {
    const key = createPrivateKey({ key: pem, format: 'pem' });
    return key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : null;
  } catch {
    return null;
  }
}

/** The members that RFC 7638 §3.2 wants, in its order. */
interface PublicJwk {
  readonly crv: string;
  readonly kty: string;
  readonly x: string;
  readonly y: string;
}

export class AccountKey {
  readonly #key: KeyObject;
  readonly #jwk: PublicJwk;
  /** RFC 7638, base64url. */
  readonly thumbprint: string;

  constructor(key: KeyObject) {
    this.#key = key;
    const { crv = '', kty = '', x = '', y = '' } = createPublicKey(key).export({ format: 'jwk' });
    this.#jwk = { crv, kty, x, y };
    this.thumbprint = createHash('sha256').update(JSON.stringify(this.#jwk)).digest('base64url');
  }

  /**
   * A JWS in the flattened form, ES256.
   *
   * @param account its URL; null: the key itself is shown, as for a new account
   * @param payload null: nothing at all (POST-as-GET, RFC 8555 §6.3)
   */
  sign(url: string, nonce: string, account: string | null, payload: unknown): string {
    const header = { alg: 'ES256', nonce, url, ...(account === null ? { jwk: this.#jwk } : { kid: account }) };
    return jws(header, payload === null ? '' : JSON.stringify(payload), (input) =>
      sign('sha256', input, { key: this.#key, dsaEncoding: 'ieee-p1363' }),
    );
  }

  /** What binds a new account to one that the authority's operator knows already (RFC 8555 §7.3.4). */
  bind(url: string, keyId: string, macKey: Secret): unknown {
    const signature = jws({ alg: 'HS256', kid: keyId, url }, JSON.stringify(this.#jwk), (input) =>
      createHmac('sha256', Buffer.from(macKey.reveal(), 'base64url')).update(input).digest(),
    );
    return JSON.parse(signature) as unknown;
  }
}

function jws(header: unknown, payload: string, signer: (input: Buffer) => Buffer): string {
  const protectedPart = Buffer.from(JSON.stringify(header)).toString('base64url');
  const payloadPart = Buffer.from(payload).toString('base64url');
  const signature = signer(Buffer.from(`${protectedPart}.${payloadPart}`, 'latin1')).toString('base64url');
  return JSON.stringify({ protected: protectedPart, payload: payloadPart, signature });
}
