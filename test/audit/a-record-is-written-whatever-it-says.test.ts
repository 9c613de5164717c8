import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CanonicalValue, canonicalJson } from '../../src/observe/audit/canonical-json.js';
import { AUDIT_EVENTS, AUDIT_RESULTS } from '../../src/observe/audit/events.js';
import {
  type AuditRecord,
  type Entry,
  GENESIS,
  LONGEST_RECORD,
  type Place,
  readRecord,
  signedText,
  writeRecord,
} from '../../src/observe/audit/record.js';
import { TestKey } from './trail-fixture.js';

const PLACE: Place = {
  chain: 'c4a1'.repeat(8),
  seq: 7,
  time: '2026-11-20T12:00:00.000Z',
  prev: GENESIS,
  policy: 'abcdef123456',
};

/** Small, and the same each time: what fails can be run again. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function pick<T>(from: readonly T[], next: () => number): T {
  const one = from[Math.floor(next() * from.length)];
  assert.ok(one !== undefined);
  return one;
}

const PIECES = [
  ...['a', 'keeper', '/v1/jobs', ' ', '', '"', '\\', '/', '{"hash":"', ',"prev":', '}', '\n', '\r\n', '\0', '\u001f'],
  ...['\u007f', '\u0085', '\u2028', '\u2029', '\ud800', '\udfff', '\ud83d\ude00', '\ude00\ud83d', 'é', 'e\u0301'],
  ...['\ufeff', '\uffff', '字', '…', '\u202e', '\x1b[31m', '__proto__', '\b\t\f'],
];

function anyText(next: () => number): string {
  const size = pick([1, 1, 1, 1, 1, 3, 3, 20, 20, 200, 3_000], next);
  let text = '';
  for (let count = Math.floor(next() * size); count >= 0; count -= 1) text += pick(PIECES, next);
  return text;
}

function anyNumber(next: () => number): number {
  return pick([0, -0, 1, 200, 2 ** 53, -1, 1.5, Number.NaN, Infinity, Number.MAX_SAFE_INTEGER], next);
}

function anyValue(next: () => number, depth = 0): CanonicalValue {
  const kind = Math.floor(next() * (depth > 3 ? 3 : 6));
  if (kind === 0) return anyText(next);
  if (kind === 1) return anyNumber(next);
  if (kind === 2) return next() < 0.5;
  const list = Array.from({ length: Math.floor(next() * (depth === 0 ? 30 : 3)) }, () => anyValue(next, depth + 1));
  if (kind === 3) return list;
  return Object.fromEntries(list.map((value): [string, CanonicalValue] => [anyText(next), value]));
}

const TEXTS = [
  ...['reason', 'who', 'authenticator', 'credential', 'client', 'peer', 'listener', 'route', 'action', 'resource'],
  ...['host', 'protocol', 'request_id', 'upstream'],
];
const NUMBERS = ['status', 'bytes_in', 'bytes_out', 'duration_ms', 'count'];

function anyEntry(next: () => number): Entry {
  const often = (): boolean => next() < 0.6;
  const members: Record<string, unknown> = { event: pick(AUDIT_EVENTS, next), result: pick(AUDIT_RESULTS, next) };
  for (const name of TEXTS) if (often()) members[name] = anyText(next);
  for (const name of NUMBERS) if (often()) members[name] = anyNumber(next);
  if (often()) members['roles'] = Array.from({ length: Math.floor(next() * 65) }, () => anyText(next));
  if (often()) members['query'] = true;
  if (often()) members['upgrade'] = true;
  if (next() < 0.2) {
    members['detail'] = Object.fromEntries(
      Array.from({ length: 5 }, (): [string, CanonicalValue] => [anyText(next), anyValue(next)]),
    );
  }
  return members as unknown as Entry;
}

function reads(line: string): AuditRecord {
  const read = readRecord(Buffer.from(line, 'utf8'));
  assert.ok(read.ok, `${read.ok ? '' : read.problem}: ${line.slice(0, 200)}`);
  return read.record;
}

test('any text in any member: one line, read again as it was written, never longer than it may be', () => {
  const next = random(20_261_120);
  const key = new TestKey();
  for (let round = 0; round < 2_000; round += 1) {
    const entry = anyEntry(next);
    const { line, hash } = writeRecord(entry, PLACE, round % 3 === 0 ? key : null);
    assert.ok(Buffer.byteLength(line) < LONGEST_RECORD);
    assert.ok(!/[\n\r\0]/.test(line));
    assert.equal(line, canonicalJson(JSON.parse(line) as CanonicalValue));
    const record = reads(line);
    assert.equal(record.hash, hash);
    assert.equal(record.event, entry.event);
    assert.equal(record.result, entry.result);
    if (round % 3 === 0) assert.equal(key.sign(signedText(record)), record.signature);
  }
});

test('members that are there are written as they are, and no others', () => {
  const entry: Entry = {
    event: 'authorization_denied',
    result: 'denied',
    reason: 'permission_missing',
    who: 'Zoë 字',
    roles: ['viewer', 'b'],
    status: 403,
    query: true,
    detail: { in: 'path', name: 'id', rule: 'pattern' },
  };
  const { v, chain, seq, time, prev, policy, hash, ...rest } = reads(writeRecord(entry, PLACE).line);
  assert.deepEqual({ chain, seq, time, prev, policy }, PLACE);
  assert.deepEqual([v, hash.length], [1, 64]);
  assert.deepEqual(rest, entry);
});

test('64 roles and huge names: shortened, and said', () => {
  const long = 'x'.repeat(100_000);
  const entry: Entry = {
    event: 'auth_success',
    result: 'answered',
    who: long,
    resource: long,
    request_id: 'r1',
    roles: Array.from({ length: 64 }, (_, number) => `${String(number)}${long}`),
  };
  const record = reads(writeRecord(entry, PLACE).line);
  assert.match(record.who ?? '', /^x+…$/);
  assert.equal(record.request_id, 'r1');
  assert.equal(record.roles?.length, 16);
});

test('what one text after the other would need is cut everywhere before anything is left out', () => {
  const worst = '\u0001'.repeat(10_000);
  const members = Object.fromEntries(TEXTS.map((name) => [name, worst]));
  const roles = Array.from({ length: 64 }, () => worst);
  const entry = { event: 'auth_failure', result: 'denied', roles, detail: { a: worst }, ...members } as Entry;
  const record = reads(writeRecord(entry, { ...PLACE, policy: worst }, new TestKey()).line);
  assert.equal(record.event, 'auth_failure');
  assert.ok((record.request_id ?? '').length > 10);
});
