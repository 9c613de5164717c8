import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, lchownSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { type RequestListener, Server as HttpServer, createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, type Server, createServer as createTcpServer } from 'node:net';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { main } from '../../src/cli/guardbee.js';
import { judgeNode } from '../../src/cli/node-line.js';
import { ProcessVoice } from '../../src/cli/voice.js';
import { TestAuthority, testCertificates, writeKeyPair } from '../support/certificates.js';
import {
  simplePolicy,
  tokenPair,
  writePolicy,
  writeTokens,
  type PolicyValue,
  type SimplePolicyOptions,
} from '../support/policy-builder.js';
import { runGuardbee, startGuardbee } from '../support/process.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { Capture, perform } from './in-process.js';

const NODES: readonly {
  readonly version: string;
  readonly at: string;
  readonly status: string;
  readonly says: RegExp;
}[] = [
  { version: '18.20.4', at: '2026-01-15', status: 'failed', says: /older than 20\.18\.1/ },
  { version: '20.18.0', at: '2026-01-15', status: 'failed', says: /older than 20\.18\.1/ },
  { version: '20.18.1', at: '2026-01-15', status: 'ok', says: /until 2026-04-30/ },
  { version: '20.18.1', at: '2026-02-15', status: 'warn', says: /until 2026-04-30 only/ },
  { version: '20.20.2', at: '2026-04-30', status: 'warn', says: /until 2026-04-30 only/ },
  { version: '20.20.2', at: '2026-05-01', status: 'failed', says: /no security fixes since 2026-04-30/ },
  { version: '21.7.3', at: '2026-05-01', status: 'warn', says: /not of a long-term line/ },
  { version: '22.12.0', at: '2026-11-22', status: 'ok', says: /until 2027-04-30/ },
  { version: '22.12.0', at: '2027-05-01', status: 'failed', says: /since 2027-04-30/ },
  { version: '24.0.0', at: '2026-11-22', status: 'ok', says: /until 2028-04-30/ },
  { version: '26.1.0', at: '2026-11-22', status: 'ok', says: /^Node 26\.1\.0$/ },
];

for (const { version, at, status, says } of NODES) {
  test(`Node ${version} on ${at}: ${status}`, () => {
    const verdict = judgeNode(version, Date.parse(at));
    assert.equal(verdict.status, status);
    assert.match(verdict.detail, says);
    assert.equal(verdict.fix === null, status === 'ok');
    if (at === '2026-05-01') assert.equal(verdict.fix, 'install Node 24');
  });
}

interface Check {
  readonly check: string;
  readonly status: 'ok' | 'warn' | 'failed' | 'skipped';
  readonly detail: string;
  readonly fix: string | null;
}

/** What doctor finds, without what it says of the machine that the tests run on. */
async function doctor(file: string): Promise<{ readonly code: number; readonly checks: readonly Check[] }> {
  const { code, stdout, stderr } = await perform('doctor', file, '--json');
  assert.equal(stderr, '');
  const checks = JSON.parse(stdout) as Check[];
  assert.equal(code, checks.some(({ status }) => status === 'failed') ? 1 : 0);
  for (const one of checks) {
    assert.deepEqual(Object.keys(one), ['check', 'status', 'detail', 'fix']);
    assert.equal(one.fix === null, one.status === 'ok', JSON.stringify(one));
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
  for (const line of lines) assert.match(line, /^(ok {2}|warn|FAIL|skip) [a-z]+( \S+)?: .+$/);
  for (const line of lines) assert.equal(line.includes('; fix: '), !line.startsWith('ok'), line);
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
    checks.some(({ status, detail }) => status === 'failed' && detail.includes('policy.yaml:3:1 admn: unknown key')),
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
  assert.match(of(before.checks, 'secret').detail, /1 file fine: .*tokens\.yaml 0600$/);
  assert.equal(of(before.checks, 'state').status, 'ok');

  chmodSync(folder.file('tokens.yaml'), 0o644);
  chmodSync(folder.file('state'), 0o755);
  const after = await doctor(file);
  assert.equal(after.code, 1);
  const secret = of(after.checks, 'secret');
  assert.equal(secret.status, 'failed');
  assert.match(secret.detail, /tokens_file: .*everyone may read it/);
  assert.match(secret.fix ?? '', /^chmod 600 /);
  assert.equal(of(after.checks, 'state').fix, `chmod 700 ${folder.file('state')}`);
  // The rest is looked at all the same.
  of(after.checks, 'refusal main');

  chmodSync(file, 0o666);
  const writable = await doctor(file);
  assert.ok(
    writable.checks.some(({ status, detail }) => status === 'failed' && detail.includes('everyone may change it')),
  );
});

