/**
 * http-proxy 1.18.1 gives a DELETE (or OPTIONS) without Content-Length one of 0 and takes its Transfer-Encoding away,
 * but still sends the body. The service behind reads the head as a whole request and the body as the next one: whoever
 * may send a DELETE may send anything, past every check that was made on the way in.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { exchangeBytes } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { Hive } from './hive.js';
import { HttpProxy } from './http-proxy.js';

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: queen.lan\r\nX-Auth-User: root\r\n\r\n';

const attack = (method: string, pass: string): string =>
  `${method} /jobs/1 HTTP/1.1\r\nHost: queen.lan\r\n${pass}Transfer-Encoding: chunked\r\n\r\n` +
  `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`;

describe('a chunked DELETE', () => {
  for (const method of ['DELETE', 'OPTIONS']) {
    test(`http-proxy forwards a chunked ${method} as two requests`, async () => {
      await using upstream = await RecordingUpstream.start();
      await using proxy = await HttpProxy.start(upstream.url);
      await exchangeBytes(proxy, attack(method, ''));
      const requests = await upstream.waitForRequests(2);
      assert.deepEqual(
        requests.map((request) => `${request.method} ${request.target}`),
        [`${method} /jobs/1`, 'GET /smuggled'],
      );
      assert.equal(requests[1]?.header('x-auth-user'), 'root');
    });
  }

  test('guardbee forwards each as one request with its body', async () => {
    await using hive = await Hive.open();
    for (const method of ['DELETE', 'OPTIONS', 'GET', 'POST', 'PATCH', 'PROPFIND']) {
      await hive.permits(attack(method, `${hive.pass}\r\n`), ({ request, body }) => {
        assert.equal(`${request.method} ${request.target}`, `${method} /jobs/1`);
        assert.equal(request.header('transfer-encoding'), 'chunked');
        assert.equal(request.header('content-length'), null);
        assert.equal(body.toString(), SMUGGLED);
      });
    }
  });
});
