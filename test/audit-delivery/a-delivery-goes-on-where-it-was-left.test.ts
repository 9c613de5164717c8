import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, renameSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Undelivered } from '../../src/observe/audit/undelivered.js';
import { StateError } from '../../src/state/store.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { DeliveredTrail, deliverySettings, linesOf, logOf, segmentsOf } from './delivered-trail.js';
import { TestCollector, assertSameLines, assertWholeChain, numberOf } from './test-collector.js';

const SMALL = { segmentBytes: 64 * 1024 };

interface Cursor {
  chain: string;
  seq: number;
  hash: string;
  at: { segment: string; offset: number };
}

function cursorOf(directory: TemporaryDirectory): Cursor {
  return JSON.parse(readFileSync(directory.file('state', 'audit', 'delivered.json'), 'utf8')) as Cursor;
}

/** Trails of many segments that are on the disk, and went to nobody but the first `taken` records. */
async function leftBehind(directory: TemporaryDirectory, collector: TestCollector, count = 600): Promise<void> {
  const settings = await deliverySettings(collector.url);
  await using first = await DeliveredTrail.open(directory, settings, SMALL);
  await collector.untilHas(first.add(200));
  collector.treat = () => 503;
  const last = first.add(count);
  await waitUntil(() => first.trail.synced >= last, 'the disk');
  assert.ok((await first.close()) >= count);
  collector.treat = () => 200;
}

async function reopened(directory: TemporaryDirectory, collector: TestCollector): Promise<DeliveredTrail> {
  return await DeliveredTrail.open(directory, await deliverySettings(collector.url), SMALL);
}

/** Waits until all of the rest is delivered. @returns the number of its first record */
async function firstOfRest(trail: DeliveredTrail, collector: TestCollector, before: number): Promise<number> {
  const first = await collector.until(() => collector.taken[before] ?? null, 'a record');
  await waitUntil(() => trail.delivery.behind === 0, 'the rest');
  return numberOf(first);
}

