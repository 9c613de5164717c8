/** What can be sent can be made to be slow to search: a lot of everything that the finders look for. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { redactorThatKnows } from './known-tokens.js';

const MEGABYTE = 1 << 20;
const LENGTH = MEGABYTE / 8;
const redactor = redactorThatKnows('some-token-of-ours-1');

const PIECES: readonly string[] = [
  ...[
    'a',
    'A',
    'Aa1',
    '0',
    '=',
    '/',
    '%',
    '%41',
    '%25',
    '%252541',
    '\\',
    '\\"',
    '"',
    ' ',
    '\n',
    '\r\n',
    '\u001b[',
    '\u202e',
    'é',
  ],
  ...[
    'eyJ',
    'eyJ.',
    'eyJaaaaa',
    'eyJaaaaa.',
    'sk-',
    'hf_',
    'ghp_',
    'xoxa-',
    'AKIA',
    'gbee_',
    'deadbeef',
    '[redacted:',
    '-----BEGIN ',
    '-----BEGIN a-----END',
  ],
  ...[
    'token',
    'token=',
    'token:"',
    'token:\\"',
    'token:\'\n"`',
    'token:[\n',
    'token: the ',
    'token:ab12cd ',
    'token\u001b[0m',
    '--token ',
    '"token", ',
    '"x-token", ',
  ],
  ...[
    'authorization: ',
    'authorization: bearer ',
    'authorization: bearer a ',
    '{authorization: \\"',
    'cookie: a\n',
    'cookie: a;',
    'cookie:',
    '{"cookie:',
    'passphrase: x ',
  ],
  ...[
    'bearer ',
    'basic basic,',
    'basic+',
    'bearer realm=',
    'bearer,',
    '//',
    '//a@',
    '//a:b@',
    `//${'@'.repeat(1000)}`,
    '@',
    '://',
  ],
  ...[
    'aB3/',
    'aB3+',
    'aB3xyzAB12345678/',
    'aB3xyzAB1234567.',
    'x!yzxyzxyzxyzxyzxyz ',
    'a=b&',
    '0b6f1c1e-9a4b-4f0e-8f3a-5b1c2d3e4f50',
  ],
];

const fill = (piece: string, length = LENGTH): string =>
  piece.repeat(Math.ceil(length / piece.length)).slice(0, length);

describe('a lot of anything is searched in no time', () => {
  for (const piece of PIECES) {
    test(JSON.stringify(piece).slice(0, 40), () => {
      for (const text of [fill(piece), `${piece}${fill('a')}`, `${fill('aB3/')}${piece}`, `${fill(piece)} %41`]) {
        const started = performance.now();
        redactor.mask(text);
        const whole = performance.now() - started;
        // A tenth of a second on an idle machine; quadratic would be a minute.
        assert.ok(whole < 3_000, `${whole.toFixed(0)} ms`);
        const again = performance.now();
        redactor.redactText(text);
        const bounded = performance.now() - again;
        assert.ok(bounded < 500, `${bounded.toFixed(0)} ms when bounded`);
      }
    });
  }
});

test('a megabyte, and four times the text takes about four times as long', () => {
  const time = (text: string): number => {
    const started = performance.now();
    redactor.mask(text);
    return performance.now() - started;
  };
  for (const piece of ['token:"', 'authorization: bearer a ', 'eyJ', `//${'@'.repeat(1000)}`, '%2541']) {
    time(fill(piece, MEGABYTE / 16));
    // The best of several: a busy machine slows some of them, a quadratic search all.
    const best = (length: number): number => Math.min(...[1, 2, 3, 4, 5].map(() => time(fill(piece, length))));
    const small = best(MEGABYTE / 8);
    const large = best(MEGABYTE / 2);
    assert.ok(
      large < 12 * small + 50,
      `${JSON.stringify(piece).slice(0, 30)}: ${small.toFixed(1)} → ${large.toFixed(1)} ms`,
    );
  }
});
