/** Retention: what is older than it is kept goes, in whole segments, and the chain says so; never on a clock's bare word. */
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { findExpired, removeSegments } from '../../src/observe/audit/retention.js';
import type { AuditTrail } from '../../src/observe/audit/trail.js';
import { DAY_MS, HOUR_MS, REFUSED, TrailPlace } from './opened-trail.js';

const STOPPED = { event: 'stopped', result: 'noted' } as const;
const KEEP = { keepMs: 10 * DAY_MS };

/** One segment a day. */
async function days(place: TrailPlace, count: number, settings = KEEP): Promise<AuditTrail> {
  const trail = await place.open(settings);
  for (let day = 0; day < count; day += 1) {
    for (let number = 0; number < 3; number += 1) trail.add(REFUSED);
    if (day < count - 1) place.pass(DAY_MS);
  }
  await trail.durable(trail.sequence);
  return trail;
}

test('whole segments, the oldest, and the chain is whole without them', async () => {
  using place = new TrailPlace();
  const trail = await days(place, 15);
  assert.equal(place.segments.length, 15);
  const goes = (await place.records()).filter(({ time }) => time < '2026-11-24T13');
  await trail.retain();
  assert.deepEqual(place.segments.map((name) => name.slice(13, 23)).slice(0, 2), ['2026-11-24', '2026-11-25']);
  assert.equal(place.segments.length, 11);
  await trail.close(STOPPED);
  place.heads.splice(0, place.heads.length - 3);
  const report = await place.verify();
  assert.deepEqual(report.problems, []);
  assert.ok((report.first?.seq ?? 0) > 1);
  const said = (await place.records()).find(({ event }) => event === 'segments_removed');
  const last = goes.findLast(({ event }) => event === 'segment_sealed' && goes.length > 0);
  assert.equal(said?.detail?.['segments'], 4);
  assert.equal(said.detail['through'], (report.first?.seq ?? 0) - 1);
  assert.ok(last !== undefined);
  assert.deepEqual(place.said, [`removed 4 through ${String(said.detail['through'])}`]);
});

test('nothing is old enough, and nothing is removed where all is kept for ever', async () => {
  using place = new TrailPlace();
  const trail = await days(place, 5);
  await trail.retain();
  await trail.close(STOPPED);
  using other = new TrailPlace();
  const kept = await days(other, 30, { keepMs: Infinity });
  await kept.retain();
  await kept.close(STOPPED);
  assert.deepEqual([place.segments.length, other.segments.length], [5, 30]);
  await place.isWhole();
  await other.isWhole();
});

test('the segment that is written stays, however old it is', async () => {
  using place = new TrailPlace();
  const trail = await days(place, 1);
  place.ticksMs += 5 * HOUR_MS;
  place.pass(6 * DAY_MS);
  await trail.retain();
  assert.equal(place.segments.length, 1);
  await trail.close(STOPPED);
});

