/** The two structures that are written here, as OpenSSL reads them; and when what is due. */
import assert from 'node:assert/strict';
import { X509Certificate, createHash } from 'node:crypto';
import { test } from 'node:test';
import { newKey } from '../../src/acme/account-key.js';
import { inWords } from '../../src/acme/failure.js';
import { heededUntil, isUrgent, limitUntil, renewalTime, retryDelay } from '../../src/acme/renewal.js';
import { certificationRequest, challengeCertificate } from '../../src/acme/x509.js';
import { requireComponent } from '../support/component.js';
import { runCommand } from '../support/process.js';

const DAY = 86_400_000;

test('a certification request names the host, and is signed by its key', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  // Longer than 127 and than 255 bytes: lengths in all three forms.
  for (const host of ['a.example.com', `${'x'.repeat(60)}.${'y'.repeat(60)}.${'z'.repeat(60)}.example.com`]) {
    const csr = certificationRequest(host, newKey());
    const read = await runCommand(openssl, ['req', '-inform', 'DER', '-noout', '-verify', '-text'], { input: csr });
    assert.equal(read.code, 0, read.stderr);
    assert.match(read.stderr, /verify OK/);
    assert.match(read.stdout, new RegExp(`DNS:${host}\n`));
    assert.match(read.stdout, /Subject:\s*\n/);
    assert.match(read.stdout, /NIST CURVE: P-256/);
  }
});

test('the certificate of a challenge is for one name, by its own key, with the digest in a critical extension', () => {
  const key = newKey();
  for (const now of [Date.UTC(2026, 0, 2, 3, 4, 5), Date.UTC(2051, 0, 2)]) {
    const certificate = new X509Certificate(challengeCertificate('a.example.com', 'token.thumb', key, now));
    assert.equal(certificate.subjectAltName, 'DNS:a.example.com');
    assert.ok(certificate.verify(certificate.publicKey) && certificate.checkPrivateKey(key));
    assert.equal(Date.parse(certificate.validFrom), now - DAY);
    const digest = createHash('sha256').update('token.thumb').digest();
    // id-pe-acmeIdentifier, TRUE, OCTET STRING of an OCTET STRING of 32 bytes (RFC 8737 §3).
    const extension = Buffer.concat([Buffer.from('06082b0601050507011f0101ff04220420', 'hex'), digest]);
    assert.ok(certificate.raw.includes(extension));
  }
});

test('a certificate is renewed at two thirds of its life, at a moment of its own', () => {
  for (const life of [90 * DAY, 6 * DAY, 3_600_000]) {
    const span = { notBeforeMs: 1000, notAfterMs: 1000 + life };
    const moments = ['00:00:00:00:FF', '80:00:00:00:FF', 'FF:FF:FF:FF:FF'].map((print) => renewalTime(span, print));
    assert.deepEqual(
      moments,
      [...moments].sort((a, b) => b - a),
    );
    for (const at of moments) assert.ok(at <= 1000 + life * (2 / 3) && at >= 1000 + life * (2 / 3 - 1 / 20) - 1);
    assert.equal(new Set(moments).size, 3);
  }
});

test('attempts become rare, and keep within what is left of a certificate', () => {
  const waits = [1, 2, 3, 4, 5, 6, 60].map((failures) => retryDelay(failures, null, 0) / 60_000);
  assert.deepEqual(waits, [1, 4, 16, 60, 180, 360, 360]);
  assert.equal(retryDelay(1, null, 1), 75_000);
  assert.equal(retryDelay(9, { notBeforeMs: 0, notAfterMs: 12 * 3_600_000 }, 0), 3_600_000);
  assert.equal(retryDelay(9, { notBeforeMs: 0, notAfterMs: 10_000 }, 0), 5_000);
  assert.ok(isUrgent({ notBeforeMs: 0, notAfterMs: 90 * DAY }, 84 * DAY));
  assert.ok(!isUrgent({ notBeforeMs: 0, notAfterMs: 90 * DAY }, 60 * DAY));
});

test('a rate limit is heeded, for a week at most and whatever became of the clock', () => {
  assert.equal(limitUntil(3_600_000, 1000), 3_601_000);
  assert.equal(limitUntil(null, 0), 3_600_000);
  assert.equal(limitUntil(999 * DAY, 0), 7 * DAY);
  assert.equal(heededUntil(5000, 1000), 5000);
  assert.equal(heededUntil(500, 1000), null);
  assert.equal(heededUntil(null, 1000), null);
  assert.equal(heededUntil(Date.UTC(2040, 0, 1), Date.UTC(2026, 0, 1)), null, 'noted by a clock that was wrong');
});

test('of what an authority says nothing is left that could be a token, or break a line', () => {
  for (const [said, left] of [
    ['DNS problem: NXDOMAIN looking up A for a.example.com', 'DNS problem: NXDOMAIN looking up A for a.example.com'],
    ['got "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"', 'got "[…]"'],
    ['one\r\ntwo\u001b[31m\u2028three', 'one two [31m three'],
    [{ an: 'object' }, ''],
    ['x '.repeat(1000), `${'x '.repeat(150)}…`],
  ] as const) {
    assert.equal(inWords(said), left);
  }
});
