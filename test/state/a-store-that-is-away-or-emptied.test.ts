/**
 * When the shared store cannot be asked, or is not the one that it was, nobody is known to be good: at once, without a
 * hang, and until it is mended. What was seen revoked stays revoked.
 */
import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import type { StoreNotice } from '../../src/state/store.js';
import { StateError } from '../../src/state/store.js';
import { TestRedis } from '../support/redis.js';
import { waitUntil, within } from '../support/wait.js';
import { revocable, sidecar } from './fixture.js';

const events = (notices: readonly StoreNotice[]): string[] => notices.map((notice) => notice.event);

test('a Redis that dies is noticed, what is revoked meanwhile is not lost, and what was emptied is not believed', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const { store, notices } = await sidecar(t, redis.url);
  const good = revocable({ jti: 'good' });
  const bad = revocable({ jti: 'bad' });
  await store.revoke(bad, Date.now());
  assert.equal(await store.standing(good, Date.now()), 'good');
  assert.deepEqual(events(notices), ['revocations.store_up']);

  await redis.stop();
  await waitUntil(() => store.standing(good, Date.now()) === 'unknown', 'the loss to be noticed');
  assert.equal(store.standing(bad, Date.now()), 'revoked', 'what is known is known');
  assert.equal(store.known(good, Date.now()), 'unknown');
  assert.equal(store.standing(revocable({ jti: 'new' }), Date.now()), 'unknown', 'at once');
  assert.equal(store.status.state, 'unknown');
  await assert.rejects(store.revoke(revocable({ jti: 'late' }), Date.now()), StateError);
  assert.equal(store.standing(revocable({ jti: 'late' }), Date.now()), 'revoked', 'it holds here all the same');

  // The same server, empty: it kept nothing on a disk.
  await redis.startAgain();
  await waitUntil(() => store.status.lost, 'the empty store to be noticed');
  assert.equal(store.standing(good, Date.now()), 'unknown');
  assert.equal(store.standing(bad, Date.now()), 'revoked');
  assert.equal(await redis.command('DBSIZE'), 0, 'nothing is written into it before somebody says so');

  assert.equal(await store.acceptLoss(Date.now()), true);
  assert.equal(store.status.state, 'up');
  assert.equal(await store.standing(good, Date.now()), 'good');
  assert.equal(store.standing(bad, Date.now()), 'revoked');
  const fresh = await sidecar(t, redis.url);
  assert.equal(await fresh.store.standing(bad, Date.now()), 'revoked', 'it was written again');
  assert.equal(await fresh.store.standing(revocable({ jti: 'late' }), Date.now()), 'revoked', 'and so was this');
  assert.equal(await store.acceptLoss(Date.now()), false, 'there is nothing to accept');
  assert.ok(notices.some(({ level, event }) => level === 'error' && event === 'revocations.lost'));
});

test('FLUSHALL is noticed, also over a restart, and one acceptance is enough for all sidecars', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const first = await sidecar(t, redis.url);
  const second = await sidecar(t, redis.url);
  const third = await sidecar(t, redis.url);
  const mine = revocable({ jti: 'known to the second' });
  await second.store.revoke(mine, Date.now());
  await third.store.close();
  await redis.command('FLUSHALL');
  await waitUntil(() => first.store.status.lost && second.store.status.lost, 'both to notice');
  assert.equal(first.store.standing(revocable(), Date.now()), 'unknown');
  // Restarted, it remembers what it has seen before.
  const again = await sidecar(t, redis.url, third.dir);
  assert.equal(again.store.status.lost, true);
  assert.equal(again.store.standing(revocable(), Date.now()), 'unknown');

  assert.equal(await first.store.acceptLoss(Date.now()), true);
  await waitUntil(
    () => second.store.status.state === 'up' && again.store.status.state === 'up',
    'the others to follow',
  );
  // The second has brought what only it knew.
  assert.equal(await waitUntil(() => first.store.standing(mine, Date.now()), 'an answer'), 'revoked');
  assert.equal(await again.store.standing(mine, Date.now()), 'revoked');
});

test('another store than the one that was remembered is not believed', async (t) => {
  const [one, other] = [await TestRedis.start(t), await TestRedis.start(t)];
  if (one === null || other === null) return;
  const here = await sidecar(t, one.url);
  await sidecar(t, other.url);
  await here.store.close();
  const moved = await sidecar(t, other.url, here.dir);
  assert.equal(moved.store.status.lost, true);
  assert.match(moved.store.status.detail, /another one/);
  assert.equal(await moved.store.acceptLoss(Date.now()), true);
  assert.equal(await moved.store.standing(revocable(), Date.now()), 'good');
});

test('a wrong password is said, without the password', async (t) => {
  const redis = await TestRedis.start(t, { password: 'right-password-4711' });
  if (redis === null) return;
  const wrong = redis.url.replace('right-password-4711', 'wrong-password-0815');
  const { store, notices } = await sidecar(t, wrong);
  assert.equal(store.standing(revocable(), Date.now()), 'unknown');
  assert.match(store.status.detail, /password is refused/);
  assert.doesNotMatch(JSON.stringify([notices, store.status]), /0815/);
  const right = await sidecar(t, redis.url);
  assert.equal(await right.store.standing(revocable(), Date.now()), 'good');
  const none = await sidecar(t, redis.url.replace(':right-password-4711@', ''));
  assert.match(none.store.status.detail, /asks for a password/);
});

test('a replica is not believed: it may be behind', async (t) => {
  const [primary, replica] = [await TestRedis.start(t), await TestRedis.start(t)];
  if (primary === null || replica === null) return;
  const { store } = await sidecar(t, replica.url);
  assert.equal(await store.standing(revocable(), Date.now()), 'good');
  await replica.command('REPLICAOF', '127.0.0.1', String(primary.port));
  await waitUntil(() => store.standing(revocable(), Date.now()) === 'unknown', 'READONLY to be noticed');
  await waitUntil(() => /read-only replica|loading/.test(store.status.detail), 'the reason');
});

test('a server that stops answering holds nobody up', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  const { store } = await sidecar(t, redis.url);
  const token = revocable();
  assert.equal(await store.standing(token, Date.now()), 'good');
  const asleep = redis.command('DEBUG', 'SLEEP', '2');
  // Asked again until it has fallen asleep.
  const firstSights = async (): Promise<string> => {
    for (let i = 0; ; i += 1) {
      const standing = await store.standing(revocable({ jti: `first sight ${String(i)}` }), Date.now());
      if (standing !== 'good') return standing;
    }
  };
  assert.equal(await within(firstSights(), 'an answer while Redis sleeps', 5000), 'unknown');
  assert.equal(store.standing(token, Date.now()), 'unknown');
  await asleep;
  await waitUntil(() => store.status.state === 'up', 'it to come back by itself');
  assert.equal(await store.standing(token, Date.now()), 'good');
});

test('something else on the port is no Redis, and breaks nothing', async (t) => {
  const sockets = new Set<Socket>();
  let said = '';
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.write(said);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const url = `redis://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
  for (const greeting of [
    '',
    'SSH-2.0-OpenSSH_9.2\r\n',
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    '$99999999999\r\n',
    '*-7\r\n:x\r\n',
  ]) {
    said = greeting;
    const { store } = await sidecar(t, url, undefined, 50);
    await waitUntil(() => store.standing(revocable(), Date.now()) === 'unknown', 'an answer');
    await waitUntil(() => store.status.detail !== 'connecting', 'a reason', 8000);
    await store.close();
  }
});
