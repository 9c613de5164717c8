import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FrameBoundary, closeFrame } from '../../src/proxy/frame-boundary.js';
import { FrameReader, encodeFrame } from '../support/websocket-frames.js';

describe('where a frame of a WebSocket can begin', () => {
  test('is between frames, however they are cut into pieces', () => {
    const frame = fc.record({
      length: fc.oneof(fc.integer({ min: 0, max: 130 }), fc.constantFrom(125, 126, 127, 65_535, 65_536, 70_000)),
      masked: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 5 }), fc.array(fc.nat(300), { maxLength: 40 }), (frames, cuts) => {
        const whole = frames.map(({ length, masked }) => encodeFrame('binary', Buffer.alloc(length, 0xff), { masked }));
        const ends = new Set<number>([0]);
        let sum = 0;
        for (const { length } of whole) ends.add((sum += length));
        const bytes = Buffer.concat(whole);
        const boundary = new FrameBoundary();
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          const to = Math.min(bytes.length, at + cut);
          boundary.passed(bytes.subarray(at, to));
          at = to;
          assert.equal(boundary.between, ends.has(at), `after ${String(at)} of ${String(bytes.length)}`);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('a Close frame says why, masked by a client', () => {
    for (const mask of [null, Buffer.of(1, 2, 3, 4)]) {
      const [read, ...others] = new FrameReader().read(closeFrame(1001, mask));
      assert.equal(others.length, 0);
      assert.equal(read?.opcode, 'close');
      assert.equal(read.payload.readUInt16BE(0), 1001);
    }
  });
});
