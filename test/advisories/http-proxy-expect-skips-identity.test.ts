/**
 * http-proxy 1.18.1 emits `proxyReq`, the event on which its users set and overwrite header fields, only when the
 * request has no `Expect`. A client that sends `Expect: 100-continue` with an identity field of its own is therefore
 * believed by the service behind: one extra field is a login as anybody.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { exchangeBytes } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { Hive } from './hive.js';
import { HttpProxy } from './http-proxy.js';

const attack = (expect: string, pass: string): string =>
  `POST /v1/jobs HTTP/1.1\r\nHost: queen.lan\r\n${pass}X-Auth-User: root\r\nX-Auth-Roles: admin\r\n${expect}` +
  'Content-Length: 4\r\n\r\nbody';

const EXPECT = 'Expect: 100-continue\r\n';

const hive = await Hive.shared();

describe('a forged identity beside Expect', () => {
  test('http-proxy overwrites the identity, but not beside Expect', async () => {
    await using upstream = await RecordingUpstream.start();
    await using proxy = await HttpProxy.start(upstream.url);
    await exchangeBytes(proxy, attack('', ''));
    await exchangeBytes(proxy, attack(EXPECT, ''));
    const [without, beside] = await upstream.waitForRequests(2);
    assert.deepEqual(without?.headerAll('x-auth-user'), ['nobody']);
    assert.deepEqual(beside?.headerAll('x-auth-user'), ['root']);
  });

  test('guardbee states the identity it proved, with and without Expect, and the body arrives', async () => {
    for (const expect of ['', EXPECT]) {
      await hive.permits(attack(expect, `${hive.pass}\r\n`), ({ request, body }) => {
        assert.deepEqual(request.headerAll('x-auth-user'), ['keeper']);
        assert.deepEqual(request.headerAll('x-auth-roles'), ['operator']);
        // The expectation is met here; a service that answered 417 to it would fail an innocent request.
        assert.equal(request.header('expect'), null);
        assert.equal(body.toString(), 'body');
      });
    }
  });

  test('guardbee answers 100 to nobody it does not know', async () => {
    const seen = hive.upstream.bytesSeen;
    for (const door of hive.doors) {
      const answer = await exchangeBytes(door, attack(EXPECT, ''));
      assert.equal(answer.status, 401);
      assert.deepEqual(answer.informational, []);
    }
    assert.equal(hive.upstream.bytesSeen, seen);
  });
});