describe('a delivery goes on where it was left', () => {
  test('after a segment that could not be looked at for a moment', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await leftBehind(directory, collector, 10);
    const source = new Undelivered(directory.file('log'));
    await source.begin();
    const limits = { records: 1000, bytes: 1024 * 1024 };
    assert.ok((await source.read(100, limits)).lines.length > 0);
    const handle = await open('/dev/null');
    const prototype = Object.getPrototypeOf(handle) as { stat: unknown };
    await handle.close();
    const { stat } = prototype;
    try {
      prototype.stat = () => Promise.reject(Object.assign(new Error('as the test wants it'), { code: 'EIO' }));
      await assert.rejects(source.read(1_000_000, limits), StateError);
    } finally {
      prototype.stat = stat;
    }
    await source.close();
  });

  test('after a restart, with nothing repeated and nothing left out', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await leftBehind(directory, collector);
    const before = collector.taken.length;
    assert.equal(cursorOf(directory).seq, before);
    await using second = await reopened(directory, collector);
    await collector.untilHas(second.add(10));
    await second.close();
    assertSameLines(collector.taken, linesOf(directory));
    assertWholeChain(collector.taken);
    assert.deepEqual(second.again, []);
  });

  test('its place is found by the record itself where the file says another', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await leftBehind(directory, collector);
    const cursor = cursorOf(directory);
    for (const at of [
      { ...cursor.at, offset: cursor.at.offset - 7 },
      { ...cursor.at, offset: 2 ** 40 },
      { segment: '000000000001-1999-01-01.ndjson', offset: 10 },
    ]) {
      writeFileSync(directory.file('state', 'audit', 'delivered.json'), JSON.stringify({ ...cursor, at }), {
        mode: 0o600,
      });
      const before = collector.taken.length;
      await using again = await reopened(directory, collector);
      assert.equal(await firstOfRest(again, collector, before), cursor.seq + 1);
      assert.deepEqual(again.again, []);
    }
  });

  test('also where a record before it is missing', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await leftBehind(directory, collector);
    const cursor = cursorOf(directory);
    const file = `${logOf(directory)}/${cursor.at.segment}`;
    const lines = readFileSync(file, 'utf8').split('\n');
    writeFileSync(file, lines.toSpliced(0, 1).join('\n'), { mode: 0o600 });
    const before = collector.taken.length;
    await using again = await reopened(directory, collector);
    assert.equal(await firstOfRest(again, collector, before), cursor.seq + 1);
    assert.deepEqual(again.again, []);
  });

  const LOST: readonly (readonly [name: string, why: string[], change: (cursor: Cursor) => string | null])[] = [
    ['there is none', [], () => null],
    ['it is no JSON', ['cursor_unreadable'], () => '{"chain":'],
    ['it is something else', ['cursor_unreadable'], () => 'null'],
    [
      'it names a file elsewhere',
      ['cursor_unreadable'],
      (cursor) => JSON.stringify({ ...cursor, at: { segment: '../x', offset: 0 } }),
    ],
    ['it is of another chain', ['another_chain'], (cursor) => JSON.stringify({ ...cursor, chain: '0'.repeat(32) })],
    ['the record is another', ['another_record'], (cursor) => JSON.stringify({ ...cursor, hash: '0'.repeat(64) })],
    ['the record is not there', ['another_record'], (cursor) => JSON.stringify({ ...cursor, seq: 1_000_000 })],
  ];
  for (const [name, why, change] of LOST) {
    test(`everything goes again, under the same numbers, when ${name}`, async () => {
      await using collector = await TestCollector.start();
      using directory = new TemporaryDirectory();
      await leftBehind(directory, collector);
      const text = change(cursorOf(directory));
      const file = directory.file('state', 'audit', 'delivered.json');
      if (text === null) unlinkSync(file);
      else writeFileSync(file, text);
      const before = collector.taken.length;
      await using again = await reopened(directory, collector);
      const first = await firstOfRest(again, collector, before);
      await again.close();
      assert.deepEqual(again.again, why);
      assert.equal(first, 1);
      assertSameLines([...collector.records.values()], linesOf(directory));
    });
  }

  test('a trail that was there before anybody delivered it goes whole', async () => {
    await using collector = await TestCollector.start({ treat: () => 503 });
    using directory = new TemporaryDirectory();
    await using other = await TestCollector.start();
    await leftBehind(directory, other, 300);
    rmSync(directory.file('state', 'audit', 'delivered.json'));
    collector.treat = () => 200;
    await using first = await reopened(directory, collector);
    await collector.untilHas(first.trail.sequence);
    await first.close();
    assert.deepEqual([...new Set(first.again)], []);
    assertSameLines(collector.taken, linesOf(directory));
  });
});

