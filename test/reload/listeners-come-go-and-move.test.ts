/** Listeners that a reload adds, takes away or moves: the others, and what is open on them, notice nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Guard, startGuard } from '../support/guard.js';
import { RawConnection, type Target, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { runCommand, GUARDBEE_ENTRY } from '../support/process.js';
import { freePort } from '../support/free-port.js';
import { hangUp, rewrite } from './reloading-guard.js';

async function events(target: Target, guard: Guard): Promise<RawConnection> {
  const connection = await RawConnection.connect(target);
  connection.write(requestBytes(target, { path: '/events', token: guard.token }));
  assert.match(await connection.readEvent(), /ready/);
  return connection;
}

async function isRefused(target: Target): Promise<boolean> {
  try {
    (await RawConnection.connect(target)).close();
    return false;
  } catch {
    return true;
  }
}

test('a listener comes, goes, moves and is renamed; a stream that it has may end by itself', async () => {
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      asked.target === '/events'
        ? respond.silentEvents()(asked, connection)
        : respond.status(200, [], 'here')(asked, connection),
  });
  await using guard = await startGuard({
    upstream: upstream.url,
    listeners: { leaving: {}, moving: {} },
    top: { drain: '2s' },
  });
  const stays = await events(guard.plain, guard);
  const left = await events(guard.target('leaving'), guard);
  const moved = await events(guard.target('moving'), guard);
  const [fresh, place] = [await freePort(), await freePort()];
  using idle = await RawConnection.connect(guard.target('leaving'));
  rewrite(guard, ({ listeners }) => {
    if (listeners?.['main'] === undefined) return;
    delete listeners['leaving'];
    listeners['fresh'] = { ...listeners['main'], bind: `127.0.0.1:${String(fresh)}` };
    listeners['moving'] = { ...listeners['main'], bind: `127.0.0.1:${String(place)}` };
  });
  const line = await hangUp(guard);
  assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
  assert.match(String(line['msg']), /listener fresh opened at .*listener leaving closed|listener moving moved to/);
  const ask = async (port: number): Promise<number> => (await request({ port }, { token: guard.token })).status;
  assert.equal(await ask(fresh), 200);
  assert.equal(await ask(place), 200);
  assert.ok(await isRefused(guard.target('leaving')), 'nobody new gets in where the listener is gone');
  assert.ok(await isRefused(guard.target('moving')), 'nor where it was');
  await idle.waitForEnd();
  assert.deepEqual([left.ended, moved.ended], [null, null], 'what is underway there has its time');
  await left.waitForEnd();
  await moved.waitForEnd();
  assert.equal(stays.ended, null);

  // The same socket under another name: nobody is turned away, not even for a moment.
  using kept = await RawConnection.connect({ port: fresh });
  rewrite(guard, ({ listeners }) => {
    if (listeners?.['fresh'] === undefined) return;
    listeners['renamed'] = listeners['fresh'];
    delete listeners['fresh'];
  });
  const again = await runCommand(process.execPath, [GUARDBEE_ENTRY, 'reload', '--policy', guard.policyFile]);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /^reloaded: version [0-9a-f]{12} is in force$/m);
  assert.match(again.stdout, /^ {2}listener renamed opened at /m);
  kept.write(requestBytes({ port: fresh }, { token: guard.token }));
  assert.equal((await kept.readResponse()).status, 200, 'the connection goes on under the new name');
  assert.equal(stays.ended, null);
  stays.close();

  rewrite(guard, (policy) => {
    policy['surprise'] = {};
  });
  const broken = await runCommand(process.execPath, [GUARDBEE_ENTRY, 'reload', '--policy', guard.policyFile]);
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /policy\.yaml:\d+:\d+ surprise: unknown key/);
  assert.equal(await ask(fresh), 200);
});
