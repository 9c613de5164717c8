import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { withLock } from '../../src/cli/file-lock.js';
import { startGuard } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { tokenPair, writeFileIn } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import type { CommandResult } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { perform } from './in-process.js';

interface Entry {
  readonly name: string;
  readonly sha256?: string;
  readonly roles?: readonly string[];
  readonly permissions?: readonly string[];
  readonly not_before?: string;
  readonly not_after?: string;
}

const entries = (file: string): Entry[] => (parse(readFileSync(file, 'utf8')) as { tokens: Entry[] }).tokens;
const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');
const HOUR = 3_600_000;
const inHours = (hours: number): string => new Date(Date.now() + hours * HOUR).toISOString().replace(/\.\d+Z/, 'Z');

const A = tokenPair().sha256;
const B = tokenPair().sha256;
const C = tokenPair().sha256;

/** The same two tokens in every layout that people write. */
const LAYOUTS: readonly { readonly what: string; readonly text: string; readonly kept: readonly string[] }[] = [
  {
    what: 'block style',
    text: `# ours\ntokens:\n  # the first\n  - name: a # mine\n    roles: [x, y]\n    permissions:\n      - p # pee\n    sha256: ${A} # digest\n\n  - name: b\n    sha256: ${B}\n    roles: [x] # that is all\n\n# end\n`,
    kept: ['# ours\n', '  # the first\n', '# mine\n', '      - p # pee\n', '# digest\n', '# that is all\n', '# end\n'],
  },
  {
    what: 'one map a line',
    text: `tokens:\n- { name: a, roles: [x, y], permissions: [p], sha256: ${A} } # first\n-   {name: b, roles: [x], sha256: ${B}}   # second`,
    kept: ['# first', '-   {name: b, roles: [x], sha256: ', '# second'],
  },
  {
    what: 'dashes on lines of their own',
    text: `tokens:\n  -\n    name: a\n    roles: [x, y]\n    permissions: [p]\n    sha256: ${A}\n  -\n    # of b\n    name: b\n    roles: [x]\n    sha256: ${B}\n`,
    kept: ['    # of b\n'],
  },
  {
    what: 'flow style',
    text: `tokens: [ {name: a, roles: [x, y], permissions: [p], sha256: ${A}}, {name: b, roles: [x], sha256: ${B}} ] # both\n`,
    kept: ['tokens: [', '] # both\n'],
  },
  {
    what: 'JSON',
    text: `${JSON.stringify(
      {
        tokens: [
          { name: 'a', roles: ['x', 'y'], permissions: ['p'], sha256: A },
          { name: 'b', roles: ['x'], sha256: B },
        ],
      },
      null,
      2,
    )}\n`,
    kept: [],
  },
];

