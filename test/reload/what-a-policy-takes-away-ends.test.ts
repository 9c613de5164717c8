/**
 * After a reload each open stream is decided again: those of a token, user, role or route that the policy no longer has
 * are cut within a second, and nobody else's. Requests that are no streams come to their end.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startGuard } from '../support/guard.js';
import { tokenPair } from '../support/policy-builder.js';
import { RawConnection, type Target, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { hangUp, rewrite } from './reloading-guard.js';

/** A second, and what a busy machine adds to it. */
const SOON_MS = 5000;

async function open(target: Target, token: string, path = ''): Promise<readonly RawConnection[]> {
  const events = await RawConnection.connect(target);
  events.write(requestBytes(target, { path: `${path}/events`, token }));
  assert.match(await events.readEvent(), /ready/);
  const opened = await openWebSocket(target, { path: `${path}/socket`, token });
  assert.ok(opened.socket !== null);
  return [events, opened.connection];
}

test('streams of a token that is gone are cut, and of one that lost its role; others go on', async (t) => {
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) => {
      if (asked.header('upgrade') !== null) void respond.webSocket()(asked, connection);
      else if (asked.target.endsWith('/events')) void respond.silentEvents()(asked, connection);
    },
  });
  const [gone, demoted, kept] = [tokenPair(), tokenPair(), tokenPair()];
  await using guard = await startGuard({
    upstream: upstream.url,
    tokens: [
      { name: 'gone', sha256: gone.sha256, roles: ['operator'] },
      { name: 'demoted', sha256: demoted.sha256, roles: ['operator'] },
      { name: 'kept', sha256: kept.sha256, roles: ['operator'] },
    ],
    routes: [
      { name: 'closing', path: '/closing/**', methods: 'any', require: 'write' },
      { name: 'rest', path: '/**', methods: 'any', require: 'write' },
    ],
  });
  const ends = [
    ...(await open(guard.plain, gone.token)),
    ...(await open(guard.secure, gone.token)),
    ...(await open(guard.plain, demoted.token)),
    ...(await open(guard.plain, kept.token, '/closing')),
  ];
  const goOn = [...(await open(guard.plain, kept.token)), ...(await open(guard.secure, guard.token))];
  // A request that is no stream, of somebody who is gone: it keeps the policy that it began with.
  using slow = await RawConnection.connect(guard.plain);
  slow.write(requestBytes(guard.plain, { path: '/slow', token: gone.token }));
  const asked = await upstream.waitForRequest(({ target }) => target === '/slow');
  rewrite(guard, ({ authenticators, listeners }) => {
    const keys = authenticators?.['keys'];
    assert.ok(keys !== undefined);
    const tokens = keys['tokens'] as unknown as Record<string, unknown>[];
    keys['tokens'] = tokens
      .filter(({ name }) => name !== 'gone')
      .map((one) => (one['name'] === 'demoted' ? { ...one, roles: ['viewer'] } : one)) as never;
    for (const listener of Object.values(listeners ?? {})) {
      const routes = listener['routes'] as unknown as Record<string, unknown>[];
      listener['routes'] = [{ name: 'closing', path: '/closing/**', methods: 'any', deny: true }, routes[1]] as never;
    }
  });
  const line = await hangUp(guard);
  const atMs = performance.now();
  assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
  for (const one of ends) await one.waitForEnd(SOON_MS);
  const lastMs = Math.max(...ends.map(({ endedAtMs }) => endedAtMs ?? Infinity));
  t.diagnostic(`the last was cut ${String(Math.round(lastMs - atMs))} ms after the reload was said`);
  assert.equal(line['guardbee.exchanges_refused'], ends.length + 1);
  for (const one of goOn) assert.equal(one.ended, null, 'others go on');
  const reasons = await waitUntil(() => {
    const found = guard.records.map((record) => record['guardbee.reason']).filter((reason) => reason !== undefined);
    return found.length >= ends.length ? found : null;
  }, 'a line for each');
  assert.equal(reasons.filter((reason) => reason === 'credential_ended').length, 4);
  assert.equal(reasons.filter((reason) => reason === 'access_withdrawn').length, 4);

  assert.equal((await request(guard.plain, { path: '/', token: gone.token })).status, 401);
  assert.equal(slow.ended, null);
  asked.connection.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  assert.equal((await slow.readResponse()).text(), 'ok');
  slow.write(requestBytes(guard.plain, { path: '/', token: gone.token }));
  assert.equal((await slow.readResponse()).status, 401, 'the next one on the same connection is by the new policy');
  for (const one of goOn) one.close();
});
