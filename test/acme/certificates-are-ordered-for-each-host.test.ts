/**
 * A real authority (pebble) and a real guardbee: certificates are ordered at the first start, one for each host. A host
 * that the authority cannot reach has none, and keeps no other from its own.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Pebble } from '../support/pebble.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { startAcmeGuard } from './acme-guard.js';
import { namesOf, shakeHands } from './handshake.js';

const NO_CERTIFICATE = /HANDSHAKE_FAILURE/;

test('a certificate of its own for each host, once the authority has seen that it is ours', async (t) => {
  const key = randomBytes(32).toString('base64url');
  const pebble = await Pebble.start(t, { externalAccounts: { 'kid-1': key } });
  if (pebble === null) return;
  await using upstream = await RecordingUpstream.start();
  pebble.lost.add('lost.example.com');
  const hosts = ['a.example.com', 'lost.example.com', 'b.example.com'];
  await using guard = await startAcmeGuard(pebble, {
    hosts,
    upstream: upstream.url,
    prepare: (directory) => {
      writeFileIn(directory, 'external.key', `${key}\n`, 0o600);
    },
    acme: { external_account: { key_id: 'kid-1', key: { file: 'external.key' } } },
  });
  const { tlsPort: port } = pebble;
  const admin = { port: guard.adminPort };
  const ready = async (): Promise<{ readonly status: number; readonly body: string }> => {
    const { status, body } = await request(admin, { path: '/readyz' });
    return { status, body: body.toString() };
  };

  await guard.issued('a.example.com');
  await guard.issued('b.example.com');
  const root = await pebble.root();

  await t.test('SNI picks it, and it leads to the root of the authority', async () => {
    for (const host of ['a.example.com', 'b.example.com']) {
      const shown = await shakeHands(port, host, { ca: root });
      assert.equal(namesOf(shown), `DNS:${host}`);
      assert.equal(namesOf(await shakeHands(port, host, { ca: root, maxVersion: 'TLSv1.2' })), `DNS:${host}`);
    }
    const tls = { ca: root, servername: 'b.example.com' };
    const answer = await request({ port, tls }, { path: '/thing', token: guard.token.token, host: 'b.example.com' });
    assert.equal(answer.status, 200);
  });

  await t.test(
    'a host that the authority does not reach: said why, others are served, tokens are not told',
    async () => {
      const line = await guard.said('acme.failed', 'lost.example.com');
      assert.equal(line['level'], 'ERROR');
      assert.match(
        String(line['msg']),
        /no new certificate of "lost\.example\.com": localhost:\d+: it did not find by .* that the host is ours/,
      );
      for (const maxVersion of [{}, { maxVersion: 'TLSv1.2' }] as const) {
        assert.match(namesOf(await shakeHands(port, 'lost.example.com', maxVersion)), NO_CERTIFICATE);
        assert.match(namesOf(await shakeHands(port, '', maxVersion)), NO_CERTIFICATE);
      }
      const { status, body } = await ready();
      assert.equal(status, 503);
      assert.match(body, /without a certificate: lost\.example\.com: /);
      const tokens = [...pebble.output.matchAll(/acme-challenge\/([\w-]+)|token[^\w]+([\w-]{43})/g)];
      for (const [, one, other] of tokens) assert.ok(!guard.process.stdout.includes(one ?? other ?? ''));
    },
  );

  await t.test('doctor says the same of what is on the disk', async () => {
    const { stdout } = await runGuardbee(['doctor', '--policy', guard.policyFile, '--json']);
    const findings = JSON.parse(stdout) as readonly Readonly<Record<string, string>>[];
    const said = (host: string) => findings.find(({ check }) => check === `certificate ${host}`);
    assert.equal(said('a.example.com')?.['status'], 'ok');
    assert.match(said('a.example.com')?.['detail'] ?? '', /^valid until 20.*, renewed from 20/);
    assert.equal(said('lost.example.com')?.['status'], 'failed');
    assert.match(said('lost.example.com')?.['detail'] ?? '', /^there is none: localhost:\d+: it did not find/);
  });

  await t.test('so does cert issued', async () => {
    const { code, stdout } = await runGuardbee(['cert', 'issued', guard.policyFile, '--json']);
    assert.equal(code, 1);
    const { hosts: told } = JSON.parse(stdout) as { readonly hosts: readonly Readonly<Record<string, unknown>>[] };
    assert.deepEqual(
      told.map(({ host, status, issued_by: by }) => [host, status, by]),
      [
        ['a.example.com', 'valid', pebble.directoryUrl],
        ['lost.example.com', 'none', null],
        ['b.example.com', 'valid', pebble.directoryUrl],
      ],
    );
    assert.match(String(told[0]?.['renewed_from']), /^20/);
    assert.doesNotMatch(stdout, /PRIVATE KEY/);
  });

  await t.test('no challenge is answered any more, and the plain port redirects as ever', async () => {
    assert.match(namesOf(await shakeHands(port, 'a.example.com', { alpn: 'acme-tls/1' })), /NO_APPLICATION_PROTOCOL/);
    const path = '/.well-known/acme-challenge/abcdefghijklmnopqrstuvwxyz';
    const answer = await request({ port: pebble.httpPort }, { path, host: 'a.example.com' });
    assert.equal(answer.status, 308);
  });

  await t.test('a reload tries again at once; then everything is ready', async () => {
    pebble.lost.clear();
    guard.process.signal('SIGHUP');
    await guard.issued('lost.example.com');
    assert.equal(namesOf(await shakeHands(port, 'lost.example.com', { ca: root })), 'DNS:lost.example.com');
    assert.equal(namesOf(await shakeHands(port, '')), 'DNS:a.example.com');
    assert.equal((await ready()).status, 200);
    const metrics = (await request(admin, { path: '/metrics' })).body.toString();
    assert.match(metrics, /guardbee_acme_orders_total\{host="a\.example\.com",result="ok"\} 1/);
    assert.match(metrics, /guardbee_acme_orders_total\{host="lost\.example\.com",result="failed"\} 1/);
    assert.match(metrics, /guardbee_acme_last_success_timestamp_seconds\{host="b\.example\.com"\} 1\.\d+e\+09|\d{10}/);
  });

  await t.test('what is kept is open to nobody else', () => {
    const dir = join(guard.stateDir, 'acme');
    const entries = readdirSync(dir, { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
      assert.equal(mode, entry.isDirectory() ? 0o700 : 0o600, entry.name);
    }
    assert.deepEqual(
      entries
        .filter((entry) => entry.isFile())
        .map((entry) => entry.name)
        .sort(),
      ['account.json', ...hosts.flatMap(() => ['certificate.pem']), ...hosts.flatMap(() => ['status.json'])].sort(),
    );
    const secret = /-----BEGIN PRIVATE KEY-----\n(.{20})/.exec(
      readFileSync(join(dir, 'hosts/a.example.com/certificate.pem'), 'utf8'),
    );
    assert.ok(!guard.process.stdout.includes(key));
    assert.ok(secret?.[1] !== undefined && !guard.process.stdout.includes(secret[1]));
  });
});
