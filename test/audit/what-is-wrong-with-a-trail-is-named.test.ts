/** The first thing that is wrong: in which file, at which line, of which record, and what. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { canonicalJson } from '../../src/observe/audit/canonical-json.js';
import type { NoteKind, ProblemKind, SeenHead } from '../../src/observe/audit/chain-check.js';
import { WRITER_SOCKET } from '../../src/observe/audit/segments.js';
import { type VerifyReport, verifyTrail } from '../../src/observe/audit/verify.js';
import { HeldSocket } from '../../src/state/held-socket.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { TestKey, TrailBuilder } from './trail-fixture.js';

interface Case {
  readonly what: string;
  /** Changes the trail before it is written, or the directory after. */
  readonly before?: (trail: TrailBuilder) => void;
  readonly after?: (dir: string, trail: TrailBuilder) => void;
  readonly heads?: (trail: TrailBuilder) => readonly SeenHead[];
  /** Of the first problem; null: there is none. */
  readonly kind: ProblemKind | null;
  readonly line?: number | null;
  readonly seq?: number | null;
  readonly says?: RegExp;
  readonly notes?: readonly NoteKind[];
}

const FIRST = '000000000001-2026-11-20.ndjson';
const SECOND = '000000000007-2026-11-21.ndjson';

/** Two segments: records 1 to 6, and 7 to 11. */
function usual(): TrailBuilder {
  return new TrailBuilder().denials(3).checkpoint().rotate().denials(2).checkpoint().denials(1);
}

function edit(dir: string, file: string, change: (text: string) => string): void {
  writeFileSync(join(dir, file), change(readFileSync(join(dir, file), 'utf8')));
}

function line(number: number, change: (text: string) => string): (text: string) => string {
  return (text) =>
    text
      .split('\n')
      .map((one, index) => (index === number - 1 ? change(one) : one))
      .join('\n');
}

