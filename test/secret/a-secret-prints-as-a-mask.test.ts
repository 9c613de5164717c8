import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { format, inspect } from 'node:util';
import { serialize } from 'node:v8';
import { Secret } from '../../src/secret/secret.js';

const TEXT = 'tulip-mania-of-1637';
const secret = Secret.fromText(TEXT);
/** As it looks to somebody who takes it for a string. */
const mistaken = secret as unknown as { toLocaleString(): string } & number;
const holder = { key: secret, list: [secret], map: new Map([[secret, secret]]), set: new Set([secret]) };

/** Every way to print that somebody may try. */
const CHANNELS: Readonly<Record<string, () => string>> = {
  'String()': () => String(secret),
  'a template': () => `<${mistaken}>`,
  concatenation: () => '<' + mistaken,
  join: () => [secret, secret].join(),
  JSON: () => JSON.stringify(holder),
  inspect: () => inspect(holder, { depth: 9 }),
  'inspect with everything': () => inspect(holder, { depth: 9, showHidden: true, getters: true }),
  'inspect without custom functions': () => inspect(holder, { depth: 9, showHidden: true, customInspect: false }),
  '%s %d %o %O %j': () => format('%s %d %o %O %j', secret, secret, secret, secret, secret),
  entries: () => inspect([Object.entries(secret), Reflect.ownKeys(secret), Object.assign({}, secret)]),
  'an error': () => inspect(new Error('x', { cause: holder })),
  'a stack': () => new Error(`x ${mistaken}`).stack ?? '',
  'a structured clone': () => inspect(structuredClone({ secret }), { depth: 9, showHidden: true }),
  'a serialisation': () => serialize({ secret }).toString('latin1'),
  'a locale': () => mistaken.toLocaleString(),
};

describe('nothing shows it:', () => {
  for (const [name, print] of Object.entries(CHANNELS)) {
    test(name, () => {
      const printed = print();
      assert.ok(!printed.includes(TEXT), printed);
      assert.ok(!printed.includes(Buffer.from(TEXT).toString('base64')), printed);
      assert.ok(!printed.includes(Buffer.from(TEXT).toString('hex').slice(0, 10)), printed);
    });
  }
  test('most say what it is', () => {
    assert.equal(String(secret), '[secret]');
    assert.equal(JSON.stringify({ secret }), '{"secret":"[secret]"}');
    assert.equal(inspect({ secret }), '{ secret: [secret] }');
  });
});

test('it comes out when asked, and not after it was wiped', () => {
  const bytes = Buffer.from(TEXT);
  const one = Secret.fromBytes(bytes);
  assert.equal(one.reveal(), TEXT);
  assert.equal(one.length, 19);
  one.wipe();
  assert.ok(bytes.every((byte) => byte === 0));
  assert.ok(!one.reveal().includes('tulip'));
});
