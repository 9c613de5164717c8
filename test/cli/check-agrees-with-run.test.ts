import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import {
  simplePolicy,
  tokenPair,
  writeFileIn,
  writePolicy,
  writeTokens,
  type PolicyValue,
} from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const UPSTREAM = 'http://127.0.0.1:17833';

function policyIn(
  folder: TemporaryDirectory,
  changes: Partial<Parameters<typeof simplePolicy>[0]> = {},
): Readonly<Record<string, PolicyValue>> {
  return simplePolicy({
    upstream: UPSTREAM,
    tokens: [{ name: 'keeper', sha256: tokenPair().sha256, roles: ['operator', 'viewer'] }],
    stateDir: folder.file('state'),
    ...changes,
  });
}

const TESTS: PolicyValue = [
  { request: 'GET /health', expect: 'allow' },
  { request: 'POST /x', as: { roles: ['viewer'] }, expect: 403, reason: 'permission_missing' },
];

test('a fine policy is one line', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder, { top: { tests: TESTS } }));
  const { code, stdout, stderr } = await perform('check', file);
  assert.equal(code, 0, stderr);
  assert.equal(stdout, `${file}: fine (1 listener, 3 routes, 2 tests passed, 1 warning)\n`);
  assert.match(stderr, /policy\.yaml:\d+:\d+ listeners\.main\.routes\[0\]: warning: .*\n1 warning\n$/s);
  for (const argv of [
    ['validate', file],
    ['check', '--policy', file],
    ['check', '-c', file],
    ['check', file, '-p', file],
  ]) {
    assert.equal((await perform(...argv)).stdout, stdout, argv.join(' '));
  }
});

test('no tests are said to be none', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder, { routes: [{ name: 'all', path: '/**', require: 'read' }] }));
  assert.equal((await perform('check', file)).stdout, `${file}: fine (1 listener, 1 route, no tests)\n`);
});

test('a policy comes from stdin as well', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder, { top: { tests: TESTS } }));
  const fine = await runGuardbee(['check', '-'], { input: readFileSync(file) });
  assert.equal(fine.code, 0, fine.stderr);
  assert.match(fine.stdout, /^stdin: fine \(1 listener, 3 routes, 2 tests passed/);
  const broken = await runGuardbee(['check', '-'], { input: 'version: 2\n' });
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /^stdin:1:10 version: /m);
  const binary = await runGuardbee(['check', '-'], { input: Buffer.from([0xff, 0xfe, 0x00]) });
  assert.equal(binary.code, 1);
  assert.equal(binary.stderr, 'guardbee: stdin: the text is not UTF-8\n');
});

test('paths in a policy from stdin begin where the user is', async (t) => {
  const folder = new TemporaryDirectory(t);
  writeTokens(folder, [{ name: 'keeper', sha256: tokenPair().sha256, roles: ['operator'] }]);
  const text = JSON.stringify(
    policyIn(folder, { top: { authenticators: { keys: { type: 'bearer', tokens_file: 'tokens.yaml' } } } }),
  );
  const { code, stderr } = await runGuardbee(['check', '-'], { input: text, cwd: folder.path });
  assert.equal(code, 0, stderr);
});

test('every problem is told in one run, with place and fix', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(
    folder,
    `version: 1
listeners:
  main:
    bind: 127.0.0.1:8443
    upstraem: http://127.0.0.1:80
    allow_from: [10.0.0.0/33]
    routes:
      - { name: a, path: /a, public: yes }
`,
  );
  const { code, stdout, stderr } = await perform('check', file);
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(
    stderr,
    new RegExp(`^${file}:5:5 listeners\\.main\\.upstraem: unknown key, did you mean upstream\\?`, 'm'),
  );
  assert.match(stderr, /policy\.yaml:6:18 listeners\.main\.allow_from\[0\]: /);
  assert.match(stderr, /policy\.yaml:8:38 listeners\.main\.routes\[0\]\.public: /);
  assert.match(stderr, / {4}fix: /);
  assert.match(stderr, /\d errors; nothing of this policy is used\n$/);
});

