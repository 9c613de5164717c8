/** A log must show a password neither in the URL or the field value that holds it, nor where somebody puts it alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256Hex } from '../../src/secret/digest.js';
import { Secret } from '../../src/secret/secret.js';

const PASSWORD = 'correct-horse/battery';
const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;

for (const [name, text, expected] of [
  ['a URL', 'redis://bee:plain-horse-battery@127.0.0.1:6379/0', ['plain-horse-battery']],
  ['a URL that encodes it', 'rediss://:correct-horse%2Fbattery@h', [PASSWORD, 'correct-horse%2Fbattery']],
  ['a URL that encodes it badly', 'redis://u:100%@h', ['100%']],
  ['a field value of Basic', basic(`bee:${PASSWORD}`), [PASSWORD]],
  ['one with colons in it', basic('bee:a:b:c'), ['a:b:c']],
  ['a field value of Bearer', `Bearer ${PASSWORD}`, [PASSWORD]],
  ['a secret that is nothing else', PASSWORD, [PASSWORD]],
] as const) {
  test(`the digests of ${name} have the password's`, () => {
    const digests = Secret.fromText(text).digests();
    for (const part of [text, ...expected]) assert.ok(digests.includes(sha256Hex(part)), part);
  });
}

test('a URL without a password has none, nor has a user name', () => {
  for (const text of ['redis://127.0.0.1:6379/0', 'redis://bee@h', 'redis://bee:@h', basic('bee')]) {
    const words = [...new Set([text, ...text.split(' ')])];
    assert.deepEqual(Secret.fromText(text).digests(), words.map(sha256Hex));
  }
});
