/** What strangers wrote opens in a spreadsheet as text (CWE-1236), and a cell stays a cell. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GENESIS, readRecord, writeRecord, type AuditRecord, type Entry } from '../../src/observe/audit/record.js';
import { SHEET_HEAD, sheetRow } from '../../src/observe/audit/sheet.js';

/** RFC 4180 §2, read by its grammar. */
function cells(row: string): string[] {
  assert.ok(row.endsWith('\r\n'));
  const found: string[] = [];
  let rest = row.slice(0, -2);
  for (;;) {
    const [whole, quoted, plain] = /^(?:"((?:[^"]|"")*)"|([^",\r\n]*))(?:,|$)/.exec(rest) ?? assert.fail(rest);
    found.push(quoted === undefined ? (plain ?? '') : quoted.replaceAll('""', '"'));
    if (!whole.endsWith(',')) return found;
    rest = rest.slice(whole.length);
    if (rest === '') return [...found, ''];
  }
}

function record(entry: Partial<Entry>): AuditRecord {
  const place = { chain: 'ab'.repeat(16), seq: 7, time: '2026-11-20T12:00:00.000Z', prev: GENESIS, policy: 'aabb' };
  const read = readRecord(Buffer.from(writeRecord({ event: 'auth_failure', result: 'denied', ...entry }, place).line));
  assert.ok(read.ok);
  return read.record;
}

function row(entry: Partial<Entry>): Record<string, string> {
  const names = cells(SHEET_HEAD);
  const values = cells(sheetRow(record(entry)));
  assert.equal(values.length, names.length);
  return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']));
}

test('every member has its column', () => {
  const found = row({
    roles: ['a', 'b'],
    status: 401,
    query: true,
    resource: '/a,"b"',
    detail: { in: 'query', name: 'q' },
  });
  assert.equal(found['seq'], '7');
  assert.equal(found['roles'], 'a b');
  assert.equal(found['status'], '401');
  assert.equal(found['query'], 'true');
  assert.equal(found['resource'], '/a,"b"');
  assert.equal(found['detail'], '{"in":"query","name":"q"}');
  assert.equal(found['who'], '');
  assert.equal(
    found['hash'],
    record({ roles: ['a', 'b'], status: 401, query: true, resource: '/a,"b"', detail: { in: 'query', name: 'q' } })
      .hash,
  );
});

test('no cell is a formula', () => {
  for (const [text, cell] of [
    ['=HYPERLINK("http://x")', `'=HYPERLINK("http://x")`],
    ['\uff1dHYPERLINK(1)', `'\uff1dHYPERLINK(1)`],
    ['/a;=HYPERLINK(1);-1', `/a;'=HYPERLINK(1);'-1`],
    ['/a;"=HYPERLINK(1)', `/a;"'=HYPERLINK(1)`],
    ['+1', "'+1"],
    ['-1', "'-1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['\t=1', "'\\t=1"],
    ['\r=1', "'\\r=1"],
    ['a=1', 'a=1'],
  ] as const) {
    assert.equal(row({ who: text })['who'], cell);
  }
});

test('whatever is in a record, a row is one line with as many cells as columns', () => {
  const text = fc.string({
    unit: fc.constantFrom('"', ',', '\r', '\n', '\t', '=', '-', 'a', 'ü', '\u2028', '\u0000'),
    maxLength: 12,
  });
  fc.assert(
    fc.property(text, text, (who, resource) => {
      const written = sheetRow(record({ who, resource }));
      assert.equal(written.split(/[\r\n]+/).length, 2);
      const found = row({ who, resource });
      for (const cell of [found['who'] ?? '', found['resource'] ?? '']) assert.match(cell, /^(?![=+\-@\t\r])/);
    }),
  );
});
