/**
 * The backend before the filter must live, whatever happens after it and around it: `queen-rbee 2>&1 | guardbee redact |
 * logger -t queen`, where Ctrl-C reaches all three, logger may end, and the disk may be full.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { GUARDBEE_ENTRY, runCommand, startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const REDACT = `'${process.execPath}' '${GUARDBEE_ENTRY}' redact`;

describe('a signal is noted, and changes nothing', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`${signal}, twice`, async () => {
      await using filter = startGuardbee({ args: ['redact'], keepStdin: true });
      filter.child.stdin!.write('begun\n');
      await filter.waitForOutput(/^begun\n$/);
      filter.signal(signal);
      await filter.waitForOutput(new RegExp(`^guardbee redact: ${signal}: going on until the input ends\\n$`));
      filter.signal(signal);
      await filter.waitForOutput(new RegExp(`(?:${signal}: going on until the input ends\\n.*){2}`, 's'));
      filter.child.stdin!.end('password=hunter2\nlast');
      await filter.expectExit(0);
      assert.equal(filter.stdout, 'begun\npassword=[redacted]\nlast');
    });
  }
});

test('nothing waits: each line is there when its end is, and a prompt soon after', async () => {
  await using filter = startGuardbee({ args: ['redact'], keepStdin: true });
  for (const line of ['one', 'two', 'three']) {
    filter.child.stdin!.write(`${line}\n`);
    await filter.waitForOutput(new RegExp(`${line}\\n$`));
  }
  filter.child.stdin!.write('Password: ');
  await filter.waitForOutput(/Password: $/);
  filter.child.stdin!.write('hun');
  filter.child.stdin!.write('ter2\n');
  await filter.waitForOutput(/Password: \[redacted\]\n$/);
  filter.child.stdin!.end();
  await filter.expectExit(0);
});

describe('when nobody reads any more', () => {
  test('it goes on reading, says so once, and the program before it ends by itself', async () => {
    using folder = new TemporaryDirectory();
    // Far more than pipes hold: with SIGPIPE, or with nobody reading, `seq` would not come to its end.
    const script = `{ seq 1 2000000 && echo whole >seq.txt; } | { ${REDACT}; echo "exit $?" >exit.txt; } 2>err.txt | head -n 1`;
    const { stdout } = await runCommand('sh', ['-c', script], { cwd: folder.path, timeoutMs: 60_000 });
    assert.equal(stdout, '1\n');
    assert.equal(readFileSync(folder.file('seq.txt'), 'utf8'), 'whole\n');
    assert.equal(readFileSync(folder.file('exit.txt'), 'utf8'), 'exit 1\n');
    const said = readFileSync(folder.file('err.txt'), 'utf8').trim().split('\n');
    assert.match(said[0]!, /^guardbee redact: nobody reads the output any more/);
    assert.match(said[1]!, /^guardbee redact: \d+ lines could not be written: EPIPE$/);
    assert.equal(said.length, 2);
  });
});

test('when the disk is full it goes on reading, and says how many lines are lost', async () => {
  using folder = new TemporaryDirectory();
  const script = `{ seq 1 100000 && echo whole >seq.txt; } | ${REDACT} >/dev/full`;
  const { code, stderr } = await runCommand('sh', ['-c', script], { cwd: folder.path });
  assert.equal(stderr, 'guardbee redact: 100000 lines could not be written: ENOSPC\n');
  assert.equal(code, 1);
  assert.equal(readFileSync(folder.file('seq.txt'), 'utf8'), 'whole\n');
});

test('a line that was torn by a full disk is ended before others follow', async () => {
  // A file may grow to a limit, and no further: 64 KiB here. Then nothing more is written, and it is counted.
  using folder = new TemporaryDirectory();
  const script = `ulimit -f 64; trap '' XFSZ; seq 1 100000 | ${REDACT} >out.txt`;
  const { code, stderr } = await runCommand('bash', ['-c', script], { cwd: folder.path });
  assert.equal(code, 1, stderr);
  const kept = readFileSync(folder.file('out.txt'), 'utf8');
  const whole = kept.split('\n').slice(0, -1);
  assert.deepEqual(
    whole,
    Array.from({ length: whole.length }, (_, index) => String(index + 1)),
  );
  assert.match(stderr, new RegExp(`${String(100_000 - whole.length)} lines could not be written: EFBIG`));
});
