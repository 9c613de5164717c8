import { stat } from 'node:fs/promises';
import { type JwksFault, fetchJwks } from '../../identity/jwks.js';
import type { JwtAuthenticator, Policy } from '../../policy/policy.js';
import { LARGEST_KEY_SET, type VerificationKey } from '../../policy/verification-key.js';
import { count } from '../check.js';
import { askAdmin } from '../health.js';
import { judgeElsewhere } from './clock.js';
import { type Finding, failed, ok, warn } from './finding.js';
import { PROBE_MS } from './probe.js';

const DAY_MS = 86_400_000;

const FAULTS: Readonly<Record<JwksFault, { readonly why: string; readonly fix: string }>> = {
  unreachable: { why: 'it cannot be reached', fix: 'see that this machine reaches it (name, route, firewall)' },
  untrusted_certificate: {
    why: 'its certificate is not trusted here',
    fix: 'name its authority in NODE_EXTRA_CA_CERTS, or have its certificate renewed',
  },
  not_loopback: { why: 'it is plain HTTP, and not on this machine', fix: 'use https' },
  timeout: { why: 'it does not answer in time', fix: 'see what keeps it' },
  redirect: { why: 'it redirects, and no redirect is followed', fix: 'name the URL that it redirects to' },
  status: { why: 'its answer is not 200', fix: 'see that the URL is that of the key set (jwks_uri)' },
  encoded: { why: 'its answer is compressed, which was not asked for', fix: 'have it answer as it is asked' },
  too_large: {
    why: 'its answer is too large for a key set',
    fix: 'see that the URL is that of the key set (jwks_uri)',
  },
  no_keys: {
    why: 'its answer holds no key that can be used',
    fix: 'see that the URL is that of the key set (jwks_uri)',
  },
};

/** @param keysRead false: files were not to be read */
export async function lookAtJwks(
  policy: Policy,
  authenticator: JwtAuthenticator,
  keysRead: boolean,
  nowMs: number,
): Promise<Finding[]> {
  const check = `jwks ${authenticator.name}`;
  const { keys } = authenticator;
  if (keys.kind === 'file') {
    if (!keysRead) return [];
    const written = await stat(keys.file).catch(() => null);
    const age =
      written === null
        ? ''
        : `, written ${count(Math.max(0, Math.floor((nowMs - written.mtimeMs) / DAY_MS)), 'day')} ago`;
    return [judgeKeys(check, `${keys.file}${age}`, keys.keys, authenticator)];
  }
  // No name of its host: it may hold a user's name.
  const elsewhere: Finding[] = [];
  const asking = fetchJwks(keys.url, { timeoutMs: PROBE_MS - 200, bytes: LARGEST_KEY_SET }, (date) => {
    elsewhere.push(...judgeElsewhere(date, `the server of ${check}`, Date.now()));
  });
  const [fetched, inUse] = await Promise.all([asking.keys, keysInUse(policy, authenticator)]);
  return [
    fetched.ok
      ? judgeKeys(check, 'fetched', fetched.keys, authenticator)
      : failed(check, `its keys cannot be had: ${FAULTS[fetched.fault].why}`, FAULTS[fetched.fault].fix),
    ...inUse,
    ...elsewhere,
  ];
}

function judgeKeys(
  check: string,
  where: string,
  keys: readonly VerificationKey[],
  { algorithms }: JwtAuthenticator,
): Finding {
  const usable = keys.filter((key) => key.algorithms.some((one) => algorithms.includes(one))).length;
  const said = `${where}: ${count(keys.length, 'key')}, ${String(usable)} of them for ${algorithms.join(', ')}`;
  return usable > 0
    ? ok(check, said)
    : failed(check, said, 'write into algorithms what the issuer signs with, or take the keys from where it has them');
}

/** What the guardbee that runs says of its own: only it knows how old they are. */
async function keysInUse({ admin }: Policy, { name }: JwtAuthenticator): Promise<Finding[]> {
  if (admin === null || admin.port === 0) return [];
  const answer = await askAdmin(admin, '/readyz');
  if (answer.kind === 'silent') return [];
  const found = memberOf(memberOf(answer.body, 'checks'), `jwks:${name}`);
  const [status, detail] = [memberOf(found, 'status'), memberOf(found, 'detail')];
  if (typeof detail !== 'string') return [];
  const check = `jwks ${name}`;
  const said = `those of the running guardbee: ${detail.slice(0, 200)}`;
  const fix = 'see why they cannot be fetched from where it runs';
  if (status === 'failed') return [failed(check, said, fix)];
  return [status === 'ok' ? ok(check, said) : warn(check, said, fix)];
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}
