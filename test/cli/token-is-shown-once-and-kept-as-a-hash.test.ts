import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, readFileSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { Redactor } from '../../src/observe/redact.js';
import { tokenPair, writeFileIn } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

interface Entry {
  readonly name: string;
  readonly sha256: string;
  readonly roles?: readonly string[];
  readonly permissions?: readonly string[];
  readonly not_after?: string;
}

const tokensIn = (file: string): Entry[] => (parse(readFileSync(file, 'utf8')) as { tokens: Entry[] }).tokens;
const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');

test('a token is alone on stdout, and its hash in a file for its owner alone', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = folder.file('tokens.yaml');
  const { code, stdout, stderr } = await perform(
    'token',
    'new',
    '--name',
    'keeper',
    '--role',
    'operator',
    '--file',
    file,
  );
  assert.equal(code, 0, stderr);
  const token = stdout.trimEnd();
  assert.match(stdout, /^gbee_[A-Za-z0-9_-]{43}\n$/);
  assert.ok(!stderr.includes(token));
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(tokensIn(file), [{ name: 'keeper', roles: ['operator'], sha256: hashOf(token) }]);
  assert.ok(!readFileSync(file, 'utf8').includes(token.slice(5)));
});

test('no two are alike, and our own log knows them without knowing them', async () => {
  const redactor = new Redactor({ knowsDigest: () => false });
  const tokens = new Set<string>();
  for (let i = 0; i < 50; i++) {
    const { stdout } = await perform('token', 'new', '--name', 'a', '--role', 'b');
    tokens.add(stdout);
    assert.match(redactor.mask(`denied ${stdout}`), /^denied \[redacted:[0-9a-f]{6}\]\n$/);
  }
  assert.equal(tokens.size, 50);
});

test('without a file the entry is printed beside it, to be pasted', async (t) => {
  const folder = new TemporaryDirectory(t);
  for (const more of [[], ['--print-only', '--file', folder.file('tokens.yaml')]]) {
    const { stdout, stderr } = await perform(
      ...[
        'token',
        'new',
        '--name',
        'a:b',
        '--role',
        'x',
        'y',
        '--permission',
        'p,q',
        '--not-after',
        '2090-01-01',
        ...more,
      ],
    );
    const line = stderr.split('\n').find((one) => one.startsWith('  - '));
    assert.deepEqual(parse(`tokens:\n${line ?? ''}\n`), {
      tokens: [
        {
          name: 'a:b',
          roles: ['x', 'y'],
          permissions: ['p', 'q'],
          not_after: '2090-01-01T00:00:00Z',
          sha256: hashOf(stdout.trimEnd()),
        },
      ],
    });
  }
  assert.deepEqual(readdirSync(folder.path), []);
});

const ENDS: readonly { readonly text: string; readonly inMs: number }[] = [
  { text: '90d', inMs: 90 * 86_400_000 },
  { text: '12h', inMs: 12 * 3_600_000 },
  { text: '30m', inMs: 30 * 60_000 },
];

for (const { text, inMs } of ENDS) {
  test(`--not-after ${text} counts from now`, async (t) => {
    const file = new TemporaryDirectory(t).file('tokens.yaml');
    const before = Date.now();
    await perform('token', 'new', '--name', 'a', '--role', 'b', '--not-after', text, '--file', file);
    const end = Date.parse(tokensIn(file)[0]?.not_after ?? '');
    assert.ok(end >= before + inMs - 1000 && end <= Date.now() + inMs, new Date(end).toISOString());
  });
}

for (const text of ['soon', '2020-01-01', '90', '0d', '1.5d', '2027-02-30']) {
  test(`--not-after ${text} is refused`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const { code, stdout, stderr } = await perform(
      ...['token', 'new', '--name', 'a', '--role', 'b', '--not-after', text, '--file', folder.file('tokens.yaml')],
    );
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, /^guardbee: --not-after/);
    assert.deepEqual(readdirSync(folder.path), []);
  });
}

