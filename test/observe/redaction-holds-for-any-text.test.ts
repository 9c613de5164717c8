import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LineRedactor } from '../../src/observe/redact/line-redactor.js';
import { redactorThatKnows } from './known-tokens.js';

const TIME_BOX = { interruptAfterTimeLimit: 2_000, markInterruptAsFailure: false, numRuns: 10_000 };

/** Letters that words are made of, separators, and everything that the finders look for. */
const anyText = fc
  .array(
    fc.oneof(
      fc.string({ maxLength: 12 }),
      fc.string({ unit: 'binary', maxLength: 6 }),
      fc.constantFrom(
        ...[
          'token',
          'key',
          'password',
          'Authorization',
          'Bearer',
          'Basic',
          'cookie',
          '=',
          ':',
          ': ',
          '"',
          "'",
          '\\"',
          ' ',
          '\n',
        ],
        ...[
          '/',
          '//',
          '@',
          '[',
          ']',
          '{',
          ',',
          ';',
          '&',
          'eyJ',
          '.',
          '-----BEGIN ',
          '-----END',
          '[redacted]',
          '[redacted:ab12cd]',
        ],
      ),
    ),
    { maxLength: 20 },
  )
  .map((pieces) => pieces.join(''));

const KNOWN = 'correct-horse-battery';
const redactor = redactorThatKnows(KNOWN);

describe('for any text', () => {
  test('nothing unprintable is left', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        assert.doesNotMatch(redactor.redactText(text), /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      }),
      TIME_BOX,
    );
  });

  test('a known token is never left, whatever stands around it', () => {
    fc.assert(
      fc.property(
        anyText,
        fc.constantFrom(' ', '"', "'", '/', '=', '&', '(', ',', ';', '\n', '<'),
        fc.constantFrom(' ', '"', "'", '/', '&', ')', ',', ';', '\n', '>', '.'),
        anyText,
        (before, left, right, after) => {
          assert.ok(!redactor.redactText(before + left + KNOWN + right + after).includes(KNOWN));
        },
      ),
      TIME_BOX,
    );
  });

  test('what was masked is masked alike the second time', () => {
    fc.assert(
      fc.property(
        anyText.filter((text) => !text.includes('%')),
        (text) => {
          const once = redactor.mask(text);
          // A second look may find more between what the first one took out, never less.
          assert.equal(redactor.mask(redactor.mask(once)), redactor.mask(once));
        },
      ),
      TIME_BOX,
    );
  });

  test('lines in are lines out', () => {
    fc.assert(
      fc.property(
        fc.array(
          anyText.map((text) => text.replace(/[\r\n]/g, '')),
          { maxLength: 10 },
        ),
        (lines) => {
          const filter = new LineRedactor(redactor);
          for (const line of lines) assert.doesNotMatch(filter.line(line), /[\r\n]/);
        },
      ),
      TIME_BOX,
    );
  });
});

test('random tokens are masked though nobody knows them', () => {
  const until = performance.now() + 1_500;
  let shown = 0;
  let made = 0;
  while (performance.now() < until && made < 20_000) {
    made++;
    const token = randomBytes(32).toString(made % 2 === 0 ? 'base64url' : 'hex');
    if (redactor.mask(`GET /v1/${token}/x`).includes(token)) shown++;
  }
  // One in ten thousand base64url strings of this length has no digit, or reads like words.
  assert.ok(shown <= 1 + made / 2_000, `${shown} of ${made}`);
});
