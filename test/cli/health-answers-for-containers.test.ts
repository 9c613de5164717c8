import assert from 'node:assert/strict';
import { type RequestListener, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { writePolicy } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

/** An admin address that answers as it is told. */
async function startAdmin(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

function policyWith(folder: TemporaryDirectory, admin: string | null): string {
  const routes = '[{ name: health, path: /health, public: true }]';
  return writePolicy(
    folder,
    `version: 1
listeners:
  main: { bind: 127.0.0.1:0, upstream: http://127.0.0.1:80, routes: ${routes} }
authenticators: { keys: { type: bearer, tokens_file: nowhere.yaml } }
${admin === null ? '' : `admin: { bind: ${admin} }`}
`,
  );
}

const pages: RequestListener = (request, response) => {
  const ready = request.url === '/healthz';
  response.writeHead(ready ? 200 : 503, { 'content-type': 'application/json' });
  response.end(ready ? '{"status":"ok"}' : '{"status":"not_ready","checks":{"certificates":{"status":"failed"}}}');
};

test('ready is 0', async (t) => {
  const asked: (string | undefined)[] = [];
  const admin = await startAdmin(t, (request, response) => {
    asked.push(request.url);
    response.end('{"status":"ready"}');
  });
  const { code, stdout, stderr } = await runGuardbee(['health', '--admin', admin]);
  assert.equal(code, 0, stderr);
  assert.equal(stdout, 'ready\n');
  assert.deepEqual(asked, ['/readyz']);
});

test('not ready is 1 and says what is wrong; alive is asked for with --live', async (t) => {
  const admin = await startAdmin(t, pages);
  const ready = await perform('health', '--admin', admin);
  assert.equal(ready.code, 1);
  assert.equal(
    ready.stderr,
    `guardbee: not ready: ${admin} answers 503: {"status":"not_ready","checks":{"certificates":{"status":"failed"}}}\n`,
  );
  const live = await perform('health', '--live', '--admin', admin);
  assert.equal(live.code, 0);
  assert.equal(live.stdout, 'alive\n');
});

test('the address comes from the policy, whose secrets are not needed', async (t) => {
  const folder = new TemporaryDirectory(t);
  const admin = await startAdmin(t, (_request, response) => response.end('ok'));
  const file = policyWith(folder, admin);
  assert.equal((await perform('health', file)).code, 0);
  const json = await perform('health', '--policy', file, '--json');
  assert.deepEqual(JSON.parse(json.stdout), { address: admin, ok: true, status: 200, says: 'ok' });
  const without = await perform('health', policyWith(folder, null));
  assert.equal(without.code, 1);
  assert.match(without.stderr, /has no admin address: write admin: \{ bind: 127\.0\.0\.1:9180 \} into it\n$/);
  const broken = await perform('health', writePolicy(folder, 'version: 2\n'));
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /is not valid/);
});

test('nobody there is 1, at once', async (t) => {
  const folder = new TemporaryDirectory(t);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const admin = `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
  await new Promise((resolve) => server.close(resolve));
  const { code, stderr } = await perform('health', policyWith(folder, admin));
  assert.equal(code, 1);
  assert.equal(stderr, `guardbee: not ready: ${admin}: nothing listens there\n`);
});

test('whoever does not answer is given 3 seconds', async (t) => {
  const silent = await startAdmin(t, () => undefined);
  const begun = await startAdmin(t, (_request, response) => response.write('{'));
  const ask = async (admin: string): Promise<void> => {
    const started = performance.now();
    const { code, stdout } = await perform('health', '--json', '--admin', admin);
    const took = performance.now() - started;
    assert.equal(code, 1);
    assert.deepEqual(JSON.parse(stdout), { address: admin, ok: false, error: 'no answer within 3 s' });
    assert.ok(took > 2900 && took < 6000, `${String(took)} ms`);
  };
  await Promise.all([silent, begun].map(ask));
});
