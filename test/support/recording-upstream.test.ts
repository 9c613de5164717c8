import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { exchangeBytes, exchangeUntilEnd, openWebSocket, RawConnection, request } from './raw-client.js';
import { RecordingUpstream, respond, responseBytes, type EchoedRequest } from './recording-upstream.js';
import { TemporaryDirectory } from './temporary-directory.js';
import { runCommand } from './process.js';
import { requireComponent } from './component.js';

describe('recording upstream', () => {
  test('echoes what arrived, and has recorded every byte of it', async () => {
    await using upstream = await RecordingUpstream.start();
    const bytes = 'POST /v1/jobs?x=%20 HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 4\r\n\r\nbody';
    const response = await exchangeBytes(upstream, bytes);
    assert.equal(response.status, 200);
    const echoed = response.json() as EchoedRequest;
    assert.deepEqual(echoed, {
      method: 'POST',
      target: '/v1/jobs?x=%20',
      headers: [
        ['Host', 'a'],
        ['X-Two', '1'],
        ['x-two', '2'],
        ['Content-Length', '4'],
      ],
      bodySha256: createHash('sha256').update('body').digest('hex'),
      bodyLength: 4,
    });
    assert.equal(upstream.connections[0]?.text, bytes);
    assert.equal(upstream.bytesSeen, bytes.length);
    assert.deepEqual(upstream.requests[0]?.headerAll('X-TWO'), ['1', '2']);
  });

  test('reads a body in chunks, with trailers, from single bytes', async () => {
    await using upstream = await RecordingUpstream.start();
    using client = await RawConnection.connect(upstream);
    const bytes =
      'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n';
    for (const byte of bytes) client.write(byte);
    const body = await (await upstream.waitForRequest()).body;
    assert.equal(body.bytes.toString(), 'abc0123456789');
    assert.deepEqual(body.trailers, [['T', 'v']]);
    assert.equal((await client.readResponse()).status, 200);
  });

  test('takes smuggled bytes for a second request, as a lenient server would', async () => {
    await using upstream = await RecordingUpstream.start();
    using client = await RawConnection.connect(upstream);
    client.write(
      'POST / HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\nGET /admin HTTP/1.1\nHost: a\n\n',
    );
    const requests = await upstream.waitForRequests(2);
    assert.deepEqual(
      requests.map((seen) => seen.target),
      ['/', '/admin'],
    );
  });

  test('tells when the other side has left, by FIN and by RST', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.hang() });
    const polite = await RawConnection.connect(upstream);
    polite.write('GET /polite HTTP/1.1\r\n\r\n');
    const first = await upstream.waitForRequest((seen) => seen.target === '/polite');
    assert.equal(upstream.closedAt(first.connection), null);
    polite.end();
    await upstream.waitForClose(first.connection);
    assert.equal(first.connection.reset, false);

    const rude = await RawConnection.connect(upstream);
    rude.write('GET /rude HTTP/1.1\r\n\r\n');
    const second = await upstream.waitForRequest((seen) => seen.target === '/rude');
    rude.reset();
    await upstream.waitForClose(second.connection);
    assert.equal(second.connection.reset, true);
    await upstream.waitForIdle();
  });

  test('the body of a request that breaks off is rejected, not left hanging', async () => {
    await using upstream = await RecordingUpstream.start();
    using client = await RawConnection.connect(upstream);
    client.write('POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort');
    const seen = await upstream.waitForRequest();
    client.end();
    await assert.rejects(seen.body, /ended before the body/);
    assert.equal(seen.bodyLength, 5);
  });

  const BROKEN = [
    ['reset', respond.reset(), 'reset', ''],
    ['end without an answer', respond.endWithoutAnswer(), 'end', ''],
    ['bytes as they are', respond.bytes('HTTP/1.1 20x\n\n', 'end'), 'end', 'HTTP/1.1 20x\n\n'],
  ] as const;
  for (const [name, behaviour, ended, received] of BROKEN) {
    test(`behaviour: ${name}`, async () => {
      await using upstream = await RecordingUpstream.start({ respond: behaviour });
      const result = await exchangeUntilEnd(upstream, 'GET / HTTP/1.1\r\n\r\n');
      assert.equal(result.ended, ended);
      assert.equal(result.received.toString('latin1'), received);
    });
  }

  test('behaviour: crash in the middle of a body', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.crashMidBody({ how: 'end' }) });
    const response = await request(upstream);
    assert.equal(response.complete, false);
    assert.equal(response.text(), 'only this');
  });

  test('behaviour: half-close goes on reading', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.halfClose(), allowHalfOpen: true });
    using client = await RawConnection.connect(upstream);
    client.write('GET / HTTP/1.1\r\n\r\n');
    const response = await client.readResponse();
    assert.equal(response.complete, true);
    client.write('more');
    await upstream.waitForBytes('GET / HTTP/1.1\r\n\r\nmore'.length);
  });

  test('behaviour: event streams, silent, chatty and finite', async () => {
    await using upstream = await RecordingUpstream.start({
      respond: respond.byPath({
        '/silent': respond.silentEvents(),
        '/chatty': respond.chattyEvents(1),
        '/finite': respond.events(['a', 'b']),
      }),
    });
    using silent = await RawConnection.connect(upstream);
    silent.write('GET /silent HTTP/1.1\r\n\r\n');
    await silent.readHead();
    assert.match(await silent.readEvent(), /data: ready/);
    using chatty = await RawConnection.connect(upstream);
    chatty.write('GET /chatty HTTP/1.1\r\n\r\n');
    await chatty.readHead();
    await chatty.readUntil('data: 5\n\n');
    assert.equal((await request(upstream, { path: '/finite?x' })).text(), 'data: a\n\ndata: b\n\n');
    assert.equal((await request(upstream, { path: '/none' })).status, 404);
  });

  test('behaviour: flood, framed in every way', async () => {
    for (const framing of ['length', 'chunked', 'close'] as const) {
      await using upstream = await RecordingUpstream.start({ respond: respond.flood(300_000, framing) });
      const response = await request(upstream);
      assert.equal(response.complete, true);
      assert.equal(response.body.length, 300_000);
    }
  });

  test('behaviour: websocket, with early bytes from both sides', async () => {
    const early = Buffer.from([0x81, 0x02, 0x68, 0x69]);
    await using upstream = await RecordingUpstream.start({ respond: respond.webSocket({ early }) });
    const { socket } = await openWebSocket(upstream, { early: Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x21]) });
    assert.ok(socket !== null);
    assert.equal(await socket.nextText(), 'hi');
    assert.equal(await socket.nextText(), '!');
    socket.send('x'.repeat(70_000));
    assert.equal((await socket.nextText()).length, 70_000);
    socket.send(Buffer.alloc(300, 7));
    assert.deepEqual((await socket.next()).payload, Buffer.alloc(300, 7));
    socket.close();
  });

  test('behaviour: websocket that gives the very bytes back', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.webSocket({ echo: 'bytes' }) });
    const { connection } = await openWebSocket(upstream);
    connection.write('no frame at all');
    assert.equal((await connection.readBytes(15)).toString(), 'no frame at all');
    connection.close();
  });

  test('listens on a unix socket', async (t) => {
    const curl = requireComponent('curl', t);
    if (curl === null) return;
    using directory = new TemporaryDirectory();
    const path = directory.file('upstream.sock');
    await using upstream = await RecordingUpstream.start({ listen: { path } });
    assert.equal(upstream.url, `unix:${path}`);
    const result = await runCommand(curl, ['-s', '--unix-socket', path, 'http://localhost/x']);
    assert.match(result.stdout, /"target":"\/x"/);
  });

  test('stops reading when it is to be a stalled peer', async () => {
    await using upstream = await RecordingUpstream.start({ paused: true });
    using client = await RawConnection.connect(upstream);
    client.write('GET / HTTP/1.1\r\n\r\n');
    const connection = await upstream.waitForConnection();
    assert.equal(connection.bytesSeen, 0);
    connection.socket.resume();
    await upstream.waitForRequest();
  });

  test('keeps no more than the record limit, but counts and hashes all', async () => {
    await using upstream = await RecordingUpstream.start({ recordLimit: 10 });
    const body = 'y'.repeat(100_000);
    const response = await request(upstream, { method: 'PUT', body });
    const echoed = response.json() as EchoedRequest;
    assert.equal(echoed.bodyLength, body.length);
    assert.equal(echoed.bodySha256, createHash('sha256').update(body).digest('hex'));
    assert.equal(upstream.connections[0]?.bytes.length, 10);
  });

  test('answers HEAD without a body', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200, [], 'four') });
    const response = await request(upstream, { method: 'HEAD' });
    assert.equal(response.header('content-length'), '4');
    assert.equal(response.body.length, 0);
    assert.equal(responseBytes(200, [], 'four').toString().endsWith('four'), true);
  });
});
