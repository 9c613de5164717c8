import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { request, type RawResponse } from '../support/raw-client.js';
import { RecordingUpstream, respond, type Respond } from '../support/recording-upstream.js';

/** In rbee a GET runs the job: a second one would run it twice. */
describe('nothing is sent twice', () => {
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

  const ask = (method: string, path: string): Promise<RawResponse> =>
    request(guard.plain, {
      method,
      path,
      token: guard.token,
      ...(method === 'POST' ? { body: 'run the job' } : {}),
    });

  const seen = (path: string): number => upstream.requests.filter(({ target }) => target === path).length;

  const ENDINGS: readonly (readonly [name: string, respond: Respond])[] = [
    ['closes', respond.endWithoutAnswer()],
    ['resets', respond.reset()],
    ['begins an answer and closes', respond.bytes('HTTP/1.1 200 OK\r\nContent-Le', 'end')],
    ['answers 503', respond.status(503, [['Retry-After', '0']])],
    [
      'answers 408 and closes',
      respond.bytes('HTTP/1.1 408 Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n', 'end'),
    ],
    ['answers 307 to itself', respond.status(307, [['Location', '/elsewhere']])],
  ];
  for (const method of ['GET', 'HEAD', 'PUT', 'POST', 'DELETE']) {
    for (const [index, [name, ending]] of ENDINGS.entries()) {
      test(`${method} to an upstream that ${name}`, async () => {
        const path = `/fresh/${method}/${String(index)}`;
        upstream.respond = ending;
        const response = await ask(method, path);
        assert.ok(response.status >= 300, String(response.status));
        // Somebody else's request has been there and back: a second one of ours would have been seen.
        upstream.respond = respond.status(200);
        await ask('GET', '/between');
        assert.equal(seen(path), 1);
        assert.equal(seen('/elsewhere'), 0);
      });

      test(`${method} on a connection that rested, to an upstream that ${name}`, async () => {
        upstream.respond = respond.status(200);
        await ask('GET', '/between');
        const connection = upstream.requests.at(-1)?.connection;
        const path = `/rested/${method}/${String(index)}`;
        upstream.respond = ending;
        const response = await ask(method, path);
        assert.ok(response.status >= 300, String(response.status));
        const [arrived, ...more] = upstream.requests.filter(({ target }) => target === path);
        assert.equal(arrived?.connection, connection, 'the connection was not used again');
        upstream.respond = respond.status(200);
        await ask('GET', '/between');
        assert.equal(more.length, 0);
        assert.equal(seen(path), 1);
      });
    }
  }

  test('a connection rests for less than the 5 s after which uvicorn closes it', async (t) => {
    upstream.respond = respond.status(200);
    await ask('GET', '/rest');
    const arrived = upstream.requests.at(-1);
    assert.equal(arrived?.target, '/rest');
    const dropped = await upstream.waitForClose(arrived.connection, 6_000);
    const rested = dropped - arrived.atMs;
    t.diagnostic(`rested for ${rested.toFixed(0)} ms`);
    assert.ok(rested > 500 && rested < 4_500, `${rested.toFixed(0)} ms`);
  });

  test('an upstream that says how long it keeps connections is believed where that is shorter', async (t) => {
    upstream.respond = respond.status(200, [['Keep-Alive', 'timeout=2']]);
    await ask('GET', '/brief');
    const arrived = upstream.requests.at(-1);
    assert.equal(arrived?.target, '/brief');
    const rested = (await upstream.waitForClose(arrived.connection, 6_000)) - arrived.atMs;
    t.diagnostic(`rested for ${rested.toFixed(0)} ms`);
    assert.ok(rested < 1_900, `${rested.toFixed(0)} ms`);
  });
});