for (const { what, text, kept } of LAYOUTS) {
  const setUp = (folder: TemporaryDirectory): string => writeFileIn(folder, 'tokens.yaml', text);
  const assertKept = (file: string, pieces: readonly string[]): void => {
    const after = readFileSync(file, 'utf8');
    for (const piece of pieces) assert.ok(after.includes(piece), `${piece} in\n${after}`);
    if (what === 'JSON' && !after.includes('{ name')) assert.doesNotThrow(() => JSON.parse(after) as unknown, after);
  };

  test(`${what}: rotating ends the old one and adds the new one, and all else stays`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const file = setUp(folder);
    const before = Date.now();
    const { code, stdout, stderr } = await perform('token', 'rotate', 'a', '--grace', '2h', '--file', file);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^gbee_[A-Za-z0-9_-]{43}\n$/);
    const [old, other, made, ...rest] = entries(file);
    const end = Date.parse(old?.not_after ?? '');
    assert.ok(end >= before + 2 * HOUR - 1000 && end <= Date.now() + 2 * HOUR, old?.not_after);
    assert.deepEqual(
      { ...old, not_after: '' },
      { name: 'a', roles: ['x', 'y'], permissions: ['p'], sha256: A, not_after: '' },
    );
    assert.deepEqual(other, { name: 'b', roles: ['x'], sha256: B });
    assert.deepEqual(made, { name: 'a', roles: ['x', 'y'], permissions: ['p'], sha256: hashOf(stdout.trim()) });
    assert.deepEqual(rest, []);
    assertKept(file, kept);
    assert.ok(stderr.includes(`"a" (${A.slice(0, 6)}), ends at ${old?.not_after ?? ''}.`), stderr);
    assert.match(stderr, /guardbee reload has a running guardbee take this over/);
    assert.ok(!stderr.includes(stdout.trim()));
    assert.deepEqual(readdirSync(folder.path), ['tokens.yaml']);
  });

  for (const [name, other] of [
    ['a', { name: 'b', roles: ['x'], sha256: B }],
    ['b', { name: 'a', roles: ['x', 'y'], permissions: ['p'], sha256: A }],
  ] as const) {
    test(`${what}: revoking ${name} takes it out, or ends it, and all else stays`, async (t) => {
      const folder = new TemporaryDirectory(t);
      const file = setUp(folder);
      const ended = await perform('token', 'revoke', name, '--now', '--file', file);
      assert.equal(ended.code, 0, ended.stderr);
      const end = entries(file).find((entry) => entry.name === name)?.not_after;
      assert.ok(Math.abs(Date.parse(end ?? '') - Date.now()) < 60_000 && Date.parse(end ?? '') <= Date.now(), end);
      assert.equal(entries(file).length, 2);
      assertKept(file, kept);
      const removed = await perform('token', 'revoke', name, '--file', file);
      assert.equal(removed.code, 0, removed.stderr);
      assert.deepEqual(entries(file), [other]);
      assertKept(
        file,
        kept.filter((piece) => /# (?:ours|end|the first|both)/.test(piece)),
      );
    });
  }
}

test('the old one never ends later than it would have', async (t) => {
  const folder = new TemporaryDirectory(t);
  const soon = inHours(1);
  const file = writeFileIn(
    folder,
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A}, not_after: "${soon}" }\n`,
  );
  const { code, stderr } = await perform('token', 'rotate', 'a', '--file', file, '--not-after', '90d');
  assert.equal(code, 0, stderr);
  const [old, made] = entries(file);
  assert.equal(old?.not_after, soon);
  assert.ok(Date.parse(made?.not_after ?? '') > Date.now() + 89 * 24 * HOUR);
  assert.match(stderr, /ends when it would have/);
});

test('no grace ends the old one at once', async (t) => {
  const file = writeFileIn(
    new TemporaryDirectory(t),
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n`,
  );
  assert.equal((await perform('token', 'rotate', 'a', '--grace', '0', '--file', file)).code, 0);
  assert.ok(Date.parse(entries(file)[0]?.not_after ?? '') <= Date.now());
});

test('two that are good: nothing is made, and it says how to end one', async (t) => {
  const file = writeFileIn(
    new TemporaryDirectory(t),
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A}, not_after: "${inHours(5)}" }\n  - { name: a, roles: [x], sha256: ${B} }\n`,
  );
  const text = readFileSync(file, 'utf8');
  const refused = await perform('token', 'rotate', 'a', '--file', file);
  assert.equal(refused.code, 1);
  assert.equal(refused.stdout, '');
  assert.ok(
    refused.stderr.includes(`(${A.slice(0, 6)}), at `) && refused.stderr.includes(`(${B.slice(0, 6)}), without an end`),
  );
  assert.equal(readFileSync(file, 'utf8'), text);
  const fix = /guardbee (token revoke a --fingerprint [0-9a-f]{6})/.exec(refused.stderr)?.[1] ?? '';
  assert.equal((await perform(...fix.split(' '), '--file', file)).code, 0);
  assert.deepEqual(
    entries(file).map((entry) => entry.sha256),
    [B],
  );
  assert.equal((await perform('token', 'rotate', 'a', '--file', file)).code, 0);
});

test('one that has ended makes room', async (t) => {
  const file = writeFileIn(
    new TemporaryDirectory(t),
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A}, not_after: "2026-01-01" }\n  - { name: a, roles: [y], sha256: ${B} }\n`,
  );
  const { code, stdout, stderr } = await perform('token', 'rotate', 'a', '--file', file);
  assert.equal(code, 0, stderr);
  assert.deepEqual(
    entries(file).map(({ sha256, roles }) => [sha256, roles]),
    [
      [B, ['y']],
      [hashOf(stdout.trim()), ['y']],
    ],
  );
});

