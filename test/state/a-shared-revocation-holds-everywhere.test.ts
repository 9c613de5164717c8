/** Two sidecars, one Redis: what one of them is told, both know within a second; and so what another client writes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { TestRedis } from '../support/redis.js';
import { waitUntil, within } from '../support/wait.js';
import { ISSUER, RBEE, SHARED, revocable, sidecar } from './fixture.js';

const ISSUER_HASH = createHash('sha256').update(ISSUER).digest('hex').slice(0, 16);

test('a revocation made at one sidecar is seen at another within a second, without asking again', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const first = await sidecar(t, redis.url);
  const second = await sidecar(t, redis.url);
  const token = revocable();
  assert.equal(await second.store.standing(token, Date.now()), 'good');
  assert.equal(second.store.standing(token, Date.now()), 'good', 'the second sight is answered at once');
  const other = revocable({ jti: 'token-2' });
  assert.equal(await second.store.standing(other, Date.now()), 'good');

  await first.store.revoke(token, Date.now());
  assert.equal(first.store.standing(token, Date.now()), 'revoked');
  const askedAt = performance.now();
  await waitUntil(() => second.store.known(token, Date.now()) === 'revoked', 'the second sidecar to know');
  t.diagnostic(`seen after ${String(Math.round(performance.now() - askedAt))} ms`);
  assert.equal(second.store.standing(token, Date.now()), 'revoked');
  assert.equal(second.store.known(other, Date.now()), 'good');
  // The same id of another issuer is another token.
  assert.equal(await second.store.standing(revocable({ issuer: 'https://other.example' }), Date.now()), 'good');
});

test('what was issued before a moment is void, what was issued later is not', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const { store } = await sidecar(t, redis.url);
  const nowMs = Date.now();
  const put = (beforeMs: number, untilMs: number): Promise<void> =>
    store.put({ kind: 'subject', issuer: ISSUER, subject: 'keeper', beforeMs, untilMs }, SHARED, nowMs);
  await put(nowMs, nowMs + 3_600_000);
  // An earlier moment, told later and for longer, takes nothing back.
  await put(nowMs - 30_000, nowMs + 7_200_000);
  const second = await sidecar(t, redis.url);
  for (const one of [store, second.store]) {
    assert.equal(await one.standing(revocable({ jti: 'a', issuedAtMs: nowMs - 1 }), nowMs), 'revoked');
    assert.equal(await one.standing(revocable({ jti: 'b', issuedAtMs: nowMs - 20_000 }), nowMs), 'revoked');
    assert.equal(await one.standing(revocable({ jti: 'c', issuedAtMs: null }), nowMs), 'revoked');
    assert.equal(await one.standing(revocable({ jti: 'd', issuedAtMs: nowMs }), nowMs), 'good');
    assert.equal(await one.standing(revocable({ jti: 'e', subject: 'other', issuedAtMs: 0 }), nowMs), 'good');
    assert.equal(await one.standing(revocable({ jti: null, issuedAtMs: 0 }), nowMs), 'revoked');
  }
  const key = `guardbee:revoked:sub:${ISSUER_HASH}:keeper`;
  assert.equal(await redis.command('GET', key), String(nowMs));
  assert.ok(Number(await redis.command('PTTL', key)) > 7_000_000, 'the longer life wins');
});

test("rbee's key is honoured as others write it, and written as others read it", async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const { store } = await sidecar(t, redis.url);
  const nowMs = Date.now();
  await redis.command('SETEX', 'jwt:revoked:rbee-1', '900', '1');
  assert.equal(await store.standing(revocable({ settings: RBEE, jti: 'rbee-1' }), nowMs), 'revoked');
  // EXISTS is what rbee asks: the type of what is there does not matter.
  await redis.command('LPUSH', 'jwt:revoked:rbee-2', 'x');
  const watched = revocable({ settings: RBEE, jti: 'rbee-3' });
  assert.equal(await store.standing(watched, nowMs), 'good');
  assert.equal(await store.standing(revocable({ settings: RBEE, jti: 'rbee-2' }), nowMs), 'revoked');
  assert.equal(await store.standing(revocable({ settings: SHARED, jti: 'rbee-1' }), nowMs), 'good');

  // Another client, while the token is in use.
  await redis.command('SETEX', 'jwt:revoked:rbee-3', '900', '1');
  await waitUntil(() => store.known(watched, Date.now()) === 'revoked', 'the poll to see it');

  await store.revoke(revocable({ settings: RBEE, jti: 'rbee-4' }), nowMs);
  assert.equal(await redis.command('GET', 'jwt:revoked:rbee-4'), '1');
  // What stands in a jti is never read as a form.
  await store.revoke(revocable({ settings: { ...RBEE, key: 'x:{jti}:{issuer}' }, jti: '{issuer}' }), nowMs);
  assert.equal(await redis.command('GET', `x:{issuer}:${ISSUER}`), '1');
});

test('a revocation lives as long as the credential, and one of an expired credential is not stored', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const { store } = await sidecar(t, redis.url);
  const nowMs = Date.now();
  const before = await redis.command('DBSIZE');
  await store.revoke(revocable({ jti: 'over', expiresAtMs: nowMs }), nowMs);
  await store.revoke(revocable({ jti: 'long over', expiresAtMs: nowMs - 1000 }), nowMs);
  assert.equal(await redis.command('DBSIZE'), before, 'nothing was stored');
  await store.revoke(revocable({ jti: 'ends', expiresAtMs: nowMs + 300_000 }), nowMs);
  const ttl = Number(await redis.command('PTTL', `guardbee:revoked:jti:${ISSUER_HASH}:ends`));
  assert.ok(ttl > 290_000 && ttl <= 300_000, String(ttl));
  // Told again with a shorter life, it keeps the longer one; with a longer one, it gets it.
  await store.revoke(revocable({ jti: 'ends', expiresAtMs: nowMs + 100_000 }), nowMs);
  assert.ok(Number(await redis.command('PTTL', `guardbee:revoked:jti:${ISSUER_HASH}:ends`)) > 200_000);
  await store.revoke(revocable({ jti: 'ends', expiresAtMs: nowMs + 600_000 }), nowMs);
  assert.ok(Number(await redis.command('PTTL', `guardbee:revoked:jti:${ISSUER_HASH}:ends`)) > 500_000);
  await store.revoke(revocable({ jti: 'never ends', expiresAtMs: Infinity }), nowMs);
  assert.equal(await redis.command('PTTL', `guardbee:revoked:jti:${ISSUER_HASH}:never ends`), -1);
});

test('a thousand first sights are asked about together, and each gets its own answer', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const { store } = await sidecar(t, redis.url);
  const nowMs = Date.now();
  await redis.command('SET', `guardbee:revoked:jti:${ISSUER_HASH}:n617`, '1');
  await redis.command('CONFIG', 'RESETSTAT');
  const all = Array.from({ length: 1000 }, (_, index) => revocable({ jti: `n${String(index)}` }));
  const standings = await within(Promise.all(all.map(async (one) => await store.standing(one, nowMs))), 'all answers');
  assert.deepEqual(
    standings.flatMap((standing, index) => (standing === 'revoked' ? [index] : [])),
    [617],
  );
  assert.ok(standings.every((standing) => standing === 'good' || standing === 'revoked'));
  const stats = String(await redis.command('INFO', 'commandstats'));
  const calls = Number(/cmdstat_mget:calls=(\d+)/.exec(stats)?.[1]);
  assert.ok(calls >= 1 && calls < 20, `${String(calls)} MGETs`);
});
