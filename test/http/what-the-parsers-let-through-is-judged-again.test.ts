import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Guard, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { RawConnection, openWebSocket } from '../support/raw-client.js';
import { type RecordedRequest, RecordingUpstream, respond } from '../support/recording-upstream.js';
import { KEY } from './heads.js';

/** What Node's two parsers announce as a request although some reader would read it otherwise, in bytes. */
describe('what the parsers let through is judged again', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: (request, connection) =>
        (request.target === '/open/names'
          ? respond.bytes(
              'HTTP/1.1 200 OK\r\nConstructor: a\r\n__proto__: b\r\nX-Any: \xa0c\xa0\r\nContent-Length: 0\r\n\r\n',
            )
          : request.header('upgrade') === null
            ? respond.echo()
            : respond.webSocket())(request, connection),
    });
    guard = await startGuard({
      upstream: upstream.url,
      routes: [
        { name: 'open', path: '/open/**', methods: 'any', public: true, unsafe_public: true },
        { name: 'read', path: '/read', require: 'read' },
      ],
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** The status line, after these bytes. */
  const statusOf = async (bytes: string): Promise<number> => {
    using connection = await RawConnection.connect(guard.plain);
    connection.write(bytes);
    const head = await connection.readHead();
    return head.status;
  };

  test('a refused request without a body has its connection closed, and nobody waits for the body that there is not', async () => {
    const took: number[] = [];
    for (const bytes of [
      'GET / HTTP/1.1\r\n\r\n',
      'TRACE / HTTP/1.1\r\nHost: a\r\n\r\n',
      'GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n',
    ]) {
      using connection = await RawConnection.connect(guard.plain);
      const asked = performance.now();
      connection.write(bytes);
      assert.ok((await connection.readHead()).status >= 400);
      assert.equal(await connection.waitForEnd(), 'end');
      took.push(performance.now() - asked);
    }
    // The rest of a body is waited for a second long. The quickest tells: a busy machine only makes it later.
    assert.ok(Math.min(...took) < 900, took.join(' '));
  });

  const seen = async (mark: string): Promise<RecordedRequest> =>
    await upstream.waitForRequest((request) => request.header('x-mark') === mark);

  const CHUNKS = '5\r\nhello\r\n0\r\n\r\n';
  for (const [what, bytes, status] of [
    [
      'chunked and a no-break space',
      `POST /open HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\xa0\r\n\r\n${CHUNKS}`,
      400,
    ],
    [
      'a no-break space and chunked',
      `POST /open HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \xa0chunked\r\n\r\n${CHUNKS}`,
      400,
    ],
    [
      'two codings',
      `POST /open HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`,
      400,
    ],
    ['chunked in HTTP/1.0', `POST /open HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKS}`, 400],
    [
      'an upgrade that nobody asked the connection for',
      `GET /open HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: \xa0upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`,
      400,
    ],
    ['an empty Upgrade', 'GET /open HTTP/1.1\r\nHost: h\r\nUpgrade:\r\nConnection: upgrade\r\n\r\n', 501],
    ['a fragment', 'GET /open#/../read HTTP/1.1\r\nHost: h\r\n\r\n', 400],
    ['a backslash', 'GET /open\\..\\read HTTP/1.1\r\nHost: h\r\n\r\n', 400],
    ['userinfo', 'GET http://h@evil.test/open HTTP/1.1\r\nHost: h\r\n\r\n', 400],
    ['another scheme', 'GET ws://h/open HTTP/1.1\r\nHost: h\r\n\r\n', 400],
    ['HTTP/0.9', 'GET /open\r\n\r\n', 505],
    ['HTTP/2.0 in a request line', 'GET /open HTTP/2.0\r\nHost: h\r\n\r\n', 505],
    ['dots that decode twice', 'GET /open/%25%32%65%252%65/read HTTP/1.1\r\nHost: h\r\n\r\n', 400],
  ] as const) {
    test(`refused: ${what}`, async () => {
      assert.equal(await statusOf(bytes), status);
      assert.equal(upstream.requests.length, 0);
    });
  }

  describe('let through', () => {
    test('bytes above ASCII arrive as they were sent, over both protocols', async () => {
      const bytes = '\x80\xa0\xe9\xff';
      await statusOf(`GET /open HTTP/1.1\r\nHost: h\r\nX-Mark: bytes\r\nX-Any: a${bytes}b\r\n\r\n`);
      assert.equal((await seen('bytes')).header('x-any'), `a${bytes}b`);
      const session = await h2Connect(guard.secure);
      try {
        await h2Request(session, { ':path': '/open', 'x-mark': 'h2-bytes', 'x-any': `a${bytes}b` });
        assert.equal((await seen('h2-bytes')).header('x-any'), `a${bytes}b`);
      } finally {
        session.destroy();
      }
    });

    test('no name that an upstream takes for ours, or for another path, over both protocols', async () => {
      const names = ['X-Auth-User', 'x_auth_user', 'X!Auth!User', 'SCRIPT_NAME', 'PATH_INFO', 'X-Forwarded-Uri'];
      const lines = names.map((name) => `${name}: forged\r\n`).join('');
      await statusOf(`GET /open HTTP/1.1\r\nHost: h\r\nX-Mark: twins\r\n${lines}\r\n`);
      const session = await h2Connect(guard.secure);
      try {
        const fields = Object.fromEntries(names.map((name) => [name.toLowerCase(), 'forged']));
        await h2Request(session, { ':path': '/open', 'x-mark': 'h2-twins', ...fields });
      } finally {
        session.destroy();
      }
      for (const mark of ['twins', 'h2-twins']) assert.ok(!(await seen(mark)).rawHead.includes('forged'), mark);
    });

    test('an answer with names that every object has, over HTTP/2', async () => {
      const session = await h2Connect(guard.secure);
      try {
        const { status, headers } = await h2Request(session, { ':path': '/open/names' });
        assert.equal(status, 200);
        const fields = new Map(Object.entries(headers));
        assert.equal(fields.get('constructor'), 'a');
        assert.equal(fields.get('__proto__'), 'b');
        assert.equal(fields.get('x-any'), '\xa0c\xa0');
      } finally {
        session.destroy();
      }
    });

    test('no credential of ours on a public route, in a field or in the list of subprotocols', async () => {
      await statusOf(
        `GET /open HTTP/1.1\r\nHost: h\r\nX-Mark: public\r\nAuthorization: Bearer ${guard.token}\r\n` +
          `X-Api-Key: ${guard.token}\r\nX-Guardbee-Token: ${guard.token}\r\n` +
          `Sec-WebSocket-Protocol: bearer, ${guard.token}\r\n\r\n`,
      );
      assert.ok(!(await seen('public')).rawHead.includes(guard.token));

      const { response, connection } = await openWebSocket(guard.plain, {
        path: '/open',
        headers: [['X-Mark', 'public-socket']],
        protocols: ['bearer', guard.token],
      });
      connection.close();
      assert.ok(!(await seen('public-socket')).rawHead.includes(guard.token));
      // A browser that offered a list and is told nothing fails the handshake.
      assert.equal(response.status, 101);
      assert.equal(response.header('sec-websocket-protocol'), 'bearer');
    });
  });
});
