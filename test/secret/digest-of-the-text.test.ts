import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { fingerprint, sha256Hex } from '../../src/secret/digest.js';

test('a digest is the SHA-256 of the UTF-8 bytes, whatever the text', () => {
  for (const text of ['', 'a', 'naïve ☃ \u{1f41d}', '\ud800', 'x'.repeat(100_000)]) {
    const expected = createHash('sha256').update(Buffer.from(text, 'utf8')).digest('hex');
    assert.equal(sha256Hex(text), expected);
    assert.equal(fingerprint(text), expected.slice(0, 6));
  }
  // As `printf abc | sha256sum` has it.
  assert.equal(sha256Hex('abc'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});
