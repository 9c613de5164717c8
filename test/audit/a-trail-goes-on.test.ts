/** Over restarts, days, sizes and upgrades; and over what a power cut, a broken disk or somebody leaves behind. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { segmentName } from '../../src/observe/audit/segments.js';
import { StateInUseError } from '../../src/state/held-socket.js';
import { StateError } from '../../src/state/store.js';
import { within, waitUntil } from '../support/wait.js';
import { DAY_MS, HOUR_MS, REFUSED, TrailPlace } from './opened-trail.js';

const STOPPED = { event: 'stopped', result: 'noted' } as const;

describe('one chain', () => {
  test('over restarts', async () => {
    using place = new TrailPlace();
    for (let start = 0; start < 3; start += 1) {
      await place.write(3);
      place.pass(1000);
    }
    const records = await place.isWhole();
    assert.equal(new Set(records.map(({ chain }) => chain)).size, 1);
    assert.deepEqual(
      records.map(({ seq }) => seq),
      records.map((_, index) => index + 1),
    );
    assert.equal(place.segments.length, 1);
    assert.deepEqual(place.said, []);
  });

  test('over days and sizes: each segment sealed, the next one names it', async () => {
    using place = new TrailPlace();
    const trail = await place.open({ segmentBytes: 64 * 1024 });
    for (let number = 0; number < 400; number += 1) trail.add(REFUSED);
    place.pass(DAY_MS);
    for (let number = 0; number < 400; number += 1) trail.add(REFUSED);
    await trail.close(STOPPED);
    const records = await place.isWhole();
    const opened = records.filter(({ event }) => event === 'segment_opened');
    assert.ok(opened.length >= 6, String(opened.length));
    assert.deepEqual(
      opened.map(({ detail }) => detail?.['segment']),
      place.segments,
    );
    assert.deepEqual(
      opened.map(({ detail }) => detail?.['before'] ?? null),
      [null, ...place.segments.slice(0, -1)],
    );
    assert.equal(records.filter(({ event }) => event === 'segment_sealed').length, opened.length - 1);
    for (const file of place.segments) {
      assert.ok(statSync(place.file(file)).size < 70 * 1024);
      assert.equal(statSync(place.file(file)).mode & 0o777, 0o600);
    }
    assert.equal(statSync(place.dir).mode & 0o777, 0o700);
    assert.ok(place.segments.some((name) => name.endsWith('-2026-11-21.ndjson')));
  });

  test('over a change of policy and of program', async () => {
    using place = new TrailPlace();
    await place.write(2);
    const trail = await place.open({}, { policy: 'other' });
    trail.add(REFUSED);
    trail.policy = 'third';
    trail.add(REFUSED);
    await trail.close(STOPPED);
    const policies = (await place.isWhole()).map(({ policy }) => policy);
    assert.deepEqual([...new Set(policies)], ['abcdef123456', 'other', 'third']);
  });

  test('stopped right after a segment was sealed', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED);
    place.pass(DAY_MS);
    trail.add(REFUSED);
    await trail.close(STOPPED);
    const second = place.last;
    rmSync(second);
    rmSync(place.stateDir, { recursive: true });
    place.heads.length = 0;
    await place.write(1);
    const events = (await place.records()).map(({ event }) => event);
    assert.deepEqual(events.slice(1, 5), [
      'authorization_denied',
      'segment_sealed',
      'segment_opened',
      'authorization_denied',
    ]);
  });
});

describe('checkpoints', () => {
  test('by count, told when they are on the disk, kept as the head', async () => {
    using place = new TrailPlace();
    const trail = await place.open({ checkpointRecords: 10 });
    for (let number = 0; number < 35; number += 1) trail.add(REFUSED);
    assert.equal(place.heads.length, 0);
    await trail.close(STOPPED);
    assert.equal(place.heads.length, 4);
    const head = JSON.parse(readFileSync(`${place.stateDir}/audit/head.json`, 'utf8')) as unknown;
    assert.deepEqual(head, place.heads.at(-1));
    assert.equal((await place.verify()).unsigned, 0);
  });

  test('of many in a second the head is the last, though nothing comes after it', async () => {
    using place = new TrailPlace();
    const trail = await place.open({ checkpointRecords: 1 });
    for (let number = 0; number < 20; number += 1) await trail.durable(trail.add(REFUSED, true));
    const last = place.heads.at(-1);
    assert.equal(place.heads.length, 20);
    await waitUntil(
      () => readFileSync(`${place.stateDir}/audit/head.json`, 'utf8') === `${JSON.stringify(last)}\n`,
      'the last head',
      5_000,
    );
    await trail.close(STOPPED);
  });

  test('at the start, where the end before left something unsigned', async () => {
    using place = new TrailPlace();
    for (let start = 0; start < 3; start += 1) {
      const trail = await place.open();
      trail.add(REFUSED, true);
      assert.ok(await trail.durable(trail.sequence));
      await trail.close(STOPPED);
      // As if it had been killed before the end: without its last two records, and without a word of them.
      const lines = readFileSync(place.last, 'utf8').split('\n');
      writeFileSync(place.last, `${lines.slice(0, -3).join('\n')}\n`);
      const kept = place.heads.filter(({ seq }) => seq < trail.sequence);
      place.heads.splice(0, Infinity, ...kept);
      const head = kept.at(-1);
      if (head === undefined) rmSync(`${place.stateDir}/audit/head.json`);
      else writeFileSync(`${place.stateDir}/audit/head.json`, JSON.stringify(head));
      assert.equal(kept.length, start);
    }
    const trail = await place.open();
    await waitUntil(() => place.heads.length === 3, 'a checkpoint');
    assert.deepEqual(place.said, []);
    assert.equal((await place.verify()).unsigned, 0);
    await place.isWhole();
    await trail.close(STOPPED);
  });

  test('by time, and only where something was written', async () => {
    using place = new TrailPlace();
    const trail = await place.open({ checkpointMs: 30 });
    trail.add(REFUSED);
    await waitUntil(() => place.heads.length === 1, 'a checkpoint');
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(place.heads.length, 1);
    await trail.close(STOPPED);
  });
});

describe('the clock', () => {
  test('goes back: said, order kept, no segment of a day before', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED);
    place.nowMs -= 2 * DAY_MS;
    trail.add(REFUSED);
    place.pass(HOUR_MS);
    trail.add(REFUSED);
    await trail.close(STOPPED);
    const records = await place.isWhole();
    const back = records.find(({ event }) => event === 'clock_went_back');
    assert.equal(back?.time, '2026-11-18T12:00:00.000Z');
    assert.deepEqual(back.detail, { from: '2026-11-20T12:00:00.000Z' });
    assert.equal(place.segments.length, 1);
  });

  test('goes back between two starts', async () => {
    using place = new TrailPlace();
    await place.write(1);
    place.nowMs -= HOUR_MS;
    await place.write(1);
    assert.ok((await place.isWhole()).some(({ event }) => event === 'clock_went_back'));
  });

  test('is put right by less than a second: time stands still, and nothing is said', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED);
    place.nowMs -= 900;
    trail.add(REFUSED);
    await trail.close(STOPPED);
    const records = await place.isWhole();
    assert.equal(new Set(records.map(({ time }) => time)).size, 1);
    assert.ok(!records.some(({ event }) => event === 'clock_went_back'));
  });

  test('jumps ahead and comes back: days begin segments again', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED);
    place.nowMs += 70 * 365 * DAY_MS;
    trail.add(REFUSED);
    place.nowMs -= 70 * 365 * DAY_MS;
    trail.add(REFUSED);
    place.pass(DAY_MS);
    trail.add(REFUSED);
    await trail.close(STOPPED);
    await place.isWhole();
    assert.deepEqual(
      place.segments.map((name) => name.slice(13, 23)),
      ['2026-11-20', '2096-11-02', '2026-11-21'],
    );
  });

  test('shows nonsense: records can be read all the same', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    for (const nowMs of [-1e15, 1e18, Number.MAX_SAFE_INTEGER, 0]) {
      place.nowMs = nowMs;
      trail.add(REFUSED);
    }
    await trail.close(STOPPED);
    await place.isWhole();
  });
});

/** What may stand after the last record that is on the disk. */
const TORN: Readonly<Record<string, (line: Buffer) => Buffer>> = {
  'half a record': (line) => line.subarray(0, line.length / 2),
  'a record without its end': (line) => line.subarray(0, -1),
  'one byte': () => Buffer.from('{'),
  'an empty line': () => Buffer.from('\n'),
  'a block of zeros': () => Buffer.alloc(4096),
  'zeros and then the end of a record': (line) => Buffer.concat([Buffer.alloc(700), line.subarray(20)]),
  'zeros and then whole records': (line) => Buffer.concat([Buffer.alloc(512), Buffer.from('\n'), line, line]),
  'a record that was changed': (line) => Buffer.from(line.toString().replace('noted', 'Noted')),
  'another record of the past': (line) => line,
  noise: () => createHash('sha512').update('noise').digest(),
  'half a megabyte of noise': () => Buffer.alloc(500_000, 'no record\n'),
};

