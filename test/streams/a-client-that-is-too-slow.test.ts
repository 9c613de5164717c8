import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { RawConnection, type Target } from '../support/raw-client.js';
import { chunk, LAST_CHUNK, RecordingUpstream } from '../support/recording-upstream.js';
import { within } from '../support/wait.js';

const WAYS: readonly (readonly [name: string, target: (guard: Guard) => Target])[] = [
  ['plain', (guard) => guard.plain],
  ['TLS', (guard) => guard.secure],
];

describe('a client that is too slow', { concurrency: 8 }, () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start();
    guard = await startGuard({
      upstream: upstream.url,
      listener: { timeouts: { handshake: '500ms', head: '500ms', body: '500ms', keep_alive: '500ms' } },
      listeners: { patient: { timeouts: { body: 'none' } } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const head = (path: string): string =>
    `POST ${path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${guard.token}\r\nTransfer-Encoding: chunked\r\n\r\n`;

  for (const [name, target] of WAYS) {
    test(`${name}: in its head, which begins and does not end: 408`, async () => {
      using client = await RawConnection.connect(target(guard));
      client.write('GET /head HTTP/1.1\r\nHost: h\r\n');
      const response = await client.readResponse();
      assert.equal(response.status, 408);
      assert.equal(response.header('connection'), 'close');
      await client.waitForEnd();
      const record = await guard.record(response.header('x-request-id') ?? '');
      assert.equal(record['guardbee.reason'], 'head_timeout');
    });

    test(`${name}: in its head, a byte at a time: 408`, async () => {
      using client = await RawConnection.connect(target(guard));
      const bytes = 'GET /drip HTTP/1.1\r\nX-Drip: ';
      let sent = 0;
      const drip = setInterval(() => {
        if (client.ended === null) client.write(bytes.charAt(sent) || 'x');
        sent += 1;
      }, 50);
      try {
        assert.equal((await client.readResponse()).status, 408);
        await client.waitForEnd();
      } finally {
        clearInterval(drip);
      }
    });

    test(`${name}: to say anything at all: closed`, async () => {
      using client = await RawConnection.connect(target(guard));
      await client.waitForEnd();
    });

    test(`${name}: in its body, which begins and does not go on: 408, and the upstream hears of it`, async () => {
      using client = await RawConnection.connect(target(guard));
      const path = `/body/${name}`;
      client.write(head(path));
      client.write(chunk('hello'));
      const response = await client.readResponse('POST');
      assert.equal(response.status, 408, response.text());
      const arrived = await upstream.waitForRequest((request) => request.target === path);
      await upstream.waitForClose(arrived.connection);
      await assert.rejects(arrived.body);
      const record = await guard.record(response.header('x-request-id') ?? '');
      assert.equal(record['guardbee.reason'], 'client_body_timeout');
      await client.waitForEnd();
    });

    test(`${name}: in its body, which does not begin: 408`, async () => {
      using client = await RawConnection.connect(target(guard));
      client.write(head(`/never/${name}`));
      const response = await client.readResponse('POST');
      assert.equal(response.status, 408, response.text());
      await client.waitForEnd();
    });

    test(`${name}: in its body, a byte at a time: 408, though it is never silent for long`, async () => {
      using client = await RawConnection.connect(target(guard));
      client.write(head(`/drip/${name}`));
      const drip = setInterval(() => {
        if (client.ended === null) client.write(chunk('x'));
      }, 50);
      try {
        assert.equal((await client.readResponse('POST')).status, 408);
      } finally {
        clearInterval(drip);
      }
    });
  }

  test('HTTP/2: in its body: 408, and the connection lives on', async () => {
    const session = await h2Connect(guard.secure);
    const stream = session.request(
      { ':method': 'POST', ':path': '/body/h2', authorization: `Bearer ${guard.token}` },
      { endStream: false },
    );
    stream.on('error', () => undefined);
    stream.write('hello');
    const [fields] = (await within(once(stream, 'response'), 'an answer')) as [Record<string, unknown>];
    assert.equal(fields[':status'], 408);
    const arrived = await upstream.waitForRequest((request) => request.target === '/body/h2');
    await upstream.waitForClose(arrived.connection);
    assert.equal(session.closed, false);
    session.destroy();
  });

  test('HTTP/2: to ask for anything: closed', async () => {
    const session = await h2Connect(guard.secure);
    await within(once(session, 'close'), 'the end of an idle connection');
  });

  test('TLS: in its handshake: closed', async () => {
    using client = await RawConnection.connect({ port: guard.secure.port });
    client.write('\x16\x03\x01');
    await client.waitForEnd();
  });

  test('who may be slow, may be', async () => {
    const target = guard.target('patient');
    using client = await RawConnection.connect(target);
    client.write(head('/patient'));
    client.write(chunk('hello'));
    const arrived = await upstream.waitForRequest((request) => request.target === '/patient');
    // A client that was let go for the same silence tells that it has lasted long enough.
    using other = await RawConnection.connect(guard.plain);
    other.write(head('/impatient'));
    other.write(chunk('hello'));
    assert.equal((await other.readResponse('POST')).status, 408);
    assert.equal(upstream.closedAt(arrived.connection), null);
    client.write(LAST_CHUNK);
    assert.equal((await client.readResponse('POST')).status, 200);
  });
});
