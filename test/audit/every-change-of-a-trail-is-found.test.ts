/** Whatever one thing is done to a trail, `verify` says that it was. */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { ChainCheck, readingOf } from '../../src/observe/audit/chain-check.js';
import { type VerifyReport, verifyTrail } from '../../src/observe/audit/verify.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { TrailBuilder } from './trail-fixture.js';

function small(): TrailBuilder {
  return new TrailBuilder()
    .denials(2)
    .add({ event: 'auth_failure', result: 'denied', reason: 'credential_missing', resource: '/ü\\"\n' })
    .rotate()
    .denials(1)
    .checkpoint()
    .denials(1)
    .rotate()
    .denials(2)
    .checkpoint();
}

/** One of each kind of line, and no more, since each of their bytes is tried. */
function tiny(): TrailBuilder {
  return new TrailBuilder()
    .add({ event: 'auth_failure', result: 'denied', reason: 'credential_missing', resource: '/ü\\"\n' })
    .rotate()
    .denials(1)
    .checkpoint();
}

/** The same without files, and up to the first thing that is wrong: so thousands of tries are a matter of seconds. */
function check(trail: TrailBuilder, files: ReadonlyMap<string, Buffer>): ChainCheck {
  const { keys } = trail.key.trusted;
  const found = new ChainCheck({ keys, heads: [], whole: true, mostUnsigned: 1000 });
  const names = [...files.keys()];
  for (const [name, bytes] of files) {
    found.beginSegment(readingOf(name, name));
    let start = 0;
    let number = 0;
    for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, start)) {
      found.take(bytes.subarray(start, at), (number += 1));
      start = at + 1;
      if (found.problems.total > 0) return found;
    }
    if (start < bytes.length) found.torn(number + 1, name === names.at(-1));
  }
  found.finish(false);
  return found;
}

test('any single byte of a trail', () => {
  const trail = tiny();
  const files = trail.files();
  assert.equal(check(trail, files).problems.total, 0);
  for (const [name, bytes] of files) {
    const changed = Buffer.from(bytes);
    const those = new Map([...files, [name, changed]]);
    for (let at = 0; at < bytes.length; at += 1) {
      const was = bytes[at] ?? 0;
      // Another value everywhere; here and there also what means something: line ends, blanks, zeros, no UTF-8.
      const values = at % 8 === 0 ? [0x0a, 0x0d, 0x20, 0x00, 0x22, 0xff, was ^ 0x20] : [was ^ (1 << (at % 8))];
      for (const value of values) {
        if (value === was) continue;
        changed[at] = value;
        const { problems } = check(trail, those);
        assert.ok(problems.total > 0, `byte ${at} of ${name}: ${was} became ${value}`);
        assert.equal(problems.list[0]?.file, name);
      }
      changed[at] = was;
    }
  }
});

test('any byte more, any byte less', () => {
  const trail = tiny();
  const files = trail.files();
  for (const [name, bytes] of files) {
    const tried = (changed: Buffer, what: string): void => {
      assert.ok(check(trail, new Map([...files, [name, changed]])).problems.total > 0, `${what} of ${name}`);
    };
    for (let at = 0; at < bytes.length; at += 1) {
      const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
      if (at % 3 === 0) tried(Buffer.concat([before, after.subarray(1)]), `less at ${at}`);
      if (at % 5 !== 0) continue;
      for (const more of ['\n', '\r', ' ', '\ufeff', '{}\n']) {
        tried(Buffer.concat([before, Buffer.from(more), after]), `${JSON.stringify(more)} at ${at}`);
      }
    }
    for (const end of ['\n', ' ', 'x', '\r\n', '\0\0\0']) {
      tried(Buffer.concat([bytes, Buffer.from(end)]), `${JSON.stringify(end)} at the end`);
    }
  }
});

test('the same as files', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = small();
  const dir = trail.write(folder.file('trail'));
  const files = [...trail.files()];
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), async (file, place, change) => {
      const [name, bytes] = files[file % files.length] ?? ['', Buffer.alloc(0)];
      const changed = Buffer.from(bytes);
      const at = place % bytes.length;
      changed[at] = (bytes[at] ?? 0) ^ change;
      writeFileSync(join(dir, name), changed);
      const report = await verifyTrail({ kind: 'dir', dir }, trail.key.trusted);
      writeFileSync(join(dir, name), bytes);
      assert.ok(!report.ok);
      assert.equal(report.problems[0]?.file, name);
    }),
    { numRuns: 300, interruptAfterTimeLimit: 60_000 },
  );
  assert.ok((await verifyTrail({ kind: 'dir', dir }, trail.key.trusted)).ok);
});

