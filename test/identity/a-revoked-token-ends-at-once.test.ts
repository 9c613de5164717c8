import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startGuard } from '../support/guard.js';
import { GUARDBEE_ENTRY, runCommand } from '../support/process.js';
import { openWebSocket, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { KeyServer, issuerKey, jwkOf, makeToken } from '../support/token-issuer.js';
import { waitUntil } from '../support/wait.js';

const key = issuerKey('a', 'Ed25519');
const second = Math.floor(Date.now() / 1000);

function token(iss: string, jti: string, sub: string): string {
  const claims = { iss, aud: 'queen', sub, jti, iat: second - 60, exp: second + 600, roles: ['operator'] };
  return makeToken({ alg: 'EdDSA', kid: 'a' }, claims, key.privateKey);
}

test('by jti of its issuer and by subject, with what is open, and nobody else', async () => {
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      (asked.header('upgrade') === null ? respond.echo() : respond.webSocket())(asked, connection),
  });
  await using server = await KeyServer.start([jwkOf(key)]);
  const sso = { type: 'jwt', audience: 'queen', jwks: { url: server.url }, roles_from: 'roles' };
  await using guard = await startGuard({
    upstream: upstream.url,
    authenticators: { sso: { ...sso, issuer: 'one' }, partner: { ...sso, issuer: 'two' } },
    listener: { authenticate: ['keys', 'sso', 'partner'] },
  });
  const anna = token('one', 'x', 'anna');
  const elsewhere = token('two', 'x', 'anna');
  const berta = token('one', 'y', 'berta');
  const statusOf = async (shown: string): Promise<number> => (await request(guard.plain, { token: shown })).status;
  for (const shown of [anna, elsewhere, berta]) assert.equal(await statusOf(shown), 200);
  const { socket, connection } = await openWebSocket(guard.plain, { token: anna });
  assert.ok(socket !== null);

  const revoke = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await runCommand(process.execPath, [
      GUARDBEE_ENTRY,
      'revoke',
      '--policy',
      guard.policyFile,
      ...args,
    ]);
    assert.equal(code, 0, stderr);
  };
  await revoke('--issuer', 'one', '--jti', 'x');
  await waitUntil(async () => (await statusOf(anna)) === 401, 'the token to be refused');
  await connection.waitForEnd();
  const line = await guard.recordWhere((one) => one['guardbee.reason'] === 'credential_revoked');
  assert.equal(line['http.response.status_code'], 401);
  assert.equal(await statusOf(elsewhere), 200, 'the same jti of another issuer');
  assert.equal(await statusOf(berta), 200);

  await revoke('--issuer', 'one', '--subject', 'berta');
  await waitUntil(async () => (await statusOf(berta)) === 401, 'the subject to be refused');
  assert.equal(await statusOf(elsewhere), 200);
});
