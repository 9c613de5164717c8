/** Each check of doctor, with the thing itself broken. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statfsSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { type TestContext, test } from 'node:test';
import { judgeElsewhere, judgeJump } from '../../src/cli/doctor/clock.js';
import type { Finding } from '../../src/cli/doctor/finding.js';
import { lookAtProcesses } from '../../src/cli/doctor/processes.js';
import { lookAtSurroundings } from '../../src/cli/doctor/surroundings.js';
import { loadPolicy } from '../../src/policy/load.js';
import type { Policy } from '../../src/policy/policy.js';
import { TestAuthority, testCertificates, writeKeyPair } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { OpensslAuthority, certificatesOf } from '../support/openssl-authority.js';
import {
  type PolicyValue,
  type SimplePolicyOptions,
  simplePolicy,
  tokenPair,
  writeFileIn,
  writePolicy,
} from '../support/policy-builder.js';
import { GUARDBEE_ENTRY, WatchedProcess, startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { KeyServer, issuerKey, jwkOf } from '../support/token-issuer.js';
import { perform } from './in-process.js';

async function doctor(file: string): Promise<readonly Finding[]> {
  const { stdout, stderr, code } = await perform('doctor', file, '--json');
  assert.equal(stderr, '');
  const findings = JSON.parse(stdout) as Finding[];
  for (const one of findings) assert.equal(one.fix === null, one.status === 'ok', JSON.stringify(one));
  assert.equal(code, findings.some(({ status }) => status === 'failed') ? 1 : 0);
  return findings;
}

const brief = (findings: readonly Finding[], check: string): string[] =>
  findings.filter((one) => one.check === check).map(({ status, detail }) => `${status}: ${detail}`);

/** One finding of this check says this, with this status. */
function assertSaid(findings: readonly Finding[], check: string, status: Finding['status'], detail: RegExp): Finding {
  const found = findings.find((one) => one.check === check && one.status === status && detail.test(one.detail));
  assert.ok(found, `${status} ${check} ${String(detail)}: ${JSON.stringify(findings, null, 1)}`);
  return found;
}

