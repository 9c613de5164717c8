/** Most lines are passed on after a glance at their bytes. The glance must never pass over what a look would find. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { looksRandom } from '../../src/observe/randomness.js';
import { apply, compose } from '../../src/observe/redact/spans.js';
import { KNOWN, anyBytes, inPieces, lineByLine, searchThatKnows, streamed } from './streams.js';

const TIME_BOX = { interruptAfterTimeLimit: 1_500, markInterruptAsFailure: false, numRuns: 20_000 };
const cuts = fc.array(fc.nat(2_000), { maxLength: 4 });

describe('a stream comes out as its lines do, each looked at in full', () => {
  for (const [title, secrets] of [
    ['where no secret is known', []],
    ['where some are known', KNOWN],
  ] as const) {
    test(title, () => {
      const search = searchThatKnows(...secrets);
      fc.assert(
        fc.property(anyBytes, cuts, (bytes, at) => {
          assert.equal(
            streamed(search, inPieces(bytes, at)).toString('latin1'),
            lineByLine(search, bytes).toString('latin1'),
          );
        }),
        TIME_BOX,
      );
    });
  }

  test('what was once cleared is looked at again where it stands beside something else', () => {
    const search = searchThatKnows(...KNOWN);
    const lines = [
      'GET /v1/correct-horse-batteri/x',
      'GET /v1/correct-horse-battery/x',
      'GET /v1/correct-horse-batteri/x',
    ];
    const out = streamed(search, [Buffer.from(`${[...lines, ...lines].join('\n')}\n`)]).toString();
    assert.equal(out.split('correct-horse-batteri').length, 5);
    assert.equal(out.split('[redacted:').length, 3);
  });
});

test('nothing shorter than the glance supposes looks random', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_-]{0,36}$/), (run) => {
      const letters = /[a-z]/.test(run) && /[A-Z]/.test(run);
      const digits = /[0-9]/.test(run);
      const shortest = letters ? (digits ? 20 : 24) : digits && /[A-Za-z]/.test(run) ? 32 : Infinity;
      assert.ok(run.length >= shortest || !looksRandom(run), run);
    }),
    TIME_BOX,
  );
});

test('two looks told as one change a text alike', () => {
  const edits = fc.array(fc.tuple(fc.nat(9), fc.integer({ min: 1, max: 6 }), fc.stringMatching(/^[X-Z]{1,4}$/)), {
    maxLength: 6,
  });
  const placed = (text: string, drawn: readonly (readonly [number, number, string])[]) => {
    let at = 0;
    return drawn.flatMap(([gap, length, put]) => {
      const from = at + gap;
      const to = from + length;
      if (to > text.length) return [];
      at = to;
      return [{ from, to, put, rule: 'random' as const }];
    });
  };
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z]{0,60}$/), edits, edits, (text, one, two) => {
      const first = placed(text, one);
      const between = apply(text, first);
      const second = placed(between, two);
      const both = compose(text, first, second);
      assert.equal(apply(text, both), apply(between, second));
      let at = 0;
      for (const { from, to } of both) {
        assert.ok(from >= at && to >= from);
        at = to;
      }
    }),
    TIME_BOX,
  );
});
