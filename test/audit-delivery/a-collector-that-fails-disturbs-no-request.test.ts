import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import type { Guard } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { TOKEN, adminPage, metric, startDeliveringGuard } from './delivering-guard.js';
import { TestCollector, assertSameLines, assertWholeChain } from './test-collector.js';

function trailOf(guard: Guard): string[] {
  const dir = guard.directory.file('log');
  return readdirSync(dir)
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .flatMap((name) => readFileSync(`${dir}/${name}`, 'utf8').split('\n').slice(0, -1));
}

/** @returns milliseconds that the slowest of so many requests took, permitted and refused ones */
async function slowest(guard: Guard, count: number): Promise<number> {
  let most = 0;
  for (let index = 0; index < count; index += 1) {
    const began = performance.now();
    const token = index % 2 === 0 ? { token: guard.token } : {};
    const answer = await request(guard.plain, { method: 'POST', path: '/v1/jobs', body: 'x', ...token });
    assert.equal(answer.status, index % 2 === 0 ? 200 : 401);
    most = Math.max(most, performance.now() - began);
  }
  return most;
}

describe('a collector that fails disturbs no request', () => {
  test('it hangs: requests go on, and readiness stays', async () => {
    await using collector = await TestCollector.start({ treat: () => 'hang' });
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(collector.url, upstream);
    // Who waited for it, would wait 5 s.
    assert.ok((await slowest(guard, 40)) < 4_000);
    const ready = await adminPage(guard, '/readyz');
    assert.equal(ready.status, 200);
    const behind = await metric(guard, 'guardbee_audit_spool_records');
    assert.ok(behind >= 40, String(behind));
    assert.ok((await metric(guard, 'guardbee_audit_spool_bytes')) > 40 * 300);
    collector.treat = () => 200;
    const ended = await guard.process.kill('SIGTERM');
    assert.equal(ended.code, 0);
    assertSameLines([...collector.records.values()], trailOf(guard).slice(0, collector.records.size));
  });

  test('it is not there: said once, with words, and in readiness, metrics and log nothing secret', async () => {
    const gone = await TestCollector.start();
    await gone.stop();
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(gone.url, upstream);
    const said = await guard.process.waitForLog((line) => line['event.name'] === 'audit.delivery_failing');
    assert.equal(said['level'], 'WARN');
    assert.equal(said['error.type'], 'unreachable');
    assert.match(
      String(said['msg']),
      /records are not delivered: the collector does not take them: it cannot be reached/,
    );
    await slowest(guard, 10);
    const failures = 'guardbee_audit_delivery_failures_total{reason="unreachable"}';
    await waitUntil(async () => (await metric(guard, failures)) >= 2, 'a second attempt');
    const lines = guard.process.logLines.filter((line) => line['event.name'] === 'audit.delivery_failing');
    assert.equal(lines.length, 1);
    const ready = await adminPage(guard, '/readyz');
    assert.equal(ready.status, 200);
    assert.match(ready.text(), /not delivered: it cannot be reached/);
    await using back = await TestCollector.start({ port: gone.port });
    await guard.process.waitForLog((line) => line['event.name'] === 'audit.delivery_recovered');
    await waitUntil(async () => (await metric(guard, 'guardbee_audit_spool_records')) === 0, 'the rest');
    assert.equal(await metric(guard, 'guardbee_audit_spool_bytes'), 0);
    assert.match((await adminPage(guard, '/readyz')).text(), /0 not delivered/);
    const metrics = (await adminPage(guard, '/metrics')).text();
    await guard.process.kill('SIGTERM');
    assertSameLines([...back.records.values()], trailOf(guard));
    assertWholeChain(back.records.values());
    for (const text of [guard.process.stdout, guard.process.stderr, metrics, ready.text(), trailOf(guard).join()]) {
      assert.ok(!text.includes(TOKEN));
    }
    const state = readdirSync(guard.directory.file('state', 'audit'));
    assert.ok(state.includes('delivered.json'));
    for (const name of state)
      assert.ok(!readFileSync(guard.directory.file('state', 'audit', name), 'utf8').includes(TOKEN));
  });

  test('it answers with what it was shown: none of that is written anywhere', async () => {
    await using collector = await TestCollector.start();
    collector.treat = ({ headers }) => ({
      status: 403,
      headers: { 'www-authenticate': `Bearer error="${String(headers['authorization'])}"`, 'x-echo': TOKEN },
      body: `no ${String(headers['authorization'])}`,
    });
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(collector.url, upstream);
    const said = await guard.process.waitForLog((line) => line['event.name'] === 'audit.delivery_failing');
    assert.match(String(said['msg']), /does not accept the credential of guardbee/);
    await guard.process.kill('SIGTERM');
    assert.ok(!`${guard.process.stdout}${guard.process.stderr}`.includes(TOKEN));
  });
});

describe('at the end', () => {
  test('what is left is delivered before the program ends', async () => {
    await using collector = await TestCollector.start();
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(collector.url, upstream, { batch: { interval: '1h' } });
    await slowest(guard, 6);
    assert.equal(collector.batches.length, 0);
    await guard.process.kill('SIGTERM');
    assertSameLines(collector.taken, trailOf(guard));
    assert.match(collector.taken.at(-2) ?? '', /"event":"stopped"/);
  });

  test('a collector that hangs delays it by two seconds at most', async () => {
    await using collector = await TestCollector.start({ treat: () => 'hang' });
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using guard = await startDeliveringGuard(collector.url, upstream);
    await slowest(guard, 4);
    await collector.until(() => (collector.batches.length > 0 ? true : null), 'a batch');
    const began = performance.now();
    const ended = await guard.process.kill('SIGTERM');
    assert.equal(ended.code, 0);
    assert.ok(performance.now() - began < 6_000);
    assert.ok(
      guard.process.logLines.some((line) => String(line['msg']).includes('are delivered after the next start')),
    );
  });
});
