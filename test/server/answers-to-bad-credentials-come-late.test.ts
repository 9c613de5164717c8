import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { RawConnection, request, requestBytes, type RawResponse, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil, within } from '../support/wait.js';

const BAD = 'a-token-that-nobody-has';

async function timed<T>(promise: Promise<T>): Promise<{ readonly value: T; readonly ms: number }> {
  const started = performance.now();
  const value = await promise;
  return { value, ms: performance.now() - started };
}

/** Another client of the same machine. */
const from = (target: Target, localAddress: string): Target => ({ ...target, localAddress });
const badly = (target: Target): Promise<RawResponse> => request(target, { path: '/read', token: BAD });

/** Delays are only held against their least: a busy machine may make anything longer. */
describe('answers to bad credentials come late', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({ respond: respond.echo() });
    guard = await startGuard({
      upstream: upstream.url,
      listeners: {
        slow: { throttle: { after: 2, delay: '300ms', most: '300ms' } },
        slower: {
          throttle: { after: 1, delay: '30s', most: '30s' },
          tls: true,
          sessions: { login_with: ['keys'] },
        },
      },
      top: { admin: { bind: '127.0.0.1:0' } },
    });
  });

  /** The metric. */
  const delayed = async (listener: string): Promise<number> => {
    const up = guard.process.logLines.find((line) => line['msg'] === 'admin pages are up');
    const text = await (await fetch(new URL('/metrics', String(up?.['url.full'])))).text();
    const pattern = new RegExp(`^guardbee_auth_failures_delayed_total\\{listener="${listener}"\\} (\\d+)$`, 'm');
    return Number(pattern.exec(text)?.[1]);
  };

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  test('after some that cost nothing; a good one never waits, nor one that is missing', async () => {
    const target = from(guard.target('slow'), '127.0.0.11');
    for (let i = 0; i < 2; i++) assert.equal((await badly(target)).status, 401);
    const late = await timed(badly(target));
    assert.equal(late.value.status, 401);
    assert.equal(late.value.header('www-authenticate'), 'Bearer realm="guardbee", error="invalid_token"');
    assert.ok(late.ms >= 290, `${late.ms} ms`);
    const record = await guard.record(late.value.header('x-request-id') ?? '');
    assert.equal(record['guardbee.reason'], 'credential_invalid');

    // While many are held from the same address.
    const held = Array.from({ length: 10 }, () => badly(target));
    const good = await timed(request(target, { path: '/read', token: guard.token }));
    assert.equal(good.value.status, 200);
    const missing = await timed(request(target, { path: '/read' }));
    assert.equal(missing.value.status, 401);
    assert.ok(Math.min(good.ms, missing.ms) < 290, `${good.ms} ms, ${missing.ms} ms`);
    for (const one of await Promise.all(held)) assert.equal(one.status, 401);
  });

  test('other addresses and other listeners are not slowed with one', async () => {
    for (let i = 0; i < 3; i++) await badly(from(guard.target('slow'), '127.0.0.12'));
    // What would wait waits half a minute; these would then be late by far.
    const answers = await within(
      Promise.all([badly(from(guard.target('slow'), '127.0.0.13')), badly(from(guard.target('slower'), '127.0.0.12'))]),
      'two answers that do not wait',
    );
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [401, 401],
    );
  });

  test('a client that leaves meanwhile has failed all the same, and leaves nothing behind', async () => {
    const target = from(guard.target('slower'), '127.0.0.14');
    await badly(target);
    const connection = await RawConnection.connect(target);
    connection.write(requestBytes(target, { path: '/left', token: BAD }));
    connection.close();
    const record = await guard.recordWhere((line) => line['url.path'] === '/left');
    assert.equal(record['guardbee.reason'], 'credential_invalid');
    assert.equal(record['http.response.status_code'], 401);
  });

  test('over HTTP/2 the other streams of a connection go on', async () => {
    const target = from(guard.target('slower'), '127.0.0.15');
    const session = await h2Connect(target);
    try {
      const ask = (token: string) => h2Request(session, { ':path': '/read', authorization: `Bearer ${token}` });
      assert.equal((await ask(BAD)).status, 401);
      let held = true;
      const late = ask(BAD).then(
        () => (held = false),
        () => undefined,
      );
      assert.equal((await ask(guard.token)).status, 200);
      assert.equal(held, true);
      session.destroy();
      await late;
    } finally {
      session.destroy();
    }
  });

  test('more than some at once from one address are answered, and lose their connection', async () => {
    const target = from(guard.target('slower'), '127.0.0.16');
    await badly(target);
    const connections = await Promise.all(Array.from({ length: 33 }, () => RawConnection.connect(target)));
    try {
      const bytes = requestBytes(target, { path: '/many', token: BAD });
      for (const connection of connections) connection.write(bytes);
      const first = await within(
        Promise.race(connections.map((connection) => connection.readResponse('GET', 20_000))),
        'an answer to one too many',
      );
      assert.equal(first.status, 401);
      assert.equal(first.header('connection'), 'close');
      assert.equal(connections.filter((connection) => connection.bytesSeen > 0).length, 1);
    } finally {
      for (const connection of connections) connection.close();
    }
  });

  test('the login page is no way around it', async () => {
    const target = from(guard.target('slower'), '127.0.0.18');
    const login = (token: string) => ({ method: 'POST', path: '/.guardbee/login', token });
    assert.equal((await request(target, login(BAD))).status, 401);
    const before = await delayed('slower');
    using connection = await RawConnection.connect(target);
    connection.write(requestBytes(target, login(BAD)));
    await waitUntil(async () => (await delayed('slower')) > before, 'the answer to be held');
    assert.equal(connection.bytesSeen, 0);
    assert.equal((await request(target, login(guard.token))).status, 204);
  });

  test('they are counted, by listener', async () => {
    assert.ok((await delayed('slow')) >= 11);
    assert.ok((await delayed('slower')) >= 34);
    assert.equal(await delayed('main'), 0);
  });

  test('a drain waits for none of them', async () => {
    const target = from(guard.target('slower'), '127.0.0.17');
    await badly(target);
    const before = await delayed('slower');
    const connection = await RawConnection.connect(target);
    connection.write(requestBytes(target, { path: '/drained', token: BAD }));
    await waitUntil(async () => (await delayed('slower')) > before, 'the answer to be held');
    guard.process.signal('SIGTERM');
    const answer = await connection.readResponse();
    assert.equal(answer.status, 401);
    connection.close();
    await guard.process.expectExit(0);
  });
});
