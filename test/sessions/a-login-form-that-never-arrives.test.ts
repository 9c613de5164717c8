import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Stream, constants } from 'node:http2';
import { test } from 'node:test';
import { assertUntouched, startGuard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { RawConnection } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { within } from '../support/wait.js';

test('a login form that never arrives whole is given up, however its bytes drip', async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    listeners: { web: { tls: true, timeouts: { body: '500ms' }, sessions: { login_with: ['keys'] } } },
  });
  const web = guard.target('web');
  assert.ok(web.tls !== undefined);
  const origin = `https://localhost:${String(web.port)}`;
  const head = (framing: string): string =>
    [
      'POST /.guardbee/login HTTP/1.1',
      `Host: localhost:${String(web.port)}`,
      `Origin: ${origin}`,
      'Content-Type: application/x-www-form-urlencoded',
      framing,
      '',
      '',
    ].join('\r\n');

  /** Sends the head and the beginning, then a byte now and then; the status of the answer. */
  const dripping = async (framing: string, begin: string, drip: string | null): Promise<number> => {
    using client = await RawConnection.connect({ ...web, tls: { ...web.tls!, alpn: ['http/1.1'] } });
    client.write(head(framing) + begin);
    const timer = drip === null ? undefined : setInterval(() => client.write(drip), 50);
    try {
      const answer = await client.readResponse('POST');
      assert.equal(answer.header('set-cookie'), null);
      return answer.status;
    } finally {
      clearInterval(timer);
    }
  };
  assert.deepEqual(
    await Promise.all([
      dripping('Content-Length: 200', 'token=', null),
      dripping('Content-Length: 200', '', null),
      dripping('Content-Length: 200', `token=${guard.token}`, 'a'),
      dripping('Transfer-Encoding: chunked', '6\r\ntoken=\r\n', '1\r\na\r\n'),
    ]),
    [408, 408, 408, 408],
  );

  const session = await h2Connect(web);
  try {
    const stream: ClientHttp2Stream = session.request(
      {
        ':method': 'POST',
        ':path': '/.guardbee/login',
        origin,
        'content-type': 'application/x-www-form-urlencoded',
      },
      { endStream: false },
    );
    stream.on('error', () => undefined);
    stream.write('token=');
    const [headers] = (await within(once(stream, 'response'), 'an answer over HTTP/2')) as [Record<string, unknown>];
    assert.equal(headers[constants.HTTP2_HEADER_STATUS], 408);
  } finally {
    session.destroy();
  }
  const late = guard.records.filter((line) => line['guardbee.reason'] === 'body_timeout');
  assert.ok(late.length >= 4);
  for (const line of late) assert.equal(line['url.path'], '/.guardbee/login');
  assertUntouched(upstream);
});