test('any line removed, doubled or moved, with what is cut off at the end found by a head', async (t) => {
  const folder = new TemporaryDirectory(t);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('denial', 'checkpoint', 'rotate'), { maxLength: 12 }),
      fc.nat(),
      fc.nat(),
      fc.constantFrom('remove', 'double', 'swap', 'cut'),
      async (steps, one, other, how) => {
        const trail = new TrailBuilder().denials(2).checkpoint();
        for (const step of steps) {
          if (step === 'denial') trail.denials(1);
          else if (step === 'checkpoint') trail.checkpoint();
          else trail.rotate();
        }
        trail.denials(1).checkpoint();
        const head = { seq: trail.seq, hash: trail.hash, from: 'given' } as const;
        const all = trail.segments.flatMap(({ lines }, segment) => lines.map((_, line) => ({ segment, line })));
        const place = all[one % all.length];
        const second = all[other % all.length];
        assert.ok(place && second);
        const lines = trail.segments[place.segment]?.lines ?? [];
        const others = trail.segments[second.segment]?.lines ?? [];
        const text = lines[place.line] ?? '';
        if (how === 'remove') {
          lines.splice(place.line, 1);
        } else if (how === 'double') {
          others.splice(second.line, 0, text);
        } else if (how === 'swap') {
          const there = others[second.line] ?? '';
          if (there === text) return;
          lines[place.line] = there;
          others[second.line] = text;
        } else {
          trail.segments.splice(place.segment + 1);
          lines.splice(place.line);
          if (place.line === 0) trail.segments.pop();
          if (trail.segments.length === 0) return;
        }
        rmSync(folder.file('trail'), { recursive: true, force: true });
        const dir = trail.write(folder.file('trail'));
        const report = await verifyTrail({ kind: 'dir', dir }, { ...trail.key.trusted, heads: [head] });
        assert.ok(!report.ok, `${how} of line ${place.line + 1} in segment ${place.segment + 1}`);
      },
    ),
    { numRuns: 400, interruptAfterTimeLimit: 60_000 },
  );
});

test('any file removed, renamed, exchanged, emptied, cut short or put there', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = small();
  const names = trail.segments.map(({ name }) => name);
  const head = { seq: trail.seq, hash: trail.hash, from: 'given' } as const;
  const cases: [string, (dir: string) => void][] = [];
  names.forEach((name, index) => {
    const next = names[(index + 1) % names.length] ?? '';
    cases.push(
      [`${name} removed`, (dir) => unlinkSync(join(dir, name))],
      [`${name} emptied`, (dir) => truncateSync(join(dir, name), 0)],
      [`${name} cut short`, (dir) => truncateSync(join(dir, name), readFileSync(join(dir, name)).length - 40)],
      [`${name} put aside`, (dir) => renameSync(join(dir, name), join(dir, `${name}.bak`))],
      [`${name} of another day`, (dir) => renameSync(join(dir, name), join(dir, name.replace('2026', '2025')))],
      [`${name} of another record`, (dir) => renameSync(join(dir, name), join(dir, `9${name.slice(1)}`))],
      [`${name} twice`, (dir) => copyFileSync(join(dir, name), join(dir, name.replace('2026', '2027')))],
      [
        `${name} and ${next} exchanged`,
        (dir) => {
          renameSync(join(dir, name), join(dir, 'aside'));
          renameSync(join(dir, next), join(dir, name));
          renameSync(join(dir, 'aside'), join(dir, next));
        },
      ],
      [
        `${name} a directory`,
        (dir) => {
          unlinkSync(join(dir, name));
          mkdirSync(join(dir, name));
        },
      ],
    );
  });
  cases.push(['a stranger', (dir) => writeFileSync(join(dir, 'notes.txt'), 'hello\n')]);
  for (const [what, change] of cases) {
    rmSync(folder.file('trail'), { recursive: true, force: true });
    const dir = trail.write(folder.file('trail'));
    change(dir);
    const report = await verifyTrail({ kind: 'dir', dir }, { ...trail.key.trusted, heads: [head] }).catch(
      (error: unknown) => error,
    );
    // What cannot be read at all is told in another way, and is not good either.
    assert.ok(report instanceof Error || !(report as VerifyReport).ok, what);
  }
});

test('a chain written anew from any record on, without the key', async (t) => {
  const folder = new TemporaryDirectory(t);
  const real = small();
  // Whoever has no key signs with another, or not at all.
  for (const sign of [true, false]) {
    const forged = new TrailBuilder(undefined, real.chain).denials(3);
    if (sign) forged.checkpoint();
    const dir = forged.write(folder.file(String(sign)));
    const report = await verifyTrail({ kind: 'dir', dir }, real.key.trusted);
    assert.equal(report.problems[0]?.kind, sign ? 'key_unknown' : 'unsigned');
  }
});

test('whatever stands in the place of a segment, there is an answer, and it is no good one', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = tiny();
  const dir = trail.write(folder.file('trail'));
  const good = [...trail.files().values()].at(-1)?.toString('latin1').split('\n') ?? [];
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    fc.json({ maxDepth: 3 }),
    fc.constantFrom(
      '\n',
      '\r\n',
      '\0'.repeat(5000),
      '{"a":'.repeat(1500),
      '['.repeat(8000),
      'x'.repeat(300_000),
      ...good,
    ),
  );
  const names = trail.segments.map(({ name }) => name);
  const last = names.at(-1) ?? '';
  const whole = good.join('\n');
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), fc.constantFrom('', '\n'), async (pieces, between) => {
      const text = pieces.join(between);
      if (text === whole || whole.startsWith(text)) return;
      writeFileSync(join(dir, last), Buffer.from(text, 'latin1'));
      assert.ok(!(await verifyTrail({ kind: 'dir', dir }, trail.key.trusted)).ok);
    }),
    { numRuns: 200, interruptAfterTimeLimit: 30_000 },
  );
});
