/**
 * How long a body is, the upstream reads where we have read it: no value of another field is taken for its length, and
 * nothing that a client sends becomes a request that nobody judged.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { exchangeBytes, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';

const HIDDEN = 'DELETE /hidden HTTP/1.1\r\nHost: queen\r\n\r\n';

describe('requests are framed as they were judged', () => {
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

  const arrived = async (path: string): Promise<void> => {
    const request = await upstream.waitForRequest(({ target }) => target === path);
    assert.equal((await request.body).bytes.toString('latin1'), HIDDEN);
    assert.deepEqual(
      upstream.requests.filter(({ target }) => target === '/hidden'),
      [],
      'the body became a request',
    );
  };

  for (const name of ['x-note', 'content-type', 'accept']) {
    test(`${name}: content-length, and chunks`, async () => {
      const path = `/chunks/${name}`;
      const chunks = `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`;
      const answer = await exchangeBytes(
        guard.plain,
        `POST ${path} HTTP/1.1\r\nHost: queen\r\nAuthorization: Bearer ${guard.token}\r\n${name}: content-length\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`,
      );
      assert.equal(answer.status, 200);
      await arrived(path);
    });

    test(`${name}: content-length, and a length`, async () => {
      const path = `/length/${name}`;
      const answer = await exchangeBytes(
        guard.plain,
        requestBytes(guard.plain, {
          method: 'POST',
          path,
          token: guard.token,
          headers: [[name, 'content-length']],
          body: HIDDEN,
        }),
      );
      assert.equal(answer.status, 200);
      await arrived(path);
    });
  }

  test('over HTTP/2, where a body needs no length', async () => {
    const session = await h2Connect(guard.secure);
    try {
      const path = '/h2';
      const answer = await h2Request(
        session,
        {
          ':method': 'POST',
          ':path': path,
          authorization: `Bearer ${guard.token}`,
          'x-note': 'content-length',
        },
        HIDDEN,
      );
      assert.equal(answer.status, 200);
      await arrived(path);
    } finally {
      session.destroy();
    }
  });
});
