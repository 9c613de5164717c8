/** Lines that are written before their end is there: those that stand unfinished for a while, and very long ones. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LONGEST_LINE } from '../../src/observe/redact/stream-redactor.js';
import { KNOWN, Stream, anyBytes, inPieces, lineByLine, searchThatKnows, streamed } from './streams.js';

const TIME_BOX = { interruptAfterTimeLimit: 1_500, markInterruptAsFailure: false, numRuns: 50_000 };
const SECRET = 'a-known-secret-of-ours';
const search = searchThatKnows(SECRET, ...KNOWN);
const fingerprints = (out: Buffer): string => out.toString().replace(/\[redacted:[0-9a-f]{6}\]/g, '[redacted:M]');

/** What is there after a pause, and at the end. */
const PAUSED: readonly (readonly [title: string, begun: string, then: string, shown: string, whole: string])[] = [
  ['a prompt', 'Continue? [y/N] ', 'y\n', 'Continue? [y/N] ', 'Continue? [y/N] y\n'],
  ['a prompt for a password, echoed', 'Password: ', 'hunter2\n', 'Password: ', 'Password: [redacted]\n'],
  ['half a value', 'login password=hun', 'ter2 ok\n', 'login ', 'login password=[redacted] ok\n'],
  ['half a quoted value', 'secret="a b ', 'c" d\n', 'secret="', 'secret="[redacted]" d\n'],
  ['half a known secret', 'see correct-horse', '-battery.\n', 'see ', 'see [redacted:M].\n'],
  ['half a field', 'Authorization: hunter ', 'two\n', 'Authorization: ', 'Authorization: [redacted]\n'],
  [
    'half of the cookies',
    'Cookie: a=b; ',
    'sid=abc\n',
    'Cookie: a=[redacted]; ',
    'Cookie: a=[redacted]; sid=[redacted]\n',
  ],
  ['a scheme', 'sent Bearer ', 'hunter2\n', 'sent Bearer ', 'sent Bearer [redacted]\n'],
  [
    'half a PEM block',
    'key -----BEGIN X----- ',
    'abc\nMII\n-----END X-----\nz\n',
    'key ',
    'key [redacted:M]\n[redacted]\n[redacted]\nz\n',
  ],
  ['progress', '10 %\r20 %\r', '30 %\n', '10 %\r20 %\r', '10 %\r20 %\r30 %\n'],
  ['one word', 'waiting', ' done\n', '', 'waiting done\n'],
  ['an encoded key', 'x password%3Dhun', 'ter2\n', 'x ', 'x password=[redacted]\n'],
];

describe('of a line that stands unfinished as much is shown as is certain', () => {
  for (const [title, begun, then, shown, whole] of PAUSED) {
    test(title, () => {
      const stream = new Stream(search);
      stream.push(Buffer.from(begun));
      stream.pause();
      assert.equal(fingerprints(stream.out), shown);
      stream.pause();
      assert.equal(fingerprints(stream.out), shown);
      stream.push(Buffer.from(then));
      assert.equal(fingerprints(stream.end()), whole);
    });
    test(`${title}, typed slowly`, () => {
      const letters = [...(begun + then)].flatMap((letter) => [Buffer.from(letter), null]);
      assert.equal(fingerprints(streamed(search, letters)), whole);
    });
  }

  test('pauses neither lose nor show anything, wherever they are', () => {
    fc.assert(
      fc.property(anyBytes, fc.array(fc.nat(400), { maxLength: 6 }), anyBytes, (before, cuts, after) => {
        const secret = Buffer.from(` ${SECRET} `);
        const bytes = Buffer.concat([before, secret, after]);
        const out = streamed(
          search,
          inPieces(bytes, cuts).flatMap((piece) => [piece, null]),
        );
        assert.ok(!out.includes(SECRET));
        assert.equal(count(out), count(bytes));
      }),
      TIME_BOX,
    );
  });
});

const count = (bytes: Buffer): number => bytes.filter((byte) => byte === 0x0a).length;

describe('in a line that is longer than what is held of one', () => {
  const filler = (length: number): string => 'a word and another, '.repeat(Math.ceil(length / 20)).slice(0, length);
  const READ = 65_536;
  const inReads = (bytes: Buffer): Buffer[] =>
    Array.from({ length: Math.ceil(bytes.length / READ) }, (_, index) =>
      bytes.subarray(index * READ, (index + 1) * READ),
    );
  const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.dBjftJeZ4CVPmB92K27uhbUJU1p1r';

  test('a secret is masked wherever the line is cut', () => {
    // Around every place where a part may end: the line is held up to a limit, and then all but an overlap is written.
    for (const secret of [
      `see ${KNOWN[0]!} `,
      'password="hunter2 and more" ',
      `${JWT} `,
      'postgres://bob:hunter2@db ',
    ]) {
      for (let length = LONGEST_LINE - 70_000; length < LONGEST_LINE + 70_000; length += 23_993) {
        const line = Buffer.from(`${filler(length)} ${secret.repeat(40)}${filler(100_000)}\nnext\n`);
        const out = streamed(search, inReads(line));
        assert.ok(out.equals(lineByLine(search, line)), `${secret} after ${String(length)} bytes`);
        assert.doesNotMatch(out.toString(), /hunter2|horse|eyJ/);
      }
    }
  });

  test('an image of three megabytes is one mask, and what is after it is looked at', () => {
    const image = randomBytes(3 << 20).toString('base64');
    const line = Buffer.from(`{"url":"data:image/png;base64,${image}","password":"hunter2","user":"bob"}\n`);
    const out = streamed(search, inReads(line));
    assert.match(
      out.toString(),
      /^\{"url":"data:image\/png;base64,\[redacted:[0-9a-f]{6}\]","password":"\[redacted\]","user":"bob"\}\n$/,
    );
  });

  test('a value that never ends is masked to the end of the line, and the next line is not', () => {
    const line = Buffer.from(`{"a":1,"password":"${filler(2 * LONGEST_LINE)}","user":"bob"}\nnext\n`);
    assert.equal(streamed(search, inReads(line)).toString(), '{"a":1,"password":"[redacted]\nnext\n');
  });

  test('a PEM block that begins in it goes on in the next', () => {
    const line = Buffer.from(`${filler(LONGEST_LINE + READ)} -----BEGIN X-----\nMII\n-----END X-----\nnext\n`);
    const out = streamed(search, inReads(line)).toString();
    assert.match(out.slice(-70), /\[redacted:[0-9a-f]{6}\]\n\[redacted\]\n\[redacted\]\nnext\n$/);
    const inside = Buffer.from(`-----BEGIN X-----\n${filler(2 * LONGEST_LINE)}\nMII\n-----END X-----\nnext\n`);
    assert.match(
      streamed(search, inReads(inside)).toString(),
      /^\[redacted(?::\w{6})?\]\n\[redacted\]\n\[redacted\]\n\[redacted\]\nnext\n$/,
    );
  });

  test('what holds nothing comes out as it went in', () => {
    for (const unit of ['a', 'é', '😀 ', '\0', '/x']) {
      const line = Buffer.from(`${unit.repeat(Math.ceil((2.5 * LONGEST_LINE) / Buffer.byteLength(unit)))}\r\nnext`);
      assert.ok(streamed(search, inReads(line)).equals(line), JSON.stringify(unit));
    }
    const latin = Buffer.alloc(2 * LONGEST_LINE, 0xe9);
    assert.ok(streamed(search, inReads(latin)).equals(latin));
  });
});
