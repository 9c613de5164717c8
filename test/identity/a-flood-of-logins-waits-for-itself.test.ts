import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FairQueue } from '../../src/identity/fair-queue.js';

function filled(capacity: number, items: readonly (readonly [address: string, name: string, item: string])[]) {
  const queue = new FairQueue<string>(capacity);
  const dropped = items.map(([address, name, item]) => queue.push(address, name, item)).filter((one) => one !== null);
  return { queue, dropped };
}

function all(queue: FairQueue<string>): string[] {
  const order: string[] = [];
  for (let item = queue.shift(); item !== null; item = queue.shift()) order.push(item);
  return order;
}

describe('a flood of logins waits for itself', () => {
  test('addresses take turns, and so do the names that one of them claims', () => {
    const { queue } = filled(100, [
      ['a', 'x', 'ax1'],
      ['a', 'x', 'ax2'],
      ['a', 'x', 'ax3'],
      ['a', 'y', 'ay1'],
      ['b', 'x', 'bx1'],
      ['b', 'x', 'bx2'],
      ['c', 'z', 'cz1'],
    ]);
    assert.deepEqual(all(queue), ['ax1', 'bx1', 'cz1', 'ay1', 'bx2', 'ax2', 'ax3']);
  });

  test('one from elsewhere waits for one turn, however many are before it', () => {
    const { queue } = filled(
      256,
      Array.from({ length: 256 }, (_, i) => ['flood', `n${i % 3}`, `f${i}`] as const),
    );
    assert.equal(queue.push('elsewhere', 'alice', 'right'), 'f255');
    queue.shift();
    assert.equal(queue.shift(), 'right');
  });

  test('another name from the address of a flood waits for one turn too', () => {
    const { queue } = filled(
      256,
      Array.from({ length: 256 }, (_, i) => ['flood', 'admin', `f${i}`] as const),
    );
    assert.equal(queue.push('flood', 'alice', 'right'), 'f255');
    queue.shift();
    assert.equal(queue.shift(), 'right');
  });

  test('the longest lane loses its newest, which may be the one that has just come', () => {
    const { queue, dropped } = filled(3, [
      ['a', 'x', '1'],
      ['a', 'x', '2'],
      ['b', 'x', '3'],
      ['a', 'x', '4'],
    ]);
    assert.deepEqual(dropped, ['4']);
    assert.deepEqual(all(queue), ['1', '3', '2']);
  });

  test('whatever comes: none is lost unsaid, none twice, never more than there is room for, and turns are taken', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.constantFrom('x', 'y')) },
      { weight: 1, arbitrary: fc.constant(null) },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.array(step, { maxLength: 120 }), (capacity, steps) => {
        const queue = new FairQueue<{ readonly address: string; readonly serial: number }>(capacity);
        const waiting = new Set<number>();
        let serial = 0;
        for (const one of steps) {
          if (one === null) {
            const item = queue.shift();
            assert.equal(item === null, waiting.size === 0);
            if (item !== null) assert.ok(waiting.delete(item.serial));
          } else {
            const [address, name] = one;
            waiting.add(++serial);
            const lost = queue.push(address, name, { address, serial });
            assert.equal(lost !== null, waiting.size > capacity);
            if (lost !== null) assert.ok(waiting.delete(lost.serial));
          }
          assert.equal(queue.size, waiting.size);
        }
        // As many turns as there are addresses serve each of them once.
        const left = queue.drain();
        assert.deepEqual(left.map((item) => item.serial).sort(), [...waiting].sort());
        for (const item of left) queue.push(item.address, 'x', item);
        const addresses = new Set(left.map((item) => item.address));
        const served = new Set(Array.from(addresses, () => queue.shift()?.address));
        assert.deepEqual(served, addresses);
      }),
    );
  });
});