test('a token that ended altogether is made anew', async (t) => {
  const file = writeFileIn(
    new TemporaryDirectory(t),
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A}, not_after: "2026-01-01" }\n`,
  );
  const { code, stderr } = await perform('token', 'rotate', 'a', '--file', file);
  assert.equal(code, 0, stderr);
  assert.deepEqual([entries(file).length, entries(file)[0]?.not_after], [2, '2026-01-01']);
});

const REFUSED: readonly {
  readonly what: string;
  readonly argv: readonly string[];
  readonly code: number;
  readonly says: RegExp;
}[] = [
  {
    what: 'a name that is not there',
    argv: ['rotate', 'nobody'],
    code: 1,
    says: /there is no token of the name "nobody"/,
  },
  {
    what: 'a revoked name that is not there',
    argv: ['revoke', 'nobody'],
    code: 1,
    says: /there is no token of the name "nobody"/,
  },
  {
    what: 'another fingerprint',
    argv: ['revoke', 'a', '--fingerprint', 'ffffff'],
    code: 1,
    says: /no token of "a" has this fingerprint; there is "a" \([0-9a-f]{6}\)/,
  },
  { what: 'no fingerprint', argv: ['revoke', 'a', '--fingerprint', 'xyz'], code: 2, says: /first 6 hex digits/ },
  { what: 'a grace in words', argv: ['rotate', 'a', '--grace', 'soon'], code: 2, says: /--grace: allowed is how long/ },
  { what: 'an end in the past', argv: ['rotate', 'a', '--not-after', '2020-01-01'], code: 2, says: /in the past/ },
  { what: 'no name', argv: ['rotate', '1 2'], code: 2, says: /allowed is / },
  { what: 'one that has not begun', argv: ['rotate', 'later'], code: 1, says: /would end before it begins/ },
  { what: 'one that has not begun, now', argv: ['revoke', 'later', '--now'], code: 1, says: /it cannot end now/ },
];
for (const { what, argv, code, says } of REFUSED) {
  test(`refused, and nothing is touched: ${what}`, async (t) => {
    const text = `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n  - { name: later, roles: [x], sha256: ${B}, not_before: 2090-01-01 }\n`;
    const file = writeFileIn(new TemporaryDirectory(t), 'tokens.yaml', text);
    const result = await perform('token', ...argv, '--file', file);
    assert.equal(result.code, code, result.stderr);
    assert.equal(result.stdout, '');
    assert.match(result.stderr, says);
    assert.equal(readFileSync(file, 'utf8'), text);
  });
}

test('the last of a file is ended, since a file without tokens is no tokens file', async (t) => {
  const file = writeFileIn(
    new TemporaryDirectory(t),
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n`,
  );
  const { code, stdout } = await perform('token', 'revoke', 'a', '--file', file);
  assert.equal(code, 0);
  assert.match(stdout, /It is the last one of the file/);
  assert.ok(Date.parse(entries(file)[0]?.not_after ?? '') <= Date.now());
});