const CASES: readonly Case[] = [
  { what: 'nothing', kind: null, notes: ['not_signed_yet'] },
  {
    what: 'a value changed',
    after: (dir) =>
      edit(
        dir,
        FIRST,
        line(3, (text) => text.replace('keeper', 'beeper')),
      ),
    kind: 'hash_wrong',
    line: 3,
    seq: 3,
    says: /hash does not fit/,
  },
  {
    what: 'members in another order',
    after: (dir) =>
      edit(
        dir,
        FIRST,
        line(2, (text) => JSON.stringify({ v: 1, ...(JSON.parse(text) as object) })),
      ),
    kind: 'not_canonical',
    line: 2,
    seq: 2,
  },
  {
    what: 'a member twice',
    after: (dir) =>
      edit(
        dir,
        FIRST,
        line(2, (text) => text.replace('"seq":2,', '"seq":2,"seq":2,')),
      ),
    kind: 'not_canonical',
    line: 2,
  },
  {
    what: 'line ends of another system',
    after: (dir) => edit(dir, FIRST, (text) => text.replaceAll('\n', '\r\n')),
    kind: 'not_canonical',
    line: 1,
    says: /CR LF/,
  },
  {
    what: 'a byte order mark',
    after: (dir) => edit(dir, FIRST, (text) => `\ufeff${text}`),
    kind: 'not_json',
    line: 1,
    says: /byte order mark/,
  },
  {
    what: 'an empty line',
    after: (dir) => edit(dir, FIRST, (text) => text.replace('\n', '\n\n')),
    kind: 'blank_line',
    line: 2,
  },
  {
    what: 'zeros',
    after: (dir) => edit(dir, SECOND, (text) => `${text}${'\0'.repeat(50)}\n`),
    kind: 'not_json',
    line: 6,
    says: /zeros/,
  },
  {
    what: 'a very long line',
    after: (dir) =>
      edit(
        dir,
        FIRST,
        line(4, (text) => `${text}${'x'.repeat(3_000_000)}`),
      ),
    kind: 'too_long',
    line: 4,
    seq: null,
  },
  {
    what: 'a line removed',
    before: (trail) => void trail.segments[0]?.lines.splice(2, 1),
    kind: 'sequence_gap',
    line: 3,
    seq: 4,
    says: /record 3 is missing/,
  },
  {
    what: 'a line doubled',
    before: (trail) => void trail.segments[0]?.lines.splice(3, 0, trail.segments[0].lines[1] ?? ''),
    kind: 'sequence_back',
    line: 4,
    seq: 2,
  },
  {
    what: 'a record put in the place of another',
    before: (trail) => {
      const forged = new TrailBuilder(trail.key, trail.chain).denials(2).segments[0]?.lines[2] ?? '';
      // Good in itself, and the one after it follows another.
      trail.segments[0]?.lines.splice(2, 1, forged);
      trail.segments[0]?.lines.splice(
        1,
        1,
        new TrailBuilder(trail.key, trail.chain).clock(1).denials(1).segments[0]?.lines[1] ?? '',
      );
    },
    kind: 'link_broken',
    line: 3,
    seq: 3,
  },
  {
    what: 'a record of another chain',
    before: (trail) =>
      void trail.segments[1]?.lines.push(
        new TrailBuilder(trail.key, 'f'.repeat(32)).denials(1).segments[0]?.lines[1] ?? '',
      ),
    kind: 'other_chain',
    line: 6,
    seq: 2,
  },
  {
    what: 'a segment removed',
    before: (trail) => {
      trail.rotate().denials(1).checkpoint();
      trail.segments.splice(1, 1);
    },
    kind: 'segment_missing',
    line: 1,
    says: /records 7 to 12 are missing between 000000000001/,
  },
  {
    what: 'the first segment removed',
    after: (dir) => unlinkSync(join(dir, FIRST)),
    kind: 'beginning_missing',
    line: null,
    says: /records 1 to 6 are missing, and no record says/,
  },
  {
    what: 'a segment under another name',
    after: (dir) => renameSync(join(dir, SECOND), join(dir, '000000000008-2026-11-21.ndjson')),
    kind: 'segment_name_wrong',
    line: 1,
    seq: 7,
    says: /says record 8 .* begins with record 7/,
  },
  { what: 'an empty segment', after: (dir) => writeFileSync(join(dir, SECOND), ''), kind: 'segment_empty', line: null },
  {
    what: 'a torn line at the end',
    after: (dir) => edit(dir, SECOND, (text) => text.slice(0, -20)),
    kind: 'torn_tail',
    line: 5,
    says: /The next start of guardbee sets it aside/,
  },
  {
    what: 'the last line end missing',
    after: (dir) => edit(dir, SECOND, (text) => text.slice(0, -1)),
    kind: 'torn_tail',
    line: 5,
  },
  {
    what: 'a torn line in between',
    after: (dir) => edit(dir, FIRST, (text) => text.slice(0, -20)),
    kind: 'torn_line',
    line: 6,
  },
  {
    what: 'a checkpoint of another key',
    before: (trail) => {
      const other = new TrailBuilder(undefined, trail.chain);
      trail.segments.splice(0, 2, ...other.denials(3).checkpoint().segments);
    },
    kind: 'key_unknown',
    line: 5,
    seq: 5,
  },
  {
    what: 'a checkpoint that claims a key it is not signed with',
    before: (trail) => {
      const key = new TestKey(trail.key.key);
      trail.segments.splice(0, 2, ...new TrailBuilder(key, trail.chain).denials(1).checkpoint().segments);
    },
    kind: 'signature_wrong',
    line: 3,
    seq: 3,
  },
  {
    what: 'a checkpoint that is not signed',
    before: (trail) => void trail.add({ event: 'checkpoint', result: 'noted' }),
    kind: 'signature_wrong',
    line: 6,
    says: /without a signature/,
  },
  {
    what: 'nothing signed at all',
    before: (trail) =>
      void trail.segments.splice(0, 2, ...new TrailBuilder(trail.key, trail.chain).denials(2).segments),
    kind: 'unsigned',
    line: null,
  },
  {
    what: 'the last segment taken away',
    after: (dir) => unlinkSync(join(dir, SECOND)),
    kind: null,
    notes: ['ends_sealed'],
  },
  {
    what: 'a file that is none of it',
    after: (dir) => writeFileSync(join(dir, 'notes'), ''),
    kind: 'stranger',
    line: null,
  },
  {
    what: 'a link in the place of a segment',
    after: (dir) => {
      renameSync(join(dir, SECOND), `${dir}-elsewhere`);
      symlinkSync(`${dir}-elsewhere`, join(dir, SECOND));
    },
    kind: 'stranger',
  },
  {
    what: 'what guardbee itself leaves there',
    after: (dir) => {
      for (const name of [`${FIRST}.torn`, `${FIRST}.torn-2`]) writeFileSync(join(dir, name), 'x');
    },
    kind: null,
  },
  {
    what: 'a head that is there, and one that was removed long ago',
    heads: (trail) => [{ seq: trail.seq, hash: trail.hash, from: 'given' }],
    kind: null,
  },
  {
    what: 'the end cut off, and its head known',
    before: (trail) => void trail.segments[1]?.lines.splice(3),
    heads: (trail) => [{ seq: trail.seq, hash: trail.hash, from: 'state' }],
    kind: 'head_missing',
    seq: 11,
    says: /record 11 was written, and the trail ends with record 9: its end is cut off/,
  },
  {
    what: 'all segments gone, and a head known',
    after: (dir) => {
      for (const name of [FIRST, SECOND]) unlinkSync(join(dir, name));
    },
    heads: () => [{ seq: 4, hash: '0'.repeat(64), from: 'given' }],
    kind: 'head_missing',
    says: /there is none/,
  },
  {
    what: 'another record than the head says',
    heads: () => [{ seq: 4, hash: '0'.repeat(64), from: 'log' }],
    kind: 'head_differs',
    line: 4,
    seq: 4,
    says: /a line of the log says/,
  },
  {
    what: 'the clock going back',
    before: (trail) => void trail.clock(-60_000).denials(1),
    kind: null,
    notes: ['clock_went_back', 'not_signed_yet'],
  },
  {
    what: 'what the chain says of itself',
    before: (trail) =>
      void trail
        .add({
          event: 'chain_recovered',
          result: 'noted',
          reason: 'torn',
          detail: { bytes: 12, kept: 'a.torn', sha256: 'x' },
        })
        .add({
          event: 'chain_recovered',
          result: 'noted',
          reason: 'tail_missing',
          detail: { chain: 'x', hash: 'x', seq: 99 },
        })
        .add({ event: 'records_lost', result: 'noted', count: 7, detail: { since: 'x', until: 'x' } }),
    kind: null,
    notes: ['chain_recovered', 'records_lost', 'not_signed_yet'],
  },
];

