import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Failures, capOf, delayOf } from '../../src/identity/throttle.js';
import { addressGroup } from '../../src/net/address-group.js';

const SETTINGS = { after: 5, delayMs: 250, mostMs: 4_000 };
const MINUTE = 60_000;

function delays(failures: Failures, times: readonly number[]): number[] {
  return times.map((nowMs) => delayOf(SETTINGS, failures.add('192.168.1.5', capOf(SETTINGS), nowMs)));
}

const settings = fc
  .record({
    after: fc.integer({ min: 1, max: 1000 }),
    delayMs: fc.integer({ min: 1, max: 60_000 }),
    times: fc.integer({ min: 1, max: 60_000 }),
  })
  .map(({ after, delayMs, times }) => ({ after, delayMs, mostMs: Math.min(60_000, delayMs * times) }));

describe('failures are slowed and forgiven', () => {
  test('five cost nothing, each further one twice as much as the last, up to the most', () => {
    assert.deepEqual(
      delays(new Failures(), Array<number>(12).fill(0)),
      [0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 4000, 4000],
    );
  });

  test('a failure that took its time is slowed all the same', () => {
    const times = Array.from({ length: 7 }, (_, i) => i * 2_000);
    assert.deepEqual(delays(new Failures(), times), [0, 0, 0, 0, 0, 250, 500]);
  });

  test('one is forgiven each minute: whoever mistypes now and then is never slowed', () => {
    assert.deepEqual(
      new Set(
        delays(
          new Failures(),
          Array.from({ length: 100 }, (_, i) => i * MINUTE),
        ),
      ),
      new Set([0]),
    );
  });

  test('whoever stops is back at no delay after minutes, however many there were', () => {
    const failures = new Failures();
    delays(failures, Array<number>(10_000).fill(0));
    assert.deepEqual(delays(failures, [5 * MINUTE + 1]), [250]);
    assert.deepEqual(delays(failures, [12 * MINUTE]), [0]);
  });

  test('a clock that goes back forgives nothing and breaks nothing', () => {
    assert.deepEqual(delays(new Failures(), [9, 8, 7, 6, 5, 4, 3]), [0, 0, 0, 0, 0, 250, 500]);
  });

  test('addresses are counted apart', () => {
    const failures = new Failures();
    delays(failures, Array<number>(20).fill(0));
    assert.equal(failures.add('192.168.1.6', capOf(SETTINGS), 0), 1);
  });

  test('memory is bounded, and whoever failed last is remembered', () => {
    const failures = new Failures(100);
    for (let i = 0; i < 10_000; i++) {
      failures.add(`address ${i}`, 10, i);
      failures.add('the attacker', 10, i);
    }
    assert.equal(failures.size, 100);
    assert.ok(failures.add('the attacker', 10, 10_000) > 9);
    assert.equal(failures.add('address 0', 10, 10_000), 1);
  });

  test('a delay never shrinks with more failures, and is never more than the most', () => {
    fc.assert(
      fc.property(settings, fc.array(fc.integer({ min: 0, max: 2 * MINUTE }), { maxLength: 60 }), (set, gaps) => {
        const failures = new Failures();
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          const count = failures.add('a', capOf(set), nowMs);
          assert.ok(count >= 1 && count <= capOf(set));
          const delayMs = delayOf(set, count);
          assert.ok(delayMs >= 0 && delayMs <= set.mostMs, String(delayMs));
          assert.ok(delayMs >= delayOf(set, count - 1));
          if (count <= set.after) assert.equal(delayMs, 0);
        }
      }),
    );
  });

  test('the most is reached, and forgiven within the minutes that the cap says', () => {
    fc.assert(
      fc.property(settings, (set) => {
        const failures = new Failures();
        let count = 0;
        for (let i = 0; i < capOf(set) + 3; i++) count = failures.add('a', capOf(set), 0);
        assert.equal(delayOf(set, count), set.mostMs);
        assert.equal(failures.add('a', capOf(set), capOf(set) * MINUTE), 1);
      }),
      { numRuns: 30 },
    );
  });

  test('IPv6 is counted by /64, IPv4 by address, whatever it looks like', () => {
    assert.equal(addressGroup('2001:db8:1:2::1'), addressGroup('2001:db8:1:2:ffff:ffff:ffff:ffff'));
    assert.notEqual(addressGroup('2001:db8:1:2::1'), addressGroup('2001:db8:1:3::1'));
    assert.notEqual(addressGroup('2001:db8:1:2::1'), addressGroup('2001:db8:0:2::1'));
    assert.notEqual(addressGroup('::1'), addressGroup('1::'));
    assert.equal(addressGroup('192.168.1.5'), '192.168.1.5');
    assert.notEqual(addressGroup('192.168.1.5'), addressGroup('192.168.1.6'));
    assert.equal(addressGroup('no address'), 'no address');
  });
});
