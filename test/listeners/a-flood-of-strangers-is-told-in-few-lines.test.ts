/** Who is not let in costs little: no handshake, no line in the log for each, and not a byte to anybody. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { assertUntouched, startGuard } from '../support/guard.js';
import { countOpenFiles, expectSockets } from '../support/leak.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { adminOf } from '../reload/reloading-guard.js';

const FLOOD = 400;
const AT_ONCE = 50;

/** How many bytes it was told before it was sent away. */
function knock(port: number, localAddress: string): Promise<number> {
  return new Promise((resolve) => {
    let told = 0;
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    socket.on('data', (bytes) => (told += bytes.length));
    socket.on('error', () => undefined);
    socket.once('close', () => {
      resolve(told);
    });
    // The beginning of a ClientHello.
    socket.write(Buffer.from('\x16\x03\x01\x00\xc0\x01', 'latin1'));
  });
}

for (const processes of [1, 2]) {
  test(`connections from where nobody may come, ${String(processes)} processes`, async (t) => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200, [], 'here') });
    await using guard = await startGuard({
      upstream: upstream.url,
      listener: { allow_from: ['127.0.0.1'] },
      top: { admin: { bind: '127.0.0.1:0' }, ...(processes === 1 ? {} : { processes }) },
    });
    const admin = await adminOf(guard);
    const before = countOpenFiles(guard.pid).sockets;
    const refusals = (): readonly number[] =>
      guard.process.logLines
        .filter((line) => line['event.name'] === 'connection.refused')
        .map((line) => (typeof line['guardbee.connections'] === 'number' ? line['guardbee.connections'] : 1));

    const began = performance.now();
    let knocks = 0;
    for (; knocks < FLOOD; knocks += AT_ONCE) {
      const told = await Promise.all(Array.from({ length: AT_ONCE }, () => knock(guard.secure.port, '127.0.0.9')));
      assert.deepEqual(new Set(told), new Set([0]));
    }

    await t.test('the lines of the log add up to all of them, and are few', async () => {
      const sum = (): number => refusals().reduce((all, count) => all + count, 0);
      await waitUntil(() => sum() === FLOOD, 'all refusals to be told of', 5000);
      // A hundred in a second, and one for the rest of it.
      const [first] = guard.process.logLines.filter((line) => line['event.name'] === 'connection.refused');
      assert.equal(first?.['guardbee.reason'], 'address_denied');
      assert.equal(first['network.peer.address'], '127.0.0.9');
      const seconds = Math.ceil((performance.now() - began) / 1000) + 1;
      assert.ok(refusals().length <= 101 * seconds, `${String(refusals().length)} lines`);
      if (seconds <= 3) assert.ok(refusals().length < FLOOD);
    });

    await t.test('metrics count each', async () => {
      const metrics = (await request(admin, { path: '/metrics' })).text();
      const found = /^guardbee_connections_refused_total\{[^}]*address_denied[^}]*\} (\d+)$/m.exec(metrics);
      assert.equal(Number(found?.[1]), FLOOD);
    });

    await t.test('nothing is left of them, nobody heard of them, and others are served', async () => {
      await expectSockets(guard.pid, before);
      assertUntouched(upstream);
      assert.equal((await request(guard.secure, { path: '/v1/x', token: guard.token })).status, 200);
    });
  });
}
