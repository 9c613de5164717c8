import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDeadline } from '../../src/http/deadline.js';
import { head1, head2, read, valuesOf } from './heads.js';

const AT = Date.UTC(2026, 0, 31, 23, 59, 58);

test('milliseconds since the epoch, and RFC 3339', () => {
  const good: readonly (readonly [string, number])[] = [
    ['0', 0],
    ['1769903998000', 1769903998000],
    [' \t1769903998000 ', 1769903998000],
    ['18446744073709551615', 2 ** 64],
    ['2026-01-31T23:59:58Z', AT],
    ['2026-01-31t23:59:58z', AT],
    ['2026-01-31T23:59:58+00:00', AT],
    ['2026-02-01T01:29:58+01:30', AT],
    ['2026-01-31T14:59:58-09:00', AT],
    // Cut off, never rounded: a deadline is not extended.
    ['2026-01-31T23:59:58.9999Z', AT + 999],
    ['2026-01-31T23:59:58.5Z', AT + 500],
    ['2026-01-31T23:59:58.05Z', AT + 50],
    ['2016-12-31T23:59:60Z', Date.UTC(2017, 0, 1)],
    ['2028-02-29T00:00:00Z', Date.UTC(2028, 1, 29)],
    ['9999-12-31T23:59:59Z', Date.UTC(9999, 11, 31, 23, 59, 59)],
  ];
  for (const [text, ms] of good) assert.equal(readDeadline(text), ms, text);
});

test('everything else is malformed', () => {
  const bad = [
    '',
    ' ',
    '-1',
    '+1769903998000',
    '1769903998.5',
    '1e12',
    '0x19',
    '１７６９９０３９９８０００',
    '1769903998000,1769903998000',
    '1769903998000 1769903998000',
    '184467440737095516150',
    'Infinity',
    'NaN',
    'soon',
    '2026-01-31',
    '2026-01-31 23:59:58Z',
    '2026-01-31T23:59:58',
    '2026-01-31T23:59Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T23:60:00Z',
    '2026-01-31T23:59:61Z',
    '2026-02-30T00:00:00Z',
    '2027-02-29T00:00:00Z',
    '2026-00-10T00:00:00Z',
    '2026-13-10T00:00:00Z',
    '2026-01-00T00:00:00Z',
    '2026-01-31T23:59:58+24:00',
    '2026-01-31T23:59:58+01:60',
    '2026-01-31T23:59:58+0100',
    '2026-01-31T23:59:58.Z',
    '2026-01-31T23:59:58.0000000001Z',
    '0026-01-31T23:59:58Z',
    'Sat, 31 Jan 2026 23:59:58 GMT',
  ];
  for (const text of bad) assert.equal(readDeadline(text), 'malformed', text);
});

test('a message has one deadline or a malformed one, and the field goes on as it came', () => {
  for (const head of [head1, head2]) {
    assert.equal(read(head()).deadline, null);
    const one = read(head({}, 'X-Deadline: 2026-01-31T23:59:58Z'));
    assert.equal(one.deadline, AT);
    assert.deepEqual(valuesOf(one.fields, 'x-deadline'), ['2026-01-31T23:59:58Z']);
    const two = read(head({}, 'X-Deadline: 1769903998000', 'X-DEADLINE: 1769903998000'));
    assert.equal(two.deadline, 'malformed');
  }
});