describe('a torn end', () => {
  for (const [name, torn] of Object.entries(TORN)) {
    test(`${name}: kept beside it, and said`, async () => {
      using place = new TrailPlace();
      await place.write(5);
      const before = readFileSync(place.last);
      const line = before.subarray(before.lastIndexOf(0x0a, -2) + 1);
      const bytes = torn(line);
      appendFileSync(place.last, bytes);
      await place.write(1);
      const records = await place.isWhole();
      const said = records.find(({ event }) => event === 'chain_recovered');
      assert.equal(said?.reason, 'torn');
      assert.deepEqual(said.detail, {
        bytes: bytes.length,
        kept: `${place.segments[0] ?? ''}.torn`,
        sha256: createHash('sha256').update(bytes).digest('hex'),
      });
      assert.deepEqual(readFileSync(`${place.last}.torn`), bytes);
      assert.equal(statSync(`${place.last}.torn`).mode & 0o777, 0o600);
      assert.deepEqual(place.said, ['torn']);
    });
  }

  test('again and again: each has a file of its own', async () => {
    using place = new TrailPlace();
    for (let start = 0; start < 3; start += 1) {
      await place.write(1);
      appendFileSync(place.last, 'half');
    }
    await place.write(1);
    await place.isWhole();
    for (const end of ['.torn', '.torn-2', '.torn-3']) assert.ok(existsSync(`${place.last}${end}`));
  });

  test('a batch whose middle never came to the disk: cut before the hole', async () => {
    using place = new TrailPlace();
    await place.write(3);
    const whole = readFileSync(place.last).length;
    const trail = await place.open({ checkpointMs: DAY_MS });
    for (let number = 0; number < 50; number += 1) trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    // As after a cut of the power: what was not signed yet is there in part, and nobody has closed it.
    const bytes = readFileSync(place.last);
    await trail.close(STOPPED);
    bytes.fill(0, whole + 9_000, whole + 13_000);
    writeFileSync(place.last, bytes);
    writeFileSync(`${place.stateDir}/audit/head.json`, JSON.stringify(place.heads[0]));
    place.heads.length = 1;
    await place.write(2);
    const records = await place.isWhole();
    assert.equal(records.find(({ event }) => event === 'chain_recovered')?.reason, 'torn');
    assert.ok(records.length > 20);
  });

  test('a change of what was signed is no torn end: nothing is cut, and it is found', async () => {
    using place = new TrailPlace();
    await place.write(20);
    const bytes = readFileSync(place.last);
    bytes.writeUInt8(0x41, 3000);
    writeFileSync(place.last, bytes);
    await place.write(1);
    assert.ok(!existsSync(`${place.last}.torn`));
    const report = await place.verify();
    assert.ok(!report.ok);
    assert.equal(report.problems[0]?.line, bytes.subarray(0, 3000).toString('latin1').split('\n').length);
  });

  test('more of it than any batch: the start ends, and says what to do', async () => {
    using place = new TrailPlace();
    await place.write(1);
    appendFileSync(place.last, Buffer.alloc(1_200_000));
    await assert.rejects(
      place.open(),
      (error) =>
        error instanceof StateError && error.message.includes('ends with 1 MiB that are no records; move it away'),
    );
  });

  test('an empty segment is one that was just begun', async () => {
    using place = new TrailPlace();
    await place.write(3);
    const next = segmentName((await place.records()).length + 1, '2026-11-20');
    writeFileSync(place.file(next), '');
    await place.write(1);
    await place.isWhole();
  });

  test('a segment with nothing but half a record', async () => {
    using place = new TrailPlace();
    await place.write(3);
    const next = segmentName((await place.records()).length + 1, '2026-11-21');
    writeFileSync(place.file(next), '{"action":');
    await place.write(1);
    await place.isWhole();
    assert.equal(readFileSync(place.file(`${next}.torn`), 'utf8'), '{"action":');
  });

  test('a tail that was cut off is said, whoever cut it', async () => {
    using place = new TrailPlace();
    await place.write(5);
    const bytes = readFileSync(place.last);
    truncateSync(place.last, bytes.indexOf(0x0a, 1500) + 1);
    await place.write(1);
    const said = (await place.records()).find(({ event }) => event === 'chain_recovered');
    assert.equal(said?.reason, 'tail_missing');
    assert.equal(said.detail?.['seq'], 8);
    assert.deepEqual(place.said, ['tail_missing']);
    const report = await place.verify();
    assert.ok(report.problems.some(({ kind }) => kind === 'head_differs' || kind === 'head_missing'));
  });

  test('a trail that is gone altogether is said', async () => {
    using place = new TrailPlace();
    await place.write(5);
    rmSync(place.dir, { recursive: true });
    await place.write(1);
    assert.deepEqual(place.said, ['tail_missing']);
    assert.equal((await place.records())[1]?.reason, 'tail_missing');
  });
});

