/** CWE-117 and CVE-2021-42574: what a request says must not end a line, colour it, hide it or turn it round. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AccessRecorder } from '../../src/observe/record.js';
import { constant } from '../../src/observe/redact.js';
import { EXCHANGE } from './exchange-fixture.js';
import { redactorThatKnows } from './known-tokens.js';
import { linesOf, parsed } from './log-file.js';

const HOSTILE: readonly string[] = [
  'a\r\n{"level":"INFO","msg":"request","guardbee.identity":"root"}',
  'a\n2026-07-29T12:00:00.000Z INFO  all is well',
  '\u001b[2K\u001b[1A\u001b[32mfine',
  '\u009b31m',
  '\u202egpj.exe\u2066\u2069',
  'a\u2028b\u2029c\u0085d',
  'a\u200b\ufeffb\u00adc',
  '\u{e0041}\u{e007f}',
  'a\ud800b\udc00',
  '\u0000\u0007\u0008\u007f',
  '"},{"a":"\\',
];
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const redactor = redactorThatKnows();

describe('one exchange is one line, of characters that can be seen', () => {
  for (const hostile of HOSTILE) {
    test(JSON.stringify(hostile), async () => {
      const record = {
        ...EXCHANGE,
        ...{ method: hostile, path: `/${hostile}`, query: `${hostile}=${hostile}`, host: hostile, userAgent: hostile },
        ...{ client: hostile, peer: hostile, requestId: hostile, identity: { ...EXCHANGE.identity!, name: hostile } },
      };
      for (const format of ['json', 'text'] as const) {
        const lines = await linesOf(
          redactor,
          (log) => {
            new AccessRecorder(log, redactor).record(record);
            log.warn('test', hostile, { 'guardbee.value': constant(hostile), [hostile]: 1 });
          },
          { format },
        );
        assert.equal(lines.length, 2);
        for (const line of lines) {
          assert.doesNotMatch(line, UNPRINTABLE);
          if (format === 'json') assert.match(String(parsed(line)['level']), /^(?:INFO|WARN)$/);
          else assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:INFO |WARN ) /);
        }
      }
    });
  }
});
