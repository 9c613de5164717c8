/**
 * A policy file of test/policies in a folder of its own, with all that it may name. Directives in its comments say
 * what is special:
 *
 *     # mode: tokens.yaml 0644        mode of a file ("policy" is the policy itself)
 *     # env: NAME=value               environment of the process
 *     # credentials: credentials      $CREDENTIALS_DIRECTORY, as a folder beside the policy
 *     # gateways: 192.168.1.1         this machine's default gateways; "unknown": the kernel does not say
 */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { generate } from 'selfsigned';
import { revocationList } from './revocation-lists.js';
import type { LoadOptions } from '../../src/policy/load.js';

/** test/policies, seen from dist/test/policy. */
export const POLICIES = fileURLToPath(new URL('../../../test/policies/', import.meta.url));

/** 22 November 2026. */
export const NOW = Date.UTC(2026, 10, 22);

export interface Fixture {
  readonly folder: string;
  readonly file: string;
  readonly options: LoadOptions;
  /** Text without the name of the temporary folder. */
  readonly clean: (text: string) => string;
  readonly remove: () => Promise<void>;
}

export async function preparePolicy(source: string): Promise<Fixture> {
  const text = await readFile(source, 'utf8');
  const folder = await mkdtemp(path.join(tmpdir(), 'guardbee-policy-'));
  for (const { name, content, mode } of await files()) {
    const full = path.join(folder, name);
    mkdirSync(path.dirname(full), { recursive: true });
    writeFileSync(full, content);
    chmodSync(full, mode);
  }
  // Node makes none itself, and a program run for each policy costs more than the policy.
  if (text.includes('fifo')) execFileSync('mkfifo', ['-m', '600', path.join(folder, 'fifo')]);
  const file = path.join(folder, path.basename(source));
  await writeFile(file, text);
  await chmod(file, 0o644);

  const env: NodeJS.ProcessEnv = { HOME: '/home/test' };
  let gateways: ReadonlySet<string> | null = new Set();
  for (const [, kind, value] of text.matchAll(/^# (mode|env|credentials|gateways): (.*)$/gm)) {
    if (kind === 'gateways') {
      gateways = value === 'unknown' ? null : new Set((value ?? '').split(' '));
      continue;
    }
    const [first = '', second = ''] = (value ?? '').split(kind === 'env' ? '=' : ' ', 2);
    if (kind === 'env') env[first] = second;
    else if (kind === 'credentials') env['CREDENTIALS_DIRECTORY'] = path.join(folder, first);
    else await chmod(first === 'policy' ? file : path.join(folder, first), Number.parseInt(second, 8));
  }
  return {
    folder,
    file,
    options: { env, now: NOW, lookup, gateways: () => Promise.resolve(gateways) },
    clean: (dirty) => dirty.replaceAll(`${folder}/`, ''),
    remove: async () => {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A network of its own, so that no test asks a name server. */
async function lookup(host: string): Promise<{ address: string }[]> {
  await Promise.resolve();
  if (host === 'queen-local') return [{ address: '127.0.0.1' }, { address: '::1' }];
  if (host === 'queen.lan') return [{ address: '127.0.0.1' }, { address: '192.168.1.10' }];
  throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
}

interface NamedFile {
  /** Path in the folder. */
  readonly name: string;
  readonly content: string | Buffer;
  readonly mode: number;
}

let all: Promise<readonly NamedFile[]> | undefined;

/** What each policy has beside it. Read once, and written at one go: there are hundreds of policies. */
function files(): Promise<readonly NamedFile[]> {
  all ??= (async () => {
    const folder = path.join(POLICIES, 'files');
    const written = readdirSync(folder, { recursive: true, encoding: 'utf8', withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.join(entry.parentPath, entry.name))
      .map((full) => [path.relative(folder, full), readFileSync(full)] as const);
    return [
      ...[...written, ...Object.entries(await certificates())].map(([name, content]) => ({
        name,
        content,
        mode: 0o600,
      })),
      ...['upstream-token', 'upstream.token'].map((name) => ({
        name: path.join('credentials', name),
        content: 'a-credential-of-systemd\n',
        mode: 0o440,
      })),
    ];
  })();
  return all;
}

let made: Promise<Record<string, string>> | undefined;

/** Made once, with dates around NOW; nothing that looks like a key lies in the repository. */
function certificates(): Promise<Record<string, string>> {
  made ??= (async () => {
    const pair = (from: number, to: number): ReturnType<typeof generate> =>
      generate([{ name: 'commonName', value: 'queen.lan' }], {
        keyType: 'ec',
        notBeforeDate: new Date(Date.UTC(from, 0)),
        notAfterDate: new Date(Date.UTC(to, 0)),
      });
    const authority = (
      name: string,
      from: number,
      to: number,
      ca?: { key: string; cert: string },
    ): ReturnType<typeof generate> =>
      generate([{ name: 'commonName', value: name }], {
        keyType: 'ec',
        algorithm: 'sha256',
        notBeforeDate: new Date(Date.UTC(from, 0)),
        notAfterDate: new Date(Date.UTC(to, 0)),
        ...(ca === undefined ? {} : { ca }),
        extensions: [
          { name: 'basicConstraints', cA: true, critical: true },
          { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
        ],
      });
    const [nodes, others, late] = await Promise.all([
      authority('nodes', 2025, 2036),
      authority('nodes', 2025, 2036),
      authority('late', 2020, 2021),
    ]);
    const below = await authority('below', 2025, 2036, { key: nodes.private, cert: nodes.cert });
    const [queen, other, expired] = await Promise.all([pair(2025, 2036), pair(2025, 2036), pair(2020, 2021)]);
    return {
      'queen.crt': queen.cert,
      'queen.key': queen.private,
      'other.key': other.private,
      'expired.crt': expired.cert,
      'expired.key': expired.private,
      'both.pem': `${queen.cert}\n${queen.private}`,
      ...tokenKeys(),
      'nodes-ca.pem': nodes.cert,
      'nodes-ca.crl': revocationList('nodes', nodes.private, Date.UTC(2030, 0)),
      'stale-ca.crl': revocationList('nodes', nodes.private, Date.UTC(2026, 0)),
      'other-ca.crl': revocationList('nodes', others.private, Date.UTC(2030, 0)),
      'two-ca.pem': `${nodes.cert}\n${others.cert}`,
      'below-ca.pem': below.cert,
      'below-ca.crl': revocationList('below', below.private, Date.UTC(2030, 0)),
      'expired-ca.pem': late.cert,
      'broken.crl': '-----BEGIN X509 CRL-----\nMIIBCDCB\n-----END X509 CRL-----\n',
      'broken.crt': 'this is no certificate\n',
      'encrypted.key':
        '-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n-----END ENCRYPTED PRIVATE KEY-----\n',
    };
  })();
  return made;
}

/** What a jwt authenticator may be told to verify with, and what it may not. */
function tokenKeys(): Record<string, string> {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const short = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const koblitz = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
  const pem = (key: typeof ec.publicKey): string => key.export({ type: 'spki', format: 'pem' }) as string;
  const jwk = (key: typeof ec.publicKey): object => key.export({ format: 'jwk' });
  const set = (...keys: readonly object[]): string => JSON.stringify({ keys });
  return {
    'ec.pem': pem(ec.publicKey),
    'rsa.pem': pem(rsa.publicKey),
    'two.pem': pem(ec.publicKey) + pem(rsa.publicKey),
    'short.pem': pem(short.publicKey),
    'koblitz.pem': pem(koblitz.publicKey),
    'private.pem': ec.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    'keys.json': set(
      { ...jwk(ec.publicKey), kid: 'a', use: 'sig' },
      { ...jwk(rsa.publicKey), kid: 'b', alg: 'RS256' },
      { ...jwk(rsa.publicKey), kid: 'c', use: 'enc' },
    ),
    'one-key.json': JSON.stringify(jwk(ec.publicKey)),
    'private.json': set(jwk(ec.privateKey)),
    'symmetric.json': set(jwk(ec.publicKey), { kty: 'oct', k: 'c2VjcmV0', kid: 'hunter2' }),
    'twice.json': '{"keys":[],"keys":[]}',
    'nothing.json': set({ ...jwk(rsa.publicKey), use: 'enc' }),
  };
}