describe('what is no segment', () => {
  test('a link in the place of the last segment is not followed', async () => {
    using place = new TrailPlace();
    await place.write(2);
    renameSync(place.last, `${place.stateDir}/elsewhere`);
    symlinkSync(`${place.stateDir}/elsewhere`, place.file('000000000001-2026-11-20.ndjson'));
    await assert.rejects(place.open(), StateError);
  });

  test('a FIFO in its place hangs nobody', async () => {
    using place = new TrailPlace();
    await place.write(2);
    rmSync(place.last);
    assert.equal(spawnSync('mkfifo', [place.file('000000000001-2026-11-20.ndjson')]).status, 0);
    await assert.rejects(within(place.open(), 'the start to end'), StateError);
  });

  test('a directory that others may write to is refused', async () => {
    using place = new TrailPlace();
    mkdirSync(place.dir);
    chmodSync(place.dir, 0o777);
    await assert.rejects(
      place.open(),
      (error) => error instanceof StateError && /the audit directory .*mode 0777/.test(error.message),
    );
  });

  test('a key that others may read is refused', async () => {
    using place = new TrailPlace();
    await place.write(1);
    chmodSync(`${place.stateDir}/audit/key.pem`, 0o644);
    await assert.rejects(
      place.open(),
      (error) => error instanceof StateError && error.message.includes('run chmod 600'),
    );
  });
});

