/**
 * What waits for the disk is bytes in buffers that are used again: none may be written over while it waits or is being
 * written, and every line is in one batch, in order, whatever comes meanwhile.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LONGEST_RECORD } from '../../src/observe/audit/record.js';
import { type Batch, WaitingLines } from '../../src/observe/audit/waiting-lines.js';

type Step =
  | { readonly do: 'add'; readonly text: string; readonly opens: boolean; readonly times: number }
  | { readonly do: 'take' }
  | { readonly do: 'drop' };

const text = fc.oneof(
  fc.string({ maxLength: 300 }),
  fc.string({ unit: 'grapheme', maxLength: 300 }),
  fc.nat(LONGEST_RECORD - 1).map((length) => 'x'.repeat(length)),
);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('add' as const),
        text,
        opens: fc.constant(false),
        times: fc.integer({ min: 1, max: 60 }),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('add' as const), text, opens: fc.constant(true), times: fc.constant(1) }),
    },
    { weight: 2, arbitrary: fc.constant({ do: 'take' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'drop' as const }) },
  ),
  { maxLength: 60 },
);

describe('lines that wait', () => {
  test('leave in order, each once, as bytes that stay what they were', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const lines = new WaitingLines();
        const waiting: { readonly line: Buffer; readonly opens: string | null; readonly seq: number }[] = [];
        let seq = 0;
        let taken: { readonly batch: Batch; readonly copy: Buffer } | null = null;

        const take = (): void => {
          const batch = lines.first();
          if (batch === null) {
            assert.equal(waiting.length, 0);
            return;
          }
          if (taken === null) taken = { batch, copy: Buffer.from(batch.bytes) };
          else assert.deepEqual(Buffer.from(batch.bytes), taken.copy);
        };
        const drop = (): void => {
          if (taken === null) return;
          const { batch, copy } = taken;
          taken = null;
          assert.deepEqual(Buffer.from(batch.bytes), copy, 'written over while it was written');
          const count = waiting.findIndex((one) => one.seq === batch.last) + 1;
          const gone = waiting.splice(0, count);
          assert.deepEqual(copy, Buffer.concat(gone.map(({ line }) => line)));
          assert.equal(gone[0]?.opens, batch.opens);
          assert.ok(gone.slice(1).every(({ opens }) => opens === null));
          assert.ok(copy.length <= 256 * 1024);
          lines.drop();
        };

        for (const step of all) {
          if (step.do === 'take') take();
          else if (step.do === 'drop') drop();
          else {
            for (let time = 0; time < step.times; time++) {
              seq += 1;
              const line: Buffer = Buffer.from(`${step.text}\n`);
              const opens: string | null = step.opens ? `${String(seq)}.jsonl` : null;
              assert.equal(lines.add({ text: step.text, seq, opens }), line.length);
              waiting.push({ line, opens, seq });
            }
          }
          assert.equal(lines.count, waiting.length);
          assert.equal(
            lines.bytes,
            waiting.reduce((sum, { line }) => sum + line.length, 0),
          );
          assert.equal(lines.last, waiting.at(-1)?.seq ?? null);
        }
        while (waiting.length > 0) {
          take();
          drop();
        }
        assert.equal(lines.first(), null);
        assert.equal(lines.bytes, 0);
      }),
      { numRuns: 300 },
    );
  });

  test('take no more memory than they are, however many segments they open while the disk stands still', () => {
    const lines = new WaitingLines();
    const before = process.memoryUsage().arrayBuffers;
    for (let seq = 1; seq <= 10_000; seq++) lines.add({ text: 'x'.repeat(100), seq, opens: `${String(seq)}.jsonl` });
    assert.ok(process.memoryUsage().arrayBuffers - before < 3 * 1024 ** 2);
    assert.equal(lines.count, 10_000);
  });

  test('take the same buffers again and again', () => {
    const LINES = 700;
    const lines = new WaitingLines();
    const before = process.memoryUsage().arrayBuffers;
    let seq = 0;
    const add = (): void => {
      for (let count = 0; count < LINES; count++) {
        seq += 1;
        lines.add({ text: String(seq).padStart(999, '0'), seq, opens: null });
      }
    };
    add();
    for (let round = 0, next = 1; round < 50; round++) {
      for (let batch = lines.first(); batch !== null && batch.last <= LINES * (round + 1); batch = lines.first()) {
        // Not copied: the copies would be counted below for as long as nobody collects them.
        const { buffer, byteOffset, byteLength } = batch.bytes;
        for (const line of Buffer.from(buffer, byteOffset, byteLength).toString('latin1').trimEnd().split('\n')) {
          assert.equal(Number(line), next);
          next += 1;
        }
        lines.drop();
      }
      add();
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < 4 * 1024 ** 2);
  });
});