for (const one of CASES) {
  test(one.what, async (t) => {
    const folder = new TemporaryDirectory(t);
    const trail = usual();
    one.before?.(trail);
    const dir = trail.write(folder.file('trail'));
    one.after?.(dir, trail);
    const report = await verifyTrail({ kind: 'dir', dir }, { ...trail.key.trusted, heads: one.heads?.(trail) ?? [] });
    const [problem] = report.problems;
    assert.equal(problem?.kind ?? null, one.kind, JSON.stringify(report.problems, null, 1));
    assert.equal(report.ok, one.kind === null);
    if (one.line !== undefined) assert.equal(problem?.line, one.line);
    if (one.seq !== undefined) assert.equal(problem?.seq, one.seq);
    if (one.says !== undefined) assert.match(problem?.says ?? '', one.says);
    if (one.notes !== undefined)
      assert.deepEqual(
        report.notes.map(({ kind }) => kind),
        one.notes,
      );
  });
}

test('of files nothing is believed either that nobody has signed', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = new TrailBuilder().denials(2);
  const dir = trail.write(folder.file('trail'));
  const files = trail.segments.map(({ name }) => join(dir, name));
  const report = await verifyTrail({ kind: 'files', files }, trail.key.trusted);
  assert.deepEqual(
    report.problems.map(({ kind }) => kind),
    ['unsigned'],
  );
  const chainAlone = await verifyTrail({ kind: 'files', files }, { keys: null });
  assert.ok(chainAlone.ok);
});

test('a line that is longer than any record is none, wherever in the file it stands', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = usual();
  const dir = trail.write(folder.file('trail'));
  // With a hash that fits, so that its length is all that is wrong.
  const longer = (text: string): string => {
    const { hash: _hash, ...rest } = JSON.parse(text) as Record<string, string>;
    const record = { ...rest, who: 'x'.repeat(9000) };
    const hash = createHash('sha256').update(canonicalJson(record)).digest('hex');
    return canonicalJson({ ...record, hash });
  };
  edit(dir, SECOND, line(5, longer));
  const report = await verifyTrail({ kind: 'dir', dir }, trail.key.trusted);
  assert.deepEqual(
    report.problems.map(({ kind, line: number }) => [kind, number]),
    [['too_long', 5]],
  );
});

test('a report says what was read', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = usual();
  const report = await verifyTrail({ kind: 'dir', dir: trail.write(folder.file('trail')) }, trail.key.trusted);
  assert.deepEqual(
    { records: report.records, segments: report.segments, chain: report.chain, unsigned: report.unsigned },
    { records: 11, segments: 2, chain: trail.chain, unsigned: 1 },
  );
  assert.deepEqual([report.first?.seq, report.last?.seq, report.last?.hash], [1, 11, trail.hash]);
  assert.deepEqual([report.signed?.seq, report.signed?.key], [10, trail.key.key]);
  assert.equal(
    report.bytes,
    [...trail.files().values()].reduce((sum, { length }) => sum + length, 0),
  );
});

test('the same thing wrong a thousand times is said once', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = new TrailBuilder().denials(3000).checkpoint();
  const dir = trail.write(folder.file('trail'));
  edit(dir, FIRST, (text) => text.replaceAll('keeper', 'beeper'));
  const report = await verifyTrail({ kind: 'dir', dir }, trail.key.trusted);
  assert.equal(report.problemCount, 3000);
  assert.deepEqual(
    report.problems.map(({ kind, line: at, alike }) => [kind, at, alike]),
    [['hash_wrong', 2, 2999]],
  );
});