describe('while it is written', () => {
  test('the segment is removed: put back as it was, and said', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    for (let number = 0; number < 100; number += 1) trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    rmSync(place.last);
    await waitUntil(() => place.said.length > 0, 'the removal to be seen');
    trail.add(REFUSED);
    await trail.close(STOPPED);
    const records = await place.isWhole();
    assert.ok(records.length > 100);
    const said = records.find(({ event }) => event === 'chain_recovered');
    assert.equal(said?.reason, 'segment_removed');
    assert.equal(place.said[0], 'disturbed');
  });

  test('the segment is removed just before the end: put back all the same', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    rmSync(place.last);
    await trail.close(STOPPED);
    const records = await place.isWhole();
    assert.ok(records.some(({ event }) => event === 'stopped'));
  });

  test('the directory is removed: the segment, the key and the lock are there again', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    rmSync(place.dir, { recursive: true });
    await waitUntil(() => existsSync(place.file('audit.pub.pem')), 'the key to be there again');
    await assert.rejects(place.open(), StateInUseError);
    trail.add(REFUSED);
    await trail.close(STOPPED);
    await place.isWhole();
    assert.equal(statSync(place.dir).mode & 0o777, 0o700);
    await place.write(1);
    await place.isWhole();
  });

  for (const [name, put] of Object.entries({
    'a link': (file: string) => {
      symlinkSync('/etc/passwd', file);
    },
    'a FIFO': (file: string) => {
      assert.equal(spawnSync('mkfifo', [file]).status, 0);
    },
    'another file': (file: string) => {
      writeFileSync(file, 'not a record\n');
    },
    'a directory': (file: string) => {
      mkdirSync(file);
    },
  })) {
    test(`${name} in its place: moved away untouched, the segment put back`, async () => {
      using place = new TrailPlace();
      const trail = await place.open();
      trail.add(REFUSED, true);
      assert.ok(await trail.durable(trail.sequence));
      const file = place.last;
      rmSync(file);
      put(file);
      await waitUntil(() => place.said.length > 0, 'it to be seen');
      trail.add(REFUSED);
      await trail.close(STOPPED);
      const records = await place.isWhole();
      assert.equal(records.find(({ event }) => event === 'chain_recovered')?.reason, 'segment_replaced');
    });
  }

  test('the end of the segment is cut off: said, and verify finds it', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    for (let number = 0; number < 10; number += 1) trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    truncateSync(place.last, 2000);
    await waitUntil(() => place.said.length > 0, 'it to be seen');
    await trail.close(STOPPED);
    assert.equal((await place.records()).find(({ event }) => event === 'chain_recovered')?.reason, 'segment_cut');
    assert.ok(!(await place.verify()).ok);
  });

  for (const [name, andThen] of [
    ['its end is cut off, and at once something is written', () => undefined],
    ['its end is cut off, and it is removed', rmSync],
  ] as const) {
    test(`${name}: what follows can be read, and nothing of it is lost`, async () => {
      using place = new TrailPlace();
      const trail = await place.open();
      for (let number = 0; number < 10; number += 1) trail.add(REFUSED, true);
      assert.ok(await trail.durable(trail.sequence));
      const before = trail.sequence;
      const file = place.last;
      truncateSync(file, 2000);
      andThen(file);
      trail.add(REFUSED, true);
      await waitUntil(() => place.said.length > 0, 'it to be seen');
      trail.add(REFUSED);
      await trail.close(STOPPED);
      assert.ok(!readFileSync(place.last).includes(0), 'a hole');
      const read = await place.records();
      const after = read.filter(({ seq }) => seq > before).map(({ seq }) => seq);
      assert.deepEqual(
        after,
        Array.from({ length: trail.sequence - before }, (_, nth) => before + 1 + nth),
      );
      assert.ok(read.some(({ reason }) => reason === 'segment_cut'));
      assert.ok(!(await place.verify()).ok);
    });
  }

  test('something has the name of the next segment already: moved away', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    const next = segmentName(trail.sequence + 2, '2026-11-21');
    symlinkSync('/etc/passwd', place.file(next));
    place.pass(DAY_MS);
    trail.add(REFUSED, true);
    assert.ok(await trail.durable(trail.sequence));
    await trail.close(STOPPED);
    await place.isWhole();
    assert.ok(place.segments.includes(next));
  });

  test('a second writer is refused; after the first has ended, it is not', async () => {
    using place = new TrailPlace();
    const trail = await place.open();
    await assert.rejects(
      place.open(),
      (error) =>
        error instanceof StateInUseError && error.message.includes('another guardbee writes the audit trail in'),
    );
    await trail.close(STOPPED);
    await place.write(1);
  });

  test('of two that start at once, one writes', async () => {
    using place = new TrailPlace();
    const both = await Promise.allSettled([place.open(), place.open()]);
    const opened = both.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    assert.equal(opened.length, 1);
    await opened[0]?.close(STOPPED);
  });
});

test('a look at the disk that failed once, while nobody asked anything, keeps nobody out', async () => {
  using place = new TrailPlace();
  const trail = await place.open();
  trail.add(REFUSED, true);
  assert.ok(await trail.durable(trail.sequence));
  const handle = await open(place.last);
  const prototype = Object.getPrototypeOf(handle) as { stat: unknown };
  await handle.close();
  const { stat } = prototype;
  try {
    prototype.stat = () => Promise.reject(Object.assign(new Error('as the test wants it'), { code: 'EIO' }));
    await waitUntil(() => trail.trouble === 'EIO', 'the look to fail');
  } finally {
    prototype.stat = stat;
  }
  await waitUntil(() => trail.trouble === null, 'the next look');
  assert.deepEqual(place.said, ['failing EIO', 'recovered']);
  assert.equal(await trail.close(STOPPED), 0);
  await place.isWhole();
});
