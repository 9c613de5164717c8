import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { DeliveredTrail, deliverySettings, linesOf } from './delivered-trail.js';
import { TestCollector, assertSameLines, numberOf, type ReceivedBatch, type Treatment } from './test-collector.js';

async function withCollector(
  treat: (batch: ReceivedBatch) => Treatment,
  run: (delivered: DeliveredTrail, collector: TestCollector, directory: TemporaryDirectory) => Promise<void>,
): Promise<void> {
  await using collector = await TestCollector.start();
  collector.treat = (batch) => (batch.lines.length === 0 ? 200 : treat(batch));
  using directory = new TemporaryDirectory();
  await using delivered = await DeliveredTrail.open(directory, await deliverySettings(collector.url));
  await run(delivered, collector, directory);
}

describe('one record that is refused stops no other', () => {
  test('batches become as small as the collector wants them, and no record is set aside', async () => {
    await withCollector(
      ({ lines }) => (lines.length > 7 ? 413 : 200),
      async (delivered, collector, directory) => {
        await collector.untilHas(delivered.add(200));
        await delivered.close();
        assertSameLines(collector.taken, linesOf(directory));
        assert.deepEqual(delivered.undeliverable, []);
        assert.deepEqual(delivered.failures, []);
        // Not asked again and again for what it has said.
        assert.ok(collector.batches.filter(({ lines }) => lines.length > 7).length <= 8);
      },
    );
  });

  for (const status of [400, 422, 413]) {
    test(`a record that is answered with ${String(status)} is set aside, and said in the log, the figures and the chain`, async () => {
      const bad = new Set([33, 34, 91]);
      await withCollector(
        ({ lines }) => (lines.some((line) => bad.has(numberOf(line))) ? status : 200),
        async (delivered, collector, directory) => {
          await collector.untilHas(delivered.add(150));
          await waitUntil(() => delivered.undeliverable.length === 3, 'the notes');
          await collector.until(
            () => (collector.taken.filter((line) => line.includes('"records_undelivered"')).length === 3 ? true : null),
            'the notes in the chain',
          );
          await delivered.close();
          assert.deepEqual(
            delivered.undeliverable,
            [...bad].map((seq) => ({ from: seq, through: seq, reason: 'refused' })),
          );
          assertSameLines(
            collector.taken,
            linesOf(directory).filter((line) => !bad.has(numberOf(line))),
          );
          assert.equal(delivered.delivery.figures.undeliverable.get('refused'), 3);
          // Soon as large as before.
          assert.ok(collector.batches.slice(-3).some(({ lines }) => lines.length > 1));
        },
      );
    });
  }

  test('a collector that refuses everything is waited for, and nothing is set aside', async () => {
    let refuses = true;
    await withCollector(
      () => (refuses ? 400 : 200),
      async (delivered, collector, directory) => {
        const last = delivered.add(150);
        await waitUntil(() => (delivered.delivery.figures.failures.get('rejected') ?? 0) >= 3, 'three attempts');
        assert.deepEqual(delivered.undeliverable, []);
        assert.equal(delivered.delivery.fault, 'rejected');
        refuses = false;
        await collector.untilHas(last);
        await delivered.close();
        assertSameLines(collector.taken, linesOf(directory));
        assert.deepEqual(delivered.undeliverable, []);
      },
    );
  });

  test('the last record is not given up before another one tells that it is the record', async () => {
    await withCollector(
      ({ lines }) => (lines.some((line) => numberOf(line) === 11) ? 400 : 200),
      async (delivered, collector) => {
        // One opens the segment.
        assert.equal(delivered.add(10), 11);
        await waitUntil(() => (delivered.delivery.figures.failures.get('rejected') ?? 0) >= 2, 'two attempts');
        assert.deepEqual(delivered.undeliverable, []);
        assert.equal(delivered.delivery.deliveredThrough(), 10);
        await collector.untilHas(delivered.add(1));
        await waitUntil(() => delivered.undeliverable.length > 0, 'the note');
        assert.deepEqual(delivered.undeliverable, [{ from: 11, through: 11, reason: 'refused' }]);
      },
    );
  });
});