describe('the clock', () => {
  test('proves itself for an hour of this run first', async () => {
    using place = new TrailPlace();
    await (await days(place, 15)).close(STOPPED);
    const trail = await place.open(KEEP);
    place.pass(HOUR_MS - 1);
    await trail.retain();
    assert.equal(place.segments.length, 15);
    place.pass(1);
    await trail.retain();
    assert.equal(place.segments.length, 11);
    await trail.close(STOPPED);
  });

  test('jumps ahead by years: nothing is removed, not for a week', async () => {
    using place = new TrailPlace();
    const trail = await days(place, 5);
    place.nowMs += 3650 * DAY_MS;
    await trail.retain();
    for (let hour = 0; hour < 6 * 24; hour += 1) {
      place.pass(HOUR_MS);
      // For a day there is nothing to record.
      if (hour > 24) trail.add(REFUSED, true);
      await trail.durable(trail.sequence);
      await trail.retain();
    }
    await trail.close(STOPPED);
    assert.equal(place.segments.length, 11);
    assert.ok(place.segments[0]?.startsWith('000000000001-'));
    // A restart knows no less.
    const again = await place.open(KEEP);
    place.pass(2 * HOUR_MS);
    await again.retain();
    assert.ok(place.segments[0]?.startsWith('000000000001-'));
    await again.close(STOPPED);
    await place.isWhole();
  });

  test('is right after a week of standing by it: the machine was off', async () => {
    using place = new TrailPlace();
    const trail = await days(place, 3);
    place.pass(30 * DAY_MS);
    for (let day = 0; day < 8; day += 1) {
      trail.add(REFUSED);
      await trail.durable(trail.sequence);
      place.pass(DAY_MS);
    }
    await trail.retain();
    await trail.close(STOPPED);
    // The third was sealed when the machine was on again.
    assert.ok(place.said[0]?.startsWith('removed 2 '), place.said.join());
  });

  test('goes back after it had jumped: nothing of the past is taken for old', async () => {
    using place = new TrailPlace();
    const trail = await days(place, 3);
    place.nowMs += 3650 * DAY_MS;
    trail.add(REFUSED);
    place.nowMs -= 3650 * DAY_MS;
    trail.add(REFUSED);
    place.pass(2 * HOUR_MS);
    await trail.retain();
    await trail.close(STOPPED);
    assert.deepEqual(
      place.said.filter((said) => said.startsWith('removed')),
      [],
    );
    await place.isWhole();
  });
});

test('stopped between the record and the removal, or in the middle of it: the chain is whole, and the next run ends it', async () => {
  for (const gone of [0, 1, 3]) {
    using place = new TrailPlace();
    const trail = await days(place, 15);
    const expired = await findExpired(place.dir, KEEP.keepMs, place.nowMs);
    assert.ok(expired !== null);
    assert.equal(expired.segments.length, 4);
    const { seq, hash } = expired.last;
    trail.add({ event: 'segments_removed', result: 'noted', detail: { hash, segments: 4, through: seq } });
    trail.checkpoint();
    await trail.close(STOPPED);
    await removeSegments(place.dir, expired.segments.slice(0, gone));
    place.heads.splice(0, place.heads.length - 3);
    assert.deepEqual((await place.verify()).problems, [], `${String(gone)} gone`);
    const again = await place.open(KEEP);
    place.pass(HOUR_MS);
    await again.retain();
    await again.close(STOPPED);
    assert.equal(place.segments.length, 11);
    assert.deepEqual((await place.verify()).problems, []);
  }
});

test('what was kept of a torn end goes with its segment, and nothing else does', async () => {
  using place = new TrailPlace();
  const trail = await days(place, 15);
  await trail.close(STOPPED);
  const [first, second] = place.segments;
  writeFileSync(place.file(`${first ?? ''}.torn`), 'torn');
  writeFileSync(place.file(`${first ?? ''}.torn-2`), 'torn');
  writeFileSync(place.file(`${second ?? ''}.torn.mine`), 'not ours');
  const again = await place.open(KEEP);
  place.pass(HOUR_MS);
  await again.retain();
  await again.close(STOPPED);
  assert.throws(() => readFileSync(place.file(`${first ?? ''}.torn`)));
  assert.throws(() => readFileSync(place.file(`${first ?? ''}.torn-2`)));
  assert.equal(readFileSync(place.file(`${second ?? ''}.torn.mine`), 'utf8'), 'not ours');
});

test('a segment whose end does not fit the next is left for somebody to look at, with all after it', async () => {
  using place = new TrailPlace();
  await (await days(place, 15)).close(STOPPED);
  appendFileSync(place.file(place.segments[1] ?? ''), 'what is this');
  const trail = await place.open(KEEP);
  place.pass(HOUR_MS);
  await trail.retain();
  await trail.close(STOPPED);
  assert.equal(place.segments.length, 14);
});