test('a failing policy test is a failure', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { checks } = await doctor(
    writePolicy(folder, policyIn(folder, { top: { tests: [{ request: 'GET /x', expect: 'allow' }] } })),
  );
  assert.equal(of(checks, 'test').status, 'failed');
});

const DAY_MS = 86_400_000;

test('certificates are judged by their days, and by the hosts they must name', async (t) => {
  const folder = new TemporaryDirectory(t);
  const authority = await TestAuthority.create();
  const verdicts = [
    { days: 100, status: 'ok', says: /has 99 days left|has 100 days left/ },
    { days: 20, status: 'warn', says: /days left/ },
    { days: -1, status: 'failed', says: /has expired on/ },
  ] as const;
  for (const { days, status, says } of verdicts) {
    const pair = await authority.issue({
      names: ['*.lan'],
      notBefore: new Date(Date.now() - 30 * DAY_MS),
      notAfter: new Date(Date.now() + days * DAY_MS),
    });
    writeKeyPair(folder, pair);
    const listener = { tls: { cert: 'server.crt', key: 'server.key' }, hosts: ['queen.lan', 'queen.example'] };
    const { checks } = await doctor(writePolicy(folder, policyIn(folder, { listener })));
    const [dates, names] = checks.filter(({ check }) => check === 'certificate main');
    assert.equal(dates!.status, status);
    assert.match(dates!.detail, says);
    assert.equal(names!.status, 'warn');
    assert.match(names!.detail, /no certificate names queen\.example,/);
  }
});

test('what keeps a certificate or its key from being used, and what to do about that', async (t) => {
  const authority = await TestAuthority.create();
  const pair = await authority.issue({ names: ['queen.lan'] });
  const other = await authority.issue({ names: ['queen.lan'] });
  const der = (pem: string): Buffer => Buffer.from(pem.replace(/-----.*-----/g, ''), 'base64');
  const damaged = (pem: string): string => pem.replace(/\n.{20}/, '\n');
  const cases: readonly {
    readonly name: string;
    readonly of: 'cert' | 'key';
    readonly put: (file: string) => void;
    readonly says: RegExp;
    readonly fix: RegExp;
  }[] = [
    { name: 'no certificate', of: 'cert', put: rmSync, says: /no such file/, fix: /^guardbee makes one itself/ },
    { name: 'no key', of: 'key', put: rmSync, says: /no such file/, fix: /^put it there, or name another$/ },
    ...(['cert', 'key'] as const).flatMap((of) => [
      {
        name: `no permission for the ${of}`,
        of,
        put: (file: string) => {
          chmodSync(file, 0);
        },
        says: /user \d+ has no permission/,
        fix: /^let the user that guardbee runs as read the file .* or ask as that user$/,
      },
      {
        name: `a folder for the ${of}`,
        of,
        put: (file: string) => {
          rmSync(file);
          mkdirSync(file);
        },
        says: /it is a folder/,
        fix: /^put the right file there/,
      },
      {
        name: `a ${of} that leads to itself`,
        of,
        put: (file: string) => {
          rmSync(file);
          symlinkSync(file, file);
        },
        says: /in a circle/,
        fix: /^have the link lead to a file$/,
      },
      {
        name: `a ${of} in DER`,
        of,
        put: (file: string) => {
          writeFileSync(file, der(of === 'cert' ? pair.cert : pair.key));
        },
        says: /there is no PEM/,
        fix: /in DER, convert it: openssl (?:x509|pkey) -inform der /,
      },
      {
        name: `a damaged ${of}`,
        of,
        put: (file: string) => {
          writeFileSync(file, damaged(of === 'cert' ? pair.cert : pair.key));
        },
        says: /there is no PEM/,
        fix: /^it is damaged: copy it anew/,
      },
      {
        name: `something else for the ${of}`,
        of,
        put: (file: string) => {
          writeFileSync(file, 'none\n');
        },
        says: /there is no PEM/,
        fix: /^name the file with -----BEGIN (?:CERTIFICATE|PRIVATE KEY)----- in it$/,
      },
    ]),
    {
      name: 'the key of another',
      of: 'key',
      put: (file) => {
        writeFileSync(file, other.key);
      },
      says: /not that of the certificate/,
      fix: /^the first certificate in the file must be the one of this key/,
    },
  ];
  for (const { name, of: which, put, says, fix } of cases) {
    await t.test(name, async (t) => {
      const folder = new TemporaryDirectory(t);
      const files = writeKeyPair(folder, pair);
      const tls = { cert: 'server.crt', key: 'server.key' };
      const file = writePolicy(folder, policyIn(folder, { listener: { tls } }));
      put(which === 'cert' ? files.certFile : files.keyFile);
      const { checks } = await asSomebody(folder, () => doctor(file));
      const found = checks.find(({ detail }) => detail.includes(` listeners.main.tls.${which}: `));
      assert.equal(found?.status, 'failed', JSON.stringify(checks));
      assert.match(found.detail, says);
      assert.match(found.fix ?? '', fix);
    });
  }
});

