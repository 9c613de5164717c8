import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { openWebSocket, request, type RawResponse } from '../support/raw-client.js';
import { RecordingUpstream, respond, type Respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

interface Failure {
  readonly name: string;
  readonly respond: Respond;
  readonly status: number;
  readonly title: string;
  readonly reason: string;
}

const GONE = { status: 502, title: 'The service behind closed the connection', reason: 'upstream_gone' };

const FAILURES: readonly Failure[] = [
  { name: 'closes without an answer', respond: respond.endWithoutAnswer(), ...GONE },
  { name: 'resets', respond: respond.reset(), ...GONE },
  { name: 'closes in the middle of its head', respond: respond.bytes('HTTP/1.1 200 OK\r\nContent-', 'end'), ...GONE },
  {
    name: 'is silent for too long',
    respond: respond.hang(),
    status: 504,
    title: 'The service behind did not answer in time',
    reason: 'upstream_timeout',
  },
];

const BROKEN: readonly (readonly [name: string, respond: Respond])[] = [
  ['less than promised', respond.crashMidBody({ how: 'end' })],
  ['less than promised, then a reset', respond.crashMidBody({ how: 'reset' })],
  [
    'chunks without an end',
    respond.bytes('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', 'end'),
  ],
  [
    'events without an end, then a reset',
    respond.bytes(
      'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
      'reset',
    ),
  ],
];

const REFUSED = { status: 502, title: 'The service behind is not reachable', reason: 'upstream_refused' };

describe('an upstream that fails', { concurrency: 4 }, () => {
  let directory: TemporaryDirectory;
  let upstreams: ReadonlyMap<string, RecordingUpstream>;
  let guard: Guard;

  before(async () => {
    directory = new TemporaryDirectory();
    const made = new Map<string, RecordingUpstream>();
    for (const failure of FAILURES) made.set(failure.name, await RecordingUpstream.start({ respond: failure.respond }));
    const sound = await RecordingUpstream.start({
      respond: respond.byPath({
        '/cut/socket': respond.webSocket(),
        ...Object.fromEntries(BROKEN.map(([, broken], index) => [`/cut/${String(index)}`, broken])),
      }),
    });
    made.set('sound', sound);
    made.set(
      'on a socket',
      await RecordingUpstream.start({
        listen: { path: directory.file('up.sock') },
        respond: respond.byPath({ '/socket/ws': respond.webSocket() }, respond.echo()),
      }),
    );
    const gone = await RecordingUpstream.start();
    const nobody = gone.url;
    await gone.close();
    upstreams = made;
    const to = (url: string): { upstream: string; timeouts: { upstream: string } } => ({
      upstream: url,
      timeouts: { upstream: '300ms' },
    });
    guard = await startGuard({
      upstream: sound.url,
      routes: [
        ...FAILURES.map(({ name }, index) => ({
          name: `fails-${String(index)}`,
          path: `/fails/${String(index)}`,
          require: 'write',
          ...to(made.get(name)?.url ?? ''),
        })),
        { name: 'nobody', path: '/nobody', require: 'write', ...to(nobody) },
        { name: 'no-socket', path: '/no-socket', require: 'write', ...to(`unix:${directory.file('none.sock')}`) },
        { name: 'socket', path: '/socket/**', require: 'write', ...to(`unix:${directory.file('up.sock')}`) },
        { name: 'cut', path: '/cut/**', require: 'write' },
      ],
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    for (const upstream of upstreams.values()) await upstream.close();
    directory.remove();
  });

  const holds = async (response: RawResponse, expected: Omit<Failure, 'name' | 'respond'>): Promise<void> => {
    assert.equal(response.status, expected.status);
    const requestId = response.header('x-request-id') ?? '';
    assert.deepEqual(response.json(), {
      type: 'about:blank',
      title: expected.title,
      status: expected.status,
      instance: `urn:uuid:${requestId}`,
    });
    assert.equal(response.header('www-authenticate'), null);
    const record = await guard.record(requestId);
    assert.equal(record['guardbee.decision'], 'fail');
    assert.equal(record['guardbee.reason'], expected.reason);
    assert.equal(record['http.response.status_code'], expected.status);
  };

  const ROWS: readonly (Omit<Failure, 'respond'> & { readonly path: string })[] = [
    ...FAILURES.map(({ name, status, title, reason }, index) => ({
      name,
      status,
      title,
      reason,
      path: `/fails/${String(index)}`,
    })),
    { name: 'is not there', path: '/nobody', ...REFUSED },
    { name: 'has no socket', path: '/no-socket', ...REFUSED },
  ];
  for (const row of ROWS) {
    test(`${row.name}: ${String(row.status)}`, async () => {
      await holds(await request(guard.plain, { path: row.path, token: guard.token }), row);
    });

    test(`${row.name}, while a body is on its way: ${String(row.status)}`, async () => {
      const body = Buffer.alloc(256 * 1024, 'x');
      await holds(await request(guard.secure, { method: 'POST', path: row.path, token: guard.token, body }), row);
    });

    test(`${row.name}: ${String(row.status)} over HTTP/2`, async () => {
      const session = await h2Connect(guard.secure);
      const answer = await h2Request(session, { ':path': row.path, authorization: `Bearer ${guard.token}` });
      session.close();
      assert.equal(answer.status, row.status);
      assert.equal((JSON.parse(answer.body.toString()) as { title: string }).title, row.title);
    });

    test(`${row.name}: ${String(row.status)} to a WebSocket`, async () => {
      const opened = await openWebSocket(guard.plain, { path: row.path, token: guard.token });
      assert.equal(opened.socket, null);
      await holds(opened.response, row);
      await opened.connection.waitForEnd();
      opened.connection.close();
    });
  }

  describe('in the middle of its answer', () => {
    const sound = (): RecordingUpstream => upstreams.get('sound')!;
    for (const [index, [name]] of BROKEN.entries()) {
      test(`${name}: the client sees a body that is broken`, async () => {
        const path = `/cut/${String(index)}`;
        const response = await request(guard.plain, { path, token: guard.token });
        assert.equal(response.status, 200);
        assert.equal(response.complete, false);
        const session = await h2Connect(guard.secure);
        await assert.rejects(
          h2Request(session, { ':path': path, authorization: `Bearer ${guard.token}` }),
          /INTERNAL_ERROR/,
        );
        session.close();
        const record = await guard.record(response.header('x-request-id') ?? '');
        assert.equal(record['guardbee.reason'], 'upstream_gone');
        assert.equal(record['http.response.status_code'], 200);
      });
    }

    test('a WebSocket is cut with it', async () => {
      const opened = await openWebSocket(guard.plain, { path: '/cut/socket', token: guard.token });
      opened.socket?.send('hello');
      assert.equal(await opened.socket?.nextText(), 'hello');
      sound()
        .requests.find(({ target }) => target === '/cut/socket')
        ?.connection.resetNow();
      await opened.connection.waitForEnd();
      opened.connection.close();
    });
  });

  describe('and one on a unix socket, that does not', () => {
    const socket = (): RecordingUpstream => upstreams.get('on a socket')!;

    test('answers', async () => {
      const response = await request(guard.secure, {
        method: 'POST',
        path: '/socket/echo',
        token: guard.token,
        body: 'hello',
        host: 'bee.test',
      });
      assert.equal(response.status, 200);
      const arrived = socket().requests.find(({ target }) => target === '/socket/echo');
      assert.equal(arrived?.header('host'), 'bee.test');
      assert.equal((await arrived.body).bytes.toString(), 'hello');
    });

    test('carries WebSockets', async () => {
      const opened = await openWebSocket(guard.plain, { path: '/socket/ws', token: guard.token });
      opened.socket?.send('hello');
      assert.equal(await opened.socket?.nextText(), 'hello');
      opened.connection.close();
      await socket().waitForClose(socket().requests.find(({ target }) => target === '/socket/ws')?.connection);
    });
  });
});
