import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simplePolicy, tokenPair, writeFileIn, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const POLICY = (routes: string, tokens: string): string => `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    upstream: http://127.0.0.1:17833
    authenticate: [keys]
    routes:
${routes}
authenticators: { keys: { type: bearer, tokens: [${tokens}] } }
roles: { viewer: [read], operator: [read, control] }
`;

const token = (name: string, role: string): string =>
  `{ name: ${name}, sha256: ${tokenPair(`token-of-${name}-${'x'.repeat(30)}`).sha256}, roles: [${role}] }`;

test('both verdicts, the line of each, and an exit code for scripts', async (t) => {
  const folder = new TemporaryDirectory(t);
  const first = writeFileIn(
    folder,
    'policy.yaml',
    POLICY(
      `      - { name: shutdown, path: /v1/shutdown, methods: [POST], require: control }
      - { name: read, path: /**, methods: [GET], require: read }`,
      `${token('keeper', 'operator')}, ${token('gone', 'viewer')}`,
    ),
    0o644,
  );
  const other = writeFileIn(
    folder,
    'other.yaml',
    POLICY(
      `      - { name: closed, path: /v1/shutdown, deny: true }
      - { name: moved, path: /moved, methods: [GET], require: read, upstream: 'http://127.0.0.1:17834' }
      - { name: stricter, path: /secret, methods: [GET], require: control }
      - { name: other-name, path: /**, methods: [GET], require: read }`,
      token('keeper', 'operator'),
    ),
    0o644,
  );
  const CASES: readonly (readonly [argv: readonly string[], code: number, says: RegExp])[] = [
    [['GET', '/x', '--as', 'keeper'], 0, /^same: .*\n {2}verdict: {2}allowed: goes on to 127\.0\.0\.1:17833\n/],
    [['GET', '/x'], 0, /verdict: {2}refused: 401 credential_missing\n/],
    [
      ['POST', '/v1/shutdown', '--role', 'operator'],
      1,
      /^differs: in the verdict\n {2}verdict: {2}\S+policy\.yaml {2}allowed: .*\n {12}\S+other\.yaml {3}refused: 403 route_denied\n/,
    ],
    [
      ['POST', '/v1/shutdown', '--role', 'viewer'],
      1,
      /^differs: in the reason\n[^]*decided: {2}\S+policy\.yaml {2}line 8: .*require: control.*\n {12}\S+other\.yaml {3}line 8: .*deny: true/,
    ],
    [['GET', '/moved', '--as', 'keeper'], 1, /^differs: in the upstream\n/],
    [['GET', '/x', '--as', 'gone'], 1, /refused: 401 credential_invalid\n[^]*knows nobody who is called "gone"/],
    [['GET', '/secret', '--role', 'viewer'], 1, /route: {4}\S+policy\.yaml {2}read\n {12}\S+other\.yaml {3}stricter/],
  ];
  for (const [argv, code, says] of CASES) {
    const result = await perform('explain', ...argv, first, '--diff', other);
    assert.equal(result.code, code, `${argv.join(' ')}\n${result.stdout}${result.stderr}`);
    assert.match(result.stdout, says, argv.join(' '));
  }
  const turned = await perform('explain', 'GET', '/x', '--as', 'gone', other, '--diff', first);
  assert.equal(turned.code, 1);
  const json = await perform('explain', 'GET', '/moved', '--as', 'keeper', first, '--diff', other, '--json');
  assert.equal(json.code, 1);
  const said = JSON.parse(json.stdout) as Record<string, Record<string, unknown>>;
  assert.deepEqual(said['same'], false);
  assert.deepEqual(said['differs_in'], ['upstream']);
  assert.deepEqual(
    ['first', 'other'].map((one) => [said[one]?.['file'], said[one]?.['line'], said[one]?.['upstream']]),
    [
      [first, 9, '127.0.0.1:17833'],
      [other, 9, '127.0.0.1:17834'],
    ],
  );
});

test('what makes no sense to both is wrong usage; a policy that is not sound is said', async (t) => {
  const folder = new TemporaryDirectory(t);
  const tokens = [{ name: 'keeper', sha256: tokenPair().sha256, roles: ['operator'] }];
  const policy = (listener: string): object => {
    const simple = simplePolicy({ upstream: 'http://127.0.0.1:17833', tokens, stateDir: folder.file('state') });
    return { ...simple, listeners: { [listener]: (simple['listeners'] as Record<string, unknown>)['main'] } };
  };
  const write = (name: string, value: object): string => writePolicy(folder, JSON.stringify(value), name);
  const [first, other] = [write('a.yaml', policy('main')), write('b.yaml', policy('front'))];
  const broken = write('c.yaml', { version: 1 });
  const CASES: readonly (readonly [argv: readonly string[], code: number, says: RegExp])[] = [
    [[first, '--diff', other], 2, /b\.yaml: there is no listener "main"/],
    [[first, '--diff', first, '--as', 'nobody'], 2, /there is no token, user or certificate/],
    [[first, '--diff', first, '--role', 'nothing'], 2, /there is no role/],
    [[first, '--diff', '-'], 2, /--diff is the name of a file/],
    [[first, '--diff', broken], 1, /c\.yaml/],
    [[broken, '--diff', first], 1, /c\.yaml/],
    [[first, '--diff', folder.file('missing.yaml')], 1, /missing\.yaml/],
  ];
  for (const [argv, code, says] of CASES) {
    const result = await perform('explain', 'GET', '/health', ...argv);
    assert.equal(result.code, code, `${argv.join(' ')}: ${result.stdout}${result.stderr}`);
    assert.match(result.stderr, says, argv.join(' '));
    assert.equal(result.stdout, '');
  }
});
