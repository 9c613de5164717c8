/** Requests and streams at once, and connections of one address: refused up front, and given back in every ending. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import {
  openWebSocket,
  RawConnection,
  request,
  requestBytes,
  WEBSOCKET_HANDSHAKE_FIELDS,
} from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';

const EVENTS = [['Accept', 'text/event-stream']] as const;

describe('what is taken is given back', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.byPath(
        {
          '/one/hang': respond.hang(),
          '/one/reset': respond.reset(),
          '/one/crash': respond.crashMidBody(),
          '/one/malformed': respond.bytes('HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n'),
          '/stream/events': respond.silentEvents(),
          '/stream/ends': respond.events(['one']),
          '/stream/ws': respond.webSocket(),
          '/short/events': respond.silentEvents(),
          '/short/ws': respond.webSocket(),
        },
        respond.echo(),
      ),
    });
    guard = await startGuard({
      upstream: upstream.url,
      listener: { limits: {} },
      routes: [
        {
          name: 'one',
          path: '/one/**',
          require: 'read',
          body: { max: '10B' },
          limits: { concurrent: 1 },
          timeouts: { upstream: '2s' },
        },
        { name: 'stream', path: '/stream/**', require: 'read', limits: { streams: 1 } },
        { name: 'short', path: '/short/**', require: 'read', streams: { max: '300ms' }, limits: { streams: 1 } },
        { name: 'rest', path: '/**', require: 'read' },
      ],
      listeners: { few: { limits: { connections_per_address: 2 }, trusted_proxies: ['127.0.0.9'] } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const ask = async (path: string, headers: readonly (readonly [string, string])[] = []): Promise<number> =>
    (await request(guard.plain, { path, token: guard.token, headers })).status;

  test('a request at once, whatever becomes of it', async () => {
    for (const path of ['/one/ok', '/one/reset', '/one/crash', '/one/malformed', '/one/hang']) {
      await request(guard.plain, { path, token: guard.token }).catch(() => undefined);
      await waitUntil(async () => (await ask('/one/ok')) === 200, `room after ${path}`);
    }
    const large = await request(guard.plain, {
      method: 'POST',
      path: '/one/x',
      token: guard.token,
      body: 'a'.repeat(11),
    });
    assert.equal(large.status, 413);
    assert.equal(await ask('/one/ok'), 200, 'room after a refusal');
  });

  test('a second one is refused without a word to the upstream, and let in when the first one has left', async () => {
    using first = await RawConnection.connect(guard.plain);
    first.write(requestBytes(guard.plain, { path: '/one/hang', token: guard.token }));
    const seen = upstream.requests.length;
    await upstream.waitForRequests(seen + (upstream.requests.some((one) => one.target === '/one/hang') ? 0 : 1));
    await waitUntil(async () => (await ask('/one/second')) === 429, 'the first one to be underway');
    const refused = await request(guard.plain, { path: '/one/third', token: guard.token });
    assert.equal(refused.status, 429);
    assert.equal(refused.header('retry-after'), '1');
    assert.ok(!upstream.requests.some((one) => one.target === '/one/third'));
    first.reset();
    await waitUntil(async () => (await ask('/one/ok')) === 200, 'room');
  });

  test('a stream too many is refused before the upstream hears of it; others are not streams', async () => {
    using first = await RawConnection.connect(guard.plain);
    first.write(requestBytes(guard.plain, { path: '/stream/events', token: guard.token, headers: EVENTS }));
    await upstream.waitForRequest((one) => one.target === '/stream/events');
    await waitUntil(() => first.bytesSeen > 0, 'the stream');
    const refused = await request(guard.plain, { path: '/stream/events?again', token: guard.token, headers: EVENTS });
    assert.equal(refused.status, 429);
    const record = await guard.record(refused.header('x-request-id') ?? '');
    assert.equal(record['guardbee.reason'], 'streams_exceeded');
    const socket = await openWebSocket(guard.plain, { path: '/stream/ws', token: guard.token });
    assert.equal(socket.response.status, 429);
    socket.connection.close();
    assert.ok(!upstream.requests.some((one) => one.target === '/stream/ws' || one.target.endsWith('?again')));
    assert.equal(await ask('/stream/echo'), 200);

    // It did not say that it wants a stream.
    const late = await request(guard.plain, { path: '/stream/events', token: guard.token });
    assert.equal(late.status, 429);
    assert.equal(late.header('content-type'), 'application/problem+json');
    const unasked = upstream.requests.filter((one) => one.target === '/stream/events').at(-1);
    assert.ok(unasked !== undefined);
    await upstream.waitForClose(unasked.connection);

    first.reset();
    const taken = await waitUntil(async () => {
      const handshake = await openWebSocket(guard.plain, { path: '/stream/ws', token: guard.token });
      if (handshake.socket !== null) return handshake;
      handshake.connection.close();
      return null;
    }, 'the stream to be given back');
    assert.equal(await ask('/stream/ends', EVENTS), 429);
    taken.connection.close();
    await waitUntil(async () => (await ask('/stream/ends', EVENTS)) === 200, 'the WebSocket to be given back');
    for (let i = 0; i < 3; i++) assert.equal(await ask('/stream/echo', EVENTS), 200, 'an answer that is none');
  });

  test('a stream ends when it has been open for as long as it may be', async () => {
    using events = await RawConnection.connect(guard.plain);
    events.write(requestBytes(guard.plain, { path: '/short/events', token: guard.token, headers: EVENTS }));
    await events.waitForEnd();
    const record = await guard.recordWhere((line) => line['guardbee.reason'] === 'stream_expired');
    assert.equal(record['http.response.status_code'], 200);
    const socket = await waitUntil(async () => {
      const handshake = await openWebSocket(guard.plain, { path: '/short/ws', token: guard.token });
      return handshake.socket === null ? null : handshake;
    }, 'the stream to be given back');
    await socket.connection.waitForEnd();
  });

  test('events in answer to a WebSocket handshake are a stream like any other', async () => {
    const shake = async (path: string): Promise<RawConnection> => {
      const client = await RawConnection.connect(guard.plain);
      const headers = [...WEBSOCKET_HANDSHAKE_FIELDS, ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='] as const];
      client.write(requestBytes(guard.plain, { path, token: guard.token, headers }));
      const head = await client.readHead();
      assert.equal(head.status, 200);
      return client;
    };
    {
      using first = await shake('/stream/events');
      const second = await openWebSocket(guard.plain, { path: '/stream/ws', token: guard.token });
      second.connection.close();
      assert.equal(second.response.status, 429);
      first.reset();
    }
    await waitUntil(async () => (await ask('/stream/ends', EVENTS)) === 200, 'the stream to be given back');
    using short = await shake('/short/events');
    await short.waitForEnd();
  });

  test('connections of one address: counted before they say anything, given back, trusted proxies exempt', async () => {
    const few = guard.target('few');
    const own = { ...few, localAddress: '127.0.0.5' };
    const connections = [await RawConnection.connect(own), await RawConnection.connect(own)];
    for (const one of connections) {
      one.write(requestBytes(own, { path: '/', token: guard.token }));
      assert.equal((await one.readResponse('GET')).status, 200);
    }
    await assert.rejects(request(own, { path: '/', token: guard.token }));
    await guard.process.waitForLog((line) => line['guardbee.reason'] === 'connections_per_address_exhausted');
    assert.equal((await request({ ...few, localAddress: '127.0.0.6' }, { path: '/', token: guard.token })).status, 200);
    const proxied = { ...few, localAddress: '127.0.0.9' };
    const many = await Promise.all(Array.from({ length: 5 }, () => RawConnection.connect(proxied)));
    for (const one of many) {
      one.write(requestBytes(proxied, { path: '/', token: guard.token }));
      assert.equal((await one.readResponse('GET')).status, 200);
    }
    for (const one of [...many, ...connections]) one.close();
    await waitUntil(
      async () => (await request(own, { path: '/', token: guard.token }).catch(() => null))?.status === 200,
      'room',
    );
  });
});
