import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineRedactor } from '../../src/observe/redact/line-redactor.js';
import { redactorThatKnows } from './known-tokens.js';

const redactor = redactorThatKnows();

test('a PEM block is masked over its lines, and every line stays a line', () => {
  const filter = new LineRedactor(redactor);
  const lines = [
    'before',
    'key: -----BEGIN RSA PRIVATE KEY-----',
    'MIIEpAIBAAKCAQEA',
    '',
    'abc=',
    '-----END RSA PRIVATE KEY----- after password=hunter2',
    'last',
  ];
  const redacted = lines.map((line) => filter.line(line));
  assert.equal(redacted.length, lines.length);
  assert.equal(redacted[0], 'before');
  assert.deepEqual(redacted.slice(2, 5), ['[redacted]', '[redacted]', '[redacted]']);
  assert.equal(redacted[5], '[redacted] after password=[redacted]');
  assert.equal(redacted[6], 'last');
});

test('a PEM block that never ends does not silence the stream', () => {
  const filter = new LineRedactor(redactor);
  filter.line('-----BEGIN X-----');
  const lines = Array.from({ length: 300 }, () => filter.line('hello'));
  assert.equal(lines[0], '[redacted]');
  assert.equal(lines.at(-1), 'hello');
});

test('what was before on the line of a BEGIN stays', () => {
  const filter = new LineRedactor(redactor);
  assert.match(filter.line('info -----BEGIN X-----END X----- more'), /^info \[redacted:[0-9a-f]{6}\] more$/);
  assert.equal(filter.line('next'), 'next');
});
