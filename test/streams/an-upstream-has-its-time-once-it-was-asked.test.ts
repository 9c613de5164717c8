/** `timeouts.upstream` is for the upstream: it runs while the upstream is waited for, and not while the client is. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startGuard, type Guard } from '../support/guard.js';
import { RawConnection, requestBytes, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';

const SHORT_MS = 400;
/** Limits from 5 s on are kept by a sweep, the others by a timer. */
const LONG_MS = 5_000;

describe('an upstream has its time once it was asked', { concurrency: true }, () => {
  let upstream: RecordingUpstream;
  let stalled: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.byPath({ '/short/hang': respond.hang(), '/long/hang': respond.hang() }, respond.echo()),
    });
    stalled = await RecordingUpstream.start({ paused: true });
    guard = await startGuard({
      upstream: upstream.url,
      routes: [
        { name: 'short', path: '/short/**', require: 'write', timeouts: { upstream: `${String(SHORT_MS)}ms` } },
        { name: 'long', path: '/long/**', require: 'write', timeouts: { upstream: `${String(LONG_MS)}ms` } },
        {
          name: 'stalled',
          path: '/stalled/**',
          require: 'write',
          upstream: stalled.url,
          timeouts: { upstream: `${String(SHORT_MS)}ms` },
        },
      ],
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
    await stalled.close();
  });

  const CHUNKED = [['Transfer-Encoding', 'chunked']] as const;

  for (const [route, everyMs, pieces] of [
    ['short', SHORT_MS / 2, 6],
    ['short', SHORT_MS * 2, 2],
    ['long', 1_500, 5],
  ] as const) {
    test(`${route}: a client that takes its time, a piece each ${String(everyMs)} ms, is answered`, async () => {
      using client = await RawConnection.connect(guard.plain);
      const path = `/${route}/slow-${String(everyMs)}`;
      client.write(requestBytes(guard.plain, { method: 'POST', path, token: guard.token, headers: CHUNKED }));
      for (let piece = 0; piece < pieces; piece += 1) {
        await delay(everyMs);
        client.write('5\r\nhello\r\n');
      }
      client.write('0\r\n\r\n');
      const answer = await client.readResponse('POST');
      assert.equal(answer.status, 200);
      assert.deepEqual((answer.json() as { readonly bodyLength: number }).bodyLength, 5 * pieces);
    });
  }

  for (const [route, ms] of [
    ['short', SHORT_MS],
    ['long', LONG_MS],
  ] as const) {
    for (const body of [undefined, 'hello']) {
      test(`${route}: silence after ${body === undefined ? 'a head' : 'a body'}`, async () => {
        const from = performance.now();
        const answer = await request(guard.plain, {
          method: body === undefined ? 'GET' : 'POST',
          path: `/${route}/hang`,
          token: guard.token,
          ...(body === undefined ? {} : { body }),
        });
        const took = performance.now() - from;
        assert.equal(answer.status, 504);
        assert.ok(took >= ms - 5 && took < ms + 1_500, `${String(took)} ms`);
      });
    }
  }

  test('an upstream that takes no more of a body has its time, too', async () => {
    using client = await RawConnection.connect(guard.plain);
    client.write(
      requestBytes(guard.plain, { method: 'POST', path: '/stalled/x', token: guard.token, headers: CHUNKED }),
    );
    const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(0x100000), Buffer.from('\r\n')]);
    for (let sent = 0; sent < 32; sent += 1) client.write(piece);
    const answer = await client.readResponse('POST');
    assert.equal(answer.status, 504);
  });
});
