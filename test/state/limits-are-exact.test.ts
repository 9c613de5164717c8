/** Counters against plain simulations of what they promise, with a clock that the test moves. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { CountRule } from '../../src/policy/limit-rules.js';
import { Buckets, Slots, Windows, windowOf } from '../../src/state/limit-counters.js';

const rule = (keys: Partial<CountRule> = {}): CountRule => ({
  kind: 'rate',
  id: 'main/rate/1',
  name: 'rate',
  requests: 10,
  perMs: 60_000,
  burst: keys.requests ?? 10,
  by: 'identity',
  shared: false,
  onUnavailable: 'local',
  ...keys,
});

const NOW = Date.UTC(2026, 10, 22, 12, 0, 0);
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describe('a rate', () => {
  test('allows what a simulation with whole numbers allows, whatever comes when', () => {
    fc.assert(
      fc.property(
        fc.record({
          requests: fc.integer({ min: 1, max: 5000 }),
          perS: fc.integer({ min: 1, max: 86_400 }),
          burst: fc.integer({ min: 1, max: 200 }),
        }),
        fc.array(fc.tuple(fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 1, max: 40 })), {
          minLength: 1,
          maxLength: 60,
        }),
        ({ requests, perS, burst }, arrivals) => {
          const one = rule({ requests, perMs: perS * 1000, burst });
          const buckets = new Buckets(100);
          // In units of which a request costs `perMs`, and of which `requests` come each millisecond: all whole.
          const cost = BigInt(one.perMs);
          const full = BigInt(burst) * cost;
          let level = full;
          let now = NOW;
          for (const [pause, asked] of arrivals) {
            now += pause;
            level += BigInt(pause) * BigInt(requests);
            if (level > full) level = full;
            for (let i = 0; i < asked; i++) {
              const allowed = buckets.waitMs(one, 'me', now) === 0;
              if (allowed) buckets.take(one, 'me', now);
              assert.equal(allowed, level >= cost, `request ${String(i)} of ${String(asked)}`);
              if (level >= cost) level -= cost;
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('says exactly when the next request may come', () => {
    const one = rule({ requests: 7, perMs: 60_000 });
    const buckets = new Buckets(100);
    for (let i = 0; i < 7; i++) buckets.take(one, 'me', NOW);
    const waitMs = buckets.waitMs(one, 'me', NOW);
    assert.ok(Math.abs(waitMs - 60_000 / 7) < 0.001, String(waitMs));
    assert.ok(buckets.waitMs(one, 'me', NOW + Math.floor(waitMs)) > 0);
    assert.equal(buckets.waitMs(one, 'me', NOW + Math.ceil(waitMs)), 0);
    assert.deepEqual(buckets.balance(one, 'you', NOW), { remaining: 7, resetMs: 0 });
    assert.equal(buckets.balance(one, 'me', NOW + 60_000).remaining, 7, 'and is full after the whole time');
  });

  test('is not widened by requests whose times come out of order, nor by a clock that is set back', () => {
    const one = rule({ requests: 10, perMs: 10_000 });
    const buckets = new Buckets(100);
    for (let i = 0; i < 10; i++) buckets.take(one, 'me', NOW);
    for (let i = 0; i < 50; i++) {
      buckets.waitMs(one, 'me', NOW - 900);
      assert.ok(buckets.waitMs(one, 'me', NOW) > 0, 'going back and forth gives nothing');
    }
    const aDayAgo = NOW - DAY;
    assert.ok(buckets.waitMs(one, 'me', aDayAgo) > 0);
    assert.equal(buckets.waitMs(one, 'me', aDayAgo + 1000), 0, 'and does not stop for a day either');
  });

  test('remembers a bounded number of callers, and forgets those first that are furthest from their limit', () => {
    const one = rule({ requests: 10, perMs: 60_000 });
    const buckets = new Buckets(1000);
    for (let i = 0; i < 10; i++) buckets.take(one, 'busy', NOW);
    for (let i = 0; i < 50_000; i++) {
      buckets.take(one, `stranger ${String(i)}`, NOW);
      assert.ok(buckets.size <= 1000);
    }
    assert.ok(buckets.waitMs(one, 'busy', NOW) > 0, 'whoever is at the limit is not forgotten');
    // All are full by now but the one that asks: room is made of them, many at once.
    buckets.take(one, 'late', NOW + 120_000);
    assert.ok(buckets.size < 1000, String(buckets.size));
  });

  test('a smaller burst of a new policy holds at once', () => {
    const buckets = new Buckets(100);
    buckets.take(rule({ requests: 100 }), 'me', NOW);
    assert.equal(buckets.balance(rule({ requests: 5, burst: 5 }), 'me', NOW).remaining, 5);
  });
});

describe('a quota', () => {
  const quota = (keys: Partial<CountRule> = {}): CountRule => rule({ kind: 'quota', requests: 3, perMs: DAY, ...keys });

  test('begins anew at the turn of the window in UTC, and not a millisecond before', () => {
    const windows = new Windows(100);
    const evening = Date.UTC(2026, 10, 22, 23, 59, 59, 999);
    for (let i = 0; i < 3; i++) windows.take(quota(), 'me', evening);
    assert.equal(windows.waitMs(quota(), 'me', evening), 1);
    assert.deepEqual(windows.balance(quota(), 'me', evening), { remaining: 0, resetMs: 1 });
    assert.equal(windows.waitMs(quota(), 'me', evening + 1), 0);
    assert.deepEqual(windows.balance(quota(), 'me', evening + 1), { remaining: 3, resetMs: DAY });
  });

  test('has hours that begin at the hour, days at midnight and weeks on Mondays', () => {
    assert.equal(windowOf(HOUR, Date.UTC(2026, 10, 22, 12, 34, 56)), Date.UTC(2026, 10, 22, 12));
    assert.equal(windowOf(DAY, Date.UTC(2026, 10, 22, 12, 34, 56)), Date.UTC(2026, 10, 22));
    assert.equal(windowOf(7 * DAY, Date.UTC(2026, 10, 22, 12)), Date.UTC(2026, 10, 16), 'a Monday');
  });

  test('gives nothing again to a clock that swings around the turn, and recovers from one that was years ahead', () => {
    const windows = new Windows(100);
    const midnight = Date.UTC(2026, 10, 23);
    for (let i = 0; i < 3; i++) windows.take(quota(), 'me', midnight);
    assert.ok(windows.waitMs(quota(), 'me', midnight - 5) > 0);
    assert.ok(windows.waitMs(quota(), 'me', midnight) > 0);
    assert.equal(windows.waitMs(quota(), 'me', midnight - 3 * 365 * DAY), 0);
  });

  test('is what it was after being kept and read again, and nothing of it where the length has changed', () => {
    const windows = new Windows(100);
    for (let i = 0; i < 3; i++) windows.take(quota(), 'me', NOW);
    const again = new Windows(100);
    again.restore(windows.state('main/quota'));
    assert.ok(again.waitMs(quota(), 'me', NOW) > 0);
    assert.equal(again.waitMs(quota({ perMs: HOUR }), 'me', NOW), 0);
  });

  test('remembers a bounded number of callers, those that have used most', () => {
    const windows = new Windows(1000);
    for (let i = 0; i < 3; i++) windows.take(quota(), 'busy', NOW);
    for (let i = 0; i < 20_000; i++) windows.take(quota(), `stranger ${String(i)}`, NOW);
    assert.equal(windows.size, 1000);
    assert.ok(windows.waitMs(quota(), 'busy', NOW) > 0);
  });
});

test('slots are as many as there are, by rule and caller, and nothing is kept of those that were given back', () => {
  const slots = new Slots();
  assert.ok(slots.take('a', 2, 'me'));
  assert.ok(slots.take('a', 2, 'me'));
  assert.ok(!slots.take('a', 2, 'me'));
  assert.ok(slots.take('a', 2, 'you'));
  assert.ok(slots.take('b', 2, 'me'));
  slots.giveBack('a', 'me');
  assert.ok(slots.take('a', 2, 'me'));
  assert.equal(slots.size, 4);
  for (const [id, key] of [
    ['a', 'me'],
    ['a', 'me'],
    ['a', 'you'],
    ['b', 'me'],
  ] as const)
    slots.giveBack(id, key);
  assert.equal(slots.size, 0);
  assert.throws(() => {
    slots.giveBack('a', 'me');
  }, TypeError);
});
