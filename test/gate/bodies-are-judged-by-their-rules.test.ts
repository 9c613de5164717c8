import assert from 'node:assert/strict';
import test from 'node:test';
import { identifier } from '../../src/check/identifier.js';
import { prompt } from '../../src/check/prompt.js';
import { range } from '../../src/check/range.js';
import { text } from '../../src/check/text.js';
import { judgeBody } from '../../src/gate/judge-body.js';
import { isJsonType } from '../../src/http/media-type.js';
import { parseJsonPointer, visitPointer } from '../../src/http/json-pointer.js';
import type { JsonRules } from '../../src/policy/demands.js';

const RULES: JsonRules = {
  byValue: {
    pointer: ['operation'],
    permissions: new Map([
      ['status', ['read']],
      ['infer', ['run', 'operator']],
      ['worker_install', ['control']],
    ]),
  },
  checks: [
    { name: 'hive_id', pointer: ['hive_id'], check: identifier(false, 64) },
    { name: '/stop/*', pointer: ['stop', '*'], check: text(false, 5, 'refuse', 'refuse') },
    { name: '/options/seed', pointer: ['options', 'seed'], check: range(false, 0, 10, true) },
    { name: '/tasks/*/id', pointer: ['tasks', '*', 'id'], check: identifier(true, 64) },
  ],
};
const DEEP: JsonRules = {
  byValue: { pointer: ['task', 'kind'], permissions: new Map([['a', ['read']]]) },
  checks: [],
};

function judge(body: unknown, rules = RULES, grants: readonly string[] = ['read', 'run']): string {
  const bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
  let released = 0;
  const said = judgeBody(
    {
      bytes,
      release: () => {
        released += 1;
      },
    },
    rules,
    {
      name: 'anna',
      authenticator: 'keys',
      roles: [],
      grants: new Set(grants),
      expiresAtMs: Number.POSITIVE_INFINITY,
      revocables: [],
    },
  );
  if (!said.ok) return said.invalid === null ? said.reason : `${said.invalid.name} ${said.invalid.rule}`;
  assert.equal(said.body.bytes, bytes, 'other bytes than those that were judged');
  assert.equal(said.body.length, bytes.length);
  said.body.release();
  assert.equal(released, 1);
  assert.throws(() => said.body.bytes, TypeError);
  return 'sound';
}

test('the field decides, and only what is listed may be asked for', () => {
  for (const [body, said] of [
    [{ operation: 'status' }, 'sound'],
    [{ operation: 'infer' }, 'sound'],
    [{ operation: 'worker_install' }, 'permission_missing'],
    [{ operation: 'STATUS' }, 'operation_unknown'],
    [{ operation: 'status ' }, 'operation_unknown'],
    [{ operation: 'new_thing' }, 'operation_unknown'],
    [{ operation: '*' }, 'operation_unknown'],
    [{ operation: '' }, 'operation_unknown'],
    [{ operation: null }, 'operation_unknown'],
    [{ operation: 1 }, 'operation_unknown'],
    [{ operation: ['status'] }, 'operation_unknown'],
    [{ operation: { status: {} } }, 'operation_unknown'],
    [{}, 'operation_unknown'],
    ['{"__proto__":{"operation":"status"}}', 'operation_unknown'],
    ['{"operation":"status","operation":"status"}', 'operation_unknown'],
    ['{"operation":"status","operat\\u0069on":"worker_install"}', 'operation_unknown'],
    ['{"operation":"status","Operation":"worker_install"}', 'body_ambiguous'],
    ['{"operation":"status","\\u004fPERATION":"worker_install"}', 'body_ambiguous'],
    ['{"Operation":"status"}', 'body_ambiguous'],
    // Readers in C end a name at its first NUL.
    ['{"operation":"status","operation\\u0000":"worker_install"}', 'body_ambiguous'],
    ['{"OPERATION\\u0000x":"worker_install","operation":"status"}', 'body_ambiguous'],
    ['{"operation":"status","a":{"operation":1,"operation":2}}', 'body_ambiguous'],
    ['{"operat\\u0069on":"status"}', 'sound'],
    [[{ operation: 'status' }], 'body_malformed'],
    [['status'], 'body_malformed'],
    ['"status"', 'body_malformed'],
    ['null', 'body_malformed'],
    ['', 'body_malformed'],
    ['\ufeff{"operation":"status"}', 'body_malformed'],
    ['{"operation":"status"}{"operation":"worker_install"}', 'body_malformed'],
    ['{"operation":"status",}', 'body_malformed'],
    ['operation=status', 'body_malformed'],
    ['{"operation":"status","a":"\\ud800"}', 'body_malformed'],
  ] as const) {
    assert.equal(judge(body), said, JSON.stringify(body));
  }
  assert.equal(judge({ operation: 'infer' }, RULES, ['operator']), 'sound');
  assert.equal(judge({ operation: 'status' }, RULES, []), 'permission_missing');
});

