import assert from 'node:assert/strict';
import { on } from 'node:events';
import { after, before, describe, test, type TestContext } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { openWebSocket, RawConnection, requestBytes, type Target } from '../support/raw-client.js';
import { chunk, RecordingUpstream, respond, type RecordedConnection } from '../support/recording-upstream.js';
import { encodeFrame } from '../support/websocket-frames.js';
import { within } from '../support/wait.js';

const EVENTS = 50;
const MOST_MEDIAN_MS = 20;

/** Says one thing, waits until it has arrived, says the next. Any buffer on the way would stop it at the first. */
async function oneByOne(t: TestContext, say: (text: string) => void, heard: () => Promise<string>): Promise<void> {
  const took: number[] = [];
  for (let number = 0; number < EVENTS; number += 1) {
    const text = `event ${String(number)}`;
    const said = performance.now();
    say(text);
    assert.ok((await heard()).includes(text));
    took.push(performance.now() - said);
  }
  took.sort((a, b) => a - b);
  const median = took[EVENTS / 2] ?? Number.NaN;
  t.diagnostic(`median ${median.toFixed(2)} ms, most ${(took.at(-1) ?? Number.NaN).toFixed(2)} ms`);
  assert.ok(median < MOST_MEDIAN_MS, `median ${median.toFixed(1)} ms`);
}

describe('each event arrives before the next is sent', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start();
    guard = await startGuard({ upstream: upstream.url });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const arrived = async (path: string): Promise<RecordedConnection> =>
    (await upstream.waitForRequest((request) => request.target === path)).connection;

  const WAYS: readonly (readonly [name: string, target: () => Target])[] = [
    ['HTTP/1.1', () => guard.plain],
    ['HTTP/1.1 over TLS', () => guard.secure],
  ];

  for (const [index, [name, target]] of WAYS.entries()) {
    test(`events over ${name}`, async (t) => {
      upstream.respond = respond.silentEvents();
      const path = `/events/${String(index)}`;
      using client = await RawConnection.connect(target());
      client.write(requestBytes(target(), { path, token: guard.token }));
      assert.match(await client.readEvent(), /ready/);
      const connection = await arrived(path);
      await oneByOne(
        t,
        (text) => connection.write(chunk(`data: ${text}\n\n`)),
        () => client.readEvent(),
      );
    });

    test(`WebSocket messages over ${name}`, async (t) => {
      upstream.respond = respond.webSocket({ echo: 'none' });
      const path = `/socket/${String(index)}`;
      const opened = await openWebSocket(target(), { path, token: guard.token });
      using client = opened.connection;
      const connection = await arrived(path);
      await oneByOne(
        t,
        (text) => connection.write(encodeFrame('text', text, { masked: false })),
        async () => (await opened.socket?.nextText()) ?? '',
      );
      assert.equal(client.ended, null);
    });
  }

  test('events over HTTP/2', async (t) => {
    upstream.respond = respond.silentEvents([]);
    const session = await h2Connect(guard.secure);
    const stream = session.request({ ':path': '/events/h2', authorization: `Bearer ${guard.token}` });
    const pieces = on(stream, 'data');
    const connection = await arrived('/events/h2');
    await oneByOne(
      t,
      (text) => connection.write(chunk(`data: ${text}\n\n`)),
      async () => String((await within(pieces.next(), 'an event')).value),
    );
    session.destroy();
  });

  test('the head of a stream arrives before its first event', async () => {
    upstream.respond = respond.silentEvents([]);
    using client = await RawConnection.connect(guard.plain);
    client.write(requestBytes(guard.plain, { path: '/quiet', token: guard.token }));
    const head = await client.readHead();
    assert.equal(head.status, 200);
    assert.ok(head.headers.some(([name, value]) => name === 'content-type' && value === 'text/event-stream'));
  });

  test('pieces of an upload arrive before the next is sent', async (t) => {
    upstream.respond = respond.hang();
    using client = await RawConnection.connect(guard.plain);
    client.write(
      requestBytes(guard.plain, {
        method: 'POST',
        path: '/upload',
        token: guard.token,
        headers: [['Transfer-Encoding', 'chunked']],
      }),
    );
    client.write(chunk('first'));
    const request = await upstream.waitForRequest((one) => one.target === '/upload');
    let expected = 'first'.length;
    await oneByOne(
      t,
      (text) => {
        expected += text.length;
        client.write(chunk(text));
      },
      async () => {
        await upstream.waitFor(() => (request.bodyLength >= expected ? true : null), 'the next piece');
        return request.connection.text;
      },
    );
  });

  test('an answer that begins before the body has ended, and goes on beside it', async () => {
    upstream.respond = (request, connection) => {
      connection.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
      let told = 0;
      connection.socket.on('data', () => {
        if (request.bodyLength > told) connection.write(chunk(`so far ${String(request.bodyLength)};`));
        told = request.bodyLength;
      });
    };
    using client = await RawConnection.connect(guard.plain);
    client.write(
      requestBytes(guard.plain, {
        method: 'POST',
        path: '/both',
        token: guard.token,
        headers: [['Transfer-Encoding', 'chunked']],
      }),
    );
    client.write(chunk('first'));
    // Whether the first piece was told of depends on whether it came with the head.
    await client.readUntil('\r\n\r\n');
    client.write(chunk('more'));
    await client.readUntil('so far 9;');
    client.write(chunk('and more'));
    await client.readUntil('so far 17;');
  });
});
