import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writePolicy } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const RULES = `version: 1
listeners:
  main:
    bind: 192.168.1.10:8443
    tls: { cert: nowhere.crt, key: nowhere.key }
    upstream: http://127.0.0.1:17833
    authenticate: [keys]
    routes:
      - { name: health, path: /health, methods: [GET], public: true }
      - { name: rest, path: /**, methods: [GET], require: read }
authenticators:
  keys: { type: bearer, tokens_file: nowhere.yaml }
roles: { viewer: [read] }
`;

test('secrets and certificates need not be there', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, `${RULES}tests:\n  - { request: GET /health, expect: allow }\n`);
  const { code, stdout, stderr } = await perform('test', file);
  assert.equal(code, 0, stderr);
  assert.equal(stdout, `${file}: 1 test passed\n`);
  assert.equal(stderr, '');
});

test('each failing test is told with its line, what was expected, and what came', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(
    folder,
    `${RULES}tests:
  - { request: GET /health, expect: allow }
  - { request: GET /x, expect: allow }
  - { name: nobody writes, request: POST /x, as: { roles: [viewer] }, expect: 401 }
`,
  );
  const { code, stdout } = await perform('test', file);
  assert.equal(code, 1);
  assert.deepEqual(stdout.split('\n'), [
    `${file}:16:5 tests[1] failed: "GET /x": expected allowed, got refused with 401 (credential_missing) by route "rest" (line 10)`,
    `${file}:17:5 tests[2] failed: "nobody writes": expected refused with 401, got refused with 403 (route_unknown)`,
    `${file}: 1 passed, 2 failed`,
    '',
  ]);
  const json = await perform('test', '--json', file);
  assert.equal(json.code, 1);
  const report = JSON.parse(json.stdout) as { tests: { name: string; line: number; passed: boolean }[] };
  assert.deepEqual(
    report.tests.map(({ name, line, passed }) => ({ name, line, passed })),
    [
      { name: 'GET /health', line: 15, passed: true },
      { name: 'GET /x', line: 16, passed: false },
      { name: 'nobody writes', line: 17, passed: false },
    ],
  );
});

test('no tests is no failure', async () => {
  const { code, stdout } = await runGuardbee(['test', '-'], { input: RULES });
  assert.equal(code, 0);
  assert.equal(stdout, 'stdin: no tests\n');
});

test('a policy with errors runs none', async () => {
  const { code, stdout, stderr } = await runGuardbee(['test', '-'], { input: RULES.replace('[keys]', '[kees]') });
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /did you mean keys\?/);
  const json = await runGuardbee(['test', '--json', '-'], { input: 'version: 2' });
  assert.equal((JSON.parse(json.stdout) as { ok: boolean }).ok, false);
});
