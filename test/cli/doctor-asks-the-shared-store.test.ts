import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { simplePolicy, tokenPair, writeFileIn, writePolicy } from '../support/policy-builder.js';
import { TestRedis } from '../support/redis.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { revocable, sidecar } from '../state/fixture.js';
import { perform } from './in-process.js';

interface Check {
  readonly check: string;
  readonly status: 'ok' | 'warn' | 'failed' | 'skipped';
  readonly detail: string;
  readonly fix: string | null;
}

/** What is said of a Redis of this URL, by a guardbee whose state directory is `dir`. */
async function ofRedis(dir: TemporaryDirectory, url: string): Promise<readonly Check[]> {
  writeFileIn(dir, 'redis.url', `${url}\n`);
  const file = writePolicy(
    dir,
    simplePolicy({
      upstream: 'http://127.0.0.1:9',
      stateDir: dir.path,
      tokens: [{ name: 'me', roles: ['viewer'], sha256: tokenPair().sha256 }],
      top: { state: { dir: dir.path, redis: { url: { file: dir.file('redis.url') } } } },
    }),
  );
  const json = await perform('doctor', file, '--json');
  const text = await perform('doctor', file);
  const password = new URL(url).password;
  if (password !== '') assert.ok(![json.stdout, text.stdout, json.stderr, text.stderr].join('').includes(password));
  const checks = JSON.parse(json.stdout) as Check[];
  const found = checks.filter(({ check }) => check.startsWith('redis'));
  for (const { check, detail } of found) assert.ok(text.stdout.includes(` ${check}: ${detail}`), text.stdout);
  if (found.some(({ status }) => status === 'failed')) assert.equal(json.code, 1);
  return found;
}

const brief = (checks: readonly Check[]): string[] => checks.map(({ check, status }) => `${status} ${check}`);

function privateDirectory(t: TestContext): TemporaryDirectory {
  const dir = new TemporaryDirectory(t);
  mkdirSync(dir.path, { recursive: true, mode: 0o700 });
  return dir;
}

test('reached, its version told, and its sentinel held against what was remembered', async (t) => {
  const redis = await TestRedis.start(t, { password: 'p4ssw0rd-of-redis' });
  if (redis === null) return;
  const dir = privateDirectory(t);
  const fresh = await ofRedis(dir, redis.url);
  assert.deepEqual(brief(fresh), ['ok redis', 'ok redis sentinel']);
  assert.match(fresh[0]?.detail ?? '', /^it answers \((?:Redis|Valkey) \d+\.\d+/);
  assert.match(fresh[1]?.detail ?? '', /^none yet/);
  assert.equal(await redis.command('DBSIZE'), 0, 'it only looks');

  const { store } = await sidecar(t, redis.url, dir);
  assert.equal(await store.standing(revocable(), Date.now()), 'good');
  await store.close();
  assert.match((await ofRedis(dir, redis.url))[1]?.detail ?? '', /^the one that was remembered/);
  assert.match((await ofRedis(privateDirectory(t), redis.url))[1]?.detail ?? '', /^there, set by another guardbee/);

  await redis.command('FLUSHALL');
  const lost = await ofRedis(dir, redis.url);
  assert.deepEqual(brief(lost), ['ok redis', 'failed redis sentinel']);
  assert.match(lost[1]?.detail ?? '', /^missing: the store was emptied/);
  assert.match(lost[1]?.fix ?? '', /guardbee revoke --accept-loss/);
  assert.equal(await redis.command('DBSIZE'), 0);

  await sidecar(t, redis.url);
  assert.match((await ofRedis(dir, redis.url))[1]?.detail ?? '', /this is another store/);
  await redis.command('CONFIG', 'SET', 'maxmemory', '100mb');
  await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
  const evicting = await ofRedis(privateDirectory(t), redis.url);
  assert.deepEqual(brief(evicting), ['ok redis', 'warn redis', 'ok redis sentinel']);
  assert.match(evicting[1]?.detail ?? '', /maxmemory-policy allkeys-lru/);
});

test('a wrong password, none, a replica, and nobody there', async (t) => {
  const redis = await TestRedis.start(t, { password: 'right-password-4711' });
  const replica = await TestRedis.start(t);
  if (redis === null || replica === null) return;
  const dir = privateDirectory(t);
  const wrong = await ofRedis(dir, redis.url.replace('right-password-4711', 'wrong-password-0815'));
  assert.deepEqual(brief(wrong), ['failed redis']);
  assert.match(wrong[0]?.detail ?? '', /the user name or password is refused/);
  const none = await ofRedis(dir, redis.url.replace(':right-password-4711@', ''));
  assert.deepEqual(brief(none), ['failed redis']);
  assert.match(none[0]?.detail ?? '', /it asks for a password/);
  await replica.command('REPLICAOF', '127.0.0.1', '9');
  const behind = await ofRedis(dir, replica.url);
  assert.match(behind[0]?.detail ?? '', /replica/);
  assert.equal(behind[0]?.status, 'failed');
  const unread = await ofRedis(dir, 'redis://:broken-url-2342@127.0.0.1/not-a-database');
  assert.deepEqual(brief(unread), ['skipped redis']);
  assert.match(unread[0]?.detail ?? '', /^not asked/);
  await redis.stop();
  const away = await ofRedis(dir, redis.url);
  assert.deepEqual(brief(away), ['failed redis']);
  assert.match(away[0]?.detail ?? '', /ECONNREFUSED/);
});
