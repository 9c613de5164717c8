/** What outlives a process, and what several have in common: quotas in the state directory, counters in Redis. */
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import type { CountRule } from '../../src/policy/limit-rules.js';
import type { RedisSettings } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { RedisCounters } from '../../src/state/limit-redis.js';
import type { StoreNotice } from '../../src/state/store.js';
import { startGuard, type Guard } from '../support/guard.js';
import { simplePolicy, tokenPair, writeFileIn, writePolicy } from '../support/policy-builder.js';
import { startGuardbee, type WatchedProcess } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { TestRedis } from '../support/redis.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

test('a quota survives a stop, and a kill but for its last second; a damaged file begins anew and says so', async (t) => {
  await using upstream = await RecordingUpstream.start();
  const directory = new TemporaryDirectory(t);
  const { token, sha256 } = tokenPair();
  const policy = writePolicy(
    directory,
    simplePolicy({
      upstream: upstream.url,
      tokens: [{ name: 'keeper', sha256, roles: ['operator'] }],
      stateDir: directory.file('state'),
      listener: { limits: { quota: { requests: 6, per: '31d' } } },
    }),
  );
  const file = directory.file('state/quotas.ndjson');
  const run = async (): Promise<{ readonly child: WatchedProcess; readonly ask: () => Promise<number> }> => {
    const child = startGuardbee({ args: ['run', '--policy', policy] });
    t.after(() => child.stop());
    const line = await child.waitForLog((one) => String(one['msg']).startsWith('listening on '));
    const port = Number(new URL(String(line['url.full'])).port);
    return { child, ask: async () => (await request({ port }, { path: '/x', token })).status };
  };
  const kept = (): number => Number(/"keys keeper",(\d+)/.exec(readFileSync(file, 'utf8'))?.[1]);

  const first = await run();
  assert.equal(await first.ask(), 200);
  assert.equal(await first.ask(), 200);
  await first.child.kill('SIGTERM');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(kept(), 2, 'written at the stop');

  const second = await run();
  assert.equal(await second.ask(), 200);
  const countedAt = performance.now();
  await waitUntil(() => kept() === 3, 'the count to be on the disk');
  assert.ok(performance.now() - countedAt < 5000);
  await second.child.kill('SIGKILL');

  const third = await run();
  const all = [];
  for (let i = 0; i < 5; i++) all.push(await third.ask());
  assert.deepEqual(all, [200, 200, 200, 429, 429]);
  await third.child.kill('SIGTERM');

  writeFileSync(file, '{"v":1,"id":"main/quota","perMs":\n');
  const fourth = await run();
  await fourth.child.waitForLog(
    (line) => line['event.name'] === 'limits.quotas_damaged' || String(line['msg']).includes('begins anew'),
  );
  assert.equal(await fourth.ask(), 200);
});

async function sidecar(t: TestContext, url: string, upstream: RecordingUpstream, sha256: string): Promise<Guard> {
  const rate = { requests: 50, per: '1d', shared: true } as const;
  const guard = await startGuard({
    upstream: upstream.url,
    tokens: [{ name: 'shared', sha256, roles: ['operator'] }],
    prepare: (directory) => writeFileIn(directory, 'redis.url', url),
    top: { admin: { bind: '127.0.0.1:0' }, state: { redis: { url: { file: 'redis.url' } } } },
    routes: [
      { name: 'local', path: '/local', require: 'read', limits: { rate } },
      { name: 'deny', path: '/deny', require: 'read', limits: { rate: { ...rate, on_unavailable: 'deny' } } },
      {
        name: 'allow',
        path: '/allow',
        require: 'read',
        limits: { rate: { ...rate, requests: 2, on_unavailable: 'allow' } },
      },
      { name: 'quota', path: '/quota', require: 'read', limits: { quota: { requests: 3, per: '31d', shared: true } } },
    ],
  });
  t.after(() => guard[Symbol.asyncDispose]());
  return guard;
}