const SHA = tokenPair().sha256;
const LAYOUTS: readonly { readonly what: string; readonly text: string; readonly kept: readonly string[] }[] = [
  {
    what: 'block style with comments',
    text: `# ours\ntokens:\n  # the old one\n  - name: a # mine\n    roles: [x]\n    sha256: ${SHA}\n\n# end\n`,
    kept: ['# ours', '  # the old one', '  - name: a # mine', '# end'],
  },
  { what: 'no indentation', text: `tokens:\n- { name: a, roles: [x], sha256: ${SHA} }\n`, kept: ['tokens:'] },
  { what: 'no line end', text: `tokens:\n    - { name: a, roles: [x], sha256: ${SHA} }`, kept: ['tokens:'] },
  {
    what: 'flow style',
    text: `tokens: [{ name: a, roles: [x], sha256: ${SHA} }] # all [of them]\n`,
    kept: ['] # all [of them]'],
  },
  {
    what: 'flow style over lines',
    text: `tokens: [\n  { name: a, roles: [x], sha256: ${SHA} },\n]\n`,
    kept: ['tokens: ['],
  },
  {
    what: 'JSON',
    text: `${JSON.stringify({ tokens: [{ name: 'a', roles: ['x'], sha256: SHA }] }, null, 2)}\n`,
    kept: ['{'],
  },
  { what: 'a file of comments', text: '# tokens of the queen\n', kept: ['# tokens of the queen'] },
  { what: 'an empty file', text: '', kept: [] },
];

for (const { what, text, kept } of LAYOUTS) {
  test(`a token is added to ${what}, and all else stays`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const file = writeFileIn(folder, 'tokens.yaml', text);
    const { code, stdout, stderr } = await perform('token', 'new', '--name', 'b', '--role', 'y', '--file', file);
    assert.equal(code, 0, stderr);
    const before =
      text.includes('tokens:') || text.includes('"tokens"') ? [{ name: 'a', roles: ['x'], sha256: SHA }] : [];
    assert.deepEqual(tokensIn(file), [...before, { name: 'b', roles: ['y'], sha256: hashOf(stdout.trimEnd()) }]);
    const after = readFileSync(file, 'utf8');
    for (const piece of kept) assert.ok(after.includes(piece), piece);
    assert.deepEqual(readdirSync(folder.path), ['tokens.yaml']);
  });
}

test('a name has two tokens at most', async (t) => {
  const file = new TemporaryDirectory(t).file('tokens.yaml');
  const again = async (): ReturnType<typeof perform> =>
    await perform('token', 'new', '--name', 'a', '--role', 'b', '--file', file);
  assert.equal((await again()).code, 0);
  assert.equal((await again()).code, 0);
  const text = readFileSync(file, 'utf8');
  const third = await again();
  assert.equal(third.code, 1);
  assert.equal(third.stdout, '');
  assert.match(third.stderr, /has two tokens of the name "a" already/);
  assert.equal(readFileSync(file, 'utf8'), text);
});

for (const mode of [0o644, 0o666, 0o604]) {
  test(`nothing is added to a file of mode ${mode.toString(8)}`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const file = writeFileIn(folder, 'tokens.yaml', '', mode);
    const { code, stdout, stderr } = await perform('token', 'new', '--name', 'a', '--role', 'b', '--file', file);
    assert.equal(code, 4);
    assert.equal(stdout, '');
    assert.match(stderr, /so nothing was changed: chmod 600/);
    assert.equal(readFileSync(file, 'utf8'), '');
  });
}

test('mode and links stay as they were', async (t) => {
  const folder = new TemporaryDirectory(t);
  const target = writeFileIn(folder, 'real.yaml', `tokens:\n  - { name: a, roles: [x], sha256: ${SHA} }\n`, 0o400);
  const link = folder.file('tokens.yaml');
  symlinkSync(target, link);
  assert.equal((await perform('token', 'new', '--name', 'b', '--role', 'x', '--file', link)).code, 0);
  assert.ok(lstatSync(link).isSymbolicLink());
  assert.equal(statSync(target).mode & 0o777, 0o400);
  assert.equal(tokensIn(target).length, 2);
  // The group that a service reads it by.
  if (process.getuid?.() !== 0) return;
  chmodSync(target, 0o640);
  assert.equal((await perform('token', 'new', '--name', 'c', '--role', 'x', '--file', link)).code, 0);
  assert.equal(statSync(target).mode & 0o777, 0o640);
});

