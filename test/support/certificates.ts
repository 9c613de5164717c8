import { createPublicKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import {
  bitString,
  explicit,
  implicit,
  integer,
  objectIdentifier,
  octetString,
  sequence,
  set,
  time,
  utf8String,
  yes,
} from '../../src/acme/der.js';
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

const YEAR_MS = 365 * 86_400_000;
const ECDSA_WITH_SHA256 = sequence(objectIdentifier('1.2.840.10045.4.3.2'));
const SERVER_AUTH = objectIdentifier('1.3.6.1.5.5.7.3.1');
const CLIENT_AUTH = objectIdentifier('1.3.6.1.5.5.7.3.2');
// Bits are counted from the left, and the first byte says how many at the end are none (X.690 §8.6).
const DIGITAL_SIGNATURE = Buffer.from([0x03, 2, 7, 0b1000_0000]);
const CERT_AND_CRL_SIGN = Buffer.from([0x03, 2, 1, 0b0000_0110]);

interface Named {
  readonly name: string;
  readonly key: KeyObject;
}

/** A throw-away certificate authority. Keys are P-256: making one takes less than a millisecond. */
export class TestAuthority {
  readonly #named: Named;
  /** PEM of the authority's own certificate: the `ca` of a client. */
  readonly ca: string;

  private constructor(named: Named) {
    this.#named = named;
    this.ca = certificate(named, named, {}, [
      extension('2.5.29.19', sequence(yes()), 'critical'),
      extension('2.5.29.15', CERT_AND_CRL_SIGN, 'critical'),
    ]);
  }

  static async create(commonName = 'guardbee test authority'): Promise<TestAuthority> {
    return new TestAuthority({ name: commonName, key: freshKey() });
  }

  async issue(options: IssueOptions = {}): Promise<KeyPair> {
    const names = options.names ?? LOCAL_NAMES;
    const holder = { name: options.commonName ?? names[0] ?? 'nobody', key: freshKey() };
    const cert = certificate(holder, this.#named, options, [
      extension('2.5.29.19', sequence(), 'critical'),
      extension('2.5.29.15', DIGITAL_SIGNATURE, 'critical'),
      extension('2.5.29.37', sequence(options.usage === 'client' ? CLIENT_AUTH : SERVER_AUTH)),
      extension('2.5.29.17', sequence(...names.map(generalName))),
    ]);
    return { cert, key: holder.key.export({ type: 'pkcs8', format: 'pem' }) as string };
  }
}

const freshKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

/** Written here, since to load a library for it takes longer than most tests do. */
function certificate(
  holder: Named,
  issuer: Named,
  { notBefore = new Date(), notAfter = new Date(notBefore.getTime() + YEAR_MS) }: IssueOptions,
  extensions: readonly Buffer[],
): string {
  const content = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(randomBytes(16)),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer.name),
    sequence(time(notBefore), time(notAfter)),
    distinguishedName(holder.name),
    createPublicKey(holder.key).export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...extensions)),
  );
  const signed = sequence(content, ECDSA_WITH_SHA256, bitString(sign('sha256', content, issuer.key)));
  const lines = signed.toString('base64').match(/.{1,64}/g) ?? [];
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}

function distinguishedName(commonName: string): Buffer {
  return sequence(set(sequence(objectIdentifier('2.5.4.3'), utf8String(commonName))));
}

function extension(id: string, value: Buffer, critical?: 'critical'): Buffer {
  return sequence(objectIdentifier(id), ...(critical === undefined ? [] : [yes()]), octetString(value));
}

function generalName(name: string): Buffer {
  return isIP(name) === 0 ? implicit(2, Buffer.from(name, 'latin1')) : implicit(7, addressBytes(name));
}

function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [before = '', after] = address.split('::');
  const groups = (text = ''): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const [left, right] = [groups(before), groups(after)];
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
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
