/** `processes` goes with what several processes do exactly; for the rest the policy says that it does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadPolicyText } from '../../src/policy/load.js';
import { policyText, simplePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const NOW = Date.UTC(2026, 5, 1);

async function problems(top: Parameters<typeof simplePolicy>[0]['top'], listener = {}): Promise<string[]> {
  using folder = new TemporaryDirectory();
  const policy = simplePolicy({
    upstream: 'http://127.0.0.1:1',
    stateDir: folder.file('state'),
    listener: { local_identity: { name: 'local', roles: ['viewer'] }, ...listener },
    ...(top === undefined ? {} : { top }),
  });
  const read = await loadPolicyText(policyText(policy), folder.file('policy.yaml'), { env: {}, now: NOW });
  return read.ok ? [] : read.issues.map(({ key, code }) => `${key} ${code}`);
}

test('a number of 1 to 64, or auto', async () => {
  for (const processes of [1, 2, 64, 'auto']) assert.deepEqual(await problems({ processes }), []);
  for (const processes of [0, 65, 1.5, 'all', '2 ']) {
    const [problem, ...more] = await problems({ processes });
    assert.match(problem ?? '', /^processes wrong_(?:value|type)$/, String(processes));
    assert.deepEqual(more, []);
  }
});

test('what only one process can do is refused beside several, and taken with one', async () => {
  const counted = { proxy_protocol: 'require', trusted_proxies: ['127.0.0.1'], limits: { connections_per_address: 9 } };
  assert.deepEqual(await problems({ processes: 2 }, counted), ['processes unfit_for_processes']);
  assert.deepEqual(await problems({ processes: 1 }, counted), []);
});
