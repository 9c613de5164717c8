import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { bytesOf, textOf, unfinishedCharacter } from '../../src/observe/redact/byte-text.js';
import { inPieces, searchThatKnows, streamed } from './streams.js';

const TIME_BOX = { interruptAfterTimeLimit: 1_500, markInterruptAsFailure: false, numRuns: 20_000 };

const anything = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 5 }).map((bytes) => Buffer.from(bytes)),
    fc.string({ unit: 'binary', maxLength: 4 }).map((text) => Buffer.from(text)),
    // Surrogates in UTF-8 (CESU-8), overlong forms, what is beyond Unicode.
    fc.constantFrom(
      ...['eda080', 'edb28d', 'c080', 'f4908080', 'efbbbf', 'f09f9880', 'e282'].map((hex) => Buffer.from(hex, 'hex')),
    ),
  ),
  { maxLength: 10 },
);

test('whatever bytes become text become the same bytes again', () => {
  fc.assert(
    fc.property(anything, (pieces) => {
      const bytes = Buffer.concat(pieces);
      assert.deepEqual(bytesOf(textOf(bytes)), bytes);
    }),
    TIME_BOX,
  );
});

test('text that is cut in the midst of a character is decoded as the whole', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 20 }), fc.nat(80), (text, cut) => {
      const bytes = Buffer.from(text);
      const begun = bytes.subarray(0, cut % (bytes.length + 1));
      const keep = unfinishedCharacter(begun);
      assert.ok(text.startsWith(textOf(begun.subarray(0, begun.length - keep))));
    }),
    TIME_BOX,
  );
});

describe('what holds no secret comes out byte for byte', () => {
  const cases: readonly (readonly [string, Buffer])[] = [
    ['nothing', Buffer.alloc(0)],
    ['a line end', Buffer.from('\n')],
    ['no line end at the end', Buffer.from('one\ntwo')],
    ['line ends of two kinds', Buffer.from('one\r\ntwo\n\r\n\rthree\r')],
    ['NUL', Buffer.from('a\0b\n\0\n')],
    ['Latin-1', Buffer.from('caf\xe9 \xa0 na\xefve\n', 'latin1')],
    ['UTF-16', Buffer.from('\ufeffhello\nworld\n', 'utf16le')],
    ['every byte', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))],
    ['a byte order mark', Buffer.from('\ufeffhello\n')],
  ];
  for (const [title, bytes] of cases) {
    test(title, () => {
      for (const search of [searchThatKnows(), searchThatKnows('a-secret-that-is-not-there')]) {
        assert.deepEqual(streamed(search, [bytes]), bytes);
        assert.deepEqual(streamed(search, inPieces(bytes, [1, 2, 3, 5, 8])), bytes);
      }
    });
  }

  test('and around a secret the rest does', () => {
    const line = Buffer.concat([
      Buffer.from('\xff\xfe caf\xe9 password=', 'latin1'),
      Buffer.from('hunter2 \x00\xe9\xa0\r\n', 'latin1'),
    ]);
    const expected = Buffer.from('\xff\xfe caf\xe9 password=[redacted] \x00\xe9\xa0\r\n', 'latin1');
    assert.deepEqual(streamed(searchThatKnows(), [line]), expected);
  });

  test('a secret with letters of its own is known in a line that is not UTF-8', () => {
    const secret = 'geheimnis-für-später';
    const out = streamed(searchThatKnows(secret), [Buffer.from([0xff, 0x20]), Buffer.from(`x ${secret} y\n`)]);
    assert.match(out.toString('latin1'), /^\xff x \[redacted:[0-9a-f]{6}\] y\n$/);
  });
});
