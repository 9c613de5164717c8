import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import { describe, test } from 'node:test';
import { Http2Pulse } from '../../src/server/http2-pulse.js';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { openWebSocket, RawConnection, request, requestBytes } from '../support/raw-client.js';
import {
  chunk,
  LAST_CHUNK,
  RecordingUpstream,
  respond,
  type RecordedConnection,
} from '../support/recording-upstream.js';
import { within } from '../support/wait.js';

/** An event stream on its way. */
async function openEvents(
  guard: Guard,
  upstream: RecordingUpstream,
  path: string,
): Promise<[RawConnection, RecordedConnection]> {
  const client = await RawConnection.connect(guard.plain);
  client.write(requestBytes(guard.plain, { path, token: guard.token }));
  await client.readEvent();
  const arrived = await upstream.waitForRequest((one) => one.target === path);
  return [client, arrived.connection];
}

describe('a drain lets what is open end', { concurrency: 2 }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal}: an event stream goes on to its end, nothing new begins, and it exits with 0`, async () => {
      await using upstream = await RecordingUpstream.start({ respond: respond.silentEvents() });
      await using guard = await startGuard({ upstream: upstream.url });
      const [client, connection] = await openEvents(guard, upstream, '/events');
      using idle = await RawConnection.connect(guard.plain);
      const session = await h2Connect(guard.secure);
      const stream = session.request({ ':path': '/h2', authorization: `Bearer ${guard.token}` });
      await within(once(stream, 'data'), 'an event over HTTP/2');
      const h2 = await upstream.waitForRequest((one) => one.target === '/h2');

      guard.process.signal(signal);
      await guard.process.waitForLog((line) => String(line['msg']).startsWith('draining'));
      // Whoever rests is let go, and nobody new comes in.
      await idle.waitForEnd();
      await assert.rejects(request(guard.plain, { token: guard.token }), /ECONNREFUSED/);

      connection.write(chunk('data: more\n\n'));
      assert.match(await client.readEvent(), /more/);
      connection.write(LAST_CHUNK);
      assert.match((await client.readToEnd()).toString(), /0\r\n\r\n$/);
      assert.equal(guard.process.status, null, 'it did not wait for the other stream');
      const rest = within(once(stream, 'end'), 'the end over HTTP/2');
      stream.resume();
      h2.connection.write(LAST_CHUNK);
      await rest;
      await guard.process.expectExit(0);
      assert.equal(guard.process.stderr, '');
      await upstream.waitForIdle();
    });
  }

  test('a long answer is whole, over HTTP/2 too', async () => {
    let finish: (() => void)[] = [];
    await using upstream = await RecordingUpstream.start({
      respond: (_request, connection) => {
        connection.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst');
        finish = [...finish, () => connection.write('later')];
      },
    });
    await using guard = await startGuard({ upstream: upstream.url });
    using client = await RawConnection.connect(guard.plain);
    client.write(requestBytes(guard.plain, { token: guard.token }));
    const session = await h2Connect(guard.secure);
    const answer = h2Request(session, { authorization: `Bearer ${guard.token}` });
    await upstream.waitForRequests(2);
    guard.process.signal('SIGTERM');
    await guard.process.waitForLog((line) => String(line['msg']).startsWith('draining'));
    for (const say of finish) say();
    assert.equal((await client.readResponse()).text(), 'firstlater');
    assert.equal((await answer).body.toString(), 'firstlater');
    await guard.process.expectExit(0);
  });

  test('a request on a connection that was kept is told to go elsewhere', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.hang() });
    await using guard = await startGuard({ upstream: upstream.url });
    using client = await RawConnection.connect(guard.plain);
    client.write(requestBytes(guard.plain, { path: '/first', token: guard.token }));
    const first = await upstream.waitForRequest();
    guard.process.signal('SIGTERM');
    await guard.process.waitForLog((line) => String(line['msg']).startsWith('draining'));
    client.write(requestBytes(guard.plain, { path: '/second', token: guard.token }));
    first.connection.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst');
    assert.equal((await client.readResponse()).text(), 'first');
    // It may be answered or the connection may have ended: it may not be forwarded.
    const rest = (await client.readToEnd()).toString('latin1');
    assert.match(rest, /^(?:HTTP\/1\.1 503 |$)/);
    assert.deepEqual(
      upstream.requests.map(({ target }) => target),
      ['/first'],
    );
    await guard.process.expectExit(0);
  });

  test('with nothing open it ends at once', async () => {
    await using upstream = await RecordingUpstream.start();
    await using guard = await startGuard({ upstream: upstream.url });
    await request(guard.plain, { token: guard.token });
    const session = await h2Connect(guard.secure);
    await h2Request(session, { authorization: `Bearer ${guard.token}` });
    const asked = performance.now();
    guard.process.signal('SIGTERM');
    await guard.process.expectExit(0);
    assert.ok(performance.now() - asked < 2_000);
  });

  test('what does not end in time is cut, and it exits with 7', async () => {
    await using upstream = await RecordingUpstream.start({
      respond: (one, connection) =>
        (one.header('upgrade') === null ? respond.silentEvents() : respond.webSocket())(one, connection),
    });
    await using guard = await startGuard({ upstream: upstream.url, top: { drain: '500ms' } });
    const [client] = await openEvents(guard, upstream, '/events');
    const opened = await openWebSocket(guard.plain, { path: '/socket', token: guard.token });
    assert.ok(opened.socket !== null);
    const asked = performance.now();
    guard.process.signal('SIGTERM');
    await client.waitForEnd();
    // RFC 6455 §7.4.1: 1001 is "going away".
    const last = await opened.socket.next();
    assert.equal(last.opcode, 'close');
    assert.equal(last.payload.readUInt16BE(0), 1001);
    await opened.connection.waitForEnd();
    await guard.process.expectExit(7);
    const took = performance.now() - asked;
    assert.ok(took >= 500 && took < 3_000, `${took.toFixed(0)} ms`);
    await upstream.waitForIdle();
    const heard = upstream.connections.map(({ bytes }) => bytes).find((bytes) => bytes.includes('/socket'));
    const closed = heard?.subarray(-8) ?? Buffer.alloc(8);
    assert.equal(closed.toString('hex', 0, 2), '8882', 'the service was told too, as a client says it');
    assert.equal(((closed[6] ?? 0) ^ (closed[2] ?? 0)) * 256 + ((closed[7] ?? 0) ^ (closed[3] ?? 0)), 1001);
    client.close();
    opened.connection.close();
  });

  test('a second signal ends it at once', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.silentEvents() });
    await using guard = await startGuard({ upstream: upstream.url });
    const [client] = await openEvents(guard, upstream, '/events');
    guard.process.signal('SIGTERM');
    await guard.process.waitForLog((line) => String(line['msg']).startsWith('draining'));
    const asked = performance.now();
    guard.process.signal('SIGTERM');
    await client.waitForEnd();
    await guard.process.expectExit(7);
    assert.ok(performance.now() - asked < 2_000);
    client.close();
    await upstream.waitForIdle();
  });
});

test('a client that answers GOAWAY with GOAWAY keeps the streams that are open', async () => {
  const server = createServer();
  server.on('session', (session) => {
    new Http2Pulse(session).start();
  });
  server.on('stream', (stream) => {
    stream.respond();
    const timer = setInterval(() => stream.write('x'), 50);
    stream.once('close', () => {
      clearInterval(timer);
    });
    stream.once('data', () => stream.session?.close());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const session = connect(`http://127.0.0.1:${address.port}`);
  try {
    const stream = session.request({ ':method': 'POST' }, { endStream: false });
    await once(stream, 'response');
    stream.write('close');
    await once(session, 'goaway');
    // Long enough for the server to look whether the session lives, twice.
    let seen = 0;
    for await (const piece of stream) {
      seen += Buffer.byteLength(piece as Buffer);
      if (seen >= 50) break;
    }
    assert.equal(seen >= 50, true, 'the stream was cut');
  } finally {
    session.destroy();
    server.close();
  }
});
