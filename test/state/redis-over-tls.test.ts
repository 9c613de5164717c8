/** `rediss://`: the certificate of the server is verified, by the system's authorities and those of NODE_EXTRA_CA_CERTS. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';
import { type TestContext, describe, test } from 'node:test';
import { TestAuthority, writeKeyPair } from '../support/certificates.js';
import { type Guard, assertUntouched, startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TestRedis } from '../support/redis.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { issuerKey, makeToken } from '../support/token-issuer.js';
import { waitUntil } from '../support/wait.js';

const PASSWORD = 'a-password-of-redis-4711';
const key = issuerKey('a', 'P-256');
const token = (jti: string): string =>
  makeToken(
    { alg: 'ES256', kid: 'a' },
    { iss: 'i', aud: 'q', sub: 's', jti, roles: ['operator'], exp: Math.floor(Date.now() / 1000) + 600 },
    key.privateKey,
  );

interface TlsRedis {
  readonly redis: TestRedis;
  readonly port: number;
  /** Path of the authority's certificate. */
  readonly ca: string;
  readonly directory: TemporaryDirectory;
}

/** Speaks TLS on a port of its own, and asks clients for no certificate. */
async function startTlsRedis(t: TestContext, names: readonly string[]): Promise<TlsRedis | null> {
  const directory = new TemporaryDirectory(t);
  const authority = await TestAuthority.create('authority of the store');
  const ca = writeFileIn(directory, 'redis-ca.pem', authority.ca, 0o644);
  const { certFile, keyFile } = writeKeyPair(directory, await authority.issue({ names }), 'redis');
  const port = await freePort();
  const redis = await TestRedis.start(t, {
    password: PASSWORD,
    args: [
      ...['--tls-port', String(port), '--tls-cert-file', certFile, '--tls-key-file', keyFile],
      ...['--tls-ca-cert-file', ca, '--tls-auth-clients', 'no'],
    ],
  });
  return redis === null ? null : { redis, port, ca, directory };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function guardWith(port: number, upstream: RecordingUpstream, ca: string | null): Promise<Guard> {
  return await startGuard({
    upstream: upstream.url,
    authenticators: {
      sso: {
        type: 'jwt',
        issuer: 'i',
        audience: 'q',
        public_key: { file: 'jwt.pem' },
        algorithms: ['ES256'],
        roles_from: 'roles',
        revocation: 'shared',
      },
    },
    listener: { authenticate: ['keys', 'sso'] },
    top: { admin: { bind: '127.0.0.1:0' }, state: { dir: 'state', redis: { url: { file: 'redis.url' } } } },
    ...(ca === null ? {} : { env: { NODE_EXTRA_CA_CERTS: ca } }),
    prepare: (directory) => {
      writeFileIn(directory, 'redis.url', `rediss://:${PASSWORD}@localhost:${String(port)}\n`);
      writeFileIn(directory, 'jwt.pem', key.publicKey.export({ type: 'spki', format: 'pem' }), 0o644);
    },
  });
}

async function readiness(guard: Guard): Promise<string> {
  const admin = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
  return (await request({ port: Number(new URL(String(admin['url.full'])).port) }, { path: '/readyz' })).text();
}

test('a server whose authority is known is asked over TLS, and what is revoked there is refused', async (t) => {
  const store = await startTlsRedis(t, ['localhost']);
  if (store === null) return;
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  await using guard = await guardWith(store.port, upstream, store.ca);
  assert.equal((await request(guard.plain, { token: token('good') })).status, 200);
  assert.match(await readiness(guard), /"status": "ready"/);
  const clients = String(await store.redis.command('CLIENT', 'LIST'));
  assert.match(clients, new RegExp(`laddr=127\\.0\\.0\\.1:${String(store.port)} `), 'it came over the port of TLS');
  // As another sidecar would write it.
  const issuer = createHash('sha256').update('i').digest('hex').slice(0, 16);
  await store.redis.command('SETEX', `guardbee:revoked:jti:${issuer}:bad`, '900', '1');
  const seen = upstream.requests.length;
  assert.equal((await request(guard.plain, { token: token('bad') })).status, 401);
  assert.equal(upstream.requests.length, seen);
});

const REFUSED = [
  {
    what: 'an authority that nobody knows',
    known: 'none',
    says: /not known here: name the file .* NODE_EXTRA_CA_CERTS/,
  },
  {
    what: 'another authority than the one that is known',
    known: 'another',
    says: /not known here: name the file .* NODE_EXTRA_CA_CERTS/,
  },
  { what: 'another name than that of the URL', known: 'its own', says: /certificate is for another name/ },
] as const;

describe('a server that is not proven', { concurrency: 2 }, () => {
  for (const { what, known, says } of REFUSED) {
    test(`${what}: nothing is asked there, and readiness and log say why`, async (t) => {
      const test = t;
      const store = await startTlsRedis(test, what.includes('name than') ? ['elsewhere.lan'] : ['localhost']);
      if (store === null) return;
      const other = await TestAuthority.create('another authority');
      const ca = known === 'its own' ? store.ca : writeFileIn(store.directory, 'other.pem', other.ca, 0o644);
      await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
      await using guard = await guardWith(store.port, upstream, known === 'none' ? null : ca);
      const page = await waitUntil(async () => {
        const read = await readiness(guard);
        return says.test(read) ? read : null;
      }, 'the reason');
      assert.match(page, /"status": "not_ready"/);
      assert.equal((await request(guard.plain, { token: token('good') })).status, 503);
      assertUntouched(upstream);
      assert.doesNotMatch(guard.process.stdout + guard.process.stderr + page, new RegExp(PASSWORD));
      const down = await guard.process.waitForLog((line) => line['event.name'] === 'revocations.store_down');
      assert.match(JSON.stringify(down), says);
      // The password was shown to nobody.
      const stats = String(await store.redis.command('INFO', 'commandstats'));
      assert.doesNotMatch(stats, /cmdstat_hello/);
      assert.match(stats, /cmdstat_auth:calls=1,/, 'our own');
    });
  }
});
