/** A secret comes out of its wrapper in these files and nowhere else. Add a file here only with a reason. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sourceFiles } from './source-files.js';

const MAY_REVEAL: readonly string[] = [
  // What signs that the account at an ACME authority belongs to one that its operator knows.
  'acme/account-key.ts',
  // What a caller showed, for the one who proves it; the shape of a JWT picks who that is.
  'identity/credential.ts',
  'identity/jwt-shape.ts',
  'identity/jwt.ts',
  'identity/session-prover.ts',
  // What a caller typed, and the hash it is held against, on their way to bcrypt.
  'identity/basic.ts',
  // The token and the key that are shown to the collector of audit records.
  'observe/audit/collector.ts',
  // The credential that is shown to the upstream.
  'proxy/request-head.ts',
  // The key of the certificate that an outbound listener shows.
  'proxy/secure-connect.ts',
  // OpenSSL takes the key as text; a new one is written to its file.
  'server/self-signed.ts',
  'server/sni-contexts.ts',
  // The URL of Redis, with its password, is handed to the package that connects there.
  'state/redis-link.ts',
  // HKDF makes keys of it.
  'server/session-key.ts',
];

test('secrets are revealed where the list says, and the list has no more', () => {
  const callers = sourceFiles()
    .filter(({ path, code }) => path !== 'secret/secret.ts' && /\breveal\b/.test(code))
    .map(({ path }) => path);
  assert.deepEqual(callers, [...MAY_REVEAL].sort());
});
