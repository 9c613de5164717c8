/**
 * What holds for every verb as a process: it runs through npm's links, leaves Node's inspector shut, and ends quietly
 * when nobody reads any more.
 */
import assert from 'node:assert/strict';
import { existsSync, symlinkSync } from 'node:fs';
import { test } from 'node:test';
import { GUARDBEE_ENTRY, runCommand, startGuardbee } from '../support/process.js';
import { simplePolicy, writeFileIn, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { Capture } from './in-process.js';
import { ProcessVoice, type Line } from '../../src/cli/voice.js';

test('npm installs a symbolic link to it', async (t) => {
  const folder = new TemporaryDirectory(t);
  const link = folder.file('guardbee');
  symlinkSync(GUARDBEE_ENTRY, link);
  const { code, stdout } = await runCommand(process.execPath, [link, '--version']);
  assert.equal(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

test('SIGUSR1 does not open the inspector', async (t) => {
  const folder = new TemporaryDirectory(t);
  const routes = [{ name: 'health', path: '/health', methods: ['GET'], public: true }];
  const policy = simplePolicy({ upstream: 'http://127.0.0.1:1', routes, stateDir: folder.file('state') });
  const file = writePolicy(folder, policy);
  await using guardbee = startGuardbee({ args: ['run', '--policy', file] });
  await guardbee.waitForLog((line) => line['msg'] === 'ready', 30_000);
  guardbee.signal('SIGUSR1');
  // It reopens files, and says so; Node would have said "Debugger listening on ws://127.0.0.1:9229/…".
  await guardbee.waitForLog((line) => String(line['msg']).includes('reopened'));
  guardbee.signal('SIGTERM');
  await guardbee.expectExit(0);
  assert.doesNotMatch(guardbee.stderr, /debugger|inspector/i);
});

test('whoever reads only the beginning is not told of a broken pipe', async (t) => {
  const folder = new TemporaryDirectory(t);
  const script = `{ "${process.execPath}" "${GUARDBEE_ENTRY}" schema; echo $? > code; } 2> err | head -c 1 > out`;
  await runCommand('sh', ['-c', `cd '${folder.path}' && ${script} && cat code err out`]).then(({ stdout }) => {
    assert.equal(stdout, '0\n{');
  });
});

test('an output that cannot be written is not passed over', { skip: !existsSync('/dev/full') }, async () => {
  const { code, stderr } = await runCommand('sh', [
    '-c',
    `"${process.execPath}" "${GUARDBEE_ENTRY}" schema > /dev/full`,
  ]);
  assert.equal(code, 1);
  assert.match(stderr, /^guardbee: stdout did not take all of it: ENOSPC\n$/);
});

test('an error that nobody saw coming is one line without a stack, and without what it carried', async (t) => {
  const folder = new TemporaryDirectory(t);
  const secret = 'gbee_3fXk9QeB7vT1mN5sRw8ZyA2cDh6LpJ4uGo0iKqVtWxE';
  // A throw out of the middle of a verb, as a bug would make it.
  const hook = writeFileIn(folder, 'hook.mjs', `Date.now = () => { throw new RangeError('bad: ${secret}'); };\n`);
  const policy = writePolicy(folder, 'version: 1\n');
  const { code, stdout, stderr } = await runCommand(process.execPath, [
    '--import',
    hook,
    GUARDBEE_ENTRY,
    'check',
    policy,
  ]);
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^guardbee: unexpected error: RangeError: bad: \[redacted:[0-9a-f]{6}\]\n$/);
});

const LINE: Line = ['a ', { tone: 'bad', text: 'FAIL' }, ' b'];

const COLOURS: readonly {
  readonly what: string;
  readonly isTTY: boolean;
  readonly env: Record<string, string>;
  readonly coloured: boolean;
}[] = [
  { what: 'a terminal', isTTY: true, env: { TERM: 'xterm' }, coloured: true },
  { what: 'a pipe', isTTY: false, env: { TERM: 'xterm' }, coloured: false },
  { what: 'a terminal with NO_COLOR', isTTY: true, env: { NO_COLOR: '1' }, coloured: false },
  { what: 'a terminal with an empty NO_COLOR', isTTY: true, env: { NO_COLOR: '' }, coloured: true },
  { what: 'a dumb terminal', isTTY: true, env: { TERM: 'dumb' }, coloured: false },
];

for (const { what, isTTY, env, coloured } of COLOURS) {
  test(`${what} gets ${coloured ? 'colours' : 'plain text'}`, async () => {
    const out = new Capture({ isTTY });
    const voice = new ProcessVoice(out, new Capture(), env);
    voice.out(LINE);
    assert.equal(await voice.settled(), null);
    assert.equal(out.text, coloured ? 'a \u001b[31mFAIL\u001b[0m b\n' : 'a FAIL b\n');
  });
}

test('characters that move the cursor or turn the writing are written out', () => {
  const out = new Capture({ isTTY: true });
  const voice = new ProcessVoice(out, out, {});
  voice.out('a\u001b[2Jb\u202ec\rd\ne');
  voice.err([{ tone: 'good', text: '\u001b[31m' }]);
  voice.json({ text: '\u202e\u{e0041}\u009b' });
  assert.equal(
    out.text,
    'a\\u001b[2Jb\\u202ec\\rd\ne\n\u001b[32m\\u001b[31m\u001b[0m\n{\n  "text": "\\u202e\\udb40\\udc41\\u009b"\n}\n',
  );
  assert.deepEqual(JSON.parse(out.text.slice(out.text.indexOf('{'))), { text: '\u202e\u{e0041}\u009b' });
});
