import assert from 'node:assert/strict';
import { chmodSync, mkdirSync } from 'node:fs';
import { type RequestListener, Server as HttpServer, createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, type Server, createServer as createTcpServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { judgeNode } from '../../src/cli/node-line.js';
import { TestAuthority, testCertificates, writeKeyPair } from '../support/certificates.js';
import {
  simplePolicy,
  tokenPair,
  writePolicy,
  writeTokens,
  type PolicyValue,
  type SimplePolicyOptions,
} from '../support/policy-builder.js';
import { startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const NODES: readonly {
  readonly version: string;
  readonly at: string;
  readonly level: string;
  readonly says: RegExp;
}[] = [
  { version: '18.20.4', at: '2026-01-15', level: 'fail', says: /older than 20\.18\.1/ },
  { version: '20.18.0', at: '2026-01-15', level: 'fail', says: /older than 20\.18\.1/ },
  { version: '20.18.1', at: '2026-01-15', level: 'ok', says: /until 2026-04-30/ },
  { version: '20.18.1', at: '2026-02-15', level: 'warn', says: /until 2026-04-30 only/ },
  { version: '20.20.2', at: '2026-04-30', level: 'warn', says: /until 2026-04-30 only/ },
  { version: '20.20.2', at: '2026-05-01', level: 'fail', says: /no security fixes since 2026-04-30/ },
  { version: '21.7.3', at: '2026-05-01', level: 'warn', says: /not of a long-term line/ },
  { version: '22.12.0', at: '2026-11-22', level: 'ok', says: /until 2027-04-30/ },
  { version: '22.12.0', at: '2027-05-01', level: 'fail', says: /since 2027-04-30/ },
  { version: '24.0.0', at: '2026-11-22', level: 'ok', says: /until 2028-04-30/ },
  { version: '26.1.0', at: '2026-11-22', level: 'ok', says: /^Node 26\.1\.0$/ },
];

for (const { version, at, level, says } of NODES) {
  test(`Node ${version} on ${at}: ${level}`, () => {
    const verdict = judgeNode(version, Date.parse(at));
    assert.equal(verdict.level, level);
    assert.match(verdict.message, says);
    assert.equal(verdict.fix === null, level === 'ok');
    if (at === '2026-05-01') assert.equal(verdict.fix, 'install Node 24');
  });
}

interface Check {
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly message: string;
  readonly fix: string | null;
}

/** What doctor finds, without what it says of the machine that the tests run on. */
async function doctor(file: string): Promise<{ readonly code: number; readonly checks: readonly Check[] }> {
  const { code, stdout, stderr } = await perform('doctor', file, '--json');
  assert.equal(stderr, '');
  const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] };
  assert.equal(code, ok ? 0 : 1);
  for (const { check, level, fix, message } of checks) {
    // Of the policy's own issues some say all in the message: what was found, and what is allowed.
    if (level === 'fail' && !['policy', 'bind', 'secret'].includes(check)) assert.notEqual(fix, null, message);
  }
  return { code, checks: checks.filter(({ check }) => check !== 'node' && check !== 'clock') };
}

const of = (checks: readonly Check[], check: string): Check => {
  const found = checks.find((one) => one.check === check);
  assert.ok(found, `nothing is said of ${check}: ${JSON.stringify(checks)}`);
  return found;
};

async function portOf(t: TestContext, server: Server, host = '127.0.0.1'): Promise<number> {
  t.after(() => {
    server.close();
    if (server instanceof HttpServer) server.closeAllConnections();
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as AddressInfo).port;
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

test('each check is one line, and a failed one sets the exit code', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { stdout, code } = await perform('doctor', writePolicy(folder, policyIn(folder)));
  const lines = stdout.trimEnd().split('\n');
  for (const line of lines) assert.match(line, /^(ok {2}|warn|FAIL) [a-z]+( \S+)?: .+$/);
  for (const line of lines) if (line.startsWith('FAIL')) assert.match(line, /; fix: /);
  assert.equal(code, lines.some((line) => line.startsWith('FAIL')) ? 1 : 0);
});

test('without a policy the machine is looked at', async () => {
  const { stdout } = await perform('doctor');
  assert.match(stdout, /^(ok {2}|warn|FAIL) node: Node /m);
  assert.match(stdout, /^(ok {2}|warn) clock: it says 20/m);
  assert.match(stdout, /^warn policy: none was named/m);
});

test('what is wrong with a policy is told with its place', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { code, checks } = await doctor(writePolicy(folder, 'version: 1\nlisteners: {}\nadmn: {}\n'));
  assert.equal(code, 1);
  assert.ok(
    checks.some(({ level, message }) => level === 'fail' && message.includes('policy.yaml:3:1 admn: unknown key')),
  );
});

