/**
 * A connection outlives the policy of its handshake. What its client certificate proved there counts for as long as the
 * authorities are the same; where they are not, the client has to come again.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type KeyPair, TestAuthority } from '../support/certificates.js';
import { startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { RawConnection, type Target, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { hangUp } from './reloading-guard.js';

test('with other authorities its streams are cut and its idle connections closed; with the same ones nothing is', async () => {
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      asked.target === '/events'
        ? respond.silentEvents()(asked, connection)
        : respond.status(200, [], 'here')(asked, connection),
  });
  const [before, after] = [await TestAuthority.create('before'), await TestAuthority.create('after')];
  const names = ['hive-1.lan'];
  const [old, fresh] = [await before.issue({ names, usage: 'client' }), await after.issue({ names, usage: 'client' })];
  await using guard = await startGuard({
    upstream: upstream.url,
    prepare: (directory) => {
      writeFileIn(directory, 'clients.pem', before.ca, 0o644);
    },
    authenticators: {
      nodes: {
        type: 'mtls',
        ca: 'clients.pem',
        identities: [{ san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['operator'] }],
      },
    },
    listeners: { nodes: { tls: true, authenticate: ['nodes'] } },
  });
  const { port, tls } = guard.target('nodes');
  assert.ok(tls !== undefined);
  const as = ({ cert, key }: KeyPair): Target => ({ port, tls: { ...tls, cert, key } });
  const ask = async (connection: RawConnection): Promise<number> => {
    connection.write(requestBytes(as(old), { path: '/thing' }));
    return (await connection.readResponse()).status;
  };
  using events = await RawConnection.connect(as(old));
  events.write(requestBytes(as(old), { path: '/events' }));
  assert.match(await events.readEvent(), /ready/);
  using idle = await RawConnection.connect(as(old));
  assert.equal(await ask(idle), 200);

  assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
  assert.equal(await ask(idle), 200, 'the same file, read again, judges alike');
  assert.equal(events.ended, null);

  writeFileIn(guard.directory, 'clients.pem', after.ca, 0o644);
  const line = await hangUp(guard);
  assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
  assert.equal(line['guardbee.exchanges_refused'], 1);
  await events.waitForEnd();
  await idle.waitForEnd();
  using again = await RawConnection.connect(as(old));
  assert.equal(await ask(again), 401);
  using good = await RawConnection.connect(as(fresh));
  assert.equal(await ask(good), 200);
});