/** Root may read everything, so that it asks as another user, whose folder it is. */
async function asSomebody<T>(folder: TemporaryDirectory, ask: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return await ask();
  const somebody = 65534;
  chownSync(folder.path, somebody, somebody);
  for (const name of readdirSync(folder.path)) lchownSync(folder.file(name), somebody, somebody);
  process.seteuid?.(somebody);
  try {
    return await ask();
  } finally {
    process.seteuid?.(0);
  }
}

test('a self-signed certificate that is none is made anew, and one that cannot be read is said', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder, { listener: { tls: { self_signed: { names: ['queen.lan'] } } } }));
  const place = folder.file('state/tls/main');
  const certificate = path.join(place, 'self-signed.crt');
  assert.match(of((await doctor(file)).checks, 'certificate main').detail, /is made at the first start$/);

  mkdirSync(place, { recursive: true, mode: 0o700 });
  writeFileSync(certificate, 'none', { mode: 0o644 });
  const broken = of((await doctor(file)).checks, 'certificate main');
  assert.equal(broken.status, 'warn');
  assert.equal(broken.detail, `there is no certificate in ${certificate}`);
  assert.match(broken.fix ?? '', /reload, which makes a new one$/);

  rmSync(certificate);
  mkdirSync(certificate);
  const unreadable = of((await doctor(file)).checks, 'certificate main');
  assert.equal(unreadable.status, 'failed');
  assert.match(unreadable.fix ?? '', /^ask as the user that guardbee runs as; if you did, move it away$/);
});

test('an upstream is looked for, and where it listens', async (t) => {
  const folder = new TemporaryDirectory(t);
  const here = await portOf(t, createTcpServer());
  const up = await doctor(writePolicy(folder, policyIn(folder, { upstream: `http://127.0.0.1:${String(here)}` })));
  assert.equal(of(up.checks, `upstream 127.0.0.1:${String(here)}`).status, 'ok');
  const down = await doctor(writePolicy(folder, policyIn(folder)));
  assert.match(of(down.checks, 'upstream 127.0.0.1:1').detail, /ECONNREFUSED/);
  if (process.platform !== 'linux') return;
  assert.equal(of(up.checks, `exposure 127.0.0.1:${String(here)}`).status, 'ok');
  assert.equal(of(down.checks, 'exposure 127.0.0.1:1').status, 'warn');
  const open = await portOf(t, createTcpServer(), '0.0.0.0');
  const upstream = `http://127.0.0.1:${String(open)}`;
  const levels = [
    ['refuse', 'failed'],
    ['warn', 'warn'],
    [{ firewalled: 'nft' }, 'ok'],
  ] as const;
  for (const [upstream_exposure, level] of levels) {
    const { checks } = await doctor(writePolicy(folder, policyIn(folder, { upstream, top: { upstream_exposure } })));
    assert.equal(of(checks, `exposure 127.0.0.1:${String(open)}`).status, level);
  }
});

test('a unix socket is looked for as well', async (t) => {
  const folder = new TemporaryDirectory(t);
  const path = folder.file('queen.sock');
  const server = createTcpServer();
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const { checks } = await doctor(writePolicy(folder, policyIn(folder, { upstream: `unix:${path}` })));
  assert.equal(of(checks, `upstream unix:${path}`).status, 'ok');
  assert.equal(of(checks, `exposure unix:${path}`).status, 'ok');
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
  for (const policy of [file, secured]) {
    // 401 too: the service behind may ask for credentials of its own, and nobody stands before it.
    for (const answered of [200, 404, 502, 401, 403, 503]) {
      status = answered;
      const finding = of((await doctor(policy)).checks, 'refusal main');
      assert.equal(finding.status, 'failed', finding.detail);
      assert.match(finding.detail, new RegExp(`it is not guardbee that answers on .* \\(${String(answered)}\\)$`));
    }
  }
  // Nothing of the service's own is ever asked for, were nobody guarding; never a credential.
  assert.deepEqual(new Set(asked), new Set(['GET /.guardbee-doctor/%2e%2e/ undefined']));
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
  assert.equal(of(checks, 'refusal main').status, 'failed');
  const nobody = await doctor(writePolicy(folder, policyIn(folder, { bind: '127.0.0.1:2' })));
  assert.equal(of(nobody.checks, 'refusal main').status, 'skipped');
  assert.match(of(nobody.checks, 'refusal main').detail, /nothing listens on 127\.0\.0\.1:2$/);
});

