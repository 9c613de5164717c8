import assert from 'node:assert/strict';
import { type Server, createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { TestAuthority } from '../support/certificates.js';
import { type Guard, assertUntouched, startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { issuerKey, jwkOf, makeToken } from '../support/token-issuer.js';

const key = issuerKey('a', 'P-256');

/** A provider whose certificate is of an authority that no machine knows by itself. */
async function startProvider(t: TestContext, authority: TestAuthority): Promise<{ url: string; asked: () => number }> {
  let asked = 0;
  const pair = await authority.issue({ names: ['localhost'] });
  const server: Server = createServer(pair, (_request, response) => {
    asked += 1;
    response.end(JSON.stringify({ keys: [jwkOf(key)] }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `https://localhost:${String((server.address() as AddressInfo).port)}/jwks`, asked: () => asked };
}

const start = async (upstream: RecordingUpstream, url: string, ca: string): Promise<Guard> =>
  await startGuard({
    upstream: upstream.url,
    authenticators: {
      sso: { type: 'jwt', issuer: 'i', audience: 'q', jwks: { url }, algorithms: ['ES256'], roles_from: 'roles' },
    },
    listener: { authenticate: ['keys', 'sso'] },
    env: { NODE_EXTRA_CA_CERTS: ca },
  });

test('NODE_EXTRA_CA_CERTS names the authority of the provider, and no other stands for it', async (t) => {
  const authority = await TestAuthority.create('the lab');
  const other = await TestAuthority.create('another lab');
  const { url, asked } = await startProvider(t, authority);
  const files = new TemporaryDirectory(t);
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  const token = makeToken(
    { alg: 'ES256', kid: 'a' },
    { iss: 'i', aud: 'q', sub: 'anna', roles: ['operator'], exp: Math.floor(Date.now() / 1000) + 600 },
    key.privateKey,
  );

  {
    await using guard = await start(upstream, url, writeFileIn(files, 'other.pem', other.ca, 0o644));
    assert.equal((await request(guard.plain, { token })).status, 503);
    const line = await guard.process.waitForLog((one) => one['event.name'] === 'jwks.failed');
    assert.equal(line['guardbee.reason'], 'untrusted_certificate');
    assert.equal(asked(), 0);
    assertUntouched(upstream);
  }
  await using guard = await start(upstream, url, writeFileIn(files, 'own.pem', authority.ca, 0o644));
  assert.equal((await request(guard.plain, { token })).status, 200);
  assert.equal(upstream.requests.at(-1)?.header('x-auth-user'), 'anna');
  assert.equal(asked(), 1);
});