function policyIn(
  folder: TemporaryDirectory,
  changes: Partial<SimplePolicyOptions> = {},
): Readonly<Record<string, PolicyValue>> {
  return simplePolicy({
    upstream: 'http://127.0.0.1:1',
    tokens: [{ name: 'keeper', sha256: tokenPair().sha256, roles: ['operator', 'viewer'] }],
    stateDir: folder.file('state'),
    ...changes,
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const DAY_MS = 86_400_000;

test('a certificate with five days left is a failure, and a key of another one too', async (t) => {
  const folder = new TemporaryDirectory(t);
  const authority = await TestAuthority.create();
  const soon = await authority.issue({ notAfter: new Date(Date.now() + 5.5 * DAY_MS) });
  writeKeyPair(folder, soon);
  const file = writePolicy(folder, policyIn(folder, { listener: { tls: { cert: 'server.crt', key: 'server.key' } } }));
  assertSaid(await doctor(file), 'certificate main', 'failed', /server\.crt has 5 days left$/);

  writeFileIn(folder, 'server.key', (await authority.issue()).key);
  assertSaid(await doctor(file), 'policy', 'failed', /the private key is not that of the certificate/);
});

test('a chain in the wrong order, without its middle, and of itself alone', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  const folder = new TemporaryDirectory(t);
  const root = OpensslAuthority.root(openssl, folder.file('root'));
  const middle = root.intermediate('middle');
  const server = { usage: 'serverAuth', san: 'DNS:localhost', days: 90 } as const;
  const own = middle.issue('own', server);
  const open = middle.issue('open', { ...server, issuerAt: 'http://ca.example/middle.der' });
  const policy = policyIn(folder, {
    listener: { tls: { cert: 'server.crt', key: 'server.key' }, hosts: ['localhost'] },
  });
  const file = writePolicy(folder, policy);
  const said = async (chain: readonly { readonly cert: string }[], key: string): Promise<readonly Finding[]> => {
    writeFileIn(folder, 'server.crt', certificatesOf(...chain), 0o644);
    writeFileIn(folder, 'server.key', readFileSync(key, 'utf8'));
    return (await doctor(file)).filter(({ check }) => check === 'certificate main');
  };
  assert.deepEqual(
    (await said([own, middle, root], own.key)).map(({ status }) => status),
    // The middle one has 20 days, the root 30.
    ['ok', 'warn', 'warn'],
  );
  assertSaid(
    await said([own, root], own.key),
    'certificate main',
    'failed',
    /certificate 2, has not issued the one before it/,
  );
  assertSaid(
    await said([own, root, middle], own.key),
    'certificate main',
    'failed',
    /certificate 2, has not issued the one before it/,
  );
  // Clients of a private authority may know the one in the middle; of a public one nobody does.
  assert.deepEqual(
    (await said([own], own.key)).map(({ status }) => status),
    ['ok'],
  );
  assertSaid(await said([open], open.key), 'certificate main', 'warn', /holds no intermediate/);
  assertSaid(await said([root], root.key), 'certificate main', 'ok', /is self-signed, so clients must be told/);
});

test('keys of an issuer: usable ones, others, none, and a server that does not answer', async (t) => {
  const folder = new TemporaryDirectory(t);
  await using server = await KeyServer.start([jwkOf(issuerKey('k', 'P-256'))]);
  const sso = { type: 'jwt', issuer: 'i', audience: 'a', jwks: { url: server.url }, algorithms: ['ES256'] };
  const file = writePolicy(folder, policyIn(folder, { top: { authenticators: { keys: sso } } }));
  const said = async (): Promise<string[]> => brief(await doctor(file), 'jwks keys');
  assert.deepEqual(await said(), ['ok: fetched: 1 key, 1 of them for ES256']);
  server.answer = KeyServer.keys([jwkOf(issuerKey('k', 'P-384')), jwkOf(issuerKey('l', 'Ed25519'))]);
  assert.deepEqual(await said(), ['failed: fetched: 2 keys, 0 of them for ES256']);
  server.answer = (response) => response.writeHead(404).end();
  assert.deepEqual(await said(), ['failed: its keys cannot be had: its answer is not 200']);
  server.answer = (response) => response.end('<html>');
  assert.deepEqual(await said(), ['failed: its keys cannot be had: its answer holds no key that can be used']);

  // Another clock.
  const hourAgo = new Date(Date.now() - 3_600_000).toUTCString();
  server.answer = (response) => {
    response.setHeader('date', hourAgo);
    KeyServer.keys([jwkOf(issuerKey('k', 'P-256'))])(response);
  };
  assertSaid(await doctor(file), 'clock', 'warn', /^the server of jwks keys is 36\d\d s behind$/);

  server.answer = () => undefined;
  const began = performance.now();
  assert.deepEqual(await said(), ['failed: its keys cannot be had: it does not answer in time']);
  assert.ok(performance.now() - began < 5000, 'bounded');
  await server.close();
  assert.deepEqual(await said(), ['failed: its keys cannot be had: it cannot be reached']);
});

test('keys in a file, and those that the running guardbee has', async (t) => {
  const folder = new TemporaryDirectory(t);
  writeFileIn(folder, 'keys.json', JSON.stringify({ keys: [jwkOf(issuerKey('k', 'P-256'))] }));
  await using server = await KeyServer.start();
  server.answer = (response) => response.writeHead(500).end();
  const sso = { type: 'jwt', issuer: 'i', audience: 'a' };
  const admin = `127.0.0.1:${String(await freePort())}`;
  const policy = policyIn(folder, {
    bind: `127.0.0.1:${String(await freePort())}`,
    top: {
      admin: { bind: admin },
      authenticators: {
        keys: { ...sso, jwks: { file: 'keys.json' }, algorithms: ['ES256'] },
        url: { ...sso, issuer: 'j', jwks: { url: server.url } },
      },
    },
    listener: { authenticate: ['keys', 'url'] },
  });
  const file = writePolicy(folder, policy);
  await using guardbee = startGuardbee({ args: ['run', '--policy', file] });
  await guardbee.waitForLog((line) => line['msg'] === 'ready', 30_000);
  const findings = await doctor(file);
  assertSaid(findings, 'jwks keys', 'ok', /keys\.json, written 0 days ago: 1 key, 1 of them for ES256$/);
  assertSaid(findings, 'jwks url', 'failed', /^those of the running guardbee: never loaded/);
  assertSaid(findings, 'ready', 'failed', /answers 503: jwks:url \(never loaded[^)]*\)$/);
});

test('files that others may change, and folders above them', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { server } = await testCertificates();
  mkdirSync(folder.file('etc'), { recursive: true, mode: 0o755 });
  mkdirSync(folder.file('state'), { mode: 0o700 });
  mkdirSync(folder.file('state/tls'), { mode: 0o700 });
  writeKeyPair(folder, server);
  const policy = policyIn(folder, {
    listener: { tls: { cert: '../server.crt', key: '../server.key' } },
    top: { log: { file: folder.file('guardbee.log') } },
  });
  const file = writePolicy(folder, policy, 'etc/policy.yaml');
  writeFileIn(folder, 'guardbee.log', '');
  writeFileIn(folder, 'state/quotas.ndjson', '');
  writeFileIn(folder, 'state/tls/self-signed.crt', '', 0o644);
  const before = await doctor(file);
  assertSaid(before, 'policy', 'ok', /policy\.yaml has mode 0644$/);
  assertSaid(before, 'file', 'ok', /^2 files fine: .*server\.crt 0644, .*guardbee\.log 0600$/);
  assertSaid(before, 'state', 'ok', /has mode 0700, and so has what is in it$/);

  chmodSync(folder.file('server.crt'), 0o666);
  chmodSync(folder.file('guardbee.log'), 0o620);
  chmodSync(folder.file('etc'), 0o777);
  chmodSync(folder.file('state/quotas.ndjson'), 0o640);
  const after = await doctor(file);
  assert.match(
    assertSaid(after, 'file', 'failed', /server\.crt: everyone may change it \(mode 0666\)/).fix ?? '',
    /^chmod go-w /,
  );
  assertSaid(after, 'file', 'failed', /guardbee\.log: its group may change it/);
  assertSaid(after, 'policy', 'failed', /everyone may write to the folder .*etc, and so put another file in its place/);
  const state = assertSaid(after, 'state', 'failed', /^others may read or change .*state\/quotas\.ndjson$/);
  assert.match(state.fix ?? '', /^chmod -R go-rwx .*state$/);

  await t.test('and of another user', { skip: process.geteuid?.() !== 0 && 'only root gives files away' }, async () => {
    chmodSync(folder.file('state/quotas.ndjson'), 0o600);
    chownSync(folder.file('state/quotas.ndjson'), 4711, 4711);
    chownSync(folder.file('server.crt'), 4711, 4711);
    const foreign = await doctor(file);
    assertSaid(foreign, 'state', 'failed', /quotas\.ndjson does not belong to user 0, who has the folder/);
    assertSaid(foreign, 'file', 'warn', /server\.crt belongs to user 4711, who is neither root nor/);
  });
});

