/** What is broken changes nothing, and is said: in the log, in readiness, in metrics. Mended, it is taken over. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { testCertificates } from '../support/certificates.js';
import { type Guard, startGuard } from '../support/guard.js';
import { tokenPair, writeFileIn } from '../support/policy-builder.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { adminOf, hangUp, rewrite } from './reloading-guard.js';

const text = (guard: Guard, name: string): string => readFileSync(guard.directory.file(name), 'utf8');

/** What to break, what the log then says, and how many problems there are. */
const BREAKS: readonly (readonly [what: string, code: string, breaks: (guard: Guard, taken: number) => void])[] = [
  [
    'YAML that is cut off',
    'yaml_syntax',
    (guard) => writeFileIn(guard.directory, 'policy.yaml', 'version: 1\nlisteners: {', 0o644),
  ],
  [
    'an unknown key',
    'unknown_key',
    (guard) => {
      rewrite(guard, (policy) => {
        policy['surprise'] = {};
      });
    },
  ],
  [
    'a certificate that is half written',
    'bad_certificate',
    (guard) => writeFileIn(guard.directory, 'server.crt', text(guard, 'server.crt').slice(0, 200)),
  ],
  [
    'a key that is not that of the certificate',
    'bad_certificate',
    (guard) =>
      writeFileIn(guard.directory, 'server.key', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'),
  ],
  [
    'a key that others may read',
    'secret_too_open',
    (guard) => writeFileIn(guard.directory, 'server.key', text(guard, 'server.key'), 0o644),
  ],
  [
    'a listener beyond loopback without TLS',
    'bind_without_tls',
    (guard) => {
      rewrite(guard, ({ listeners }) => {
        if (listeners?.['main'] !== undefined) listeners['main']['bind'] = '0.0.0.0:0';
      });
    },
  ],
  [
    'a policy whose own test fails',
    'test_failed',
    (guard) => {
      rewrite(guard, (policy) => {
        policy['tests'] = [{ name: 'open', listener: 'main', request: 'GET /secret', expect: 'allow' }] as never;
      });
    },
  ],
  [
    'another state directory',
    'not_reloadable',
    (guard) => {
      rewrite(guard, (policy) => {
        policy['state'] = { dir: guard.directory.file('elsewhere') } as never;
      });
    },
  ],
  [
    'an address that is taken',
    'address_unavailable',
    (guard, taken) => {
      rewrite(guard, ({ listeners }) => {
        if (listeners?.['main'] === undefined) return;
        listeners['fresh'] = { ...listeners['main'], bind: '127.0.0.1:0' };
        listeners['more'] = { ...listeners['main'], bind: `127.0.0.1:${String(taken)}` };
      });
    },
  ],
];

test('what is broken leaves all as it was, and says why', async (t) => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({ upstream: upstream.url, top: { admin: { bind: '127.0.0.1:0' } } });
  await testCertificates();
  const admin = await adminOf(guard);
  const files = ['policy.yaml', 'server.crt', 'server.key'].map((name) => [name, text(guard, name)] as const);
  const works = async (): Promise<void> => {
    for (const target of [guard.plain, guard.secure]) {
      assert.equal((await request(target, { path: '/thing', token: guard.token })).status, 200);
      assert.equal((await request(target, { path: '/thing' })).status, 401);
    }
  };
  let failed = 0;
  for (const [what, code, breaks] of BREAKS) {
    await t.test(what, async () => {
      // A token of the broken policy must not get in by half.
      const { token, sha256 } = tokenPair();
      rewrite(guard, ({ authenticators }) => {
        const tokens = authenticators?.['keys']?.['tokens'] as unknown as unknown[];
        tokens.push({ name: 'newcomer', sha256, roles: ['operator'] });
      });
      breaks(guard, admin.port);
      const line = await hangUp(guard);
      failed += 1;
      assert.equal(line['event.name'], 'policy.reload_failed', JSON.stringify(line));
      assert.equal(line['level'], 'ERROR');
      await guard.process.waitForLog((one) => one['event.name'] === `policy.${code}`);
      await works();
      assert.equal((await request(guard.plain, { path: '/thing', token })).status, 401);
      const ready = await request(admin, { path: '/readyz' });
      assert.equal(ready.status, 200, 'the last good one serves on');
      const { checks } = ready.json() as { checks: { policy: { status: string; detail: string } } };
      assert.equal(checks.policy.status, 'unknown');
      assert.match(checks.policy.detail, /stays in force, the last reload failed: /);
      const metrics = (await request(admin, { path: '/metrics' })).text();
      assert.match(metrics, new RegExp(`^guardbee_reloads_total\\{result="failed"\\} ${String(failed)}$`, 'm'));
      assert.match(metrics, /^guardbee_reload_last_successful 0$/m);

      for (const [name, content] of files)
        writeFileIn(guard.directory, name, content, name === 'policy.yaml' ? 0o644 : 0o600);
      rewrite(guard, ({ authenticators }) => {
        const tokens = authenticators?.['keys']?.['tokens'] as unknown as unknown[];
        tokens.push({ name: 'newcomer', sha256, roles: ['operator'] });
      });
      const mended = await hangUp(guard);
      assert.equal(mended['event.name'], 'policy.reloaded', JSON.stringify(mended));
      assert.match(String(mended['msg']), /\+newcomer/);
      assert.equal((await request(guard.plain, { path: '/thing', token })).status, 200);
      const again = await request(admin, { path: '/readyz' });
      assert.match(again.text(), /"policy": \{\s*"status": "ok"/);
    });
  }
});
