import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sourceFiles } from '../secret/source-files.js';

const files = sourceFiles();
const whoSays = (pattern: RegExp): string[] => files.filter(({ code }) => pattern.test(code)).map(({ path }) => path);

describe('in src/', () => {
  test('pino and prom-client are imported by observe/ alone, and pino by its log', () => {
    assert.deepEqual(whoSays(/from 'pino'|import\('pino'\)|require\(/), ['observe/log.ts']);
    assert.deepEqual(whoSays(/['"]prom-client['"]/), ['observe/metrics.ts', 'observe/register.ts']);
  });

  test('nobody but observe/sink and cli/ touches the standard streams', () => {
    const writers = whoSays(/\bprocess\s*\.\s*(?:stdout|stderr)\b|\bconsole\s*\.|process\s*\[\s*['"]std/);
    assert.deepEqual(
      writers.filter((path) => !path.startsWith('cli/')),
      ['observe/sink.ts'],
    );
  });

  test('Printable is made by redact alone, and an access line by record', () => {
    assert.deepEqual(whoSays(/\bas Printable\b/), ['observe/redact.ts']);
    assert.deepEqual(whoSays(/\bas AccessLine\b/), ['observe/record.ts']);
  });
});
