import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { test } from 'node:test';
import { logChunks, logLine } from '../../bench/log-lines.js';
import { GUARDBEE_ENTRY } from '../support/process.js';
import { waitUntil, within } from '../support/wait.js';

const MEGABYTE = 1 << 20;
const TOTAL = 64 * MEGABYTE;
/** Node itself takes some 60 MB, and its compiler as much for a moment. */
const MOST_RESIDENT_KB = 200_000;

type Filter = ChildProcessByStdio<Writable, Readable, null>;

/** Kilobytes, as Linux says (proc(5)): `VmRSS` now, `VmHWM` at most. Null elsewhere, and of one that is just ending. */
function memory(filter: Filter, field: 'VmRSS' | 'VmHWM'): number | null {
  if (process.platform !== 'linux') return null;
  const status = readFileSync(`/proc/${String(filter.pid)}/status`, 'utf8');
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1];
  return kilobytes === undefined ? null : Number(kilobytes);
}

test('64 MB, with a reader that begins late: no line is lost, changed or out of order, and none piled up', async () => {
  const filter = spawn(process.execPath, [GUARDBEE_ENTRY, 'redact'], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const ended = once(filter, 'close');
    const feeding = feed(filter);
    // Nobody reads yet. Pipes fill, and then the writer has to wait.
    let before = -1;
    let unchanged = 0;
    const taken = (): number => (filter.stdin as Writable & { readonly bytesWritten: number }).bytesWritten;
    await waitUntil(() => {
      unchanged = taken() === before && before > 0 ? unchanged + 1 : 0;
      before = taken();
      return unchanged === 20;
    }, 'back pressure');
    assert.ok(before < 16 * MEGABYTE, `${String(before)} bytes were taken before anybody read`);
    assert.ok((memory(filter, 'VmRSS') ?? 0) < MOST_RESIDENT_KB);

    let peak = 0;
    let number = 0;
    let rest = '';
    const secrets = { masked: 0, digests: 0 };
    filter.stdout.setEncoding('utf8');
    for await (const text of filter.stdout as AsyncIterable<string>) {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const expected = `${String(number)} ${logLine(number)}`;
        if (number % 100 === 99) {
          assert.ok(line.startsWith(`${String(number)} `) && /\[redacted[:\]]/.test(line), line);
          assert.doesNotMatch(line, /[A-Za-z0-9_-]{40}/);
          secrets.masked++;
        } else if (number % 50 === 48) {
          assert.ok(line.startsWith(`${String(number)} `), line);
          secrets.digests++;
        } else {
          assert.equal(line, expected);
        }
        number++;
      }
      if (filter.exitCode === null) peak = Math.max(peak, memoryOrNone(filter));
    }
    assert.equal(rest, '');
    assert.equal(number, await feeding);
    assert.ok(secrets.masked > 1_000 && secrets.digests > 1_000);
    assert.deepEqual(await within(ended, 'its end'), [0, null]);
    assert.ok(peak < MOST_RESIDENT_KB, `${String(peak)} kB at most`);
  } finally {
    filter.kill('SIGKILL');
  }
});

/** The process may have ended between two looks. */
function memoryOrNone(filter: Filter): number {
  try {
    return memory(filter, 'VmHWM') ?? 0;
  } catch {
    return 0;
  }
}

/** @returns how many lines it has given. */
async function feed(filter: Filter): Promise<number> {
  let lines = 0;
  for (const chunk of logChunks(TOTAL)) {
    for (let at = chunk.indexOf('\n'); at >= 0; at = chunk.indexOf('\n', at + 1)) lines++;
    if (!filter.stdin.write(chunk)) await once(filter.stdin, 'drain');
  }
  filter.stdin.end();
  return lines;
}
