import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { testCertificates } from '../support/certificates.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { Secret } from '../../src/secret/secret.js';
import { DeliveredTrail, TOKEN, deliverySettings, linesOf, segmentsOf } from './delivered-trail.js';
import { TestCollector, assertSameLines, assertWholeChain, numberOf } from './test-collector.js';

describe('records reach the collector whole and in order', () => {
  test('over TLS with a token, byte for byte, on one connection', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    await using delivered = await DeliveredTrail.open(directory, await deliverySettings(collector.url));
    const last = delivered.add(500);
    await collector.untilHas(last);
    assert.equal(collector.connections, 1);
    assert.equal(await delivered.close(), 0);
    assertSameLines(collector.taken, linesOf(directory));
    assert.equal(assertWholeChain(collector.taken), delivered.trail.sequence);
    for (const batch of collector.batches) {
      const [first = '', ...rest] = batch.lines;
      const final = rest.at(-1) ?? first;
      assert.ok(batch.lines.length <= 50);
      assert.equal(batch.method, 'POST');
      assert.equal(batch.path, '/audit');
      assert.equal(batch.headers['content-type'], 'application/x-ndjson');
      assert.equal(batch.headers['authorization'], `Bearer ${TOKEN}`);
      assert.equal(batch.headers['x-guardbee-chain'], delivered.trail.chain);
      const hash = /,"hash":"([0-9a-f]{64})"/.exec(final)?.[1] ?? '';
      const ids = `${delivered.trail.chain}-${String(numberOf(first))}-${String(numberOf(final))}-${hash.slice(0, 16)}`;
      assert.equal(batch.headers['idempotency-key'], ids);
    }
  });

  test('with a client certificate and no token', async () => {
    const { authority } = await testCertificates();
    const pair = await authority.issue({ usage: 'client', commonName: 'guard' });
    await using collector = await TestCollector.start({ callersFrom: authority.ca });
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, {
      token: null,
      certificate: { certFile: '', keyFile: '', certPem: pair.cert, key: Secret.fromText(pair.key) },
    });
    await using delivered = await DeliveredTrail.open(directory, settings);
    await collector.untilHas(delivered.add(3));
    assert.ok(collector.batches.every(({ client, headers }) => client === 'guard' && !('authorization' in headers)));
  });

  test('to an agent on this machine, over plain HTTP', async () => {
    await using collector = await TestCollector.start({ plain: true });
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, { token: null });
    await using delivered = await DeliveredTrail.open(directory, settings);
    await collector.untilHas(delivered.add(120));
    await delivered.close();
    assertWholeChain(collector.taken);
  });

  test('through segments, in batches as large as the policy says', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, { batchRecords: 10_000, batchBytes: 16 * 1024 });
    await using delivered = await DeliveredTrail.open(directory, settings, { segmentBytes: 64 * 1024 });
    const last = delivered.add(2_000);
    await collector.untilHas(last);
    await delivered.close();
    assert.ok(segmentsOf(directory).length > 5);
    assertSameLines(collector.taken, linesOf(directory));
    assert.ok(collector.batches.every(({ body }) => body.length <= 16 * 1024));
    assert.equal(delivered.delivery.figures.behindBytes, 0);
    assert.equal(delivered.delivery.figures.behindRecords, 0);
    assert.equal(delivered.delivery.figures.delivered, collector.taken.length);
  });

  test('records that trickle in go together', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    const settings = await deliverySettings(collector.url, { batchMs: 3_600_000 });
    await using delivered = await DeliveredTrail.open(directory, settings);
    for (let index = 0; index < 5; index += 1) {
      const seq = delivered.add(1);
      await waitUntil(() => delivered.trail.synced >= seq, 'the disk');
    }
    assert.equal(collector.batches.length, 0);
    delivered.delivery.hurry(delivered.trail.sequence);
    await collector.untilHas(delivered.trail.sequence);
    assert.equal(collector.batches.length, 1);
  });

  test('megabytes at once', async () => {
    await using collector = await TestCollector.start();
    using directory = new TemporaryDirectory();
    const large = { batchRecords: 10_000, batchBytes: 8 * 1024 * 1024, batchMs: 3_600_000 };
    const settings = await deliverySettings(collector.url, large);
    const timings = { requestMs: 20_000, lastMs: 20_000 };
    await using delivered = await DeliveredTrail.open(directory, settings, { timings });
    delivered.add(5_000, `/${'x'.repeat(450)}`);
    assert.equal(await delivered.close(), 0);
    assert.ok(Math.max(...collector.batches.map(({ body }) => body.length)) > 3 * 1024 * 1024);
    assert.deepEqual(delivered.failures, []);
    assertSameLines(collector.taken, linesOf(directory));
  });
});
