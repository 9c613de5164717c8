import assert from 'node:assert/strict';
import test from 'node:test';
import { caller } from '../../src/check/caller.js';
import { type Asked, type Check, RULES, type Rule, violation } from '../../src/check/check.js';
import { oneOf } from '../../src/check/enum.js';
import { hex } from '../../src/check/hex.js';
import { identifier } from '../../src/check/identifier.js';
import { modelRef } from '../../src/check/model-ref.js';
import { path } from '../../src/check/path.js';
import { prompt } from '../../src/check/prompt.js';
import { range } from '../../src/check/range.js';
import { text } from '../../src/check/text.js';

const JSON_VALUE: Asked = { caller: 'hive-1', form: 'json' };
const TEXT_VALUE: Asked = { caller: 'hive-1', form: 'text' };

type Row = readonly [value: unknown, rule: Rule | null];

/** One row each: the value and the rule that it breaks. The order of rules in one value is that of rbee's validators. */
function table(name: string, check: Check, rows: readonly Row[], asked = JSON_VALUE): void {
  test(name, () => {
    for (const [value, rule] of rows) {
      const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : String(value);
      assert.equal(violation(check, value, asked), rule, shown);
      assert.ok(rule === null || RULES.includes(rule));
    }
  });
}

const NOT_TEXTS: readonly Row[] = [1, true, false, ['a'], { a: 1 }, NaN].map((value) => [value, 'type']);

table('identifier', identifier(false, 256), [
  ['hive-1_A', null],
  ['a'.repeat(256), null],
  ['', 'empty'],
  ['a'.repeat(257), 'too_long'],
  ['é'.repeat(129), 'too_long'], // 258 bytes
  ['é'.repeat(128), 'characters'],
  ['a\0', 'null_byte'],
  ['a\0/', 'null_byte'],
  ['./a', 'path_traversal'],
  ['.\\a', 'path_traversal'],
  ['a/b', 'characters'],
  ['a\\b', 'characters'],
  ['a.b', 'characters'],
  ['a.', 'characters'],
  ['..', 'characters'],
  ['a b', 'characters'],
  ['a\n', 'characters'],
  ['a;b', 'characters'],
  ['ａ', 'characters'],
  ['a\u202e', 'characters'],
  [undefined, null],
  [null, null],
  ...NOT_TEXTS,
]);
table('identifier that must be there', identifier(true, 64), [
  [undefined, 'missing'],
  [null, 'missing'],
  ['a'.repeat(64), null],
  ['a'.repeat(65), 'too_long'],
]);

table('model_ref', modelRef(false, 512), [
  ['meta-llama/Llama-3.1-8B:q4', null],
  ['hf:org/name', null],
  ['file:/models/x.gguf', null],
  ['https://huggingface.co/org/name', null],
  ['./x', null],
  ['a/..', null],
  ['/abs/path', null],
  ['', 'empty'],
  ['a'.repeat(512), null],
  ['a'.repeat(513), 'too_long'],
  ['a\0', 'null_byte'],
  ...[';', '|', '&', '$', '`', '\n', '\r'].map((c): Row => [`a${c}b`, 'shell_metacharacter']),
  ['.\\x', 'path_traversal'],
  ['a\\x', 'characters'],
  ['../x', 'path_traversal'],
  ['a/../b', 'path_traversal'],
  ['a@b', 'characters'],
  ['a b', 'characters'],
  ['a b;', 'characters'],
  ['a;b c', 'shell_metacharacter'],
  ['é', 'characters'],
  ...NOT_TEXTS,
]);

table('hex', hex(false, 64), [
  ['0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789'.padEnd(64, '0'), null],
  ['a'.repeat(63), 'wrong_length'],
  ['a'.repeat(65), 'wrong_length'],
  ['', 'wrong_length'],
  ['g'.repeat(64), 'not_hex'],
  [`${'a'.repeat(63)}\0`, 'null_byte'],
  [`g${'a'.repeat(62)}\0`, 'not_hex'],
  [`0x${'a'.repeat(62)}`, 'not_hex'],
  ['é'.repeat(32), 'not_hex'], // 64 bytes
  ['é'.repeat(64), 'wrong_length'],
  ...NOT_TEXTS,
]);