test('readiness is asked at the admin address', async (t) => {
  const folder = new TemporaryDirectory(t);
  let status = 200;
  const port = await portOf(
    t,
    createServer((_request, response) => response.writeHead(status).end('{"checks":{"policy":"old"}}')),
  );
  const file = writePolicy(folder, policyIn(folder, { top: { admin: { bind: `127.0.0.1:${String(port)}` } } }));
  assert.equal(of((await doctor(file)).checks, 'ready').status, 'ok');
  status = 503;
  const finding = of((await doctor(file)).checks, 'ready');
  assert.equal(finding.status, 'failed');
  assert.match(finding.detail, /answers 503: \{"checks":\{"policy":"old"\}\}/);
});

test('whoever answers at the admin address adds no finding, and is not listened to for ever', async (t) => {
  const folder = new TemporaryDirectory(t);
  let isEndless = false;
  const port = await portOf(
    t,
    createServer((_request, response) => {
      response.writeHead(503);
      const more = (): void => {
        while (response.write('x'.repeat(64 * 1024)));
      };
      if (isEndless) {
        response.on('drain', more);
        more();
        return;
      }
      response.end(JSON.stringify({ checks: { 'x\nok   all': { status: 'failed', detail: 'y\nok   z' } } }));
    }),
  );
  const file = writePolicy(folder, policyIn(folder, { top: { admin: { bind: `127.0.0.1:${String(port)}` } } }));
  const { stdout } = await perform('doctor', file);
  assert.ok(stdout.includes('x\\nok   all (y\\nok   z)'), stdout);
  isEndless = true;
  assert.match(of((await doctor(file)).checks, 'ready').detail, /answers 503: x{99,}$/);
});

test('a FIFO in the place of a file does not keep it', async (t) => {
  const folder = new TemporaryDirectory(t);
  const tls = { self_signed: { names: ['localhost'] } };
  const policy = policyIn(folder, { bind: `127.0.0.1:${String(await freePort())}`, listener: { tls } });
  const file = writePolicy(folder, policy);
  const { dir } = policy['state'] as { dir: string };
  const own = path.join(dir, 'tls', 'main');
  mkdirSync(own, { recursive: true, mode: 0o700 });
  const fifos = [folder.file('fifo.yaml'), path.join(own, 'self-signed.crt')];
  for (const fifo of fifos) execFileSync('mkfifo', ['-m', '600', fifo]);
  for (const asked of [fifos[0] ?? '', file]) {
    const { code, stdout } = await runGuardbee(['doctor', asked]);
    assert.equal(code, 1);
    assert.doesNotMatch(stdout, /no answer within/);
  }
});

async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('an address that another machine has is not asked', async (t) => {
  const folder = new TemporaryDirectory(t);
  // TEST-NET-1 of RFC 5737: nobody's.
  const listener = { tls: { self_signed: { names: ['queen.lan'] } } };
  const { checks } = await doctor(writePolicy(folder, policyIn(folder, { bind: '192.0.2.7:7833', listener })));
  const finding = of(checks, 'refusal main');
  assert.equal(finding.status, 'skipped');
  assert.match(finding.detail, /192\.0\.2\.7 is no address of this machine$/);
});

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
    assert.equal(finding.status, 'ok', finding.detail);
    assert.match(finding.detail, /^guardbee on 127\.0\.0\.1:\d+ refuses GET \/ without a credential: 401$/);
  }
  assert.match(of(checks, 'refusal elsewhere').detail, /turns this machine away, as allow_from says$/);
});