test('a clock that was set back: what was written since then is in the future', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder));
  mkdirSync(folder.file('state'), { mode: 0o700 });
  writeFileIn(folder, 'state/quotas.ndjson', '');
  const later = Date.now() / 1000 + 3600;
  utimesSync(folder.file('state/quotas.ndjson'), later, later);
  assertSaid(await doctor(file), 'clock', 'failed', /and .*state\/quotas\.ndjson was written after that, at 20/);
});

test('a clock that is set while it is looked at, and that of another machine', () => {
  assert.deepEqual(judgeJump(1500, 1400), []);
  assert.match(judgeJump(62_000, 1400)[0]?.detail ?? '', /^it went forward by 61 s/);
  assert.match(judgeJump(-58_000, 1400)[0]?.detail ?? '', /^it went back by 59 s/);
  const now = Date.parse('2026-11-23T12:00:00Z');
  assert.deepEqual(judgeElsewhere('Mon, 23 Nov 2026 12:00:20 GMT', 'x', now), []);
  assert.deepEqual(judgeElsewhere('yesterday', 'x', now), []);
  assert.match(judgeElsewhere('Mon, 23 Nov 2026 12:02:00 GMT', 'x', now)[0]?.detail ?? '', /^x is 120 s ahead$/);
});

test('a guardbee that may open too few files, seen from a doctor that may open more', async (t) => {
  if (process.platform !== 'linux') return;
  const folder = new TemporaryDirectory(t);
  const bind = `127.0.0.1:${String(await freePort())}`;
  const file = writePolicy(folder, policyIn(folder, { bind, listener: { limits: { connections: 400 } } }));
  await using guardbee = new WatchedProcess('sh', [
    '-c',
    'ulimit -n 500; ulimit -c 0; exec "$0" "$@"',
    process.execPath,
    GUARDBEE_ENTRY,
    ...['run', '--policy', file],
  ]);
  await guardbee.waitForLog((line) => line['msg'] === 'ready', 30_000);
  const findings = await doctor(file);
  const finding = assertSaid(findings, 'open files', 'warn', /^500 may be open, 864 are needed for 400 connections/);
  assert.match(finding.fix ?? '', /LimitNOFILE=864/);
  assertSaid(findings, 'core dumps', 'ok', /none/);
});