describe('what is gone is said, in the chain too', () => {
  test('segments that were removed before they were delivered', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await leftBehind(directory, collector, 1_500);
    const { seq } = cursorOf(directory);
    const all = segmentsOf(directory);
    const gone = all.slice(0, -2);
    for (const name of gone) unlinkSync(`${logOf(directory)}/${name}`);
    const firstLeft = Number(all.at(-2)?.slice(0, 12));
    await using again = await reopened(directory, collector);
    await waitUntil(() => again.undeliverable.length > 0, 'the note');
    await collector.untilHas(again.trail.sequence);
    await again.close();
    assert.deepEqual(again.undeliverable, [{ from: seq + 1, through: firstLeft - 1, reason: 'removed' }]);
    const lines = collector.taken.filter((line) => line.includes('"event":"records_undelivered"'));
    assert.equal(lines.length, 1);
    assert.match(
      lines[0] ?? '',
      new RegExp(
        `"count":${String(firstLeft - 1 - seq)},"detail":\\{"from":${String(seq + 1)},"through":${String(firstLeft - 1)}\\}`,
      ),
    );
    assert.equal(again.delivery.figures.undeliverable.get('removed'), firstLeft - 1 - seq);
  });

  test('segments that are removed while they are read', async () => {
    await using collector = await TestCollector.start({ treat: () => 503 });
    using directory = new TemporaryDirectory();
    await using delivered = await reopened(directory, collector);
    const last = delivered.add(2_000);
    await waitUntil(() => delivered.trail.synced >= last && delivered.failures.length > 0, 'the disk');
    const all = segmentsOf(directory);
    const kept = all.at(-1) ?? '';
    for (const name of all.slice(1, -1)) unlinkSync(`${logOf(directory)}/${name}`);
    collector.treat = () => 200;
    await collector.untilHas(last);
    await waitUntil(() => delivered.delivery.behind === 0, 'the rest');
    const [gap, ...rest] = delivered.undeliverable;
    assert.deepEqual(rest, []);
    assert.equal(gap?.through, Number(kept.slice(0, 12)) - 1);
    assert.equal(gap.reason, 'removed');
    await delivered.close();
    assert.ok(collector.taken.some((line) => line.includes('"event":"records_undelivered"')));
  });

  test('bytes that are no records stand in for none, and hold nothing up', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await leftBehind(directory, collector, 300);
    const { seq } = cursorOf(directory);
    const lines = linesOf(directory);
    // In the middle of what is to come: a line that is longer than any record, and one that is none.
    const name = segmentsOf(directory).findLast((one) => Number(one.slice(0, 12)) <= seq + 20) ?? '';
    const file = `${logOf(directory)}/${name}`;
    const changed = readFileSync(file, 'utf8')
      .replace(`${lines[seq + 9] ?? '?'}\n`, `${'x'.repeat(700_000)}\n`)
      .replace(`${lines[seq + 14] ?? '?'}\n`, 'not a record\n');
    writeFileSync(file, changed);
    await using again = await reopened(directory, collector);
    await collector.untilHas(again.trail.sequence);
    await again.close();
    assert.deepEqual(again.undeliverable, [{ from: seq + 10, through: seq + 10, reason: 'damaged' }]);
    // What stands in a record's place is evidence too.
    assert.ok(collector.taken.includes('not a record'));
    assert.ok(collector.taken.some((line) => numberOf(line) === again.trail.sequence));
  });
});

describe('who changes the segments while they are written', () => {
  test('takes the one that is written away: the writer puts it back, and it is read on', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await using delivered = await DeliveredTrail.open(directory, await deliverySettings(collector.url));
    await collector.untilHas(delivered.add(100));
    const [name = ''] = segmentsOf(directory);
    const file = `${logOf(directory)}/${name}`;
    copyFileSync(file, directory.file('copy'));
    renameSync(file, directory.file('away'));
    await collector.untilHas(delivered.add(100));
    await collector.untilHas(delivered.add(100));
    await delivered.close();
    assert.deepEqual(delivered.undeliverable, []);
    assertWholeChain(collector.taken);
  });

  // What is written since reaches beyond the place up to which was read, or not as far; that is in a line then, or at one's end.
  for (const [where, lengthOf] of [
    ['in a line', () => 10_000],
    ['near its end', (text: string) => text.length - 100],
    ['at the end of a line', (text: string) => text.indexOf('\n', 20_000) + 1],
    ['to nothing', () => 0],
  ] satisfies [string, (text: string) => number][]) {
    test(`cuts it ${where}: what is written since is delivered, and what is gone is said`, async () => {
      await using collector = await TestCollector.start();
      using directory = new TemporaryDirectory();
      await using delivered = await DeliveredTrail.open(directory, await deliverySettings(collector.url));
      await collector.untilHas(delivered.add(100));
      const file = `${logOf(directory)}/${segmentsOf(directory)[0] ?? ''}`;
      truncateSync(file, lengthOf(readFileSync(file, 'latin1')));
      await collector.untilHas(delivered.add(100));
      await collector.untilHas(delivered.add(1));
      await delivered.close();
      // The collector has what the disk has not.
      assertWholeChain(collector.records.values());
      assert.deepEqual(delivered.undeliverable, []);
    });
  }
});
