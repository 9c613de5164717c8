import assert from 'node:assert/strict';
import { createServer as createTlsServer } from 'node:https';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { type Fetched, type Fetching, JwksSource, fetchJwks } from '../../src/identity/jwks.js';
import { type VerificationKey, readJwkSet } from '../../src/policy/verification-key.js';
import { testCertificates } from '../support/certificates.js';
import { assertUntouched, startGuard } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { KeyServer, issuerKey, jwkOf, makeToken } from '../support/token-issuer.js';
import { waitUntil } from '../support/wait.js';

const a = issuerKey('a', 'P-256');
const b = issuerKey('b', 'P-256');

function setOf(...jwks: readonly object[]): readonly VerificationKey[] {
  const read = readJwkSet(Buffer.from(JSON.stringify({ keys: jwks })));
  assert.ok(read.ok);
  return read.value;
}

/** A source whose clock and server the test is. */
class Played {
  nowMs = 0;
  fetches = 0;
  readonly source: JwksSource;
  #answer: ((fetched: Fetched) => void) | null = null;

  constructor() {
    this.source = new JwksSource({
      url: 'https://idp.example.com/jwks',
      ticks: () => this.nowMs,
      fetch: (): Fetching => {
        this.fetches += 1;
        const keys = new Promise<Fetched>((resolve) => (this.#answer = resolve));
        return { keys, abort: () => this.#answer?.({ ok: false, fault: 'unreachable' }) };
      },
    });
    this.source.start();
  }

  async answer(fetched: Fetched | readonly object[]): Promise<void> {
    this.#answer?.('ok' in fetched ? fetched : { ok: true, keys: setOf(...fetched) });
    await new Promise((resolve) => setImmediate(resolve));
  }

  kids(kid: string | null): (string | null)[] | null | 'later' {
    const found = this.source.fitting(kid, 'ES256');
    if (found instanceof Promise) return 'later';
    return found?.map((key) => key.kid) ?? null;
  }
}

const DOWN: Fetched = { ok: false, fault: 'unreachable' };

describe('keys are kept', () => {
  test('a known key is had at once, also while a fetch is underway', async () => {
    const played = new Played();
    assert.equal(played.kids('a'), 'later');
    await played.answer([jwkOf(a)]);
    assert.deepEqual(played.kids('a'), ['a']);
    played.nowMs = 31_000;
    assert.equal(played.kids('new'), 'later');
    assert.deepEqual(played.kids('a'), ['a']);
    played.source.stop();
  });

  test('an unknown kid is asked for once in a cool-down, by however many', async () => {
    const played = new Played();
    await played.answer([jwkOf(a)]);
    for (let i = 0; i < 1000; i += 1) assert.deepEqual(played.kids(`unknown-${String(i)}`), []);
    assert.equal(played.fetches, 1);
    played.nowMs = 30_000;
    for (let i = 0; i < 1000; i += 1) assert.equal(played.kids(`unknown-${String(i)}`), 'later');
    assert.equal(played.fetches, 2);
    await played.answer([jwkOf(a)]);
    assert.deepEqual(played.kids('unknown'), []);
    played.source.stop();
  });

  test('rotation: the new key is found, the one that left counts no more, the one that stayed is the same', async () => {
    const played = new Played();
    await played.answer([jwkOf(a), jwkOf(b)]);
    const [keyA, keyB] = [played.source.fitting('a', 'ES256'), played.source.fitting('b', 'ES256')].map(
      (found) => (found as readonly VerificationKey[])[0]!,
    );
    played.nowMs = 30_000;
    const asked = played.source.fitting('c', 'ES256');
    const c = issuerKey('c', 'P-256');
    await played.answer([jwkOf(b), jwkOf(c)]);
    assert.deepEqual(
      (await asked)?.map((key) => key.kid),
      ['c'],
    );
    assert.equal(played.source.holds(keyA!), false);
    assert.equal(played.source.holds(keyB!), true);
    // The same name with another key is another key.
    played.nowMs = 60_000;
    void played.source.fitting('d', 'ES256');
    await played.answer([{ ...jwkOf(c), kid: 'b' }]);
    assert.equal(played.source.holds(keyB!), false);
    played.source.stop();
  });

  test('a server that fails takes nothing away, and is called stale after a while', async () => {
    const played = new Played();
    await played.answer([jwkOf(a)]);
    played.nowMs = 30_000;
    void played.source.fitting('x', 'ES256');
    await played.answer(DOWN);
    assert.deepEqual(played.kids('a'), ['a']);
    assert.deepEqual(played.source.state, { state: 'fresh', ageSeconds: 30, failures: 1, fault: 'unreachable' });
    played.nowMs = 1_000_000;
    assert.equal(played.source.state.state, 'stale');
    assert.deepEqual(played.kids('a'), ['a']);
    played.source.stop();
  });

  test('without any keys there are none, and waits grow from a second to the cool-down', async () => {
    const played = new Played();
    await played.answer(DOWN);
    for (const waitMs of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      played.nowMs += waitMs - 1;
      assert.equal(played.kids('a'), null, `too early for ${String(waitMs)}`);
      played.nowMs += 1;
      assert.equal(played.kids('a'), 'later');
      await played.answer(DOWN);
    }
    assert.equal(played.source.state.state, 'never_loaded');
    played.source.stop();
    played.nowMs += 60_000;
    assert.equal(played.kids('a'), null, 'asked after its end');
  });
});

describe('what a server answers', () => {
  const limits = { timeoutMs: 300, bytes: 2000 };
  const symmetric = { kty: 'oct', k: 'c2VjcmV0', kid: 's' };
  const whole = JSON.stringify({ keys: [jwkOf(a)] });
  const rows: readonly (readonly [string, (response: ServerResponse) => void, string])[] = [
    ['keys', KeyServer.keys([jwkOf(a)]), 'a'],
    ['keys among others', KeyServer.keys([{ kty: 'AKP' }, 7, { ...jwkOf(b), use: 'enc' }, jwkOf(a)] as object[]), 'a'],
    ['a symmetric key', KeyServer.keys([jwkOf(a), symmetric]), 'no_keys'],
    ['a private key', KeyServer.keys([{ ...a.privateKey.export({ format: 'jwk' }), kid: 'a' }]), 'no_keys'],
    ['an empty set', KeyServer.keys([]), 'no_keys'],
    ['a page', (response) => response.end('<html>'), 'no_keys'],
    ['nothing', (response) => response.end(), 'no_keys'],
    ['an error', (response) => response.writeHead(500).end(whole), 'status'],
    ['a redirect', (response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), 'redirect'],
    ['gzip', (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(whole), 'encoded'],
    ['too much, said ahead', (response) => response.end(' '.repeat(3000) + whole), 'too_large'],
    ['too much without end', flood, 'too_large'],
    ['half of it', (response) => half(response, whole), 'unreachable'],
    ['silence', () => undefined, 'timeout'],
    ['a head and silence', (response) => response.writeHead(200).flushHeaders(), 'timeout'],
    ['nonsense', (response) => response.socket?.end('SSH-2.0-x\r\n'), 'unreachable'],
  ];
  function flood(response: ServerResponse): void {
    response.on('drain', () => response.write('x'.repeat(1000)));
    while (response.write('x'.repeat(1000)));
  }
  function half(response: ServerResponse, text: string): void {
    response.writeHead(200, { 'content-length': text.length });
    response.write(text.slice(0, 20), () => response.destroy());
  }
  for (const [what, answer, expected] of rows) {
    test(`${what}: ${expected}`, async () => {
      await using server = await KeyServer.start();
      server.answer = answer;
      const fetched = await fetchJwks(server.url, limits).keys;
      assert.equal(fetched.ok ? fetched.keys.map((key) => key.kid).join() : fetched.fault, expected);
      assert.deepEqual(server.asked, ['/jwks']);
    });
  }

  test('nobody there: unreachable', async () => {
    const server = await KeyServer.start();
    const { url } = server;
    await server.close();
    assert.deepEqual(await fetchJwks(url).keys, { ok: false, fault: 'unreachable' });
  });

  test('plain HTTP by a name that is this machine, and not to another machine', async () => {
    await using server = await KeyServer.start([jwkOf(a)]);
    assert.equal((await fetchJwks(`http://localhost:${String(server.port)}/jwks`).keys).ok, true);
  });

  test('TLS is verified, whatever the environment says', async (t) => {
    const { server } = await testCertificates();
    const tls = createTlsServer({ cert: server.cert, key: server.key }, (_, response) => response.end('{}'));
    await new Promise<void>((resolve) => tls.listen(0, '127.0.0.1', resolve));
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
    t.after(() => {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
      tls.close();
      tls.closeAllConnections();
    });
    const { port } = tls.address() as AddressInfo;
    assert.deepEqual(await fetchJwks(`https://127.0.0.1:${String(port)}/`).keys, {
      ok: false,
      fault: 'untrusted_certificate',
    });
  });
});

test('the program: 503 while there are no keys, in once there are, and still in when their server is gone', async () => {
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  await using server = await KeyServer.start();
  server.answer = (response) => response.writeHead(500).end();
  await using guard = await startGuard({
    upstream: upstream.url,
    authenticators: {
      sso: { type: 'jwt', issuer: 'i', audience: 'q', jwks: { url: server.url }, roles_from: 'roles' },
    },
    listener: { authenticate: ['keys', 'sso'] },
    top: { admin: { bind: '127.0.0.1:0' } },
  });
  const exp = Math.floor(Date.now() / 1000) + 600;
  const make = (sub: string): string =>
    makeToken({ alg: 'ES256', kid: 'a' }, { iss: 'i', aud: 'q', sub, exp, roles: ['operator'] }, a.privateKey);
  const first = await request(guard.plain, { token: make('anna') });
  assert.equal(first.status, 503);
  assert.equal(first.header('retry-after'), '5');
  assert.equal(first.header('www-authenticate'), null);
  assertUntouched(upstream);
  const line = await guard.process.waitForLog((one) => one['event.name'] === 'jwks.failed');
  assert.equal(line['guardbee.reason'], 'status');

  const admin = await guard.process.waitForLog((one) => String(one['msg']).includes('admin'));
  const port = Number(new URL(String(admin['url.full'])).port);
  const page = async (path: string): Promise<string> => (await request({ port }, { path })).text();
  assert.match(await page('/readyz'), /"jwks:sso": \{\s*"status": "failed",\s*"detail": "never loaded/);
  assert.match(await page('/metrics'), /guardbee_jwks_age_seconds\{authenticator="sso"\} NaN?/i);

  server.answer = KeyServer.keys([jwkOf(a)]);
  await waitUntil(async () => (await request(guard.plain, { token: make('anna') })).status === 200, 'keys');
  assert.match(await page('/readyz'), /"jwks:sso": \{\s*"status": "ok"/);
  const metrics = await page('/metrics');
  assert.match(metrics, /guardbee_jwks_refresh_failures_total\{authenticator="sso"\} [1-9]/);
  assert.match(metrics, /guardbee_jwks_age_seconds\{authenticator="sso"\} \d/);

  await server.close();
  for (const name of ['anna', 'berta']) {
    assert.equal((await request(guard.plain, { token: make(name) })).status, 200);
  }
});
