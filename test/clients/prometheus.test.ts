import assert from 'node:assert/strict';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { startDemo } from '../../src/demo/demo.js';
import { TestAuthority } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { startGuard } from '../support/guard.js';
import { tokenPair, writeFileIn } from '../support/policy-builder.js';
import { WatchedProcess } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

interface Answer {
  readonly data: {
    readonly result: readonly { readonly metric: Record<string, string>; readonly value: [number, string] }[];
  };
}

/** Prometheus does not say which port it chose, so it is told one that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('Prometheus scrapes a guarded page with its token, and without it does not', async (t) => {
  const prometheus = requireComponent('prometheus', t);
  if (prometheus === null) return;
  const demo = await startDemo({ host: '127.0.0.1', port: 0 });
  t.after(() => demo.close());
  const scraper = tokenPair();
  await using guard = await startGuard({
    upstream: demo.url,
    tokens: [{ name: 'prometheus', sha256: scraper.sha256, permissions: ['scrape'] }],
    routes: [{ name: 'metrics', path: '/metrics', methods: ['GET'], require: 'scrape' }],
  });
  using directory = new TemporaryDirectory();
  const foreign = await TestAuthority.create();
  writeFileIn(directory, 'token', scraper.token);
  writeFileIn(directory, 'other-token', guard.token);
  writeFileIn(directory, 'ca.pem', guard.ca);
  writeFileIn(directory, 'foreign.pem', foreign.ca);
  const job = (name: string, token: string | null, ca: string): unknown => ({
    job_name: name,
    scheme: 'https',
    ...(token === null ? {} : { authorization: { type: 'Bearer', credentials_file: directory.file(token) } }),
    tls_config: { ca_file: directory.file(ca) },
    static_configs: [{ targets: [`127.0.0.1:${String(guard.secure.port)}`] }],
  });
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s' },
    scrape_configs: [
      job('with', 'token', 'ca.pem'),
      job('without', null, 'ca.pem'),
      job('with-another', 'other-token', 'ca.pem'),
      job('with-a-foreign-authority', 'token', 'foreign.pem'),
    ],
  };
  // JSON is YAML.
  writeFileIn(directory, 'prometheus.yml', JSON.stringify(config));
  const port = await freePort();
  await using child = new WatchedProcess(prometheus, [
    `--config.file=${directory.file('prometheus.yml')}`,
    `--storage.tsdb.path=${directory.file('data')}`,
    `--web.listen-address=127.0.0.1:${String(port)}`,
  ]);
  await child.waitForOutput(/Server is ready to receive web requests/, 30_000);

  const query = async (expression: string): Promise<Record<string, string>> => {
    const url = `http://127.0.0.1:${String(port)}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const { data } = (await (await fetch(url)).json()) as Answer;
    return Object.fromEntries(data.result.map(({ metric, value }) => [metric['job'] ?? '', value[1]]));
  };
  const up = await waitUntil(
    async () => {
      const found = await query('up');
      return Object.keys(found).length === 4 ? found : null;
    },
    'a scrape by each job',
    30_000,
  );
  assert.deepEqual(up, { with: '1', without: '0', 'with-another': '0', 'with-a-foreign-authority': '0' });
  // What it scraped is the page behind, not something of guardbee's.
  assert.deepEqual(await query('demo_open_streams'), { with: '0' });
  const seen = await guard.recordWhere((line) => line['guardbee.identity'] === 'prometheus');
  assert.match(String(seen['user_agent.original']), /^Prometheus\//);
  await guard.recordWhere((line) => line['guardbee.reason'] === 'credential_missing');
  await guard.recordWhere((line) => line['guardbee.reason'] === 'permission_missing');
});
