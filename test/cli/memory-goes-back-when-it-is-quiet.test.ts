/** Memory that the start or a busy time has left behind is given back in a quiet moment, once, and never while there is work. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { type Heap, QuietCollection } from '../../src/cli/quiet-collection.js';
import { startGuard } from '../support/guard.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

const MB = 1_000_000;

/** A heap that says what it is told to say; a collection leaves it at `after`. */
class ToldHeap implements Heap {
  taken = 35 * MB;
  used = 20 * MB;
  share = 0;
  clock = 0;
  after = 22 * MB;
  pauseMs = 40;
  collected = 0;
  withCode = 0;

  size(): { taken: number; used: number } {
    return { taken: this.taken, used: this.used };
  }

  busy(): number {
    const { share } = this;
    this.share = 0;
    return share;
  }

  collect(code: boolean): void {
    this.collected += 1;
    if (code) this.withCode += 1;
    this.taken = this.after;
    this.used = Math.min(this.used, this.after);
    this.clock += this.pauseMs;
  }

  now(): number {
    return this.clock;
  }
}

/** Looks `times` times, a minute apart. */
function look(collection: QuietCollection, heap: ToldHeap, times = 1): void {
  for (let i = 0; i < times; i += 1) {
    heap.clock += 60_000;
    collection.look();
  }
}

describe('when memory is given back', () => {
  test('what a start has left is collected once', () => {
    const heap = new ToldHeap();
    const collection = new QuietCollection(heap);
    look(collection, heap, 10);
    assert.deepEqual([heap.collected, heap.withCode], [1, 1]);
  });

  test('after each time in which the heap has grown again', () => {
    const heap = new ToldHeap();
    const collection = new QuietCollection(heap);
    for (let busy = 1; busy <= 5; busy += 1) {
      look(collection, heap, 3);
      assert.equal(heap.collected, busy);
      heap.taken = 160 * MB;
      heap.used = 70 * MB;
    }
    assert.equal(heap.withCode, 1, 'what requests call stays compiled');
  });

  test('not while there is work', () => {
    const heap = new ToldHeap();
    const collection = new QuietCollection(heap);
    for (let i = 0; i < 10; i += 1) {
      heap.share = 0.06;
      look(collection, heap);
    }
    assert.equal(heap.collected, 0);
    look(collection, heap);
    assert.equal(heap.collected, 1);
  });

  test('no second time where nearly all of it is in use after the first', () => {
    const heap = new ToldHeap();
    heap.after = 27 * MB;
    const collection = new QuietCollection(heap);
    look(collection, heap, 10);
    assert.equal(heap.collected, 1);
  });

  test('not where so much is in use that the pause would be long', () => {
    const heap = new ToldHeap();
    heap.taken = 400 * MB;
    heap.used = 250 * MB;
    const collection = new QuietCollection(heap);
    look(collection, heap, 10);
    assert.equal(heap.collected, 0);
  });

  test('one that wins nothing is tried twice and not for ever', () => {
    const heap = new ToldHeap();
    heap.after = heap.taken;
    const collection = new QuietCollection(heap);
    look(collection, heap, 50);
    assert.equal(heap.collected, 2);
  });

  test('what is swept later than collected is not taken for grown', () => {
    const heap = new ToldHeap();
    heap.after = 33 * MB;
    heap.used = 30 * MB;
    const collection = new QuietCollection(heap);
    heap.used = 20 * MB;
    look(collection, heap);
    assert.equal(heap.collected, 1);
    heap.taken = 21 * MB;
    look(collection, heap, 10);
    assert.equal(heap.collected, 1);
    heap.taken = 32 * MB;
    look(collection, heap);
    assert.equal(heap.collected, 2);
  });

  test('pauses take a thousandth of the time at most', () => {
    const heap = new ToldHeap();
    heap.pauseMs = 1_000;
    const collection = new QuietCollection(heap);
    for (let i = 0; i < 1_500; i += 1) {
      heap.clock += 5_000;
      heap.taken = 160 * MB;
      heap.used = 70 * MB;
      collection.look();
    }
    assert.ok(heap.collected >= 5, String(heap.collected));
    assert.ok(heap.collected * heap.pauseMs <= heap.clock / 1_000 + heap.pauseMs, String(heap.collected));
  });
});

/** Writes what share of its heap a process still uses after each collection that it asked for. V8 collects by itself too, later. */
const REPORTER = `
const vm = require('node:vm');
const { getHeapStatistics } = require('node:v8');
const { appendFileSync } = require('node:fs');
const run = vm.runInNewContext;
vm.runInNewContext = (...args) => {
  const before = getHeapStatistics().used_heap_size;
  run(...args);
  const left = getHeapStatistics().used_heap_size / before;
  appendFileSync(__filename + '.txt', process.pid + ' ' + left.toFixed(3) + ' ' + typeof gc + '\\n');
};
`;

test('a guard that is left alone gives back what its start took, in each of its processes', async () => {
  using directory = new TemporaryDirectory();
  const reporter = directory.file('reporter.cjs');
  writeFileSync(reporter, REPORTER);
  await using guard = await startGuard({
    upstream: 'http://127.0.0.1:9',
    top: { processes: 2 },
    nodeArgs: ['--require', reporter],
  });
  const workers = readFileSync(`/proc/${String(guard.pid)}/task/${String(guard.pid)}/children`, 'utf8');
  const pids = [String(guard.pid), ...workers.trim().split(' ')];
  assert.equal(pids.length, 3);
  const collections = await waitUntil(
    () => {
      if (!existsSync(`${reporter}.txt`)) return null;
      const lines = readFileSync(`${reporter}.txt`, 'utf8').trim().split('\n');
      const reports = lines.map((line) => line.split(' '));
      return pids.every((pid) => reports.some(([of]) => of === pid)) ? reports : null;
    },
    'a collection in each process',
    20_000,
  );
  for (const pid of pids) {
    const [first, ...others] = collections.filter(([of]) => of === pid);
    assert.ok(Number(first?.[1]) < 1, `${pid}: ${String(first?.[1])} of what was in use`);
    assert.ok(others.length <= 1, `${pid}: ${String(others.length + 1)} collections`);
    assert.equal(first?.[2], 'undefined', 'code that runs later finds no gc');
  }
});
