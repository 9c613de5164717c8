import { writeFileSync } from 'node:fs';
import { generate } from 'selfsigned';
import type { TemporaryDirectory } from './temporary-directory.js';

export interface KeyPair {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

export interface IssueOptions {
  readonly commonName?: string;
  /** DNS names and IP addresses for the SAN. Default: localhost, 127.0.0.1, ::1. */
  readonly names?: readonly string[];
  /** `server` (default) or `client`: the extended key usage. */
  readonly usage?: 'server' | 'client';
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

const LOCAL_NAMES = ['localhost', '127.0.0.1', '::1'];

/** A throw-away certificate authority. Keys are P-256: making one takes a few milliseconds. */
export class TestAuthority {
  readonly #pair: KeyPair;

  private constructor(pair: KeyPair) {
    this.#pair = pair;
  }

  static async create(commonName = 'guardbee test authority'): Promise<TestAuthority> {
    const made = await generate([{ name: 'commonName', value: commonName }], {
      keyType: 'ec',
      algorithm: 'sha256',
      extensions: [
        { name: 'basicConstraints', cA: true, critical: true },
        { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
      ],
    });
    return new TestAuthority({ cert: made.cert, key: made.private });
  }

  /** PEM of the authority's own certificate: the `ca` of a client. */
  get ca(): string {
    return this.#pair.cert;
  }

  async issue(options: IssueOptions = {}): Promise<KeyPair> {
    const names = options.names ?? LOCAL_NAMES;
    const made = await generate([{ name: 'commonName', value: options.commonName ?? names[0] ?? 'nobody' }], {
      keyType: 'ec',
      algorithm: 'sha256',
      ca: this.#pair,
      ...(options.notBefore === undefined ? {} : { notBeforeDate: options.notBefore }),
      ...(options.notAfter === undefined ? {} : { notAfterDate: options.notAfter }),
      extensions: [
        { name: 'basicConstraints', cA: false, critical: true },
        { name: 'keyUsage', digitalSignature: true, critical: true },
        options.usage === 'client'
          ? { name: 'extKeyUsage', clientAuth: true }
          : { name: 'extKeyUsage', serverAuth: true },
        {
          name: 'subjectAltName',
          altNames: names.map((name) => (/^[\d.]+$|:/.test(name) ? { type: 7, ip: name } : { type: 2, value: name })),
        },
      ],
    });
    return { cert: made.cert, key: made.private };
  }
}

let shared: Promise<{ readonly authority: TestAuthority; readonly ca: string; readonly server: KeyPair }> | null = null;

/** One authority and one server certificate (localhost, 127.0.0.1, ::1) for the whole process. */
export function testCertificates(): NonNullable<typeof shared> {
  shared ??= (async () => {
    const authority = await TestAuthority.create();
    return { authority, ca: authority.ca, server: await authority.issue() };
  })();
  return shared;
}

/** Writes a pair as `NAME.crt` (0644) and `NAME.key` (0600). */
export function writeKeyPair(
  directory: TemporaryDirectory,
  pair: KeyPair,
  name = 'server',
): { readonly certFile: string; readonly keyFile: string } {
  const certFile = directory.file(`${name}.crt`);
  const keyFile = directory.file(`${name}.key`);
  writeFileSync(certFile, pair.cert, { mode: 0o644 });
  writeFileSync(keyFile, pair.key, { mode: 0o600 });
  return { certFile, keyFile };
}
