import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import type { FieldList } from '../support/message-reader.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';

describe('answers are fitted to the client', () => {
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

  /** The same fields of an answer as three clients see them. */
  const seenBy = async (
    fields: FieldList,
    name: string,
    host = 'bee.test',
  ): Promise<{ plain: string[]; secure: string[]; http2: string[] }> => {
    upstream.respond = respond.status(200, fields, 'x');
    const plain = await request(guard.plain, { token: guard.token, host });
    const secure = await request(guard.secure, { token: guard.token, host });
    const session = await h2Connect(guard.secure);
    const http2 = await h2Request(session, {
      ':path': '/',
      ':authority': host,
      authorization: `Bearer ${guard.token}`,
    });
    session.close();
    const value = http2.headers[name];
    return {
      plain: plain.headerAll(name),
      secure: secure.headerAll(name),
      http2: value === undefined ? [] : [value].flat(),
    };
  };

  const LOCATIONS: readonly (readonly [name: string, location: string, plain: string, secure: string])[] = [
    ['its own origin', 'http://{upstream}/next?a=b#c', 'http://bee.test/next?a=b#c', 'https://bee.test/next?a=b#c'],
    ['its own origin alone', 'http://{upstream}', 'http://bee.test', 'https://bee.test'],
    [
      'the host it was told, with its own scheme',
      'http://bee.test/next',
      'http://bee.test/next',
      'https://bee.test/next',
    ],
    ['a path', '/next', '/next', '/next'],
    ['a relative path', '../next', '../next', '../next'],
    ['another host', 'http://other.test/next', 'http://other.test/next', 'http://other.test/next'],
    ['another port of its own', 'http://127.0.0.1:1/next', 'http://127.0.0.1:1/next', 'http://127.0.0.1:1/next'],
    ['another scheme', 'ftp://{upstream}/next', 'ftp://{upstream}/next', 'ftp://{upstream}/next'],
    [
      'its own origin as a user of another',
      'http://{upstream}@other.test/',
      'http://{upstream}@other.test/',
      'http://{upstream}@other.test/',
    ],
  ];
  for (const [name, location, plain, secure] of LOCATIONS) {
    for (const field of ['location', 'content-location']) {
      test(`${field} of ${name}`, async () => {
        const fill = (text: string): string => text.replace('{upstream}', upstream.authority);
        const seen = await seenBy([[field, fill(location)]], field);
        assert.deepEqual(seen, { plain: [fill(plain)], secure: [fill(secure)], http2: [fill(secure)] });
      });
    }
  }

  test('cookies are marked Secure where TLS ends here, each for itself, and no other word of them is touched', async () => {
    const cookies = ['a=1; Path=/; HttpOnly', 'b=2; Secure; SameSite=None', 'c=3; path=/secure'];
    const seen = await seenBy(
      cookies.map((cookie) => ['Set-Cookie', cookie] as const),
      'set-cookie',
    );
    const marked = ['a=1; Path=/; HttpOnly; Secure', 'b=2; Secure; SameSite=None', 'c=3; path=/secure; Secure'];
    assert.deepEqual(seen, { plain: cookies, secure: marked, http2: marked });
  });

  const DROPPED: readonly (readonly [name: string, value: string])[] = [
    ['Server', 'queen/1.0'],
    ['Alt-Svc', 'h3=":443"'],
    ['Keep-Alive', 'timeout=99'],
    ['Proxy-Authenticate', 'Basic'],
    ['Proxy-Connection', 'keep-alive'],
    ['TE', 'trailers'],
    ['Upgrade', 'h2c'],
    ['HTTP2-Settings', 'AAMAAABk'],
    ['X-Hop', 'named by Connection'],
  ];
  for (const [name, value] of DROPPED) {
    test(`${name} stays here`, async () => {
      const field = name.toLowerCase();
      const seen = await seenBy(
        [
          [name, value],
          ['Connection', 'X-Hop'],
        ],
        field,
      );
      const ours = field === 'keep-alive' ? ['timeout=60'] : [];
      assert.deepEqual(seen, { plain: ours, secure: ours, http2: [] });
    });
  }

  test('X-Request-Id is the one of the log, not that of the upstream', async () => {
    upstream.respond = respond.status(200, [['X-Request-Id', 'theirs']], 'x');
    const response = await request(guard.plain, { token: guard.token });
    const [id, ...more] = response.headerAll('x-request-id');
    assert.deepEqual(more, []);
    assert.equal((await guard.record(id ?? ''))['guardbee.decision'], 'allow');
    assert.equal(upstream.requests.at(-1)?.header('x-request-id'), id);
  });

  test('a field that stands twice stays twice', async () => {
    const seen = await seenBy(
      [
        ['Link', '<a>'],
        ['Link', '<b>'],
        ['X-Twice', '1'],
        ['X-Twice', '2'],
      ],
      'link',
    );
    assert.deepEqual(seen, { plain: ['<a>', '<b>'], secure: ['<a>', '<b>'], http2: ['<a>, <b>'] });
  });

  test('a field that may stand once only, stands once over HTTP/2', async () => {
    const seen = await seenBy(
      [
        ['ETag', '"1"'],
        ['ETag', '"2"'],
      ],
      'etag',
    );
    assert.deepEqual(seen.http2, ['"1"']);
  });

  test('the date is that of the upstream where it has one, and ours where it has none', async () => {
    const date = 'Mon, 01 Jan 2024 00:00:00 GMT';
    assert.deepEqual(await seenBy([['Date', date]], 'date'), { plain: [date], secure: [date], http2: [date] });
    const { plain, http2 } = await seenBy([], 'date');
    assert.deepEqual([plain.length, http2.length], [1, 1]);
  });

  test('bytes above ASCII in a value come through as they are', async () => {
    upstream.respond = respond.bytes('HTTP/1.1 200 OK\r\nX-Latin: caf\u00e9\r\nContent-Length: 0\r\n\r\n');
    const response = await request(guard.plain, { token: guard.token });
    assert.equal(response.header('x-latin'), 'caf\u00e9');
  });

  const BODILESS: readonly (readonly [name: string, method: string, answer: string, length: string | null])[] = [
    ['HEAD', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n', '1234'],
    ['HEAD of chunks', 'HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', null],
    ['204', 'GET', 'HTTP/1.1 204 No Content\r\n\r\n', null],
    ['204 with a length of nothing', 'DELETE', 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n', null],
    ['304', 'GET', 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', null],
    [
      '304 with the length of what was not sent',
      'GET',
      'HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n',
      '1234',
    ],
  ];
  for (const [name, method, answer, length] of BODILESS) {
    test(`${name} has no body, and the next answer on the connection is the next`, async () => {
      upstream.respond = respond.byPath({ '/bare': respond.bytes(answer) }, respond.echo());
      using client = await RawConnection.connect(guard.plain);
      const ask = { token: guard.token };
      client.write(requestBytes(guard.plain, { ...ask, method, path: '/bare' }));
      client.write(requestBytes(guard.plain, { ...ask, path: '/next' }));
      const bare = await client.readResponse(method);
      assert.equal(bare.status, Number(answer.slice(9, 12)));
      assert.equal(bare.header('content-length'), length);
      assert.equal(bare.header('transfer-encoding'), null);
      assert.equal(((await client.readResponse()).json() as { target: string }).target, '/next');
    });

    test(`${name} over HTTP/2`, async () => {
      upstream.respond = respond.bytes(answer);
      const session = await h2Connect(guard.secure);
      const got = await h2Request(session, {
        ':method': method,
        ':path': '/bare',
        authorization: `Bearer ${guard.token}`,
      });
      session.close();
      assert.equal(got.status, Number(answer.slice(9, 12)));
      assert.equal(got.body.length, 0);
    });
  }
});
