import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simplePolicy, writePolicy } from '../support/policy-builder.js';
import { startGuardbee } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

for (const [trusted, kept] of [
  [['127.0.0.1'], true],
  [[], false],
] as const) {
  test(`X-Request-Id is ${kept ? 'kept from a trusted proxy' : 'ours where nobody is trusted'}`, async () => {
    using dir = new TemporaryDirectory();
    await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
    const policy = simplePolicy({
      upstream: upstream.url,
      stateDir: dir.file('state'),
      listener: { trusted_proxies: [...trusted] },
      routes: [{ name: 'health', path: '/health', methods: ['GET'], public: true }],
    });
    await using guardbee = startGuardbee({ args: ['run', '--policy', writePolicy(dir, policy)] });
    const line = await guardbee.waitForLog((one) => one['event.name'] === 'listener.open', 20_000);
    const port = Number(new URL(String(line['url.full'])).port);
    const id = 'edge-7f3a';
    await request({ port }, { path: '/health', headers: [['X-Request-Id', id]] });
    const [seen] = upstream.requests;
    assert.ok(seen !== undefined);
    assert.equal(seen.header('x-request-id') === id, kept);
    const logged = await guardbee.waitForLog((one) => one['url.path'] === '/health');
    assert.equal(logged['guardbee.request_id'], seen.header('x-request-id'));
    await guardbee.kill('SIGTERM', 20_000);
  });
}