test('a broken file is told, and stays', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writeFileIn(folder, 'tokens.yaml', 'tokens:\n  - { nmae: a }\n');
  const { code, stdout, stderr } = await perform('token', 'new', '--name', 'a', '--role', 'b', '--file', file);
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /tokens\.yaml:2:7 tokens\[0\]\.nmae: unknown key, did you mean name\?/);
  assert.match(stderr, /is broken, and nothing was changed/);
  assert.equal(readFileSync(file, 'utf8'), 'tokens:\n  - { nmae: a }\n');
});

test('a folder that is not there is told', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { code, stdout, stderr } = await perform(
    ...['token', 'new', '--name', 'a', '--role', 'b', '--file', folder.file('not', 'there.yaml')],
  );
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /there is no such folder\n$/);
  assert.ok(!existsSync(folder.file('not')));
});

const HASHED: readonly {
  readonly what: string;
  readonly input: string;
  readonly code: number;
  readonly says: RegExp;
}[] = [
  {
    what: 'with a line end',
    input: 'sixteen-letters!\n',
    code: 0,
    says: new RegExp(`^${hashOf('sixteen-letters!')}\n$`),
  },
  {
    what: 'with a line end of Windows',
    input: 'sixteen-letters!\r\n',
    code: 0,
    says: new RegExp(hashOf('sixteen-letters!')),
  },
  { what: 'without one', input: 'sixteen-letters!', code: 0, says: new RegExp(hashOf('sixteen-letters!')) },
  { what: 'too short', input: 'fifteen-letters\n', code: 1, says: /16 characters at least/ },
  { what: 'of two lines', input: 'sixteen-letters!\nsixteen-letters!\n', code: 1, says: /this is no token/ },
  { what: 'with a blank', input: 'sixteen letters!\n', code: 1, says: /this is no token/ },
  { what: 'in another script', input: 'sechzehn-zeichén\n', code: 1, says: /this is no token/ },
  { what: 'too long', input: `${'a'.repeat(8193)}\n`, code: 1, says: /this is no token/ },
  { what: 'of nothing', input: '', code: 2, says: /there is no token on stdin/ },
  { what: 'of a line end', input: '\n', code: 2, says: /there is no token on stdin/ },
];

for (const { what, input, code, says } of HASHED) {
  test(`token hash, of a token ${what}`, async () => {
    const result = await runGuardbee(['token', 'hash'], { input });
    assert.equal(result.code, code, result.stderr);
    assert.match(code === 0 ? result.stdout : result.stderr, says);
    if (code !== 0) assert.equal(result.stdout, '');
    if (input.trim() !== '') assert.ok(!`${result.stdout}${result.stderr}`.includes(input.trim()));
  });
}

test('token hash - is the same, and what it prints is what new wrote', async (t) => {
  const file = new TemporaryDirectory(t).file('tokens.yaml');
  const { stdout: token } = await perform('token', 'new', '--name', 'a', '--role', 'b', '--file', file);
  const { stdout } = await runGuardbee(['token', 'hash', '-'], { input: token });
  assert.equal(stdout, `${tokensIn(file)[0]?.sha256 ?? ''}\n`);
});

for (const argv of [
  ['sixteen-letters!'],
  ['-sixteen-letters'],
  ['--sixteen-letter'],
  ['--sixteen=letters'],
  ['-', 'sixteen-letters!'],
  ['--', '-sixteen-letters'],
]) {
  test(`a token on the command line is refused, with the reason: ${argv.join(' ')}`, async () => {
    const { code, stdout, stderr } = await perform('token', 'hash', ...argv);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, /can be read by everybody on this machine \(ps\)/);
    assert.ok(!stderr.includes('sixteen'));
  });
}