test('files that others may read are left alone; mode and owner stay', async (t) => {
  const folder = new TemporaryDirectory(t);
  const text = `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n`;
  const file = writeFileIn(folder, 'tokens.yaml', text, 0o644);
  for (const argv of [['rotate', 'a'], ['revoke', 'a'], ['list']]) {
    const { code, stdout, stderr } = await perform('token', ...argv, '--file', file);
    assert.equal(code, 4);
    assert.equal(stdout, '');
    assert.match(stderr, /\(mode 0644\), allowed is 0600 or 0400, so nothing was changed: chmod 600 /);
    assert.equal(readFileSync(file, 'utf8'), text);
  }
  chmodSync(file, 0o400);
  if (process.getuid?.() === 0) chownSync(file, 0, 0);
  assert.equal((await perform('token', 'rotate', 'a', '--file', file)).code, 0);
  assert.equal(statSync(file).mode & 0o777, 0o400);
});

test('many hands at once: each change is there in the end, and no lock is left', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writeFileIn(folder, 'tokens.yaml', `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n`);
  const names = Array.from({ length: 12 }, (_, i) => `n${i}`);
  const done = await Promise.all([
    ...names.map((name) => perform('token', 'new', '--name', name, '--role', 'x', '--file', file)),
    // Other processes too.
    runGuardbee(['token', 'new', '--name', 'p1', '--role', 'x', '--file', file]),
    runGuardbee(['token', 'rotate', 'a', '--file', file]),
  ]);
  for (const { code, stderr } of done) assert.equal(code, 0, stderr);
  assert.deepEqual(
    entries(file)
      .map((entry) => entry.name)
      .sort(),
    ['a', 'a', 'p1', ...names].sort(),
  );
  assert.deepEqual(readdirSync(folder.path), ['tokens.yaml']);
});

test('two make a new file at once', async (t) => {
  const file = new TemporaryDirectory(t).file('tokens.yaml');
  const make = (name: string): Promise<CommandResult> =>
    perform('token', 'new', '--name', name, '--role', 'x', '--file', file);
  for (const { code } of await Promise.all(['a', 'b', 'c'].map(make))) assert.equal(code, 0);
  assert.equal(entries(file).length, 3);
});

test('the lock of a process that is gone holds nobody up; that of a live one does', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writeFileIn(folder, 'tokens.yaml', `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n`);
  // A process that has ended by now.
  const ended = await runGuardbee(['--version']);
  assert.equal(ended.code, 0);
  writeFileSync(folder.file('.tokens.yaml.lock'), '999999999\n');
  assert.equal((await perform('token', 'rotate', 'a', '--file', file)).code, 0);
  assert.ok(!existsSync(folder.file('.tokens.yaml.lock')));

  const order: string[] = [];
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  // Both ask for it alike: who comes second is sure only once the first one has it.
  let first = Promise.resolve();
  await new Promise<void>((taken) => {
    first = withLock(file, async () => {
      taken();
      await held;
      order.push('first');
    });
  });
  const second = perform('token', 'new', '--name', 'b', '--role', 'x', '--file', file).then(({ code }) => {
    order.push('second');
    return code;
  });
  // What it would put in the lock's place is there while it asks.
  const asks = (): boolean => readdirSync(folder.path).some((name) => name.startsWith('.tokens.yaml.lock.'));
  await waitUntil(asks, 'the second one to ask for the lock');
  // In this time, it would have done the same where nothing is locked.
  const elsewhere = folder.file('other.yaml');
  assert.equal((await perform('token', 'new', '--name', 'b', '--role', 'x', '--file', elsewhere)).code, 0);
  assert.ok(asks());
  assert.deepEqual([order, entries(file).length], [[], 2]);
  release();
  await first;
  assert.equal(await second, 0);
  assert.deepEqual([order, entries(file).length], [['first', 'second'], 3]);
});

