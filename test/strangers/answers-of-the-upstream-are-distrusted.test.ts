import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { openWebSocket, request, type RawResponse } from '../support/raw-client.js';
import { chunk, LAST_CHUNK, RecordingUpstream, respond } from '../support/recording-upstream.js';
import { websocketAccept } from '../support/websocket-frames.js';

const OK = 'HTTP/1.1 200 OK\r\n';
const RESET = 'HTTP/1.1 205 Reset Content\r\n';

/** Answers of which no head may be believed. */
const MALFORMED_HEADS: readonly (readonly [name: string, bytes: string])[] = [
  ['no HTTP', 'hello\r\n\r\n'],
  ['a greeting of SSH', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['a status that is no number', 'HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a status below all', 'HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a status above all', 'HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n'],
  ['a status that is far above all', 'HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n'],
  ['the version of another protocol', 'HTTP/2 200\r\nContent-Length: 0\r\n\r\n'],
  ['a folded field', `${OK}X: y\r\n z\r\nContent-Length: 0\r\n\r\n`],
  ['a blank before the colon', `${OK}X : y\r\nContent-Length: 0\r\n\r\n`],
  ['a field without a colon', `${OK}X\r\nContent-Length: 0\r\n\r\n`],
  ['a name with a blank', `${OK}X Y: z\r\nContent-Length: 0\r\n\r\n`],
  ['a NUL in a value', `${OK}X: a\0b\r\nContent-Length: 0\r\n\r\n`],
  ['a bare CR in a value', `${OK}X: a\rSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n`],
  ['an escape in a value', `${OK}X: a\x1b[2Jb\r\nContent-Length: 0\r\n\r\n`],
  ['a length and chunks', `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`],
  ['chunks and a length', `${OK}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n`],
  ['two lengths', `${OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!`],
  ['a list of lengths', `${OK}Content-Length: 5, 6\r\n\r\nhello!`],
  ['a length that is none', `${OK}Content-Length: five\r\n\r\nhello`],
  ['a negative length', `${OK}Content-Length: -5\r\n\r\nhello`],
  ['a length where there is no body by definition', 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello'],
  ['a 205 with a length', `${RESET}Content-Length: 5\r\n\r\nhello`],
  ['a head that is too large', `${OK}X: ${'x'.repeat(70_000)}\r\nContent-Length: 0\r\n\r\n`],
  [
    'a 101 that nobody asked for',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
  ],
];

/** Answers whose head is good and whose body is not. */
const MALFORMED_BODIES: readonly (readonly [name: string, bytes: string, then: 'keep' | 'end' | 'reset'])[] = [
  ['a chunk size that is none', `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n`, 'keep'],
  ['a chunk longer than its size', `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello, world\r\n0\r\n\r\n`, 'keep'],
  ['chunks without a last one', `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`, 'end'],
  ['less than its length', `${OK}Content-Length: 100\r\n\r\nhello`, 'end'],
  ['less than its length, and a reset', `${OK}Content-Length: 100\r\n\r\nhello`, 'reset'],
];

/** A 101 that is not a valid answer to the handshake. `{accept}` stands for the right one. */
const MALFORMED_UPGRADES: readonly (readonly [name: string, fields: string])[] = [
  ['no key', 'Upgrade: websocket\r\nConnection: Upgrade\r\n'],
  [
    'a wrong key',
    'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n',
  ],
  ['another protocol', 'Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n'],
  ['no Connection', 'Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n'],
  [
    'a subprotocol that nobody offered',
    'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n',
  ],
  [
    'an extension that nobody offered',
    'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: x-evil\r\n',
  ],
  ['a length', 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nContent-Length: 5\r\n'],
];

const PROBLEM = { type: 'about:blank', title: 'The service behind gave an invalid answer', status: 502 };

describe('answers of the upstream are distrusted', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start();
    guard = await startGuard({ upstream: upstream.url, listener: { timeouts: { upstream: '3s' } } });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** The next request gets an answer of its own, on a connection that nobody has used. */
  const notUsedAgain = async (): Promise<void> => {
    const used = upstream.connections.length;
    upstream.respond = respond.status(200, [], 'mine');
    const next = await request(guard.plain, { path: '/next', token: guard.token });
    assert.equal(next.text(), 'mine');
    const arrived = upstream.requests.at(-1);
    assert.equal(arrived?.target, '/next');
    assert.ok(arrived.connection.id >= used, 'the connection was used again');
  };

  const refusedAsMalformed = async (response: RawResponse): Promise<void> => {
    assert.equal(response.status, 502, response.text());
    const requestId = response.header('x-request-id') ?? '';
    assert.deepEqual(response.json(), { ...PROBLEM, instance: `urn:uuid:${requestId}` });
    const record = await guard.record(requestId);
    assert.equal(record['guardbee.reason'], 'upstream_malformed');
    assert.equal(record['level'], 'ERROR');
  };

  for (const [name, bytes] of MALFORMED_HEADS) {
    test(`${name}: 502, and the connection is not used again`, async () => {
      upstream.respond = respond.bytes(bytes);
      await refusedAsMalformed(await request(guard.plain, { token: guard.token }));
      await upstream.waitForClose();
      await notUsedAgain();
    });
  }

  test('over HTTP/2 as well', async () => {
    const session = await h2Connect(guard.secure);
    for (const [name, bytes] of MALFORMED_HEADS) {
      upstream.respond = respond.bytes(bytes);
      const answer = await h2Request(session, { ':path': '/', authorization: `Bearer ${guard.token}` });
      assert.equal(answer.status, 502, name);
      assert.equal((JSON.parse(answer.body.toString()) as typeof PROBLEM).title, PROBLEM.title);
    }
    session.close();
  });

  for (const [name, bytes, then] of MALFORMED_BODIES) {
    test(`${name}: the client sees a body that is cut`, async () => {
      upstream.respond = respond.bytes(bytes, then);
      const response = await request(guard.plain, { token: guard.token });
      assert.equal(response.status, 200);
      assert.equal(response.complete, false);
      assert.ok('hello, world'.startsWith(response.text()), response.text());
      const record = await guard.record(response.header('x-request-id') ?? '');
      assert.equal(record['guardbee.decision'], 'fail');
      assert.match(String(record['guardbee.reason']), /^upstream_(?:malformed|gone)$/);
      assert.equal(record['http.response.status_code'], 200);
      await upstream.waitForClose();
      await notUsedAgain();
    });

    test(`${name}: over HTTP/2 the stream is reset, and others on the connection are not`, async () => {
      const session = await h2Connect(guard.secure);
      const authorization = `Bearer ${guard.token}`;
      upstream.respond = respond.bytes(bytes, then);
      await assert.rejects(h2Request(session, { ':path': '/', authorization }), /INTERNAL_ERROR/);
      upstream.respond = respond.status(200, [], 'mine');
      const other = await h2Request(session, { ':path': '/', authorization });
      assert.equal(other.body.toString(), 'mine');
      session.close();
    });
  }

  for (const [name, fields] of MALFORMED_UPGRADES) {
    test(`a 101 with ${name}: 502, and no byte of the tunnel`, async () => {
      let tunnelled = 0;
      upstream.respond = (asked, connection) => {
        const right = websocketAccept(asked.header('sec-websocket-key') ?? '');
        connection.write(`HTTP/1.1 101 Switching Protocols\r\n${fields.replace('{accept}', right)}\r\nEARLY`);
        connection.tunnel((data) => {
          tunnelled += data.length;
        });
      };
      const handshake = await openWebSocket(guard.plain, { token: guard.token, early: Buffer.from('early bytes') });
      handshake.connection.close();
      await refusedAsMalformed(handshake.response);
      await upstream.waitForClose();
      assert.equal(tunnelled, 0);
      await notUsedAgain();
    });
  }

  test('a second answer to one request reaches nobody', async () => {
    upstream.respond = respond.bytes(`${OK}Content-Length: 3\r\n\r\none${OK}Content-Length: 8\r\n\r\npoisoned`);
    const first = await request(guard.plain, { token: guard.token });
    assert.equal(first.text(), 'one');
    await upstream.waitForClose();
    await notUsedAgain();
  });

  test('an answer to nobody, on a connection that rests, reaches nobody', async () => {
    upstream.respond = respond.status(200, [], 'one');
    await request(guard.plain, { token: guard.token });
    const { connection } = upstream.requests.at(-1)!;
    connection.write(`${OK}Content-Length: 8\r\n\r\npoisoned`);
    await upstream.waitForClose(connection);
    await notUsedAgain();
  });

  test('an answer that has no body by definition, followed by one', async () => {
    upstream.respond = respond.bytes('HTTP/1.1 204 No Content\r\n\r\nhello');
    const response = await request(guard.plain, { token: guard.token });
    assert.equal(response.status, 204);
    await upstream.waitForClose();
    await notUsedAgain();
  });

  for (const [what, rest] of [
    ['says so', 'Content-Length: 0\r\n\r\nhello'],
    ['says nothing', '\r\nhello'],
    ['says that it comes in chunks', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'],
    ['says so, and sends an empty one', 'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ] as const) {
    test(`nothing follows a 205, whatever follows: its head ${what}`, async () => {
      const session = await h2Connect(guard.secure);
      upstream.respond = respond.bytes(`${RESET}${rest}`);
      const response = await request(guard.plain, { token: guard.token });
      assert.deepEqual([response.status, response.header('content-length'), response.text()], [205, '0', '']);
      const answer = await h2Request(session, { ':path': '/', authorization: `Bearer ${guard.token}` });
      session.close();
      assert.deepEqual([answer.status, answer.body.length], [205, 0]);
      await upstream.waitForClose();
      await notUsedAgain();
    });
  }

  test('an answer to HEAD with a body', async () => {
    upstream.respond = respond.bytes(`${OK}Content-Length: 5\r\n\r\nhello`);
    const response = await request(guard.plain, { method: 'HEAD', token: guard.token });
    assert.equal(response.status, 200);
    assert.equal(response.header('content-length'), '5');
    await upstream.waitForClose();
    await notUsedAgain();
  });

  test('interim answers are between the upstream and guardbee', async () => {
    const interim = 'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n';
    upstream.respond = respond.bytes(`${interim}${OK}Content-Length: 2\r\n\r\nhi`);
    const response = await request(guard.plain, { token: guard.token });
    assert.equal(response.status, 200);
    assert.equal(response.text(), 'hi');
    assert.deepEqual(response.informational, []);
  });

  test('trailers of an answer stay here', async () => {
    upstream.respond = respond.bytes(
      Buffer.concat([
        Buffer.from(`${OK}Transfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n`),
        chunk('hello'),
        LAST_CHUNK.subarray(0, 3),
        Buffer.from('X-Checksum: 1\r\n\r\n'),
      ]),
    );
    const response = await request(guard.plain, { token: guard.token });
    assert.equal(response.text(), 'hello');
    assert.deepEqual(response.trailers, []);
    assert.equal(response.header('trailer'), null);
  });

  test('a body without any framing ends with the connection, and is whole', async () => {
    upstream.respond = respond.halfClose();
    const response = await request(guard.plain, { token: guard.token });
    assert.equal(response.text(), 'until the end');
    assert.equal(response.complete, true);
    assert.equal(response.header('transfer-encoding'), 'chunked');
  });

  test('an upstream of HTTP/1.0', async () => {
    upstream.respond = respond.bytes('HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold', 'end');
    const response = await request(guard.plain, { token: guard.token });
    assert.equal(response.version, '1.1');
    assert.equal(response.text(), 'old');
  });
});
