/**
 * GHSA-gwhp-pf74-vj37, CVE-2026-33805. @fastify/reply-from removed what `Connection` names after the application had
 * added fields of its own, such as an upstream's credential: a client that named them in `Connection` had them removed.
 * The other half of the rule matters as much: what the client itself sent and named must not go on.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { writeFileIn } from '../support/policy-builder.js';
import { Hive } from './hive.js';

const hive = await Hive.forThisFile({
  prepare: (directory) => {
    writeFileIn(directory, 'upstream.key', 'what-the-service-wants');
  },
  listener: { upstream_auth: { type: 'header', name: 'X-Admin-Token', value: { file: 'upstream.key' } } },
});

describe('GHSA-gwhp-pf74-vj37', () => {
  test('a credential for the service cannot be named away', async () => {
    const fields = ['Connection: X-Admin-Token, X-Auth-User', 'X-Admin-Token: forged'];
    await hive.permits(hive.get('/', ...fields), ({ request }) => {
      assert.deepEqual(request.headerAll('x-admin-token'), ['what-the-service-wants']);
      assert.deepEqual(request.headerAll('x-auth-user'), ['keeper']);
    });
  });

  test('what the client named of its own goes no further', async () => {
    const fields = ['Connection: X-Hop, keep-alive', 'X-Hop: ends here', 'X-End: goes on', 'Keep-Alive: timeout=600'];
    await hive.permits(hive.get('/', ...fields), ({ request }) => {
      assert.equal(request.header('x-hop'), null);
      assert.equal(request.header('keep-alive'), null);
      assert.equal(request.header('x-end'), 'goes on');
    });
  });
});