test('a field that lies deeper', () => {
  for (const [body, said] of [
    [{ task: { kind: 'a' } }, 'sound'],
    [{ task: { kind: 'b' } }, 'operation_unknown'],
    [{ task: [{ kind: 'a' }] }, 'operation_unknown'],
    [{ task: 'a' }, 'operation_unknown'],
    [{ kind: 'a' }, 'operation_unknown'],
    ['{"task":{"kind":"a","kind":"b"}}', 'operation_unknown'],
    ['{"task":{"kind":"a"},"task":{"kind":"b"}}', 'body_ambiguous'],
    ['{"task":{"kind":"a"},"TASK":{"kind":"b"}}', 'body_ambiguous'],
  ] as const) {
    assert.equal(judge(body, DEEP), said, JSON.stringify(body));
  }
});

test('members are what their checks say, wherever they lie', () => {
  const status = { operation: 'status' };
  for (const [body, said] of [
    [{ hive_id: 'hive-1' }, 'sound'],
    [{ hive_id: null }, 'sound'],
    [{ hive_id: 1 }, 'hive_id type'],
    [{ hive_id: '../x' }, 'hive_id characters'],
    [{ Hive_id: 'x' }, 'body_ambiguous'],
    [{ stop: [] }, 'sound'],
    [{ stop: ['a', 'b'] }, 'sound'],
    [{ stop: ['a', 'bbbbbb'] }, '/stop/* too_long'],
    [{ stop: ['a', 1] }, '/stop/* type'],
    [{ stop: 'a' }, '/stop/* type'],
    [{ stop: { '0': 'a' } }, '/stop/* type'],
    [{ options: { seed: 9 } }, 'sound'],
    [{ options: {} }, 'sound'],
    [{ options: { seed: '9' } }, '/options/seed type'],
    [{ options: { seed: 1.5 } }, '/options/seed not_whole'],
    [{ options: [9] }, '/options/seed type'],
    [{ options: 'seed' }, '/options/seed type'],
    [{ options: false }, '/options/seed type'],
    [{ tasks: [{ id: 'a' }, { id: 'b' }] }, 'sound'],
    [{ tasks: [{ id: 'a' }, {}] }, '/tasks/*/id missing'],
    [{ tasks: [{ id: 'a' }, null] }, '/tasks/*/id missing'],
    [{ tasks: [['a']] }, '/tasks/*/id type'],
    [{ tasks: [{ id: 'a', ID: 'b' }] }, 'body_ambiguous'],
  ] as const) {
    assert.equal(judge({ ...status, ...body }), said, JSON.stringify(body));
  }
  assert.equal(judge(status), 'sound');
  assert.equal(judge('{"operation":"status","tasks":[],"options":{"seed":1e999}}'), '/options/seed out_of_range');
  assert.equal(
    judge('{"operation":"status","tasks":[],"options":{"seed":9007199254740993}}'),
    '/options/seed out_of_range',
  );
});

test('JSON that only has to be JSON may be anything', () => {
  const none: JsonRules = { byValue: null, checks: [] };
  for (const body of ['[]', '"a"', '1', '{"a":1,"A":2}']) assert.equal(judge(body, none), 'sound', body);
  assert.equal(judge('{"a":1,"a":2}', none), 'body_ambiguous');
});

