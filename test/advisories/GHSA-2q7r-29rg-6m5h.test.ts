/**
 * GHSA-2q7r-29rg-6m5h and CVE-2021-21321 (@fastify/reply-from, and @fastify/http-proxy on top of it). The path of the
 * request was resolved against a base like any relative reference, so that `..` or `%2E%2E` in it left the prefix that
 * the proxy was meant to keep to. Resolving is where the harm is done: what was judged must be sent as it was judged.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Hive } from './hive.js';

const hive = await Hive.forThisFile({
  routes: [{ name: 'hi', path: '/hi/**', methods: ['GET'], require: 'read' }],
});

describe('GHSA-2q7r-29rg-6m5h', () => {
  for (const path of ['/hi/%2E%2E/ho', '/hi/../ho', '/hi/x/../../ho', '/hi/%2e%2e%2fho', '/hi/..%2fho']) {
    test(`${path} does not leave the prefix`, async () => {
      await hive.refuses(hive.get(path), 'ambiguous_path');
      await hive.refusesHttp2(hive.http2(path), 'ambiguous_path');
    });
  }

  test('/ho itself is not there', async () => {
    await hive.refuses(hive.get('/ho'), 'route_unknown');
  });

  const KEPT = [
    '/hi/http:',
    '/hi/http:a@b',
    '/hi/%7Euser',
    '/hi/a%20b',
    '/hi/?',
    '/hi/??a=?',
    "/hi/x'y(z)*!$&+,=:@-._~",
  ];
  for (const target of KEPT) {
    test(`${target} arrives as it was sent`, async () => {
      await hive.permits(hive.get(target), ({ request }) => {
        assert.equal(request.target, target);
      });
    });
  }
});
