import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { startGuard, type Guard } from '../support/guard.js';
import { countOpenFiles, expectSockets } from '../support/leak.js';
import { openWebSocket, requestBytes, WEBSOCKET_HANDSHAKE_FIELDS, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond, type RecordedConnection } from '../support/recording-upstream.js';
import { encodeFrame } from '../support/websocket-frames.js';
import { waitUntil, within } from '../support/wait.js';

describe('WebSockets end as their ends do', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({ allowHalfOpen: true });
    guard = await startGuard({ upstream: upstream.url });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const arrived = async (path: string): Promise<RecordedConnection> =>
    (await upstream.waitForRequest((request) => request.target === path)).connection;

  test('the client ends its half, the upstream goes on talking', async () => {
    upstream.respond = respond.webSocket({ echo: 'none' });
    const opened = await openWebSocket(guard.plain, { path: '/half/client', token: guard.token });
    using client = opened.connection;
    const connection = await arrived('/half/client');
    opened.socket?.send('last words');
    client.end();
    await upstream.waitForClose(connection);
    assert.equal(connection.closedAtMs, null, 'the half became a whole');
    connection.write(encodeFrame('text', 'an answer', { masked: false }));
    assert.equal(await opened.socket?.nextText(), 'an answer');
    assert.equal(client.ended, null);
    connection.end();
    assert.equal(await client.waitForEnd(), 'end');
    const record = await guard.recordWhere((line) => line['url.path'] === '/half/client');
    assert.equal(record['guardbee.decision'], 'allow');
    assert.equal(record['guardbee.stream'], 'ws');
    assert.equal(record['http.response.status_code'], 101);
  });

  test('the upstream ends its half, the client goes on talking', async () => {
    upstream.respond = respond.webSocket({ echo: 'none' });
    const opened = await openWebSocket(guard.plain, { path: '/half/upstream', token: guard.token });
    using client = opened.connection;
    const connection = await arrived('/half/upstream');
    connection.write(encodeFrame('text', 'last words', { masked: false }));
    connection.end();
    assert.equal(await opened.socket?.nextText(), 'last words');
    assert.equal(await client.waitForEnd(), 'end');
    opened.socket?.send('an answer');
    await upstream.waitFor(
      () => (Buffer.concat(connection.tunnelled).length >= 6 + 'an answer'.length ? true : null),
      'the answer at the upstream',
    );
    assert.equal(upstream.closedAt(connection), null);
    client.end();
    await upstream.waitForClose(connection);
  });

  test('over TLS the upstream ending ends both, after its last words', async () => {
    upstream.respond = respond.webSocket({ echo: 'none' });
    const opened = await openWebSocket(guard.secure, { path: '/half/tls', token: guard.token });
    const connection = await arrived('/half/tls');
    connection.write(encodeFrame('text', 'last words', { masked: false }));
    connection.end();
    assert.equal(await opened.socket?.nextText(), 'last words');
    assert.equal(await opened.connection.waitForEnd(), 'end');
    await upstream.waitForClose(connection);
  });

  test('over TLS, too, the client ends its half, and the upstream goes on talking', async () => {
    upstream.respond = respond.webSocket({ echo: 'none' });
    const { port } = guard.secure;
    const socket = connectTls({
      socket: connectTcp({ host: '127.0.0.1', port, allowHalfOpen: true }),
      host: '127.0.0.1',
      ca: guard.ca,
    });
    try {
      let received = '';
      const answered = new Promise<void>((resolve) => {
        socket.on('data', (piece: Buffer) => {
          received += piece.toString('latin1');
          if (received.includes('an answer')) resolve();
        });
      });
      const ended = once(socket, 'end');
      const key = 'AAAAAAAAAAAAAAAAAAAAAA==';
      socket.write(
        requestBytes(guard.secure, {
          path: '/half/client/tls',
          token: guard.token,
          headers: [...WEBSOCKET_HANDSHAKE_FIELDS, ['Sec-WebSocket-Key', key]],
        }),
      );
      const connection = await arrived('/half/client/tls');
      await waitUntil(() => received.startsWith('HTTP/1.1 101'), 'the 101');
      socket.end(encodeFrame('text', 'last words', { masked: true }));
      await upstream.waitForClose(connection);
      assert.ok(Buffer.concat(connection.tunnelled).length > 0);
      connection.write(encodeFrame('text', 'an answer', { masked: false }));
      await within(answered, 'the answer');
      connection.end();
      await within(ended, 'the end');
    } finally {
      socket.destroy();
    }
  });

  test('the bytes of frames are nobody else’s business, control frames and masks among them', async () => {
    upstream.respond = respond.webSocket({ echo: 'bytes' });
    const opened = await openWebSocket(guard.plain, { path: '/bytes', token: guard.token });
    using client = opened.connection;
    const every = Buffer.from(Array.from({ length: 256 * 64 }, (_, index) => index % 256));
    client.write(every);
    assert.deepEqual(await client.readBytes(every.length), every);
    const connection = await arrived('/bytes');
    assert.deepEqual(Buffer.concat(connection.tunnelled), every);
    connection.end();
  });

  test('what comes early on either side waits for the 101 and is lost on neither', async () => {
    const early = encodeFrame('text', 'from the upstream', { masked: false });
    upstream.respond = respond.webSocket({ early });
    const opened = await openWebSocket(guard.plain, {
      path: '/early',
      token: guard.token,
      early: encodeFrame('text', 'from the client', { masked: true }),
    });
    using client = opened.connection;
    assert.equal(await opened.socket?.nextText(), 'from the upstream');
    assert.equal(await opened.socket?.nextText(), 'from the client');
    assert.equal(client.ended, null);
    (await arrived('/early')).end();
  });

  test('what comes early never reaches an upstream that says no, and its answer is relayed whole', async () => {
    upstream.respond = respond.status(
      426,
      [
        ['Content-Type', 'text/plain'],
        ['X-Why', 'not today'],
      ],
      'no sockets here',
    );
    const before = upstream.bytesSeen;
    const opened = await openWebSocket(guard.plain, {
      path: '/no',
      token: guard.token,
      early: Buffer.from('GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n'),
    });
    using client = opened.connection;
    assert.equal(opened.response.status, 426);
    assert.equal(opened.response.header('x-why'), 'not today');
    assert.equal(opened.response.text(), 'no sockets here');
    await client.waitForEnd();
    const [request] = upstream.requests.slice(-1);
    assert.equal(request?.target, '/no');
    assert.equal(upstream.bytesSeen - before, request.rawHead.length);
  });

  test('a subprotocol that the upstream chose is told, and `bearer` where it chose none', async () => {
    upstream.respond = respond.webSocket({ headers: [['Sec-WebSocket-Protocol', 'chat']] });
    const chosen = await openWebSocket(guard.plain, { path: '/chat', protocols: ['bearer', guard.token, 'chat'] });
    assert.equal(chosen.response.header('sec-websocket-protocol'), 'chat');
    assert.equal(
      (await upstream.waitForRequest((one) => one.target === '/chat')).header('sec-websocket-protocol'),
      'chat',
    );
    chosen.connection.close();
    upstream.respond = respond.webSocket();
    const none = await openWebSocket(guard.plain, { path: '/none', protocols: ['bearer', guard.token] });
    assert.equal(none.response.header('sec-websocket-protocol'), 'bearer');
    assert.equal(
      (await upstream.waitForRequest((one) => one.target === '/none')).header('sec-websocket-protocol'),
      null,
    );
    none.connection.close();
  });

  for (const [name, target] of [
    ['plain', (): Target => guard.plain],
    ['TLS', (): Target => guard.secure],
  ] as const) {
    const count = name === 'TLS' ? 200 : 1000;
    test(`${String(count)} of them, opened and closed over ${name}, leave nothing behind`, async (t) => {
      upstream.respond = respond.webSocket();
      const sockets = countOpenFiles(guard.pid).sockets;
      const connections = upstream.connections.length;
      const one = async (number: number): Promise<void> => {
        const opened = await openWebSocket(target(), { path: '/churn', token: guard.token });
        assert.ok(opened.socket !== null);
        opened.socket.send('hello');
        assert.equal(await opened.socket.nextText(), 'hello');
        // In turn: the client resets, the client just leaves, and a proper farewell of both.
        if (number % 3 === 0) opened.connection.reset();
        else if (number % 3 === 1) opened.connection.close();
        else {
          opened.socket.send(Buffer.from([0x03, 0xe8]), 'close');
          assert.equal((await opened.socket.next()).opcode, 'close');
          opened.connection.end();
        }
      };
      for (let number = 0; number < count; number += 50) {
        await Promise.all(Array.from({ length: 50 }, (_, index) => one(number + index)));
      }
      for (const connection of upstream.connections.slice(connections)) connection.end();
      await expectSockets(guard.pid, sockets);
      await waitUntil(
        () => upstream.connections.slice(connections).every((connection) => connection.closedAtMs !== null),
        'the upstream’s ends to be closed',
      );
      t.diagnostic(`${String(sockets)} sockets before, ${String(countOpenFiles(guard.pid).sockets)} after`);
    });
  }
});
