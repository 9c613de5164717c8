/** Nobody gets their rate or quota again by a reload. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startGuard } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { hangUp, rewrite } from './reloading-guard.js';

test('rates and quotas go on counting, and a rule that changed counts by what it says now', async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    listener: { limits: { rate: { requests: 3, per: '1h' }, quota: { requests: 100, per: '1d' } } },
  });
  const ask = async (): Promise<number> => (await request(guard.plain, { token: guard.token })).status;
  assert.deepEqual([await ask(), await ask()], [200, 200]);
  assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
  assert.deepEqual([await ask(), await ask()], [200, 429]);
  rewrite(guard, ({ listeners }) => {
    for (const listener of Object.values(listeners ?? {})) listener['limits'] = { quota: { requests: 3, per: '1d' } };
  });
  const line = await hangUp(guard);
  assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
  assert.equal(await ask(), 429, 'three were counted by the quota before it became so small');
});