/** A guardbee with these routes at an address that its policy names, before an upstream that counts the bytes it sees. */
async function guarded(
  t: TestContext,
  routes: readonly PolicyValue[],
): Promise<{ readonly file: string; readonly policy: Record<string, PolicyValue>; readonly seen: () => number }> {
  const folder = new TemporaryDirectory(t);
  const upstream = await RecordingUpstream.start();
  t.after(() => upstream.close());
  const bind = `127.0.0.1:${String(await freePort())}`;
  const policy = policyIn(folder, { bind, upstream: upstream.url, routes });
  const file = writePolicy(folder, policy);
  const guardbee = startGuardbee({ args: ['run', '--policy', file] });
  t.after(() => guardbee[Symbol.asyncDispose]());
  await guardbee.waitForLog((line) => line['msg'] === 'ready', 30_000);
  return { file, policy, seen: () => upstream.bytesSeen };
}

test('where only writing asks for a credential, a path of nobody is asked', async (t) => {
  const { file, seen } = await guarded(t, [{ name: 'start', path: '/start', methods: ['POST'], require: 'write' }]);
  const finding = of((await doctor(file)).checks, 'refusal main');
  assert.match(finding.detail, /refuses GET \/\.guardbee-doctor without a credential: 403$/);
  assert.equal(finding.status, 'ok');
  assert.equal(seen(), 0);
});

test('a GET that does something is not asked for, even to see it refused', async (t) => {
  const { file, seen } = await guarded(t, [
    { name: 'run', path: '/run', methods: ['GET'], safe: false, require: 'write' },
    { name: 'look', path: '/jobs/{id}/**', methods: ['GET'], require: 'read' },
  ]);
  const finding = of((await doctor(file)).checks, 'refusal main');
  assert.match(finding.detail, /refuses GET \/jobs\/doctor without a credential: 401$/);
  assert.equal(seen(), 0);
});

test('a guardbee that runs with another policy is said to, and not asked what it would let through', async (t) => {
  const { file, policy, seen } = await guarded(t, [{ name: 'read', path: '/read', methods: ['GET'], public: true }]);
  const { main } = policy['listeners'] as { main: Record<string, PolicyValue> };
  const routes = [{ name: 'read', path: '/read', methods: ['GET'], require: 'read' }];
  writeFileSync(file, JSON.stringify({ ...policy, listeners: { main: { ...main, routes } } }));
  const finding = of((await doctor(file)).checks, 'refusal main');
  assert.equal(finding.status, 'warn');
  assert.match(finding.detail, /guardbee runs with the policy [0-9a-f]{12}, and this file is [0-9a-f]{12}$/);
  assert.equal(seen(), 0);
});

test('where it is not known with which policy guardbee runs, only a path of nobody is asked', async (t) => {
  const { policy, seen } = await guarded(t, [{ name: 'read', path: '/read', methods: ['GET'], public: true }]);
  const { main } = policy['listeners'] as { main: Record<string, PolicyValue> };
  const folder = new TemporaryDirectory(t);
  const routes = [{ name: 'read', path: '/read', methods: ['GET'], require: 'read' }];
  const file = writePolicy(folder, {
    ...policy,
    state: { dir: folder.file('elsewhere') },
    listeners: { main: { ...main, routes } },
  });
  const finding = of((await doctor(file)).checks, 'refusal main');
  assert.match(finding.detail, /refuses GET \/\.guardbee-doctor without a credential: 403$/);
  assert.equal(seen(), 0);
});

test('a guardbee that hangs does not keep it from looking at the rest', async (t) => {
  const folder = new TemporaryDirectory(t);
  const policy = policyIn(folder, { bind: `127.0.0.1:${String(await freePort())}` });
  const { dir } = policy['state'] as { dir: string };
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(path.join(dir, 'control.sock'), resolve));
  t.after(() => server.close());
  const { stdout } = await runGuardbee(['doctor', writePolicy(folder, policy), '--json'], { timeoutMs: 15_000 });
  const checks = JSON.parse(stdout) as Check[];
  assert.deepEqual(
    checks.filter(({ detail }) => detail.includes('no answer within')),
    [],
  );
  assert.match(of(checks, 'refusal main').detail, /nothing listens/);
});

test('on a terminal it says what it waits for, in a pipe nothing', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder));
  for (const isTTY of [true, false]) {
    const out = new Capture();
    const err = new Capture({ isTTY });
    await main(['doctor', file, '--json'], new ProcessVoice(out, err, {}));
    assert.ok(Array.isArray(JSON.parse(out.text)));
    const anew = '\r\u001b[K';
    if (isTTY) assert.ok(err.text.startsWith(`${anew}looking at node, clock, `) && err.text.endsWith(anew), err.text);
    else assert.equal(err.text, '');
  }
});
