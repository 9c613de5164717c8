import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { RawConnection, requestBytes, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { within } from '../support/wait.js';

describe('requests on one connection take turns', () => {
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

  const get = (path: string, target: Target = guard.plain): Buffer =>
    requestBytes(target, { path, token: guard.token });

  for (const [name, target] of [
    ['plain', () => guard.plain],
    ['TLS', () => guard.secure],
  ] as const) {
    test(`${name}: many at once are answered one by one, in order, each once`, async () => {
      upstream.respond = respond.echo();
      const before = upstream.requests.length;
      using client = await RawConnection.connect(target());
      const paths = Array.from({ length: 20 }, (_, number) => `/${name}/${String(number)}`);
      client.write(Buffer.concat(paths.map((path) => get(path, target()))));
      for (const path of paths) {
        const response = await client.readResponse();
        assert.equal(response.status, 200);
        assert.equal((response.json() as { target: string }).target, path);
      }
      assert.equal(client.pending.length, 0);
      assert.deepEqual(
        upstream.requests.slice(before).map((request) => request.target),
        paths,
      );
    });
  }

  test('the second goes on only when the first has been answered', async () => {
    upstream.respond = respond.byPath({ '/first': respond.hang() }, respond.echo());
    using client = await RawConnection.connect(guard.plain);
    client.write(Buffer.concat([get('/first'), get('/second')]));
    const first = await upstream.waitForRequest((request) => request.target === '/first');
    // Another client's request takes the way there and back while the second one waits.
    using other = await RawConnection.connect(guard.plain);
    other.write(get('/other'));
    await other.readResponse();
    assert.ok(upstream.requests.every((request) => request.target !== '/second'));
    first.connection.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst');
    assert.equal((await client.readResponse()).text(), 'first');
    assert.equal(((await client.readResponse()).json() as { target: string }).target, '/second');
  });

  test('permitted, refused, permitted: each gets its own answer', async () => {
    upstream.respond = respond.echo();
    using client = await RawConnection.connect(guard.plain);
    client.write(Buffer.concat([get('/a'), requestBytes(guard.plain, { path: '/nobody' }), get('/b')]));
    assert.equal((await client.readResponse()).status, 200);
    const refused = await client.readResponse();
    assert.equal(refused.status, 401);
    assert.equal(refused.header('connection'), 'keep-alive');
    assert.equal(((await client.readResponse()).json() as { target: string }).target, '/b');
    assert.ok(upstream.requests.every((request) => request.target !== '/nobody'));
  });

  test('a body in between is the body of its own request', async () => {
    upstream.respond = respond.echo();
    using client = await RawConnection.connect(guard.plain);
    const post = requestBytes(guard.plain, { method: 'POST', path: '/post', token: guard.token, body: get('/inner') });
    client.write(Buffer.concat([post, get('/after')]));
    const first = (await client.readResponse('POST')).json() as { target: string; bodyLength: number };
    assert.equal(first.target, '/post');
    assert.equal(first.bodyLength, get('/inner').length);
    assert.equal(((await client.readResponse()).json() as { target: string }).target, '/after');
    assert.ok(upstream.requests.every((request) => request.target !== '/inner'));
  });

  test('what still waits when its client leaves is never sent', async () => {
    upstream.respond = respond.hang();
    const client = await RawConnection.connect(guard.plain);
    client.write(Buffer.concat([get('/left-first'), get('/left-second')]));
    const first = await upstream.waitForRequest((request) => request.target === '/left-first');
    client.reset();
    await upstream.waitForClose(first.connection);
    await guard.recordWhere((line) => line['url.path'] === '/left-first' && line['guardbee.reason'] === 'client_gone');
    upstream.respond = respond.echo();
    using other = await RawConnection.connect(guard.plain);
    other.write(get('/left-other'));
    await other.readResponse();
    assert.ok(upstream.requests.every((request) => request.target !== '/left-second'));
  });

  test('more than anybody needs ahead of their answers ends the connection', async () => {
    upstream.respond = respond.hang();
    using client = await RawConnection.connect(guard.plain);
    client.write(Buffer.concat(Array.from({ length: 100 }, (_, number) => get(`/flood/${String(number)}`))));
    await client.waitForEnd();
    const seen = upstream.requests.filter((request) => request.target.startsWith('/flood/'));
    assert.ok(seen.length <= 1, String(seen.length));
    for (const request of seen) await upstream.waitForClose(request.connection);
  });

  test('a WebSocket handshake behind an answer that is under way is not taken for one', async () => {
    upstream.respond = respond.hang();
    using client = await RawConnection.connect(guard.plain);
    const handshake = requestBytes(guard.plain, {
      path: '/behind',
      token: guard.token,
      headers: [
        ['Upgrade', 'websocket'],
        ['Connection', 'Upgrade'],
        ['Sec-WebSocket-Version', '13'],
        ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='],
      ],
    });
    client.write(Buffer.concat([get('/before'), handshake]));
    await client.waitForEnd();
    assert.ok(upstream.requests.every((request) => request.target !== '/behind'));
  });

  describe('Expect: 100-continue', () => {
    const head = (path: string, version: string, authorization: string): string =>
      `POST ${path} HTTP/${version}\r\nHost: h\r\n${authorization}Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n`;
    const pass = (): string => `Authorization: Bearer ${guard.token}\r\n`;

    for (const [name, target] of [
      ['plain', () => guard.plain],
      ['TLS', () => guard.secure],
    ] as const) {
      test(`${name}: whoever may, is asked for the body, and the upstream hears nothing of it`, async () => {
        upstream.respond = respond.echo();
        using client = await RawConnection.connect(target());
        client.write(head(`/continue/${name}`, '1.1', pass()));
        assert.equal((await client.readHead()).status, 100);
        client.write('hello');
        const response = await client.readResponse('POST');
        assert.equal(response.status, 200);
        const arrived = await upstream.waitForRequest((request) => request.target === `/continue/${name}`);
        assert.equal(arrived.header('expect'), null);
        assert.equal((await arrived.body).bytes.toString(), 'hello');
      });

      test(`${name}: whoever may not, is refused without being asked for it`, async () => {
        const before = upstream.bytesSeen;
        using client = await RawConnection.connect(target());
        client.write(head('/refused', '1.1', ''));
        const response = await client.readResponse('POST');
        assert.equal(response.status, 401);
        assert.deepEqual(response.informational, []);
        // Whether the client sends the body now is anybody's guess, so nothing after it can be read.
        assert.equal(response.header('connection'), 'close');
        await client.waitForEnd();
        assert.equal(upstream.bytesSeen, before);
      });
    }

    test('HTTP/1.0 knows no such thing', async () => {
      upstream.respond = respond.echo();
      using client = await RawConnection.connect(guard.plain);
      client.write(`${head('/continue/old', '1.0', pass())}hello`);
      const response = await client.readResponse('POST');
      assert.equal(response.status, 200);
      assert.deepEqual(response.informational, []);
    });

    test('over HTTP/2', async () => {
      upstream.respond = respond.echo();
      const session = await h2Connect(guard.secure);
      const stream = session.request({
        ':method': 'POST',
        ':path': '/continue/h2',
        authorization: `Bearer ${guard.token}`,
        expect: '100-continue',
        'content-length': '5',
      });
      await within(new Promise<void>((resolve) => stream.once('continue', resolve)), 'a 100 over HTTP/2');
      stream.end('hello');
      const status = await within(
        new Promise<number>((resolve) => {
          stream.once('response', (fields) => resolve(fields[':status'] ?? 0));
        }),
        'an answer over HTTP/2',
      );
      assert.equal(status, 200);
      const arrived = await upstream.waitForRequest((request) => request.target === '/continue/h2');
      assert.equal(arrived.header('expect'), null);
      session.destroy();
    });
  });

  test('trailers over HTTP/2 go no further', async () => {
    upstream.respond = respond.echo();
    const session = await h2Connect(guard.secure);
    const stream = session.request(
      { ':method': 'POST', ':path': '/trailers', authorization: `Bearer ${guard.token}` },
      { endStream: false, waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-auth-user': 'somebody else', 'x-trailer': '1' }));
    stream.resume().end('hello');
    await within(new Promise<void>((resolve) => stream.once('close', resolve)), 'an answer over HTTP/2');
    const arrived = await upstream.waitForRequest((request) => request.target === '/trailers');
    const body = await arrived.body;
    assert.equal(body.bytes.toString(), 'hello');
    assert.deepEqual(body.trailers, []);
    assert.deepEqual(arrived.headerAll('x-auth-user'), ['keeper']);
    session.destroy();
  });

  test('an answer that comes before the body has gone is given at once', async () => {
    upstream.respond = respond.bytes(
      'HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge',
      'end',
    );
    using client = await RawConnection.connect(guard.plain);
    client.write(
      `POST /early HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ${guard.token}\r\nContent-Length: 1000000\r\n\r\nhello`,
    );
    const response = await client.readResponse('POST');
    assert.equal(response.status, 413);
    assert.equal(response.text(), 'large');
    await client.waitForEnd();
  });

  test('HTTP/1.0 without keep-alive gets its answer unchunked, and the connection ends', async () => {
    upstream.respond = respond.events(['a', 'b']);
    using client = await RawConnection.connect(guard.plain);
    client.write(`GET /old HTTP/1.0\r\nHost: h\r\nAuthorization: Bearer ${guard.token}\r\n\r\n`);
    const response = await client.readResponse();
    assert.equal(response.header('transfer-encoding'), null);
    assert.equal(response.text(), 'data: a\n\ndata: b\n\n');
    assert.equal(response.complete, true);
  });
});
