import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { isShowable } from '../../src/policy/found.js';

for (const encoding of ['base64url', 'base64', 'hex'] as const) {
  test(`of 20,000 tokens in ${encoding} none is taken for a word that a message may repeat`, () => {
    const shown = Array.from({ length: 20_000 }, () => randomBytes(32).toString(encoding)).filter(isShowable);
    assert.deepEqual(shown, []);
  });
}

test('what policies hold of words is still shown', () => {
  for (const text of [
    'kohakuriver-host',
    'X-Forwarded-For',
    '/v1/jobs/{job_id}/stream',
    'Sec-WebSocket-Protocol',
    'queen-rbee.lab.example.com',
    '2001:db8::/32',
    'overlay_ip_reservations',
  ]) {
    assert.ok(isShowable(text), text);
  }
});
