import assert from 'node:assert/strict';
import { test } from 'node:test';
import { perform } from '../cli/in-process.js';
import { simplePolicy, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

test('what is wrong with a second policy ends the start, and names its file', async (t) => {
  const folder = new TemporaryDirectory(t);
  const upstream = 'http://127.0.0.1:17833';
  const routes = [{ name: 'all', path: '/x', public: true }];
  const good = simplePolicy({ upstream, routes, stateDir: folder.file('state') });
  const file = writePolicy(folder, good);
  const CASES: readonly (readonly [why: string, policy: string | typeof good, code: number, says: RegExp])[] = [
    ['an unknown key', { ...good, listener: {} }, 1, /shadow\.yaml:\d+:\d+ listener: /],
    ['a test that fails', { ...good, tests: [{ request: 'GET /x', expect: 403 }] }, 1, /shadow\.yaml:.*tests\[0\]/],
    ['no YAML', '{', 1, /shadow\.yaml/],
    [
      'a listener beyond loopback without TLS',
      simplePolicy({ upstream, routes, stateDir: folder.file('state'), bind: '0.0.0.0:0' }),
      3,
      /shadow\.yaml:/,
    ],
  ];
  for (const [why, policy, code, says] of CASES) {
    const shadow = writePolicy(folder, policy, 'shadow.yaml');
    const result = await perform('run', '--policy', file, '--shadow', shadow);
    assert.equal(result.code, code, `${why}: ${result.stderr}`);
    assert.match(result.stderr, says, why);
    assert.equal(result.stdout, '', why);
  }
  const missing = await perform('run', '--policy', file, '--shadow', folder.file('missing.yaml'));
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /missing\.yaml/);
});

test('a policy is tried beside another, and comes out of a file', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(
    folder,
    simplePolicy({ upstream: 'http://127.0.0.1:17833', stateDir: folder.file('state') }),
  );
  for (const argv of [
    ['run', '--shadow', file],
    ['run', file, '--shadow', '-'],
    ['run', file, '--shadow', ''],
  ]) {
    const result = await perform(...argv);
    assert.equal(result.code, 2, argv.join(' '));
    assert.match(result.stderr, /--shadow/);
  }
});
