import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startDemo, type Demo } from '../../src/demo/demo.js';
import { requireComponent } from '../support/component.js';
import { startGuard, type Guard } from '../support/guard.js';
import { countOpenFiles, expectSockets } from '../support/leak.js';
import { runCommand } from '../support/process.js';

describe('h2load', () => {
  let demo: Demo;
  let guard: Guard;
  let sockets = 0;

  before(async () => {
    demo = await startDemo({ host: '127.0.0.1', port: 0 });
    guard = await startGuard({ upstream: demo.url });
    sockets = countOpenFiles(guard.pid).sockets;
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await demo.close();
  });

  for (const [name, args] of [
    ['HTTP/2, ten streams on each of four connections', ['-m', '10']],
    ['HTTP/1.1, four connections', ['--h1']],
  ] as const) {
    test(`${name}: each of 1,000 requests is answered`, async (t) => {
      const h2load = requireComponent('h2load', t);
      if (h2load === null) return;
      const result = await runCommand(h2load, [
        ...['-n', '1000', '-c', '4', ...args],
        ...['-H', `authorization: Bearer ${guard.token}`],
        `https://127.0.0.1:${String(guard.secure.port)}/api/hello`,
      ]);
      assert.equal(result.code, 0, result.stderr);
      assert.match(result.stdout, /requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored/);
      assert.match(result.stdout, /status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx/);
      t.diagnostic(/finished in .*/.exec(result.stdout)?.[0] ?? '');
    });
  }

  test('without a token each of 1,000 is refused', async (t) => {
    const h2load = requireComponent('h2load', t);
    if (h2load === null) return;
    const url = `https://127.0.0.1:${String(guard.secure.port)}/api/hello`;
    const result = await runCommand(h2load, ['-n', '1000', '-c', '4', '-m', '10', url]);
    assert.match(result.stdout, /status codes: 0 2xx, 0 3xx, 1000 4xx, 0 5xx/);
    // Nothing is left of all of them; the connections to the upstream may rest a while.
    await expectSockets(guard.pid, sockets);
  });
});
