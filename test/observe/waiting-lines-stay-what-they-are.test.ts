/** Lines wait in buffers that are used again: what was taken is whole, in order, and not written over before it is out. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LineBuffer } from '../../src/observe/line-buffer.js';

describe('lines that wait for the log', () => {
  test('come out as they went in', () => {
    const line = fc
      .oneof(
        fc.string({ maxLength: 200 }),
        fc.string({ unit: 'grapheme', maxLength: 200 }),
        fc.constant('€'.repeat(40_000)),
      )
      .map((text) => `${text}\n`);
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ do: fc.constant('add' as const), line }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('addFirst' as const), line }) },
      { weight: 3, arbitrary: fc.constant({ do: 'take' as const }) },
      { weight: 3, arbitrary: fc.constant({ do: 'written' as const }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const lines = new LineBuffer();
        let waiting = '';
        let taken: { readonly bytes: Buffer; readonly text: string } | null = null;
        for (const one of steps) {
          if (one.do === 'add') {
            lines.add(one.line);
            waiting += one.line;
          } else if (one.do === 'addFirst') {
            lines.addFirst(one.line);
            waiting = one.line + waiting;
          } else if (one.do === 'take' && taken === null) {
            taken = { bytes: lines.take(), text: waiting };
            waiting = '';
          } else if (one.do === 'written' && taken !== null) {
            assert.equal(taken.bytes.toString(), taken.text.toWellFormed());
            taken = null;
            lines.written();
          }
          assert.equal(lines.length, Buffer.byteLength(waiting));
          if (taken !== null) assert.equal(taken.bytes.toString(), taken.text.toWellFormed());
        }
        assert.equal(lines.take().toString(), waiting.toWellFormed());
      }),
      { numRuns: 300 },
    );
  });

  test('leave no large buffer behind of a time when much of it waited', () => {
    const lines = new LineBuffer();
    for (let count = 0; count < 4_000; count++) lines.add(`${'x'.repeat(999)}\n`);
    assert.equal(lines.take().length, 4_000_000);
    lines.written();
    const buffers = new Set<ArrayBufferLike>();
    for (let round = 0; round < 10; round++) {
      lines.add('one\n');
      const { buffer } = lines.take();
      assert.ok(buffer.byteLength <= 128 * 1024);
      buffers.add(buffer);
      lines.written();
    }
    assert.equal(buffers.size, 2, 'the same ones in turn');
  });
});
