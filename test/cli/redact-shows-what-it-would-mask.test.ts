import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tokenPair, writeFileIn, writePolicy, writeTokens } from '../support/policy-builder.js';
import { runGuardbee, startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const TOKEN = 'correct-horse-battery';
const UPSTREAM = 'upstream-horse-battery';

function policyIn(folder: TemporaryDirectory): string {
  writeTokens(folder, [{ name: 'bob', roles: ['viewer'], sha256: tokenPair(TOKEN).sha256 }]);
  writeFileIn(folder, 'upstream.txt', `${UPSTREAM}\n`);
  return writePolicy(
    folder,
    `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    upstream: http://127.0.0.1:17833
    authenticate: [keys]
    routes:
      - { name: read, path: /**, methods: [GET], require: read, upstream_auth: { type: bearer, token: { file: upstream.txt } } }
authenticators: { keys: { type: bearer, tokens_file: tokens.yaml } }
roles: { viewer: [read] }
`,
  );
}

describe('--test', () => {
  test('shows each line, what is masked in it, where, how long and by which rule, and no value', async () => {
    const { code, stdout } = await perform(
      'redact',
      '--test',
      'login of bob with password=hunter2',
      'nothing here',
      `Authorization: Bearer abc.def and ghp_${'abcdefghij'.repeat(3)}`,
    );
    assert.equal(code, 0);
    assert.equal(
      stdout.replace(/\[redacted:\w{6}\]/g, '[redacted:M]'),
      `1: login of bob with password=[redacted]
  key_value at column 28, 7 characters
2: nothing here
3: Authorization: Bearer [redacted] and [redacted:M]
  authorization at column 23, 7 characters
  token_shape at column 35, 34 characters
3 masks in 3 lines
`,
    );
  });

  test('--json says the same to programs', async () => {
    const { code, stdout } = await perform('redact', '--test', '--json', 'x %70assword%3Dhunter2 y', 'z');
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), {
      lines: [
        {
          line: 1,
          text: 'x password=[redacted] y',
          masked: [{ rule: 'key_value', column: 3, length: 20 }],
        },
        { line: 2, text: 'z', masked: [] },
      ],
      masked: 1,
    });
  });

  test('reads stdin where no line is given, PEM blocks over lines too', async () => {
    const { code, stdout } = await runGuardbee(['redact', '--test'], {
      input: 'a -----BEGIN X-----\r\nMII\r\n-----END X-----\r\nb\n',
    });
    assert.equal(code, 0);
    assert.match(
      stdout,
      /^1: a \[redacted:\w{6}\]\n {2}pem at column 3, 17 characters\n2: \[redacted\]\n {2}pem at column 1, 3 characters\n3: \[redacted\]\n {2}pem at column 1, 15 characters\n4: b\n3 masks in 4 lines\n$/,
    );
  });

  test('is for lines, not for gigabytes', async () => {
    const { code, stderr } = await runGuardbee(['redact', '--test'], { input: Buffer.alloc((1 << 20) + 1, 'x') });
    assert.equal(code, 2);
    assert.match(stderr, /more than 1 MiB to try/);
  });
});

describe('--policy', () => {
  test('masks what the policy knows, and what it looks like does not matter', async () => {
    using folder = new TemporaryDirectory();
    const policy = policyIn(folder);
    const input = `GET /x/${TOKEN}?a=1 ${UPSTREAM} correct-horse-batteries ${encodeURIComponent(`q=${TOKEN}&`)}\n`;
    const alone = await runGuardbee(['redact'], { input });
    assert.equal(alone.stdout, input);
    const { code, stdout } = await runGuardbee(['redact', '--policy', policy], { input });
    assert.equal(code, 0);
    assert.match(
      stdout,
      /^GET \/x\/\[redacted:\w{6}\]\?a=1 \[redacted:\w{6}\] correct-horse-batteries q=\[redacted:\w{6}\]&\n$/,
    );
    const shown = await runGuardbee(['redact', '--policy', policy, '--test', `see ${TOKEN}`]);
    assert.match(shown.stdout, /^1: see \[redacted:\w{6}\]\n {2}known at column 5, 21 characters\n/);
    const byEnvironment = await runGuardbee(['redact'], { input: TOKEN, env: { GUARDBEE_POLICY: policy } });
    assert.match(byEnvironment.stdout, /^\[redacted:\w{6}\]$/);
  });

  test('a policy that cannot be used is said before anything is read', async () => {
    using folder = new TemporaryDirectory();
    const broken = writePolicy(folder, 'version: 1\nlisteners: { a: { bnid: 127.0.0.1:0 } }\n', 'broken.yaml');
    const open = policyIn(folder);
    writeFileIn(folder, 'upstream.txt', `${UPSTREAM}\n`, 0o644);
    for (const [file, expected, says] of [
      [broken, 1, /broken\.yaml:2:19 listeners\.a\.bnid: unknown key/],
      [folder.file('absent.yaml'), 1, /absent\.yaml/],
      [open, 4, /upstream\.txt/],
    ] as const) {
      // Its stdin stays open: it does not wait for it.
      await using filter = startGuardbee({ args: ['redact', '--policy', file], keepStdin: true });
      await filter.expectExit(expected);
      assert.match(filter.stderr, says);
      assert.equal(filter.stdout, '');
    }
  });
});

describe('wrong usage exits with 2', () => {
  for (const [argv, says] of [
    [['redact', 'a line'], /lines to try need --test/],
    [['redact', '--json'], /--json needs --test/],
    [['redact', '--policy', '-'], /stdin is what is redacted/],
    [['redact', '--policy', ''], /empty/],
    [['redact', '--nope'], /unknown option/],
  ] as const) {
    test(argv.join(' '), async () => {
      const { code, stderr } = await perform(...argv);
      assert.equal(code, 2);
      assert.match(stderr, says);
    });
  }
});
