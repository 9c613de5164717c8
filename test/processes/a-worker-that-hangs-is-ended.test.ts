/**
 * A worker that hangs is found out though nobody asks it anything, and what waited for it goes to another. Where the system
 * has no room for another one, the owner goes on and tries again.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { adminOf } from '../reload/reloading-guard.js';
import { startGuard } from '../support/guard.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';

/** After which it is ended, and what that may take on a machine that does other things. */
const FOUND_OUT_MS = 40_000;

test('one that hangs is ended; its connections that were not yet there are served', { timeout: 120_000 }, async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    top: { processes: 2, admin: { bind: '127.0.0.1:0' } },
  });
  const pid = String(guard.pid);
  const workersNow = (): number[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  const workers = workersNow();
  assert.equal(workers.length, 2);
  const [hanging] = workers;
  assert.ok(hanging !== undefined);
  process.kill(hanging, 'SIGSTOP');
  try {
    const connections = [];
    for (let nth = 0; nth < 8; nth += 1) {
      const connection = await RawConnection.connect(guard.plain);
      connection.write(requestBytes(guard.plain, { path: `/${String(nth)}`, token: guard.token }));
      connections.push(connection);
    }
    const outcomes = connections.map(async (connection) => {
      try {
        return (await connection.readResponse('GET', FOUND_OUT_MS)).status;
      } catch (error) {
        if (connection.ended === null) throw error;
        return 0;
      }
    });
    await guard.process.waitForLog((line) => line['event.name'] === 'worker.died', FOUND_OUT_MS);
    const statuses = await Promise.all(outcomes);
    const cut = statuses.filter((status) => status === 0).length;
    assert.ok(cut <= 1, `only what it had itself is cut: ${statuses.join(' ')}`);
    assert.equal(statuses.filter((status) => status === 200).length, statuses.length - cut);
    for (const connection of connections) connection.close();
    const page = async (): Promise<string> => (await request(await adminOf(guard), { path: '/metrics' })).text();
    await waitUntil(
      async () => (await page()).includes('guardbee_connections{listener="main"} 0\n'),
      'none to be left',
    );
    await waitUntil(async () => (await page()).includes('guardbee_workers{state="ready"} 2\n'), 'another one');
    // Descriptors that it has stay; there are no others.
    const limited = spawnSync('prlimit', ['--pid', pid, '--nofile=10:'], { encoding: 'utf8' });
    assert.equal(limited.status, 0, limited.stderr);
    const [next] = workersNow();
    assert.ok(next !== undefined);
    process.kill(next, 'SIGKILL');
    await guard.process.waitForLog((line) => String(line['msg']).includes('could not be begun'));
    assert.equal(spawnSync('prlimit', ['--pid', pid, '--nofile=1024:']).status, 0);
    await waitUntil(async () => (await page()).includes('guardbee_workers{state="ready"} 2\n'), 'room for another one');
    assert.equal((await request(guard.plain, { token: guard.token })).status, 200);
  } finally {
    try {
      process.kill(hanging, 'SIGCONT');
    } catch {
      // It was ended.
    }
  }
});