test('two sidecars count together, exactly; a Redis that dies leaves each limit to its rule, and comes back', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  await using upstream = await RecordingUpstream.start();
  const { token, sha256 } = tokenPair();
  const [a, b] = await Promise.all([sidecar(t, redis.url, upstream, sha256), sidecar(t, redis.url, upstream, sha256)]);
  const ask = async (guard: Guard, path: string): Promise<number> =>
    (await request(guard.plain, { path, token })).status;

  const all = await Promise.all(Array.from({ length: 80 }, (_, i) => ask(i % 2 === 0 ? a : b, '/local')));
  assert.equal(all.filter((status) => status === 200).length, 50);
  assert.equal(all.filter((status) => status === 429).length, 30);
  assert.equal(upstream.requests.filter((one) => one.target === '/local').length, 50);
  assert.deepEqual(
    [await ask(a, '/quota'), await ask(b, '/quota'), await ask(a, '/quota'), await ask(b, '/quota')],
    [200, 200, 200, 429],
  );
  assert.deepEqual([await ask(a, '/allow'), await ask(b, '/allow'), await ask(a, '/allow')], [200, 200, 429]);

  await redis.stop();
  await waitUntil(async () => (await ask(a, '/deny')) === 503, 'a limit that is denied');
  await a.process.waitForLog((line) => String(line['msg']).includes('cannot be counted in Redis'));
  const before = upstream.requests.length;
  assert.equal(await ask(a, '/deny'), 503);
  assert.equal(upstream.requests.length, before);
  assert.equal(await ask(a, '/local'), 200, 'alone, with a full bucket');
  for (let i = 0; i < 4; i++) assert.equal(await ask(a, '/allow'), 200);

  await redis.startAgain();
  await waitUntil(async () => (await ask(a, '/deny')) === 200, 'Redis to be used again', 20_000);
});

test('a key that holds something else, a flushed store and a read-only one are no crash', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const notices: StoreNotice[] = [];
  const settings: RedisSettings = { url: Secret.fromText(redis.url), prefix: 'guardbee:' };
  const counters = await RedisCounters.open(settings, (notice) => notices.push(notice));
  t.after(() => {
    counters.close();
  });
  const rule: CountRule = {
    kind: 'rate',
    id: 'main/rate/1',
    name: 'rate',
    requests: 2,
    perMs: 86_400_000,
    burst: 2,
    by: 'identity',
    shared: true,
    onUnavailable: 'local',
  };
  const quota: CountRule = { ...rule, kind: 'quota', id: 'main/quota', requests: 1 };
  const wait = async (): Promise<number | undefined> => (await counters.count([rule], ['me']))?.waitsMs[0];
  assert.equal(await wait(), 0);
  assert.equal(await wait(), 0);
  assert.ok(((await wait()) ?? 0) > 43_000_000);
  await redis.command('FLUSHALL');
  assert.equal(await wait(), 0, 'begins anew');
  await redis.command('SCRIPT', 'FLUSH');
  assert.equal(await wait(), 0, 'the script is sent again');
  // Where one refuses, the other has not counted.
  assert.deepEqual((await counters.count([quota], ['you']))?.waitsMs, [0]);
  for (let i = 0; i < 5; i++)
    assert.equal((await counters.count([rule, quota], ['you', 'you']))?.balances[0]?.remaining, 2);
  assert.equal((await counters.count([rule], ['you']))?.balances[0]?.remaining, 1);

  await redis.command(
    'EVAL',
    "for _, k in ipairs(redis.call('KEYS', 'guardbee:limit:main/rate*')) do redis.call('SET', k, 'x') end return 1",
    '0',
  );
  assert.equal(await counters.count([rule], ['me']), null);
  assert.ok(counters.up, 'one key is not the server');
  assert.ok(notices.some((notice) => notice.event === 'limits.shared_key'));

  await redis.command('REPLICAOF', '127.0.0.1', '1');
  assert.equal(await counters.count([quota], ['he']), null);
  assert.ok(!counters.up);
  await redis.command('REPLICAOF', 'NO', 'ONE');
  await waitUntil(() => counters.up, 'the primary to be used again', 20_000);
  assert.equal(notices.at(-1)?.event, 'limits.shared_up');
});
