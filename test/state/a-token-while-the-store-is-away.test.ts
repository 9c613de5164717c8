/** A JWT of an issuer, two listeners, one Redis that is killed: the policy says which of them goes on without it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { perform } from '../cli/in-process.js';
import { startGuard } from '../support/guard.js';
import { type PolicyValue, writeFileIn } from '../support/policy-builder.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TestRedis } from '../support/redis.js';
import { issuerKey, makeToken } from '../support/token-issuer.js';
import { waitUntil } from '../support/wait.js';

const key = issuerKey('a', 'P-256');
const token = (jti: string): string =>
  makeToken(
    { alg: 'ES256', kid: 'a' },
    { iss: 'i', aud: 'q', sub: `s-${jti}`, jti, roles: ['operator'], exp: Math.floor(Date.now() / 1000) + 600 },
    key.privateKey,
  );

const sso = (onUnavailable: 'deny' | 'allow' | null): Readonly<Record<string, PolicyValue>> => ({
  type: 'jwt',
  issuer: 'i',
  audience: 'q',
  public_key: { file: 'jwt.pem' },
  algorithms: ['ES256'],
  roles_from: 'roles',
  revocation: onUnavailable === null ? 'shared' : { store: 'shared', on_unavailable: onUnavailable },
});

test('on_unavailable: deny is a 503 while Redis is away, allow lets tokens in, and revoked ones stay out of both', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  await using guard = await startGuard({
    upstream: upstream.url,
    authenticators: { strict: sso('deny'), usual: sso(null), lenient: sso('allow') },
    listeners: {
      strict: { authenticate: ['strict'] },
      usual: { authenticate: ['usual'] },
      lenient: { authenticate: ['lenient'] },
    },
    top: { admin: { bind: '127.0.0.1:0' }, state: { dir: 'state', redis: { url: { file: 'redis.url' } } } },
    prepare: (directory) => {
      writeFileIn(directory, 'redis.url', `${redis.url}\n`);
      writeFileIn(directory, 'jwt.pem', key.publicKey.export({ type: 'spki', format: 'pem' }), 0o644);
    },
  });
  const admin = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
  const adminPort = Number(new URL(String(admin['url.full'])).port);
  const ready = async (): Promise<number> => (await request({ port: adminPort }, { path: '/readyz' })).status;

  const known = token('known');
  const revoked = token('revoked');
  /** What each of the three says, and whether the upstream heard of it. */
  const ask = async (shown: string): Promise<Record<string, number>> => {
    const said: Record<string, number> = {};
    for (const name of ['strict', 'usual', 'lenient']) {
      const before = upstream.requests.length;
      const { status } = await request(guard.target(name), { token: shown });
      assert.equal(upstream.requests.length - before, status === 200 ? 1 : 0, `${name} ${String(status)}`);
      said[name] = status;
    }
    return said;
  };
  const all = (status: number): Record<string, number> => ({ strict: status, usual: status, lenient: status });

  assert.deepEqual(await ask(known), all(200));
  assert.deepEqual(await ask(revoked), all(200));
  const told = await perform('revoke', '--issuer', 'i', '--jti', 'revoked', '--policy', guard.policyFile);
  assert.equal(told.code, 0, told.stderr);
  assert.deepEqual(await ask(revoked), all(401));
  assert.equal(await ready(), 200);

  await redis.stop();
  await waitUntil(async () => (await ready()) === 503, 'the loss to be noticed');
  const away = { strict: 503, usual: 503, lenient: 200 };
  assert.deepEqual(await ask(known), away, 'a token that was seen before');
  assert.deepEqual(await ask(token('new')), away, 'and one that was not');
  assert.deepEqual(await ask(revoked), all(401), 'what is known to be revoked is refused by all');
  assert.equal(
    (await request(guard.plain, { token: guard.token })).status,
    200,
    'who has nothing to do with it, goes on',
  );

  // Back, and empty: whatever was revoked may be forgotten, so an operator has to say that it is well.
  await redis.startAgain();
  await guard.process.waitForLog((line) => line['event.name'] === 'revocations.lost');
  assert.deepEqual(await ask(known), away);
  const accepted = await perform('revoke', '--accept-loss', '--policy', guard.policyFile);
  assert.equal(accepted.code, 0, accepted.stderr);
  await waitUntil(async () => (await ready()) === 200, 'the store to be believed');
  assert.deepEqual(await ask(known), all(200));
  assert.deepEqual(await ask(revoked), all(401));
});
