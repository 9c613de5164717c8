/** Almost all records are judged by one expression; it must never take a line that the strict reader does not. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { quickLink } from '../../src/observe/audit/quick-record.js';
import { type Entry, GENESIS, readRecord, writeRecord } from '../../src/observe/audit/record.js';
import { AUDIT_EVENTS, AUDIT_RESULTS } from '../../src/observe/audit/events.js';

const PLACE = {
  chain: 'ab'.repeat(16),
  seq: 41,
  time: '2026-11-20T12:00:00.000Z',
  prev: GENESIS,
  policy: 'aabbccddeeff',
};
const TEXTS = [
  ...(['reason', 'who', 'authenticator', 'credential', 'client', 'peer', 'listener', 'route', 'action'] as const),
  ...(['resource', 'host', 'protocol', 'request_id', 'upstream'] as const),
];
const NUMBERS = ['status', 'bytes_in', 'bytes_out', 'duration_ms', 'count'] as const;

function entries(text: fc.Arbitrary<string>): fc.Arbitrary<Entry> {
  return fc.record(
    {
      event: fc.constantFrom(...AUDIT_EVENTS),
      result: fc.constantFrom(...AUDIT_RESULTS),
      ...Object.fromEntries(TEXTS.filter((name) => name !== 'protocol').map((name) => [name, text])),
      ...Object.fromEntries(NUMBERS.map((name) => [name, fc.nat(10 ** 9)])),
      roles: fc.array(text, { maxLength: 3 }),
      query: fc.constant<true>(true),
      upgrade: fc.constant<true>(true),
    },
    { requiredKeys: ['event', 'result'] },
  );
}

function line(entry: Entry): string {
  return writeRecord(entry, PLACE).line;
}

test('the quick reader takes every record in ASCII, and finds in it what the other does', () => {
  const ascii = fc.string({ unit: 'binary-ascii', maxLength: 20 });
  fc.assert(
    fc.property(entries(ascii), (entry) => {
      const text = line(entry);
      const link = quickLink(text);
      const read = readRecord(Buffer.from(text));
      assert.ok(link !== null && read.ok, text);
      const { chain, seq, time, prev, hash, event } = read.record;
      assert.deepEqual(link, { chain, seq, time, prev, hash, event });
    }),
    { numRuns: 500 },
  );
});

/** So that the hash is not what tells. */
function hashedAnew(text: string): string {
  const hash = createHash('sha256')
    .update(text.replace(/,"hash":"[0-9a-f]{64}"/, ''))
    .digest('hex');
  return text.replace(/,"hash":"[0-9a-f]{64}"/, `,"hash":"${hash}"`);
}

test('whatever becomes of a line: what the quick reader takes, the strict one takes too', () => {
  const some = fc.string({
    unit: fc.oneof(
      { weight: 60, arbitrary: fc.constantFrom('a', '"', '\\', '\n', '\u007f', ',', '{', '\u0001') },
      { weight: 1, arbitrary: fc.constantFrom('ü', '😀') },
    ),
    maxLength: 4,
  });
  const pieces = [
    '"',
    '\\',
    ',',
    ':',
    '{',
    '}',
    '[',
    ']',
    '0',
    '1',
    '-',
    '.',
    'e',
    ' ',
    '\\u000a',
    '\\/',
    '\\u001F',
    '"who":"x",',
    'é',
  ];
  let taken = 0;
  fc.assert(
    fc.property(
      entries(some),
      fc.nat(),
      fc.nat({ max: 3 }),
      fc.constantFrom('', ...pieces),
      fc.boolean(),
      (entry, place, cut, piece, isChanged) => {
        const text = line(entry);
        const at = place % text.length;
        const changed = text.slice(0, at) + piece + text.slice(at + cut);
        const bytes = Buffer.from(isChanged ? hashedAnew(changed) : text);
        const quick = quickLink(bytes.toString('latin1'));
        if (quick === null) return;
        taken += 1;
        assert.ok(readRecord(bytes).ok, bytes.toString('latin1'));
      },
    ),
    { numRuns: 3000 },
  );
  assert.ok(taken > 100);
});

test('a crafted line takes no longer than another', () => {
  const start = performance.now();
  for (const filler of ['\\\\', 'a', '\\u0001', '"who":"', ',"host":"a"', '["a",']) {
    const text = line({ event: 'started', result: 'noted', who: 'x' }).replace('"x"', `"${filler.repeat(1000)}`);
    for (let times = 0; times < 20; times += 1) assert.equal(quickLink(text), null);
  }
  assert.ok(performance.now() - start < 2000);
});