test('a list says whose, what, until when, and of the hash six digits', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writeFileIn(
    folder,
    'tokens.yaml',
    `tokens:\n  - { name: a, roles: [x, y], permissions: [p], sha256: ${A} }\n  - { name: b, roles: [x], sha256: ${B}, not_after: 2026-01-01 }\n  - { name: c, roles: [x], sha256: ${C}, not_before: 2090-01-01, not_after: 2091-01-01 }\n`,
  );
  const table = await perform('token', 'list', '--file', file);
  assert.equal(table.code, 0);
  assert.deepEqual(
    table.stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {2,}/)),
    [
      ['NAME', 'STATE', 'FINGERPRINT', 'ROLES', 'PERMISSIONS', 'NOT BEFORE', 'NOT AFTER'],
      ['a', 'live', A.slice(0, 6), 'x,y', 'p', '-', '-'],
      ['b', 'expired', B.slice(0, 6), 'x', '-', '-', '2026-01-01T00:00:00Z'],
      ['c', 'not yet', C.slice(0, 6), 'x', '-', '2090-01-01T00:00:00Z', '2091-01-01T00:00:00Z'],
    ],
  );
  const json = await perform('token', 'list', '--file', file, '--json');
  const { tokens } = JSON.parse(json.stdout) as { tokens: Record<string, unknown>[] };
  assert.deepEqual(tokens[2], {
    authenticator: null,
    name: 'c',
    roles: ['x'],
    permissions: [],
    fingerprint: C.slice(0, 6),
    not_before: '2090-01-01T00:00:00Z',
    not_after: '2091-01-01T00:00:00Z',
    state: 'not yet',
    token: null,
  });
  for (const said of [table.stdout, json.stdout])
    for (const sha of [A, B, C]) assert.ok(!said.includes(sha.slice(0, 12)));
});

test('a policy stands for all that it names', async (t) => {
  const folder = new TemporaryDirectory(t);
  writeFileIn(
    folder,
    'sub/tokens.yaml',
    `tokens:\n  - { name: a, roles: [x], sha256: ${A} }\n  - { name: c, roles: [x], token: { file: c.token } }\n`,
  );
  writeFileIn(folder, 'sub/c.token', 'a-token-of-c-in-its-file\n');
  writeFileIn(folder, 'more.yaml', `tokens: [{ name: m, permissions: [read], sha256: ${C} }]\n`);
  const policy = writeFileIn(
    folder,
    'policy.yaml',
    `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    upstream: http://127.0.0.1:9
    authenticate: [keys, more]
    routes: [{ name: rest, path: /**, require: read }]
authenticators:
  keys: { type: bearer, carriers: [authorization], tokens_file: sub/tokens.yaml, tokens: [{ name: i, roles: [x], sha256: ${B} }] }
  more: { type: bearer, carriers: [x_api_key], tokens_file: more.yaml }
roles: { x: [read] }
`,
  );
  const listed = JSON.parse((await perform('token', 'list', policy, '--json')).stdout) as {
    tokens: Record<string, unknown>[];
  };
  assert.deepEqual(
    listed.tokens.map((one) => [
      one['authenticator'],
      one['name'],
      one['fingerprint'],
      one['permissions'],
      one['token'],
    ]),
    [
      ['keys', 'i', B.slice(0, 6), [], null],
      ['keys', 'a', A.slice(0, 6), [], null],
      ['keys', 'c', hashOf('a-token-of-c-in-its-file').slice(0, 6), [], { file: folder.file('sub', 'c.token') }],
      ['more', 'm', C.slice(0, 6), ['read'], null],
    ],
  );

  const rotated = await perform('token', 'rotate', 'm', '--policy', policy);
  assert.equal(rotated.code, 0, rotated.stderr);
  assert.deepEqual(
    entries(folder.file('more.yaml')).map((one) => one.permissions),
    [['read'], ['read']],
  );
  const inside = await perform('token', 'rotate', 'i', '--policy', policy);
  assert.deepEqual([inside.code, inside.stdout], [1, '']);
  assert.match(inside.stderr, /"i" stands in .*policy\.yaml itself, which is edited by hand/);
  assert.match((await perform('token', 'revoke', 'z', '--policy', policy)).stderr, /there is no token of the name "z"/);
  assert.equal((await perform('token', 'revoke', 'a', '--policy', policy, '--file', policy)).code, 2);
  assert.equal((await perform('token', 'rotate', 'a')).code, 2);
});

