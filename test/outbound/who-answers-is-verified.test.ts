import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { X509Certificate, createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { generate } from 'selfsigned';
import { type KeyPair, TestAuthority } from '../support/certificates.js';
import { type Guard, assertUntouched, startGuard } from '../support/guard.js';
import { type PolicyValue, writeFileIn } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { FarSide } from './far-side.js';

const DAY_MS = 86_400_000;

function pinOf(cert: string): string {
  const key = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256/${createHash('sha256').update(key).digest('base64')}`;
}

/** A certificate that nobody else vouches for, without a subjectAltName where no name is given. */
async function selfSigned(name: string | null): Promise<KeyPair> {
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      ...(name === null ? [] : [{ name: 'subjectAltName' as const, altNames: [{ type: 2 as const, value: name }] }]),
    ],
  });
  return { cert: made.cert, key: made.private };
}

const LINK: Readonly<Record<string, PolicyValue>> = {
  outbound: true,
  local_identity: { name: 'runner', roles: ['operator'] },
};

describe('who answers behind an outbound listener is verified', () => {
  const far = new Map<string, FarSide>();
  let plain: Server;
  let guard: Guard;

  const side = (name: string): FarSide => {
    const found = far.get(name);
    assert.ok(found !== undefined);
    return found;
  };

  before(async () => {
    const authority = await TestAuthority.create();
    const other = await TestAuthority.create('another authority');
    const clients = await TestAuthority.create('authority of clients');
    const server = await authority.issue();
    const own = await selfSigned('localhost');
    const nameless = await selfSigned(null);
    const client = await clients.issue({ commonName: 'runner-1', usage: 'client' });
    const start = async (name: string, pair: KeyPair, more: object = {}): Promise<void> => {
      far.set(name, await FarSide.start({ ...pair, ...more }));
    };
    await start('good', server);
    await start('untrusted', await other.issue());
    await start('expired', await authority.issue({ notAfter: new Date(Date.now() - DAY_MS) }));
    await start('early', await authority.issue({ notBefore: new Date(Date.now() + DAY_MS) }));
    await start('named', await authority.issue({ names: ['queen.lan'] }));
    await start('client', await authority.issue({ usage: 'client' }));
    await start('own', own);
    await start('nameless', nameless);
    await start('mtls', server, { requestCert: true, rejectUnauthorized: true, ca: clients.ca });
    await start('old', server, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' });
    plain = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    }).listen(0, '127.0.0.1');
    await once(plain, 'listening');
    const address = plain.address();
    assert.ok(address !== null && typeof address === 'object');

    const to = (name: string, tls: Record<string, PolicyValue> = {}): Record<string, PolicyValue> => ({
      ...LINK,
      upstream: side(name).url,
      upstream_tls: { ca: 'far.pem', ...tls },
    });
    guard = await startGuard({
      upstream: 'http://127.0.0.1:9',
      prepare: (directory) => {
        writeFileIn(directory, 'far.pem', authority.ca);
        writeFileIn(directory, 'own.pem', own.cert);
        writeFileIn(directory, 'nameless.pem', nameless.cert);
        writeFileIn(directory, 'runner.crt', client.cert);
        writeFileIn(directory, 'runner.key', client.key);
      },
      listeners: {
        good: to('good'),
        by_address: { ...to('good'), upstream: `https://127.0.0.1:${String(side('good').port)}` },
        untrusted: to('untrusted'),
        node_roots: { ...LINK, upstream: side('good').url },
        expired: to('expired'),
        early: to('early'),
        wrong_name: to('named'),
        server_name: to('named', { server_name: 'queen.lan' }),
        client: to('client'),
        own: to('own', { ca: 'own.pem' }),
        nameless: to('nameless', { ca: 'nameless.pem' }),
        pinned: to('good', { spki: [pinOf(own.cert), pinOf(server.cert)] }),
        wrong_key: to('good', { spki: [pinOf(own.cert)] }),
        mtls: to('mtls', { client_certificate: { cert: 'runner.crt', key: 'runner.key' } }),
        unshown: to('mtls'),
        old: to('old'),
        plain: { ...to('good'), upstream: `https://127.0.0.1:${String(address.port)}` },
      },
      // Certificates are verified whatever the environment says.
      env: { NODE_TLS_REJECT_UNAUTHORIZED: '0' },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    for (const one of far.values()) await one[Symbol.asyncDispose]();
    plain.close();
  });

  const GOOD: readonly (readonly [listener: string, far: string, servername: string])[] = [
    ['good', 'good', 'localhost'],
    // Nobody is asked for an address by name.
    ['by_address', 'good', ''],
    ['server_name', 'named', 'queen.lan'],
    ['own', 'own', 'localhost'],
    ['pinned', 'good', 'localhost'],
    ['mtls', 'mtls', 'localhost'],
  ];
  for (const [listener, name, servername] of GOOD) {
    test(`${listener}: requests go out`, async () => {
      const answer = await request(guard.target(listener), { path: `/${listener}`, method: 'POST', body: 'hello' });
      assert.equal(answer.status, 200);
      const seen = side(name).upstream.connections.flatMap(({ requests }) => requests);
      assert.ok(seen.some(({ target }) => target === `/${listener}`));
      assert.equal(side(name).handshakes.at(-1)?.servername, servername);
    });
  }

  test('the certificate of the policy is what is shown', () => {
    assert.equal(side('mtls').handshakes.at(-1)?.shown, 'runner-1');
  });

  const BAD: readonly (readonly [listener: string, far: string, reason: string])[] = [
    ['untrusted', 'untrusted', 'upstream_certificate_untrusted'],
    ['expired', 'expired', 'upstream_certificate_expired'],
    ['early', 'early', 'upstream_certificate_expired'],
    ['client', 'client', 'upstream_certificate_untrusted'],
    ['nameless', 'nameless', 'upstream_certificate_wrong_name'],
  ];
  for (const [listener, name, reason] of BAD) {
    test(`${listener}: ${reason}, and nothing was sent`, async () => {
      for (const body of [undefined, 'a secret']) {
        const answer = await request(guard.target(listener), {
          path: '/secret',
          ...(body === undefined ? {} : { method: 'POST', body }),
        });
        assert.equal(answer.status, 502);
        assert.equal(answer.header('content-type'), 'application/problem+json');
        const line = await guard.record(answer.header('x-request-id') ?? '');
        assert.equal(line['guardbee.reason'], reason);
        assert.equal(line['level'], 'ERROR');
      }
      assertUntouched(side(name).upstream);
    });
  }

  const UNSENT: readonly (readonly [listener: string, reason: string])[] = [
    ['node_roots', 'upstream_certificate_untrusted'],
    ['wrong_name', 'upstream_certificate_wrong_name'],
    ['wrong_key', 'upstream_certificate_wrong_key'],
    ['unshown', 'upstream_refused_certificate'],
    ['old', 'upstream_tls_failed'],
    ['plain', 'upstream_tls_failed'],
  ];
  for (const [listener, reason] of UNSENT) {
    test(`${listener}: ${reason}`, async () => {
      const answer = await request(guard.target(listener), { path: `/unsent-${listener}` });
      assert.equal(answer.status, 502);
      const line = await guard.record(answer.header('x-request-id') ?? '');
      assert.equal(line['guardbee.reason'], reason);
      for (const { upstream } of far.values()) {
        for (const { requests } of upstream.connections)
          assert.ok(requests.every(({ target }) => target !== `/unsent-${listener}`));
      }
    });
  }

  test('doctor says what is wrong with whom', async () => {
    const { stdout } = await runGuardbee(['doctor', '--policy', guard.policyFile]);
    for (const [name, words] of [
      ['untrusted', 'FAIL .*of no authority that is trusted here'],
      ['expired', 'FAIL .*has expired or is not valid yet'],
      ['own', 'ok .*is who it should be'],
      ['old', 'FAIL .*speaks no TLS 1.2'],
    ] as const) {
      const [verdict = '', rest = ''] = words.split(/ (.*)/);
      assert.match(stdout, new RegExp(`^${verdict} +upstream ${side(name).url}: ${rest}`, 'm'), name);
    }
  });
});
