/** The name of this folder has it run first: others use the half minute that it waits. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { startGuard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { openWebSocket, RawConnection, requestBytes } from '../support/raw-client.js';
import { chunk, LAST_CHUNK, RecordingUpstream, respond } from '../support/recording-upstream.js';
import { within } from '../support/wait.js';

const SILENCE_MS = 30_000;
const PATIENCE = SILENCE_MS + 20_000;

/**
 * A token stream waits for its model, a terminal for its user: nothing that is said must be no reason to hang up. Every
 * time limit of the policy is far below the silence, so that any of them would show.
 */
test('30 s of silence end no event stream and no WebSocket', async () => {
  await using upstream = await RecordingUpstream.start({
    respond: (request, connection) =>
      (request.header('upgrade') === null ? respond.silentEvents() : respond.webSocket())(request, connection),
  });
  const short = { handshake: '1s', head: '1s', body: '1s', upstream: '1s', keep_alive: '1s' };
  await using guard = await startGuard({
    upstream: upstream.url,
    listener: { timeouts: short },
    listeners: { 'main-usual': { timeouts: {} }, 'secure-usual': { timeouts: {}, tls: true } },
  });
  const { token } = guard;

  const events: RawConnection[] = [];
  const sockets: Awaited<ReturnType<typeof openWebSocket>>[] = [];
  const sessions: Awaited<ReturnType<typeof h2Connect>>[] = [];
  const said: Promise<unknown>[] = [];
  try {
    for (const target of [guard.plain, guard.secure, guard.target('main-usual'), guard.target('secure-usual')]) {
      const client = await RawConnection.connect(target);
      client.write(requestBytes(target, { path: '/events', token }));
      assert.match(await client.readEvent(), /ready/);
      events.push(client);
      const opened = await openWebSocket(target, { path: '/socket', token });
      assert.ok(opened.socket !== null);
      sockets.push(opened);
    }
    for (const target of [guard.secure, guard.target('secure-usual')]) {
      const session = await h2Connect(target);
      const stream = session.request({ ':path': '/events', authorization: `Bearer ${token}` });
      const [first] = (await within(once(stream, 'data'), 'the first event')) as [Buffer];
      assert.match(first.toString(), /ready/);
      sessions.push(session);
      said.push(within(once(stream, 'data'), 'an event over HTTP/2 after the silence', PATIENCE));
    }
    const streams = upstream.requests;
    assert.equal(streams.length, 10);

    // The silence itself is what is tested.
    await new Promise((resolve) => setTimeout(resolve, SILENCE_MS));

    for (const { connection } of streams) assert.equal(upstream.closedAt(connection), null, 'a silent stream was cut');
    for (const { connection, target } of streams) {
      if (target === '/events') connection.write(Buffer.concat([chunk('data: late\n\n'), LAST_CHUNK]));
    }
    for (const client of events) assert.match(await client.readEvent(), /late/);
    for (const piece of await Promise.all(said)) assert.match(String(piece), /late/);
    for (const { socket } of sockets) {
      socket?.send('still there?');
      assert.equal(await socket?.nextText(), 'still there?');
    }
  } finally {
    for (const client of events) client.close();
    for (const { connection } of sockets) connection.close();
    for (const session of sessions) session.destroy();
  }
});
