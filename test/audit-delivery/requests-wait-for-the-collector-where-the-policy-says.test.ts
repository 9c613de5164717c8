import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertUntouched } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { WitnessedTrail } from '../../src/observe/audit/witnessed-trail.js';
import { DeliveredTrail, deliverySettings } from './delivered-trail.js';
import { adminPage, metric, startDeliveringGuard } from './delivering-guard.js';
import { TestCollector, type Treatment } from './test-collector.js';

const ENTRY = { event: 'authorization_denied', result: 'denied', reason: 'route_denied' } as const;

// What takes time here is waiting.
describe('requests wait for the collector where the policy says', { concurrency: 3 }, () => {
  test('a record counts when the collector has it, and not before', async () => {
    await using collector = await TestCollector.start();
    let answer: (treatment: Treatment) => void = () => undefined;
    collector.treat = ({ lines }) =>
      lines.length === 0 ? 200 : new Promise<Treatment>((resolve) => (answer = resolve));
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, { wait: true, batchMs: 60_000 });
    await using delivered = await DeliveredTrail.open(directory, settings, {
      timings: { patienceMs: 5_000, requestMs: 5_000 },
    });
    const trail = new WitnessedTrail(delivered.trail, delivered.delivery);
    const seq = trail.add(ENTRY, true);
    const counts = trail.durable(seq);
    let known: boolean | null = null;
    void Promise.resolve(counts).then((is) => (known = is));
    // It goes at once, though the batch is not full.
    await collector.until(() => (collector.batches.length > 0 ? true : null), 'the batch');
    assert.ok(delivered.trail.synced >= (seq ?? Infinity));
    assert.equal(known, null);
    answer(200);
    assert.equal(await counts, true);
    assert.equal(trail.durable(seq), true);
    collector.treat = () => 200;
  });

  test('patience ends: nothing counts until the collector takes something again', async () => {
    await using collector = await TestCollector.start({ treat: () => 503 });
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, { wait: true });
    const timings = { patienceMs: 2_000 };
    await using delivered = await DeliveredTrail.open(directory, settings, { timings });
    const trail = new WitnessedTrail(delivered.trail, delivered.delivery);
    const began = performance.now();
    assert.equal(await trail.durable(trail.add(ENTRY, true)), false);
    assert.ok(performance.now() - began >= 1_950);
    assert.equal(trail.trouble, 'collector');
    // Nobody is made to wait twice for the same outage.
    const again = trail.durable(trail.add(ENTRY, true));
    const asked = performance.now();
    assert.equal(await again, false);
    assert.ok(performance.now() - asked < 1_900);
    collector.treat = () => 200;
    await waitUntil(() => trail.trouble === null, 'the collector');
    assert.equal(await trail.durable(trail.add(ENTRY, true)), true);
  });

  test('a record that the collector refuses does not count', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, { wait: true });
    await using delivered = await DeliveredTrail.open(directory, settings, { timings: { patienceMs: 5_000 } });
    const trail = new WitnessedTrail(delivered.trail, delivered.delivery);
    assert.equal(await trail.durable(trail.add(ENTRY, true)), true);
    collector.treat = ({ lines }) => (lines.some((line) => line.includes('"resource":"/bad"')) ? 400 : 200);
    const bad = trail.durable(trail.add({ ...ENTRY, resource: '/bad' }, true));
    const good = trail.durable(trail.add(ENTRY, true));
    assert.equal(await good, true);
    assert.equal(await bad, false);
  });

  test('deny: without the collector nothing reaches the upstream, and readiness says why', async () => {
    await using collector = await TestCollector.start();
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(collector.url, upstream, { wait: true });
    const post = async (): Promise<number> =>
      (
        await request(guard.plain, {
          method: 'POST',
          path: '/v1/jobs',
          body: 'x',
          token: guard.token,
          timeoutMs: 15_000,
        })
      ).status;
    assert.equal(await post(), 200);
    const id = upstream.connections.length;
    assert.ok(id > 0);
    // What the client was told is with the collector already.
    const refused = await request(guard.plain, { method: 'POST', path: '/refused', body: 'x' });
    assert.equal(refused.status, 401);
    assert.ok(collector.taken.some((line) => line.includes('"resource":"/refused"')));
    collector.treat = () => 'hang';
    const seen = upstream.connections.reduce((sum, one) => sum + one.bytesSeen, 0);
    assert.equal(await post(), 503);
    assert.equal(await post(), 503);
    assert.equal(
      upstream.connections.reduce((sum, one) => sum + one.bytesSeen, 0),
      seen,
    );
    const ready = await adminPage(guard, '/readyz');
    assert.equal(ready.status, 503);
    assert.match(ready.text(), /not delivered/);
    collector.treat = () => 200;
    await waitUntil(async () => (await adminPage(guard, '/readyz')).status === 200, 'readiness', 30_000);
    assert.equal(await post(), 200);
    assert.equal((await metric(guard, 'guardbee_audit_spool_records')) < 50, true);
  });

  test('allow: they go on after the same patience, and readiness says what it knows', async () => {
    const gone = await TestCollector.start();
    await gone.stop();
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(gone.url, upstream, { wait: true }, { on_failure: 'allow' });
    for (let index = 0; index < 3; index += 1) {
      const answer = await request(guard.plain, {
        method: 'POST',
        path: '/v1/jobs',
        body: 'x',
        token: guard.token,
        timeoutMs: 15_000,
      });
      assert.equal(answer.status, 200);
    }
    const ready = await adminPage(guard, '/readyz');
    assert.equal(ready.status, 200);
    assert.match(ready.text(), /not delivered: it cannot be reached/);
  });

  test('deny from the start: the upstream is not asked before the collector was ever there', async () => {
    const gone = await TestCollector.start();
    await gone.stop();
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(gone.url, upstream, { wait: true });
    const answer = await request(guard.plain, { path: '/v1/jobs', token: guard.token, timeoutMs: 15_000 });
    assert.equal(answer.status, 503);
    assert.match(answer.text(), /audit_unavailable|cannot be recorded/);
    assertUntouched(upstream);
  });
});