const HARD_LIMITS = (core: string, files: string): string =>
  [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    `Max core file size        ${core}            unlimited            bytes     `,
    `Max open files            ${files}               524288               files     `,
  ].join('\n');

/** A machine, as far as it is looked at: files of /proc as Linux writes them. */
function machine(t: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = new TemporaryDirectory(t);
  for (const [name, text] of Object.entries(files)) writeFileIn(folder, name, text);
  return folder.path;
}

async function loaded(t: TestContext): Promise<Policy> {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder));
  const found = await loadPolicy(file, { env: {}, now: Date.now(), skipSecretFiles: false });
  assert.ok(found.ok);
  return found.policy;
}

const process42 = (facts: {
  readonly uid: number;
  readonly capabilities: string;
  readonly tight: boolean;
  readonly mount: string;
  readonly cgroup: string;
  readonly environment?: string;
}): Record<string, string> => ({
  'proc/42/status': [
    'Name:\tnode',
    'PPid:\t1',
    `Uid:\t${String(facts.uid)}\t${String(facts.uid)}\t${String(facts.uid)}\t${String(facts.uid)}`,
    `CapBnd:\t${facts.capabilities}`,
    `NoNewPrivs:\t${facts.tight ? '1' : '0'}`,
    `Seccomp:\t${facts.tight ? '2' : '0'}`,
    '',
  ].join('\n'),
  'proc/42/limits': HARD_LIMITS(facts.tight ? '0' : 'unlimited', '65536'),
  'proc/42/cgroup': facts.cgroup,
  'proc/42/mountinfo': `22 1 254:1 / / ${facts.mount},relatime shared:1 - ext4 /dev/vda1 rw\n23 22 0:21 / /proc rw - proc proc rw\n`,
  'proc/42/environ': facts.environment ?? 'LANG=C\0',
});

const RUNNING = { pid: 42, version: '0123456789ab' };