test('a rotated token and its successor both open the door; after the end only the new one', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = folder.file('tokens.yaml');
  const mint = async (...argv: string[]): Promise<string> => {
    const { code, stdout, stderr } = await runGuardbee(['token', ...argv, '--file', file]);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const old = await mint('new', '--name', 'bea', '--role', 'operator');
  const made = await mint('rotate', 'bea', '--grace', '1h');
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  const statuses = async (): Promise<number[]> => {
    await using guard = await startGuard({ upstream: upstream.url, authenticators: { keys: { tokens_file: file } } });
    const asked = [old, made].map((token) => request(guard.plain, { path: '/x', token }));
    return (await Promise.all(asked)).map(({ status }) => status);
  };
  assert.deepEqual(await statuses(), [200, 200]);
  const revoked = await runGuardbee([
    'token',
    'revoke',
    'bea',
    '--fingerprint',
    hashOf(old).slice(0, 6),
    '--now',
    '--file',
    file,
  ]);
  assert.equal(revoked.code, 0, revoked.stderr);
  assert.deepEqual(await statuses(), [401, 200]);
});

test('tokens stand where the policy says: in a file that a variable names, with systemd, in a file', async (t) => {
  const folder = new TemporaryDirectory(t);
  const [llorch, systemd, plain] = [tokenPair().token, tokenPair().token, tokenPair().token];
  const variable = writeFileIn(folder, 'api-token', `${llorch}\n`);
  writeFileIn(folder, 'credentials/api', systemd, 0o440);
  const file = writeFileIn(folder, 'plain.token', `${plain}\n`);
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  await using guard = await startGuard({
    upstream: upstream.url,
    authenticators: {
      keys: {
        tokens: [
          { name: 'a', roles: ['operator'], token: { env_file: 'LLORCH_API_TOKEN_FILE' } },
          { name: 'b', roles: ['operator'], token: { credential: 'api' } },
          { name: 'c', roles: ['operator'], token: { file } },
        ],
      },
    },
    env: { LLORCH_API_TOKEN_FILE: variable, CREDENTIALS_DIRECTORY: folder.file('credentials') },
  });
  for (const [token, status] of [
    [llorch, 200],
    [systemd, 200],
    [plain, 200],
    [guard.token, 401],
  ] as const) {
    // In the path too, where only a digest that is known tells that it is one.
    assert.equal((await request(guard.plain, { path: `/x/${token}`, token })).status, status);
  }
  await guard.recordWhere((line) => line['http.response.status_code'] === 401);
  const said = `${guard.process.stdout}${guard.process.stderr}`;
  for (const token of [llorch, systemd, plain]) assert.ok(!said.includes(token));

  const shown = await runGuardbee(['show', guard.policyFile, '--json'], {
    env: { LLORCH_API_TOKEN_FILE: variable, CREDENTIALS_DIRECTORY: folder.file('credentials') },
  });
  const { tokens } = (JSON.parse(shown.stdout) as { authenticators: { keys: { tokens: Record<string, unknown>[] } } })
    .authenticators.keys;
  assert.deepEqual(
    tokens.map((one) => [one['token'], one['fingerprint']]),
    [
      [{ env_file: 'LLORCH_API_TOKEN_FILE' }, hashOf(llorch).slice(0, 6)],
      [{ credential: 'api' }, hashOf(systemd).slice(0, 6)],
      [{ file }, hashOf(plain).slice(0, 6)],
    ],
  );
  // Without what it names the rules are shown all the same.
  const bare = await runGuardbee(['show', guard.policyFile]);
  assert.match(bare.stdout, /token:\n\s+env_file: /);
});
