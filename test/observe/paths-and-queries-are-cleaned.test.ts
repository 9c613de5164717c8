import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { masked, redactorThatKnows } from './known-tokens.js';

const TOKEN = 'correct-horse-battery';
const redactor = redactorThatKnows(TOKEN, '6f9619ff-8b86-4d01-b42d-00c04fc964ff');

describe('a query keeps its names and loses its values', () => {
  const cases: readonly (readonly [query: string, expected: string])[] = [
    ['', ''],
    ['limit=10&offset=20', 'limit=[redacted]&offset=[redacted]'],
    ['filter[name]=bob&a.b-c_d=1', 'filter[name]=[redacted]&a.b-c_d=[redacted]'],
    ['empty=', 'empty='],
    ['a=b=c', 'a=[redacted]'],
    ['token', '[redacted]'],
    ['a=1&&b', 'a=[redacted]&&[redacted]'],
    [`${TOKEN}=1`, '[redacted]=[redacted]'],
    ['x9Fq2LmZ80aVtR4kPwQ7=1', '[redacted]=[redacted]'],
    ['=1', '[redacted]=[redacted]'],
    ['a%20b=1', '[redacted]=[redacted]'],
    ['a"b=1', '[redacted]=[redacted]'],
    ['a\u202eb=1', '[redacted]=[redacted]'],
    [`${'n'.repeat(40)}=1`, `${'n'.repeat(40)}=[redacted]`],
    [`${'n'.repeat(41)}=1`, '[redacted]=[redacted]'],
    ['redirect=https://bob:hunter2@example.com/', 'redirect=[redacted]'],
  ];
  for (const [query, expected] of cases) {
    test(JSON.stringify(query), () => {
      assert.equal(redactor.redactQuery(query), expected);
    });
  }
  test('and is bounded', () => {
    const clean = redactor.redactQuery(Array.from({ length: 10_000 }, (_, index) => `p${index}=1`).join('&'));
    assert.ok(clean.length < 64 * 60);
    assert.ok(clean.endsWith('&…'));
  });
});

describe('a path', () => {
  test('that is ordinary is the path', () => {
    for (const path of ['/', '/v1/jobs', '/v1/jobs/job-0b6f1c1e-9a4b-4f0e-8f3a-5b1c2d3e4f50/stream', '*', '']) {
      assert.equal(redactor.redactPath(path), path);
    }
  });
  test('loses what is known, also where a glance would have been enough', () => {
    const uuid = '6f9619ff-8b86-4d01-b42d-00c04fc964ff';
    assert.equal(redactor.redactPath(`/v1/${uuid}`), `/v1/${masked(uuid)}`);
    assert.equal(redactor.redactPath(`/v1/${TOKEN}/x`), `/v1/${masked(TOKEN)}/x`);
  });
  test('shows no control characters', () => {
    assert.equal(redactor.redactPath('/a\r\nb\u001b[31m\u202e'), '/a\\r\\nb\\u001b[31m\\u202e');
  });
  test('of any length takes at most 1024 characters, and is not cut inside a secret', () => {
    for (let length = 1000; length < 1040; length++) {
      const clean = redactor.redactPath(`/${'a'.repeat(length)}/${TOKEN}/${'b/'.repeat(3000)}`);
      assert.ok(clean.length <= 1025, String(clean.length));
      assert.ok(!/corr|horse|batt/.test(clean), clean.slice(-60));
    }
  });
});

describe('a text that is too long', () => {
  test('is cut where no secret is', () => {
    for (let at = 100 - 30; at <= 110; at++) {
      const clean = redactor.redactText(`${'.'.repeat(at)} ${TOKEN} ${'x '.repeat(5000)}`, 100);
      assert.ok(clean.length <= 101);
      assert.ok(!/corr|horse|batt/.test(clean), clean);
      assert.ok(!/\[[^\]]*$/.test(clean), clean);
    }
  });
  test('is hidden where it has no words at all', () => {
    assert.equal(redactor.redactText('x'.repeat(50_000), 100), '…');
  });
});