test('a test that fails is an error, at its line', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(
    folder,
    policyIn(folder, { top: { tests: [{ request: 'GET /x', expect: 'allow', name: 'reading is free' }] } }),
  );
  const { code, stderr } = await perform('check', file);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /policy\.yaml:\d+:\d+ tests\[0\]: "reading is free": expected allowed, got refused with 401 \(credential_missing\) by route "read"/,
  );
});

test('a missing secret does not hide a failing test', async (t) => {
  const folder = new TemporaryDirectory(t);
  const authenticators = { keys: { type: 'bearer', tokens_file: 'tokens.yaml' } };
  const missing = writePolicy(folder, policyIn(folder, { top: { authenticators } }), 'missing.yaml');
  const first = await perform('check', missing);
  assert.equal(first.code, 4);
  assert.match(first.stderr, /authenticators\.keys\.tokens_file: .*there is no such file/);
  const tests = [{ request: 'GET /x', expect: 'allow' }];
  const both = await perform('check', writePolicy(folder, policyIn(folder, { top: { authenticators, tests } })));
  assert.equal(both.code, 1);
  assert.match(both.stderr, /there is no such file/);
  assert.match(both.stderr, /tests\[0\]/);
  writeFileIn(
    folder,
    'tokens.yaml',
    `tokens: [{ name: a, roles: [viewer], sha256: "${tokenPair().sha256}" }]\n`,
    0o644,
  );
  const open = await perform('check', missing);
  assert.equal(open.code, 4, open.stderr);
});

test('beyond loopback without TLS is the bind class', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { code, stderr } = await perform('check', writePolicy(folder, policyIn(folder, { bind: '0.0.0.0:8443' })));
  assert.equal(code, 3, stderr);
});

test('an upstream that listens on the network is refused as run refuses it', async (t) => {
  const folder = new TemporaryDirectory(t);
  const service = createServer();
  t.after(() => service.close());
  await new Promise<void>((resolve) => service.listen(0, '0.0.0.0', resolve));
  const { port } = service.address() as AddressInfo;
  const upstream = `http://127.0.0.1:${String(port)}`;
  const refusing = writePolicy(folder, policyIn(folder, { upstream, top: { upstream_exposure: 'refuse' } }));
  const { code, stderr } = await perform('check', refusing);
  if (process.platform !== 'linux') return;
  assert.equal(code, 3, stderr);
  assert.match(
    stderr,
    /listeners\.main\.upstream: upstream 127\.0\.0\.1:\d+ can be reached around guardbee: .*0\.0\.0\.0/,
  );
  const ran = await runGuardbee(['run', '--policy', refusing]);
  assert.equal(ran.code, 3);
  assert.ok(stderr.includes(ran.stderr.split('\n')[0] ?? '?'), ran.stderr);
  const accepted = { upstream, top: { upstream_exposure: { firewalled: 'nftables' } } };
  assert.equal((await perform('check', writePolicy(folder, policyIn(folder, accepted)))).code, 0);
});

test('--json reports the same', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, policyIn(folder, { top: { tests: TESTS } }));
  const fine = await perform('check', file, '--json');
  assert.equal(fine.code, 0);
  const report = JSON.parse(fine.stdout) as Record<string, unknown>;
  const { warnings, ...rest } = report;
  assert.deepEqual(rest, { file, ok: true, exit_code: 0, listeners: 1, routes: 3, tests_passed: 2, errors: [] });
  assert.equal((warnings as unknown[]).length, 1);
  assert.equal(fine.stderr, '');
  const broken = await perform('check', writePolicy(folder, 'version: 2\n'), '--json');
  assert.equal(broken.code, 1);
  const { errors } = JSON.parse(broken.stdout) as { errors: { code: string; line: number; key: string }[] };
  assert.deepEqual(
    errors.map(({ code, line, key }) => ({ code, line, key })),
    [
      { code: 'missing_key', line: 1, key: 'listeners' },
      { code: 'wrong_value', line: 1, key: 'version' },
    ],
  );
});