test('files that are too open are failures, with the fix', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(
    folder,
    policyIn(folder, { top: { authenticators: { keys: { type: 'bearer', tokens_file: 'tokens.yaml' } } } }),
  );
  writeTokens(folder, [{ name: 'keeper', sha256: tokenPair().sha256, roles: ['viewer', 'operator'] }]);
  mkdirSync(folder.file('state'), { mode: 0o700 });
  const before = await doctor(file);
  assert.match(of(before.checks, 'secret').message, /1 file fine: .*tokens\.yaml 0600$/);
  assert.equal(of(before.checks, 'state').level, 'ok');

  chmodSync(folder.file('tokens.yaml'), 0o644);
  chmodSync(folder.file('state'), 0o755);
  const after = await doctor(file);
  assert.equal(after.code, 1);
  const secret = of(after.checks, 'secret');
  assert.equal(secret.level, 'fail');
  assert.match(secret.message, /tokens_file: .*everyone may read it/);
  assert.match(secret.fix ?? '', /^chmod 600 /);
  assert.equal(of(after.checks, 'state').fix, `chmod 700 ${folder.file('state')}`);
  // The rest is looked at all the same.
  of(after.checks, 'refusal main');

  chmodSync(file, 0o666);
  const writable = await doctor(file);
  assert.ok(
    writable.checks.some(({ level, message }) => level === 'fail' && message.includes('everyone may change it')),
  );
});

test('a failing policy test is a failure', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { checks } = await doctor(
    writePolicy(folder, policyIn(folder, { top: { tests: [{ request: 'GET /x', expect: 'allow' }] } })),
  );
  assert.equal(of(checks, 'test').level, 'fail');
});

const DAY_MS = 86_400_000;

test('certificates are judged by their days, and by the hosts they must name', async (t) => {
  const folder = new TemporaryDirectory(t);
  const authority = await TestAuthority.create();
  const verdicts = [
    { days: 100, level: 'ok', says: /has 99 days left|has 100 days left/ },
    { days: 20, level: 'warn', says: /days left/ },
    { days: -1, level: 'fail', says: /has expired on/ },
  ] as const;
  for (const { days, level, says } of verdicts) {
    const pair = await authority.issue({
      names: ['*.lan'],
      notBefore: new Date(Date.now() - 30 * DAY_MS),
      notAfter: new Date(Date.now() + days * DAY_MS),
    });
    writeKeyPair(folder, pair);
    const listener = { tls: { cert: 'server.crt', key: 'server.key' }, hosts: ['queen.lan', 'queen.example'] };
    const { checks } = await doctor(writePolicy(folder, policyIn(folder, { listener })));
    const [dates, names] = checks.filter(({ check }) => check === 'certificate main');
    assert.equal(dates!.level, level);
    assert.match(dates!.message, says);
    assert.equal(names!.level, 'warn');
    assert.match(names!.message, /no certificate names queen\.example,/);
  }
});

test('an upstream is looked for, and where it listens', async (t) => {
  const folder = new TemporaryDirectory(t);
  const here = await portOf(t, createTcpServer());
  const up = await doctor(writePolicy(folder, policyIn(folder, { upstream: `http://127.0.0.1:${String(here)}` })));
  assert.equal(of(up.checks, `upstream 127.0.0.1:${String(here)}`).level, 'ok');
  const down = await doctor(writePolicy(folder, policyIn(folder)));
  assert.match(of(down.checks, 'upstream 127.0.0.1:1').message, /ECONNREFUSED/);
  if (process.platform !== 'linux') return;
  assert.equal(of(up.checks, `exposure 127.0.0.1:${String(here)}`).level, 'ok');
  assert.equal(of(down.checks, 'exposure 127.0.0.1:1').level, 'warn');
  const open = await portOf(t, createTcpServer(), '0.0.0.0');
  const upstream = `http://127.0.0.1:${String(open)}`;
  const levels = [
    ['refuse', 'fail'],
    ['warn', 'warn'],
    [{ firewalled: 'nft' }, 'ok'],
  ] as const;
  for (const [upstream_exposure, level] of levels) {
    const { checks } = await doctor(writePolicy(folder, policyIn(folder, { upstream, top: { upstream_exposure } })));
    assert.equal(of(checks, `exposure 127.0.0.1:${String(open)}`).level, level);
  }
});

test('a unix socket is looked for as well', async (t) => {
  const folder = new TemporaryDirectory(t);
  const path = folder.file('queen.sock');
  const server = createTcpServer();
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const { checks } = await doctor(writePolicy(folder, policyIn(folder, { upstream: `unix:${path}` })));
  assert.equal(of(checks, `upstream unix:${path}`).level, 'ok');
  assert.equal(of(checks, `exposure unix:${path}`).level, 'ok');
});

