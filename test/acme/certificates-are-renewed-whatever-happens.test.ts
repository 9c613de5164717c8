/**
 * Certificates that live for seconds, of a real authority (pebble): renewed under an open stream, kept while the authority
 * is away, and gone on with after kill -9 at any moment.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Pebble } from '../support/pebble.js';
import { RawConnection, type Target, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { startAcmeGuard } from './acme-guard.js';
import { serialAt } from './handshake.js';

const HOST = 'a.example.com';
/** How often it is killed. Each costs a start. */
const KILLS = Number(process.env['ACME_KILLS'] ?? '1');

test('renewed without touching a stream, and again after the authority was away and after kill -9', async (t) => {
  const pebble = await Pebble.start(t, { validitySeconds: 12 });
  if (pebble === null) return;
  await using upstream = await RecordingUpstream.start({ respond: respond.silentEvents() });
  await using guard = await startAcmeGuard(pebble, { hosts: [HOST], upstream: upstream.url });
  await guard.issued(HOST);
  const { tlsPort: port } = pebble;
  const first = await serialAt(port, HOST);
  const target: Target = { port, tls: { ca: await pebble.root(), servername: HOST } };
  using stream = await RawConnection.connect(target);
  stream.write(requestBytes(target, { path: '/events', token: guard.token.token, host: HOST }));
  assert.match(await stream.readEvent(), /ready/);

  await guard.issued(HOST, 2);
  const second = await serialAt(port, HOST);
  assert.notEqual(second, first, 'new handshakes get the new certificate');
  assert.equal(stream.ended, null);

  await t.test('the authority away: the old one serves on, and that is said', async () => {
    await pebble.stop();
    const line = await guard.said('acme.failed', HOST);
    assert.match(String(line['msg']), /it cannot be reached \(ECONNREFUSED\); the one from before is valid until/);
    assert.equal(await serialAt(port, HOST), second);
    assert.equal(stream.ended, null);
    const ready = await request({ port: guard.adminPort }, { path: '/readyz' });
    assert.match(ready.body.toString(), /(?:not renewed|without a certificate): a\.example\.com: /);
  });

  await t.test(
    'it comes back and knows no account: another is opened, and the renewal succeeds by itself',
    async () => {
      await pebble.startAgain();
      await guard.issued(HOST, 3);
      assert.notEqual(await serialAt(port, HOST), second);
    },
  );

  await t.test(`killed ${String(KILLS)} times while it renews: what it has is whole, and it goes on`, async () => {
    const dir = join(guard.stateDir, 'acme', 'hosts', HOST);
    const order = join(dir, 'order.json');
    for (let kill = 0; kill < KILLS; kill += 1) {
      await waitUntil(() => existsSync(order), 'an order that is underway', 30_000);
      // The whole way from the order to the certificate takes about a second.
      await new Promise((resolve) => setTimeout(resolve, randomInt(0, 800)));
      await guard.kill();
      const ordered = existsSync(order) ? readFileSync(order, 'utf8') : null;
      const before = pebble.output;
      await guard.start();
      await serialAt(port, HOST);
      await guard.issued(HOST);
      if (ordered !== null) {
        assert.ok(
          !pebble.output.slice(before.length).includes('Added order'),
          'the order from before was gone on with',
        );
      }
      await waitUntil(() => !existsSync(order), 'the order to be done');
      assert.deepEqual(readdirSync(dir).sort(), ['certificate.pem', 'status.json']);
    }
  });
});
