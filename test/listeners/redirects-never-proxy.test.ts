import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { simplePolicy, writePolicy } from '../support/policy-builder.js';
import { startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

interface Seen {
  readonly status: number;
  readonly location: string | undefined;
}

function ask(url: string, host: string, path: string, method = 'GET'): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { path, method, headers: { host }, agent: false }, (response) => {
      response.resume();
      response.once('end', () => {
        resolve({ status: response.statusCode ?? 0, location: response.headers.location });
      });
    });
    asked.once('error', reject);
    asked.end();
  });
}

test('a redirect listener answers 308 to a name of the policy, whatever the request says', async () => {
  using dir = new TemporaryDirectory();
  const base = simplePolicy({ upstream: 'http://127.0.0.1:9', stateDir: dir.file('state') }) as Record<string, never>;
  const policy = {
    ...base,
    listeners: {
      web: { type: 'redirect', bind: '127.0.0.1:0', hosts: ['queen.lan', 'hive.lan'], https_port: 8443 },
    },
  };
  await using guardbee = startGuardbee({ args: ['run', '--policy', writePolicy(dir, policy)] });
  const url = String((await guardbee.waitForLog((line) => line['event.name'] === 'listener.open', 20_000))['url.full']);

  assert.deepEqual(await ask(url, 'queen.lan', '/a?b=c'), { status: 308, location: 'https://queen.lan:8443/a?b=c' });
  assert.deepEqual(await ask(url, 'HIVE.lan:80', '/'), { status: 308, location: 'https://hive.lan:8443/' });
  assert.deepEqual(await ask(url, 'evil.example', '/x', 'POST'), { status: 308, location: 'https://queen.lan:8443/x' });
  for (const path of ['//evil.example/', '/\\evil.example', '/..//evil.example', '/%2f%2fevil.example/..']) {
    const seen = await ask(url, 'queen.lan', path);
    assert.equal(seen.status, 400, path);
    assert.equal(seen.location, undefined, path);
  }
  await guardbee.kill('SIGTERM', 20_000);
});
