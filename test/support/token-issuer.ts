import { constants, createHmac, generateKeyPairSync, sign as signBytes, type KeyObject } from 'node:crypto';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface IssuerKey {
  readonly kid: string;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export function issuerKey(kid: string, type: 'P-256' | 'P-384' | 'P-521' | 'RSA' | 'Ed25519'): IssuerKey {
  const pair =
    type === 'RSA'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : type === 'Ed25519'
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('ec', { namedCurve: type });
  return { kid, ...pair };
}

export function jwkOf({ publicKey, kid }: IssuerKey): Record<string, unknown> {
  return { ...publicKey.export({ format: 'jwk' }), kid };
}

export const base64url = (text: string | Buffer): string => Buffer.from(text).toString('base64url');
const json = (value: object | string): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** Signs as `alg` says, whatever key that is for. */
export function signature(alg: string, key: KeyObject | string | Buffer, input: string): Buffer {
  const bytes = Buffer.from(input);
  const hash = `sha${alg.slice(2)}`;
  if (alg.startsWith('HS')) return createHmac(hash, key).update(bytes).digest();
  if (typeof key === 'string' || Buffer.isBuffer(key)) throw new TypeError('a secret signs HS… alone');
  if (alg.startsWith('ES')) return signBytes(hash, bytes, { key, dsaEncoding: 'ieee-p1363' });
  if (alg.startsWith('RS')) return signBytes(hash, bytes, key);
  if (alg.startsWith('PS')) {
    const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_DIGEST: saltLength } = constants;
    return signBytes(hash, bytes, { key, padding, saltLength });
  }
  return signBytes(null, bytes, key);
}

/** A token in compact form. Header and claims may be texts, for what no serializer would write. */
export function makeToken(
  header: { readonly alg: string } & Readonly<Record<string, unknown>>,
  claims: object | string,
  key: KeyObject | string | Buffer,
  headerText: string = JSON.stringify(header),
): string {
  const input = `${base64url(headerText)}.${base64url(json(claims))}`;
  return `${input}.${base64url(signature(header.alg, key, input))}`;
}

/** A server of keys that does as it is told, and counts who asks. */
export class KeyServer implements AsyncDisposable {
  readonly #server: Server;
  /** Paths that were asked for. */
  readonly asked: string[] = [];
  answer: (response: ServerResponse) => void;

  private constructor(keys: readonly object[]) {
    this.answer = KeyServer.keys(keys);
    this.#server = createServer((request, response) => {
      this.asked.push(request.url ?? '');
      this.answer(response);
    });
  }

  static keys(keys: readonly object[]): (response: ServerResponse) => void {
    return (response) => response.end(JSON.stringify({ keys }));
  }

  static async start(keys: readonly object[] = []): Promise<KeyServer> {
    const started = new KeyServer(keys);
    await new Promise<void>((resolve) => started.#server.listen(0, '127.0.0.1', resolve));
    return started;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${String(this.port)}/jwks`;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise((resolve) => {
      this.#server.close(resolve);
      this.#server.closeAllConnections();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
