import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type TlsFault, tlsFault } from '../../src/net/tls-fault.js';

const CODES: Readonly<Record<TlsFault, readonly string[]>> = {
  wrong_name: ['ERR_TLS_CERT_ALTNAME_INVALID', 'HOSTNAME_MISMATCH'],
  expired: ['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'],
  untrusted: [
    ...['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'SELF_SIGNED_CERT_IN_CHAIN'],
    ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'CERT_SIGNATURE_FAILURE', 'CERT_REVOKED', 'CERT_UNTRUSTED', 'INVALID_CA'],
    ...['INVALID_PURPOSE', 'PATH_LENGTH_EXCEEDED', 'CA_MD_TOO_WEAK', 'CRL_HAS_EXPIRED'],
  ],
  refused: [
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
    'ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE',
  ],
  no_tls: [
    'ERR_SSL_WRONG_VERSION_NUMBER',
    'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE',
    'EPROTO',
    'ERR_TLS_INVALID_CONTEXT',
  ],
};

for (const [fault, codes] of Object.entries(CODES)) {
  test(`${fault}: ${codes.join(', ')}`, () => {
    for (const code of codes) assert.equal(tlsFault(code), fault, code);
  });
}

test('nothing, where it is not about TLS', () => {
  for (const code of [
    '',
    'ECONNREFUSED',
    'ECONNRESET',
    'ENOTFOUND',
    'ETIMEDOUT',
    'HPE_INVALID_CONSTANT',
    'CERTAINLY',
  ]) {
    assert.equal(tlsFault(code), null, code);
  }
});