test('a service of systemd that is not held tight is told what is missing', async (t) => {
  const policy = await loaded(t);
  const unit = '0::/system.slice/guardbee.service\n';
  const loose = machine(t, {
    ...process42({ uid: 0, capabilities: '000001ffffffffff', tight: false, mount: 'rw', cgroup: unit }),
    'run/systemd/system/x': '',
  });
  const said = await lookAtSurroundings(policy, RUNNING, loose);
  assertSaid(
    said,
    'service',
    'warn',
    /^guardbee\.service goes without NoNewPrivileges=yes, SystemCallFilter=, CapabilityBoundingSet=, ProtectSystem=strict$/,
  );
  assertSaid(said, 'core dumps', 'warn', /tokens and keys/);
  assertSaid(said, 'user', 'warn', /runs as root/);
  assertSaid(said, 'credentials', 'ok', /none come by LoadCredential=/);

  const tight = machine(t, {
    ...process42({
      uid: 61234,
      capabilities: '0000000000000400',
      tight: true,
      mount: 'ro',
      cgroup: unit,
      environment: 'CREDENTIALS_DIRECTORY=/run/credentials/guardbee.service\0HOME=/\0',
    }),
    'run/systemd/system/x': '',
  });
  const fine = await lookAtSurroundings(policy, RUNNING, tight);
  assert.deepEqual(
    fine.filter(({ status }) => status !== 'ok'),
    [],
  );
  assertSaid(fine, 'credentials', 'ok', /in \/run\/credentials\/guardbee\.service$/);
  assertSaid(fine, 'user', 'ok', /user 61234$/);

  const bare = machine(t, {
    ...process42({
      uid: 1000,
      capabilities: '0',
      tight: true,
      mount: 'ro',
      cgroup: '0::/user.slice/session-1.scope\n',
    }),
    'run/systemd/system/x': '',
  });
  assertSaid(await lookAtSurroundings(policy, RUNNING, bare), 'service', 'skipped', /no unit of systemd runs it/);
});

test('more processes than cores, those counted that a quota leaves', async (t) => {
  const unit = 'sys/fs/cgroup/system.slice/guardbee.service/cpu.max';
  const cgroup = { 'proc/42/cgroup': '0::/system.slice/guardbee.service\n' };
  const one = machine(t, { ...cgroup, [unit]: '150000 100000\n' });
  const finding = assertSaid(
    await lookAtProcesses({ processes: 2 }, RUNNING, one),
    'processes',
    'warn',
    /^the policy asks for 2, and there is one core: /,
  );
  assert.match(finding.fix ?? '', /^processes: auto, or a quota of 2 cores/);
  assertSaid(await lookAtProcesses({ processes: 1 }, RUNNING, one), 'processes', 'ok', /^the policy asks for 1, and/);
  assertSaid(await lookAtProcesses({ processes: 'auto' }, RUNNING, one), 'processes', 'ok', /^auto is 1 here: /);
  // That of a cgroup above holds as well, and less than one core is one process all the same.
  const above = machine(t, { ...cgroup, [unit]: 'max 100000\n', 'sys/fs/cgroup/cpu.max': '50000 100000\n' });
  assertSaid(await lookAtProcesses({ processes: 'auto' }, RUNNING, above), 'processes', 'ok', /^auto is 1 here: /);
  const cores = availableParallelism();
  for (const files of [cgroup, { ...cgroup, [unit]: 'max 100000\n' }, {}]) {
    const [found] = await lookAtProcesses({ processes: 'auto' }, RUNNING, machine(t, files));
    assert.match(found?.detail ?? '', new RegExp(`^auto is ${String(cores)} here: `));
  }
  const folder = new TemporaryDirectory(t);
  const many = writePolicy(folder, policyIn(folder, { top: { processes: 64 } }));
  if (cores < 64) assertSaid(await doctor(many), 'processes', 'warn', /^the policy asks for 64, and there /);
});

test('a container that can be written to, and whose first process is a shell', async (t) => {
  const policy = await loaded(t);
  const facts = { uid: 1000, capabilities: '0', tight: true, cgroup: '0::/\n' };
  const loose = machine(t, {
    ...process42({ ...facts, mount: 'rw' }),
    '.dockerenv': '',
    'proc/1/comm': 'sh\n',
  });
  const said = await lookAtSurroundings(policy, RUNNING, loose);
  assertSaid(said, 'container', 'warn', /^its file system can be written to$/);
  assertSaid(said, 'container', 'warn', /^process 1 is sh, which passes no SIGTERM on/);
  const tight = machine(t, {
    ...process42({ ...facts, mount: 'ro' }),
    'run/.containerenv': '',
    'proc/1/comm': 'tini\n',
  });
  assert.deepEqual(brief(await lookAtSurroundings(policy, RUNNING, tight), 'container'), [
    'ok: its file system cannot be written to',
  ]);
  const elsewhere = machine(t, process42({ ...facts, mount: 'rw' }));
  assert.deepEqual(brief(await lookAtSurroundings(policy, RUNNING, elsewhere), 'container'), []);
});

