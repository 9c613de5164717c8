import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';

/** curl closes the connection on seeing the last byte, which is before Node has noticed that it was sent. */
test('a client that leaves on seeing the last byte is logged as served', async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({ upstream: upstream.url });
  const ids: string[] = [];
  const http2 = async (): Promise<void> => {
    const session = await h2Connect(guard.secure);
    const answer = await h2Request(session, { ':path': '/x', authorization: `Bearer ${guard.token}` });
    session.destroy();
    ids.push(String(answer.headers['x-request-id']));
  };
  const http1 = async (): Promise<void> => {
    for (const target of [guard.plain, guard.secure]) {
      const response = await request(target, { path: '/x', token: guard.token });
      ids.push(response.header('x-request-id') ?? '');
    }
  };
  for (let round = 0; round < 25; round += 1) await Promise.all([http2(), http2(), http2(), http2(), http1()]);
  for (const id of ids) assert.equal((await guard.record(id))['guardbee.decision'], 'allow');
});
