import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { type ConnectionOptions, type TLSSocket, connect } from 'node:tls';
import { TestAuthority, writeKeyPair } from '../support/certificates.js';
import { simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

async function handshake(port: number, ca: string, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port, ca, checkServerIdentity: () => undefined, ...options });
  await once(socket, 'secureConnect');
  return socket;
}

test('TLS is 1.2 at least, speaks HTTP/2 and HTTP/1.1, and picks the certificate by name', async () => {
  using dir = new TemporaryDirectory();
  const authority = await TestAuthority.create();
  const queen = writeKeyPair(dir, await authority.issue({ names: ['queen.lan'], commonName: 'queen' }), 'queen');
  const hive = writeKeyPair(dir, await authority.issue({ names: ['*.hive.lan'], commonName: 'hive' }), 'hive');
  const token = tokenPair();
  const policy = simplePolicy({
    upstream: 'http://127.0.0.1:9',
    stateDir: dir.file('state'),
    tokens: [{ name: 'me', roles: ['viewer'], sha256: token.sha256 }],
    listener: {
      tls: {
        certificates: [
          { cert: queen.certFile, key: queen.keyFile },
          { cert: hive.certFile, key: hive.keyFile },
        ],
      },
    },
  });
  await using guardbee = startGuardbee({ args: ['run', '--policy', writePolicy(dir, policy)] });
  const line = await guardbee.waitForLog((one) => one['event.name'] === 'listener.open', 20_000);
  const port = Number(new URL(String(line['url.full'])).port);

  const names: [string | undefined, string][] = [
    ['queen.lan', 'queen'],
    ['a.hive.lan', 'hive'],
    ['elsewhere.lan', 'queen'],
    [undefined, 'queen'],
  ];
  for (const [servername, expected] of names) {
    const socket = await handshake(port, authority.ca, servername === undefined ? {} : { servername });
    assert.equal(socket.getPeerCertificate().subject.CN, expected, servername);
    assert.equal(socket.getProtocol(), 'TLSv1.3');
    socket.destroy();
  }
  const h2 = await handshake(port, authority.ca, { ALPNProtocols: ['h2', 'http/1.1'] });
  assert.equal(h2.alpnProtocol, 'h2');
  h2.destroy();
  const h1 = await handshake(port, authority.ca, { ALPNProtocols: ['http/1.1'], maxVersion: 'TLSv1.2' });
  assert.equal(h1.alpnProtocol, 'http/1.1');
  assert.equal(h1.getProtocol(), 'TLSv1.2');
  h1.destroy();
  await assert.rejects(
    handshake(port, authority.ca, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
  );
  await assert.rejects(handshake(port, authority.ca, { ALPNProtocols: ['spdy/3'] }));
  for (const servername of ['queen.lan', 'a.hive.lan']) {
    const modern = { servername, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' } as const;
    (await handshake(port, authority.ca, modern)).destroy();
    for (const ciphers of ['ECDHE-ECDSA-AES256-SHA384', 'ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES128-CCM8']) {
      await assert.rejects(handshake(port, authority.ca, { ...modern, ciphers }), ciphers);
    }
  }
  await guardbee.kill('SIGTERM', 20_000);
});