test('JSON pointers', () => {
  assert.deepEqual(parseJsonPointer('/a/b~1c/~0/~01/'), ['a', 'b/c', '~', '~1', '']);
  for (const text of ['', 'a', '/~', '/~2', '/a~']) assert.equal(parseJsonPointer(text), null, text);
  const found: unknown[] = [];
  const keep = (value: unknown): null => {
    found.push(value);
    return null;
  };
  visitPointer({ a: [{ b: 1 }, { b: 2 }] }, ['a', '1', 'b'], keep);
  visitPointer({ a: [{ b: 1 }] }, ['a', '01', 'b'], keep);
  visitPointer({ a: [{ b: 1 }] }, ['a', '7', 'b'], keep);
  visitPointer({ a: { '1': 3 } }, ['a', '1'], keep);
  visitPointer({ a: 1 }, ['toString'], keep);
  assert.deepEqual(found, [2, undefined, 3, undefined]);
});

test('types that are JSON in UTF-8 to everybody', () => {
  for (const type of [
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset="UTF-8"',
    'application/vnd.api+json',
    'application/json; profile=x; charset=Utf-8',
  ])
    assert.ok(isJsonType(type), type);
  for (const type of [
    null,
    '',
    'text/json',
    'text/plain',
    'application/jsonx',
    'application/+json',
    'application/json,application/json',
    'application/json, text/plain',
    'application/json; charset=utf-16',
    'application/json; charset=latin1',
    'application/json; charset=utf8',
    'application/json; charset=utf-8; charset=utf-16',
    // RFC 2231, as readers of mail read it: UTF-7 has quotes where UTF-8 has none.
    "application/json; charset*=utf-8''utf-7",
    'application/json; charset*0=utf-7',
    "application/json; charset*0*=us-ascii''utf-7",
    'application/json; charset=utf-8; charset*0=utf-7',
    "application/json; x*=utf-8''y",
    // Readers that look for the word alone.
    'application/json; x=charset=utf-7',
    'application/json; x="charset=utf-7"',
    'application/json; xcharset=utf-7',
    'application/json; charset=utf-8; x=1 charset=utf-7',
    'application/vnd.charset=utf-7+json',
    'application/json; charset',
    'application/json;',
    'application /json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=application/json',
  ])
    assert.ok(!isJsonType(type), String(type));
});

test('judging 100 kB costs less than 1.5 ms of CPU', () => {
  const rules: JsonRules = {
    byValue: RULES.byValue,
    checks: [{ name: 'prompt', pointer: ['prompt'], check: prompt(true, 100_000, 'refuse') }],
  };
  const lines = JSON.stringify({ operation: 'status', prompt: 'Tell me "a" story,\nof bees. '.repeat(3500) });
  const messages = JSON.stringify({
    operation: 'status',
    prompt: 'x',
    messages: Array.from({ length: 1700 }, (_, i) => ({ role: 'user', content: `message ${i} of many, with words` })),
  });
  const plain = JSON.stringify({ operation: 'status', prompt: 'a story of bees, '.repeat(5880) });
  for (const [name, body] of [
    ['one long text', plain],
    ['a text with escapes', lines],
    ['many members', messages],
  ] as const) {
    assert.ok(body.length > 95_000, String(body.length));
    for (let i = 0; i < 30; i += 1) judge(body, rules);
    // The best of several: other processes share the machine, and only take.
    let best = Infinity;
    for (let round = 0; round < 30 && !(best < 1); round += 1) {
      const before = process.cpuUsage();
      for (let i = 0; i < 10; i += 1) judge(body, rules);
      const { user, system } = process.cpuUsage(before);
      best = Math.min(best, (user + system) / 10_000);
    }
    assert.ok(best < 1.5, `${name}: ${best.toFixed(3)} ms`);
    process.stdout.write(`# ${name}: ${best.toFixed(3)} ms of CPU\n`);
  }
});