test('an audit trail: whole, changed, open to others, of somebody else, and on a disk without room', async (t) => {
  const folder = new TemporaryDirectory(t);
  const bind = `127.0.0.1:${String(await freePort())}`;
  const top = (changes: PolicyValue = {}, stateDir = 'state'): Readonly<Record<string, PolicyValue>> => ({
    state: { dir: folder.file(stateDir) },
    audit: { dir: folder.file('audit'), ...(changes as object) },
  });
  const tokens = [{ name: 'keeper', sha256: tokenPair().sha256, roles: ['operator', 'viewer'] }];
  const file = writePolicy(folder, policyIn(folder, { bind, tokens, top: top() }));
  const other = writePolicy(folder, policyIn(folder, { tokens, top: top({}, 'other-state') }), 'other.yaml');
  assertSaid(await doctor(file), 'audit directory', 'ok', /is made at the first start$/);

  const guardbee = startGuardbee({ args: ['run', '--policy', file] });
  t.after(() => guardbee.stop());
  await guardbee.waitForLog((line) => line['msg'] === 'ready', 30_000);
  for (let asked = 0; asked < 20; asked++) assert.equal((await fetch(`http://${bind}/x`)).status, 401);
  const running = await doctor(file);
  assertSaid(running, 'audit directory', 'ok', /audit has mode 0700, and so has what is in it$/);
  assertSaid(running, 'audit directory', 'ok', /^the guardbee that runs writes there$/);
  assertSaid(running, 'audit disk', 'ok', /MiB free/);
  assertSaid(running, 'audit chain', 'ok', /^whole: \d\d records in 1 segment/);
  assertSaid(await doctor(other), 'audit directory', 'warn', /no guardbee answers that has this state directory/);
  await guardbee.kill('SIGTERM');
  assertSaid(await doctor(file), 'audit chain', 'ok', /^whole: \d\d records in 1 segment, signed \d+ s ago$/);

  const [name] = readdirSync(folder.file('audit')).filter((one) => one.endsWith('.ndjson'));
  const segment = folder.file(`audit/${name ?? ''}`);
  const good = readFileSync(segment, 'utf8');
  chmodSync(segment, 0o644);
  writeFileSync(segment, good.replace('"action":"GET"', '"action":"PUT"'));
  const changed = await doctor(file);
  assertSaid(changed, 'audit chain', 'failed', /^broken: .*\.ndjson line \d+/);
  assertSaid(changed, 'audit directory', 'failed', /^others may read or change .*\.ndjson$/);

  // The last lines are gone: what is left is a whole chain, and shorter than the state directory remembers.
  chmodSync(segment, 0o600);
  writeFileSync(segment, `${good.split('\n').slice(0, 5).join('\n')}\n`);
  assertSaid(await doctor(file), 'audit chain', 'failed', /^broken: /);

  writeFileSync(segment, good);
  const { bavail, bsize } = statfsSync(folder.path);
  const freeMiB = Math.ceil((bavail * bsize) / 1024 / 1024);
  await t.test(
    'without room',
    { skip: freeMiB > 900_000 && 'this disk has more room than may be kept free' },
    async () => {
      const min_free = `${String(freeMiB + 100_000)}MiB`;
      const large = writePolicy(folder, policyIn(folder, { bind, tokens, top: top({ min_free }) }), 'large.yaml');
      assertSaid(await doctor(large), 'audit disk', 'failed', /are kept free \(audit\.min_free\)$/);
    },
  );
});