test('what answers at the address must refuse, whatever it is', async (t) => {
  const folder = new TemporaryDirectory(t);
  const asked: string[] = [];
  let status = 200;
  const { server: pair } = await testCertificates();
  const answer: RequestListener = (request, response) => {
    asked.push(`${request.method ?? ''} ${request.url ?? ''} ${String(request.headers.authorization)}`);
    response.writeHead(status).end();
  };
  const plain = await portOf(t, createServer(answer));
  const secure = await portOf(t, createTlsServer(pair, answer));
  const routes = [
    { name: 'start', path: '/start', methods: ['POST'], require: 'write' },
    { name: 'job', path: '/jobs/{id}/**', methods: ['GET'], require: 'read' },
  ];
  const file = writePolicy(folder, policyIn(folder, { bind: `127.0.0.1:${String(plain)}`, routes }));
  const tls = { self_signed: { names: ['localhost'] } };
  const secured = writePolicy(
    folder,
    policyIn(folder, { bind: `127.0.0.1:${String(secure)}`, routes, listener: { tls } }),
    'secure.yaml',
  );
  const cases = [
    [200, 'fail', /answers 200 to GET \/jobs\/doctor without a credential, and the policy says 401/],
    [404, 'fail', /answers 404/],
    [502, 'fail', /answers 502/],
    [401, 'ok', /refuses GET \/jobs\/doctor without a credential: 401/],
    [403, 'ok', /403/],
    [503, 'warn', /answers 503 now/],
  ] as const;
  for (const [answered, level, says] of cases) {
    status = answered;
    for (const policy of [file, secured]) {
      const finding = of((await doctor(policy)).checks, 'refusal main');
      assert.equal(finding.level, level, finding.message);
      assert.match(finding.message, says);
    }
  }
  // Never a request that could do something, were nobody guarding; never a credential.
  assert.deepEqual(new Set(asked), new Set(['GET /jobs/doctor undefined']));
});

test('where only writing asks for a credential, a path of nobody is asked', async (t) => {
  const folder = new TemporaryDirectory(t);
  const asked: string[] = [];
  const port = await portOf(
    t,
    createServer((request, response) => {
      asked.push(`${request.method ?? ''} ${request.url ?? ''}`);
      response.writeHead(403).end();
    }),
  );
  const routes = [{ name: 'start', path: '/start', methods: ['POST'], require: 'write' }];
  const { checks } = await doctor(writePolicy(folder, policyIn(folder, { bind: `127.0.0.1:${String(port)}`, routes })));
  assert.equal(of(checks, 'refusal main').level, 'ok');
  assert.deepEqual(asked, ['GET /.guardbee-doctor']);
});

test('another protocol at the address is a failure, and nobody there is said to be', async (t) => {
  const folder = new TemporaryDirectory(t);
  const port = await portOf(
    t,
    createServer((_request, response) => response.end('hello')),
  );
  const bind = `127.0.0.1:${String(port)}`;
  const listener = { tls: { self_signed: { names: ['localhost'] } } };
  const { checks } = await doctor(writePolicy(folder, policyIn(folder, { bind, listener })));
  assert.equal(of(checks, 'refusal main').level, 'fail');
  const nobody = await doctor(writePolicy(folder, policyIn(folder, { bind: '127.0.0.1:2' })));
  assert.equal(of(nobody.checks, 'refusal main').level, 'warn');
  assert.match(of(nobody.checks, 'refusal main').message, /nothing listens on 127\.0\.0\.1:2$/);
});

test('readiness is asked at the admin address', async (t) => {
  const folder = new TemporaryDirectory(t);
  let status = 200;
  const port = await portOf(
    t,
    createServer((_request, response) => response.writeHead(status).end('{"checks":{"policy":"old"}}')),
  );
  const file = writePolicy(folder, policyIn(folder, { top: { admin: { bind: `127.0.0.1:${String(port)}` } } }));
  assert.equal(of((await doctor(file)).checks, 'ready').level, 'ok');
  status = 503;
  const finding = of((await doctor(file)).checks, 'ready');
  assert.equal(finding.level, 'fail');
  assert.match(finding.message, /answers 503: \{"checks":\{"policy":"old"\}\}/);
});

async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('a running guardbee refuses: over TLS and without, and by address', async (t) => {
  const folder = new TemporaryDirectory(t);
  const bind = async (): Promise<string> => `127.0.0.1:${String(await freePort())}`;
  const { server } = await testCertificates();
  writeKeyPair(folder, server);
  const policy = policyIn(folder, { bind: await bind() });
  const { main } = policy['listeners'] as { main: Record<string, PolicyValue> };
  const tls = { cert: 'server.crt', key: 'server.key' };
  const file = writePolicy(folder, {
    ...policy,
    listeners: {
      main,
      secure: { ...main, bind: await bind(), tls, hosts: ['localhost'] },
      elsewhere: { ...main, bind: await bind(), allow_from: ['10.0.0.0/8'] },
    },
  });
  await using guardbee = startGuardbee({ args: ['run', '--policy', file] });
  await guardbee.waitForLog((line) => line['msg'] === 'ready', 30_000);
  const { checks } = await doctor(file);
  for (const name of ['main', 'secure']) {
    const finding = of(checks, `refusal ${name}`);
    assert.equal(finding.level, 'ok', finding.message);
    assert.match(finding.message, /refuses GET \/ without a credential: 401$/);
  }
  assert.match(of(checks, 'refusal elsewhere').message, /turns this machine away, as allow_from says$/);
});