table('path below a root', path(false, '/srv/models'), [
  ['/srv/models', null],
  ['/srv/models/a/b.gguf', null],
  ['a/b', null],
  ['a//b', null],
  ['a..b/c...', null],
  ['', 'empty'],
  ['a\0', 'null_byte'],
  ['../a', 'path_traversal'],
  ['./a', 'path_traversal'],
  ['a/./b', 'path_traversal'],
  ['a/..', 'path_traversal'],
  ['/srv/models/../../etc/passwd', 'path_traversal'],
  ['..\\a', 'path_traversal'],
  ['a.\\b', 'path_traversal'],
  ['a\\b', 'characters'],
  ['/etc/passwd', 'outside_root'],
  ['/srv/models2', 'outside_root'],
  ['//srv/models/a', 'outside_root'],
  ['/', 'outside_root'],
  ['a'.repeat(4097), 'too_long'],
  ...NOT_TEXTS,
]);
table('path without a root', path(false, null), [
  ['a/b', null],
  ['/a', 'outside_root'],
]);
table('path below the root of all', path(false, '/'), [
  ['/etc/hosts', null],
  ['/etc/../x', 'path_traversal'],
]);

table('prompt', prompt(false, 100_000, 'refuse'), [
  ['', null],
  ['Tell me\n\ta story\r\nof bees 🐝', null],
  ['a'.repeat(100_000), null],
  ['a'.repeat(100_001), 'too_long'],
  ['é'.repeat(50_000), null],
  [`${'é'.repeat(50_000)}a`, 'too_long'],
  ['a\0', 'null_byte'],
  ['\u001b[31m', 'ansi_escape'],
  ['a\u0007', 'control_character'],
  ['a\u007f', 'control_character'],
  ['a\u0085', 'control_character'],
  ['a\u009f', 'control_character'],
  ...['\u202a', '\u202b', '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069'].map((c): Row => [
    `a${c}`,
    'bidi',
  ]),
  ['a\u200e\u200f\u061c\u200b\ufeff', null],
  ['\u202e\0', 'bidi'],
  ['\0\u202e', 'null_byte'],
  ...NOT_TEXTS,
]);
table('prompt that may turn', prompt(false, 10, 'allow'), [
  ['\u202e', null],
  ['\u202e\0', 'null_byte'],
]);

table('text of one line', text(false, 20, 'refuse', 'refuse'), [
  ['', null],
  ['a\tb', null],
  ['a\nb', 'line_break'],
  ['a\rb', 'line_break'],
  ['a\u2028b', 'line_break'],
  ['a\u0085b', 'control_character'],
  ['\ufeffa', 'characters'],
  ['\u202e', 'bidi'],
  ['\u200b\u061c', null],
  ['\0', 'null_byte'],
  ['\u001b', 'ansi_escape'],
  ['a'.repeat(21), 'too_long'],
  ...NOT_TEXTS,
]);
table('text of lines', text(false, 20, 'allow', 'allow'), [
  ['a\r\nb\u202e\u2028', null],
  ['\ufeff', 'characters'],
]);

table('range in JSON', range(false, 0, 2, false), [
  [0, null],
  [-0, null],
  [1.999, null],
  [2, 'out_of_range'],
  [-0.001, 'out_of_range'],
  [Infinity, 'out_of_range'],
  [NaN, 'out_of_range'],
  [JSON.parse('1e400'), 'out_of_range'],
  ['1', 'type'],
  [true, 'type'],
  [[1], 'type'],
]);
table('range that is wide', range(false, -(2 ** 53) + 1, 2 ** 53 - 1, true), [
  [2 ** 53 - 2, null],
  [2 ** 53, 'out_of_range'],
  [-(2 ** 53), 'out_of_range'],
  [1.5, 'not_whole'],
]);
table(
  'range in a query',
  range(false, 1, 2049, true),
  [
    ['1', null],
    ['2048', null],
    ['2e3', null],
    ['2049', 'out_of_range'],
    ['0', 'out_of_range'],
    ['1.5', 'not_whole'],
    ['9007199254740993', 'out_of_range'],
    ['1e999', 'out_of_range'],
    ...['', ' 1', '1 ', '+1', '01', '0x10', '.5', '5.', '1_0', 'Infinity', 'NaN', '１', '1\n'].map((value): Row => [
      value,
      'not_a_number',
    ]),
  ],
  TEXT_VALUE,
);

table('enum in JSON', oneOf(false, ['cpu', 'cuda', 1]), [
  ['cpu', null],
  [1, null],
  ['1', 'not_listed'],
  ['CPU', 'not_listed'],
  ['', 'not_listed'],
  [{}, 'not_listed'],
  ['__proto__', 'not_listed'],
]);
table(
  'enum in a query',
  oneOf(false, ['cpu', 1]),
  [
    ['1', null],
    ['cpu', null],
    ['01', 'not_listed'],
  ],
  TEXT_VALUE,
);

table('caller', caller(true), [
  ['hive-1', null],
  ['hive-2', 'not_the_caller'],
  ['HIVE-1', 'not_the_caller'],
  ['', 'not_the_caller'],
  [undefined, 'missing'],
  [1, 'type'],
]);
table('caller where nobody was asked', caller(false), [['', 'not_the_caller']], { caller: null, form: 'json' });