async function withoutFirst(
  t: TestContext,
  change: (trail: TrailBuilder, hash: string) => void,
): Promise<VerifyReport> {
  const folder = new TemporaryDirectory(t);
  const trail = new TrailBuilder().denials(1).checkpoint().rotate();
  const sealed = JSON.parse(trail.segments[0]?.lines.at(-1) ?? '') as { hash: string };
  trail.denials(1).rotate();
  change(trail, sealed.hash);
  const dir = trail.write(folder.file('trail'));
  unlinkSync(join(dir, trail.segments[0]?.name ?? ''));
  return await verifyTrail({ kind: 'dir', dir }, trail.key.trusted);
}

test('a trail may begin later where a signed record says so, and only there', async (t) => {
  const removed = (trail: TrailBuilder, through: number, hash: string): TrailBuilder =>
    trail.add({ event: 'segments_removed', result: 'noted', detail: { through, hash } });
  const cases: [string, ProblemKind | null, (trail: TrailBuilder, hash: string) => void][] = [
    ['said and signed', null, (trail, hash) => removed(trail, 4, hash).checkpoint()],
    ['not said', 'beginning_missing', (trail) => trail.checkpoint()],
    ['said and not signed', 'beginning_missing', (trail, hash) => removed(trail, 4, hash)],
    ['said of less', 'beginning_missing', (trail, hash) => removed(trail, 3, hash).checkpoint()],
    ['said with another hash', 'beginning_missing', (trail) => removed(trail, 4, '1'.repeat(64)).checkpoint()],
    // Killed between the first file and the second: both were to go.
    [
      'said of more',
      null,
      (trail) => {
        const next = JSON.parse(trail.segments[1]?.lines.at(-1) ?? '') as { hash: string };
        removed(trail, 7, next.hash).checkpoint();
      },
    ],
    ['said of more, with another hash', 'beginning_missing', (trail) => removed(trail, 7, '1'.repeat(64)).checkpoint()],
    ['said without saying what', 'removal_wrong', (trail) => trail.add({ event: 'segments_removed', result: 'noted' })],
  ];
  for (const [what, kind, change] of cases) {
    const report = await withoutFirst(t, change);
    assert.equal(report.problems[0]?.kind ?? null, kind, `${what}: ${JSON.stringify(report.problems)}`);
  }
});

test('segments that were copied elsewhere are verified by themselves', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = usual();
  const dir = trail.write(folder.file('trail'));
  const [first, second] = trail.segments.map(({ name }) => join(dir, name));
  assert.ok(first !== undefined && second !== undefined);
  const { trusted } = trail.key;
  const one = await verifyTrail({ kind: 'files', files: [second] }, trusted);
  assert.deepEqual([one.ok, one.notes[0]?.kind], [true, 'begins_later']);
  // In whatever order they are named.
  assert.ok((await verifyTrail({ kind: 'files', files: [second, first] }, trusted)).ok);
  const renamed = join(dir, 'a copy');
  renameSync(first, renamed);
  assert.ok((await verifyTrail({ kind: 'files', files: [renamed, second] }, trusted)).ok);
  assert.ok(!(await verifyTrail({ kind: 'files', files: [second, renamed] }, trusted)).ok);
  await assert.rejects(verifyTrail({ kind: 'files', files: [first] }, trusted), /cannot be read/);
});

test('a line that is being written is none that is torn, while somebody writes', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = usual();
  const dir = trail.write(folder.file('trail'));
  appendFileSync(join(dir, SECOND), '{"action":"GE');
  const verify = async (): Promise<VerifyReport> => await verifyTrail({ kind: 'dir', dir }, trail.key.trusted);
  assert.equal((await verify()).problems[0]?.kind, 'torn_tail');
  const held = await HeldSocket.open(dir, WRITER_SOCKET, 'in use', (socket) => socket.destroy());
  try {
    const report = await verify();
    assert.deepEqual([report.ok, report.live, report.notes[0]?.kind], [true, true, 'being_written']);
  } finally {
    await held.close();
  }
  assert.equal((await verify()).problems[0]?.kind, 'torn_tail');
});

test('what cannot be read is no verdict', async (t) => {
  const folder = new TemporaryDirectory(t);
  const trail = usual();
  const nowhere = folder.file('nowhere');
  await assert.rejects(verifyTrail({ kind: 'dir', dir: nowhere }, trail.key.trusted), /cannot be read/);
  assert.ok(!existsSync(nowhere));
  const dir = trail.write(folder.file('trail'));
  for (const { name } of trail.segments) unlinkSync(join(dir, name));
  await assert.rejects(verifyTrail({ kind: 'dir', dir }, trail.key.trusted), /there is no segment/);
  if (process.getuid?.() === 0) return;
  chmodSync(dir, 0);
  t.after(() => chmodSync(dir, 0o700));
  await assert.rejects(verifyTrail({ kind: 'dir', dir }, trail.key.trusted), /no permission/);
});
