import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect, createServer } from 'node:tls';
import { inspect, promisify } from 'node:util';
import { generate } from 'selfsigned';
import type { CertificatePair } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { CertificateError, describeCertificate } from '../../src/server/certificate.js';
import type { CertificateErrorCode } from '../../src/server/certificate.js';
import { ensureSelfSigned } from '../../src/server/self-signed.js';
import { createSniContexts } from '../../src/server/sni-contexts.js';
import { TestAuthority } from '../support/certificates.js';
import type { KeyPair } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const run = promisify(execFile);

const pairOf = ({ cert, key }: KeyPair, name = 'queen'): CertificatePair => ({
  certFile: `/tls/${name}.crt`,
  keyFile: `/tls/${name}.key`,
  certPem: cert,
  key: Secret.fromText(key),
});

function portOf(server: { address(): AddressInfo | string | null }): number {
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

test('a certificate is described by what is in it', async () => {
  const authority = await TestAuthority.create('hive authority');
  const notBefore = new Date('2026-01-02T03:04:05Z');
  const notAfter = new Date('2055-06-07T08:09:10Z');
  const names = ['Queen.lan', '*.hive.lan', '10.0.0.1', '2001:db8::1'];
  const { cert } = await authority.issue({ commonName: 'queen', names, notBefore, notAfter });
  const said = describeCertificate(cert);
  assert.equal(said.subject, 'CN=queen');
  assert.equal(said.issuer, 'CN=hive authority');
  assert.deepEqual(said.names, ['queen.lan', '*.hive.lan', '10.0.0.1', '2001:db8::1']);
  assert.deepEqual(said.notBefore, notBefore);
  assert.deepEqual(said.notAfter, notAfter);
  assert.match(said.fingerprint256, /^(?:[\dA-F]{2}:){31}[\dA-F]{2}$/);
  assert.equal(said.selfSigned, false);
  assert.equal(describeCertificate(authority.ca).selfSigned, true);
  assert.deepEqual(describeCertificate(authority.ca).names, []);
  // A chain is described by its first certificate.
  assert.equal(describeCertificate(`${cert}\n${authority.ca}`).subject, 'CN=queen');
});

test('a name that pretends to be several is none', async () => {
  const names = ['a.example, DNS:evil.example', 'b.example', 'c"d', 'e.example'];
  const { cert } = await generate([{ name: 'commonName', value: 'x' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [{ name: 'subjectAltName', altNames: names.map((value) => ({ type: 2, value })) }],
  });
  assert.deepEqual(describeCertificate(cert).names, ['b.example', 'e.example']);
});

test('what is not a PEM certificate is said to be none', async () => {
  const { key } = await (await TestAuthority.create()).issue();
  const texts = ['', 'x', key, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', '\0'.repeat(100)];
  for (const text of texts) {
    assert.throws(
      () => describeCertificate(text),
      (error) => error instanceof CertificateError && error.code === 'bad_certificate' && error.file === null,
    );
  }
});

test('a handshake gets the exact name, then the wildcard of one label, then the first certificate', async () => {
  const authority = await TestAuthority.create();
  const first = await authority.issue({ commonName: 'first', names: ['first.lan', '192.0.2.1'] });
  const wild = await authority.issue({ commonName: 'wild', names: ['*.hive.lan', 'first.lan'] });
  const exact = await authority.issue({ commonName: 'exact', names: ['queen.hive.lan'] });
  const contexts = createSniContexts([pairOf(first), pairOf(wild), pairOf(exact)]);
  const server = createServer({
    ...contexts.defaultOptions(),
    SNICallback: (servername, done) => {
      done(null, contexts.select(servername));
    },
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const shown = async (servername: string): Promise<string> => {
    const socket = connect({
      port: portOf(server),
      host: '127.0.0.1',
      ca: authority.ca,
      servername,
      checkServerIdentity: () => undefined,
    });
    await once(socket, 'secureConnect');
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return String(subject.CN);
  };
  try {
    const cases: readonly (readonly [servername: string, commonName: string])[] = [
      ['first.lan', 'first'],
      ['queen.hive.lan', 'exact'],
      ['QUEEN.Hive.LAN', 'exact'],
      ['worker.hive.lan', 'wild'],
      ['WORKER.hive.lan', 'wild'],
      ['a.worker.hive.lan', 'first'],
      ['hive.lan', 'first'],
      ['elsewhere.example', 'first'],
      ['', 'first'],
    ];
    for (const [servername, commonName] of cases) assert.equal(await shown(servername), commonName, servername);
  } finally {
    server.close();
  }
});

test('a name picks its certificate whatever types of keys the others have', async () => {
  const pairs = await Promise.all(
    (['ec', 'rsa'] as const).map(async (keyType) => {
      const { cert, private: key } = await generate([{ name: 'commonName', value: `${keyType}.lan` }], {
        keyType,
        algorithm: 'sha256',
        extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: `${keyType}.lan` }] }],
      });
      return pairOf({ cert, key }, keyType);
    }),
  );
  const ca = pairs.map((pair) => pair.certPem);
  for (const ordered of [pairs, pairs.toReversed()]) {
    const contexts = createSniContexts(ordered);
    const server = createServer({
      ...contexts.defaultOptions(),
      SNICallback: (servername, done) => {
        done(null, contexts.select(servername));
      },
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const first = ordered[0] === pairs[0] ? 'ec.lan' : 'rsa.lan';
    try {
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        for (const servername of ['ec.lan', 'rsa.lan', 'elsewhere.lan', '']) {
          const socket = connect({
            port: portOf(server),
            host: '127.0.0.1',
            ca,
            servername,
            maxVersion,
            checkServerIdentity: () => undefined,
          });
          await once(socket, 'secureConnect');
          const expected = servername === 'rsa.lan' || servername === 'ec.lan' ? servername : first;
          assert.equal(socket.getPeerCertificate().subject.CN, expected, `${maxVersion} ${servername}, first ${first}`);
          socket.destroy();
        }
      }
    } finally {
      server.close();
    }
  }
});

test('names are chosen without regard to what an object happens to have', async () => {
  const authority = await TestAuthority.create();
  const contexts = createSniContexts([
    pairOf(await authority.issue({ names: ['first.lan'] })),
    pairOf(await authority.issue({ names: ['*.hive.lan', 'queen.lan', '10.0.0.1'] })),
  ]);
  const second = contexts.select('queen.lan');
  assert.notEqual(second, contexts.defaultContext);
  for (const name of ['queen.lan.', 'a.hive.lan', '10.0.0.1']) assert.equal(contexts.select(name), second, name);
  for (const name of ['', '.', '..', '.hive.lan', 'constructor', '__proto__', 'hive.lan', '*', 'x'.repeat(100_000)]) {
    assert.equal(contexts.select(name), contexts.defaultContext, name.slice(0, 40));
  }
});

test('TLS 1.2 is the least a context speaks, whatever the process was started with', async () => {
  const authority = await TestAuthority.create();
  const contexts = createSniContexts([pairOf(await authority.issue())]);
  assert.equal(contexts.defaultOptions().minVersion, 'TLSv1.2');
  assert.equal(
    createSniContexts([pairOf(await authority.issue())], { minVersion: 'TLSv1.3' }).defaultOptions().minVersion,
    'TLSv1.3',
  );
});

test('a key in the same file as its certificate is found', async () => {
  const { cert, key } = await (await TestAuthority.create()).issue();
  createSniContexts([pairOf({ cert: `${cert}\n${key}`, key: `${cert}\n${key}` })]);
  createSniContexts([pairOf({ cert: `${key}\n${cert}`, key: `${key}\n${cert}` })]);
});

test('a pair that cannot serve is refused by name, and nothing of the key is told', async () => {
  const authority = await TestAuthority.create();
  const good = await authority.issue();
  const other = await authority.issue();
  const encrypted = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'hunter2' },
  }).privateKey;
  const body = good.key.split('\n')[1] ?? '';
  const cases: readonly (readonly [pair: KeyPair, code: CertificateErrorCode, message: RegExp])[] = [
    [{ cert: good.cert, key: other.key }, 'key_mismatch', /^\/tls\/queen\.key is not the key of \/tls\/queen\.crt$/],
    [{ cert: good.cert, key: '' }, 'bad_key', /queen\.key is not a PEM private key/],
    [{ cert: good.cert, key: good.cert }, 'bad_key', /queen\.key/],
    [{ cert: good.cert, key: good.key.replace(body, body.slice(8)) }, 'bad_key', /queen\.key/],
    [{ cert: good.cert, key: good.key.replaceAll('-----', '') }, 'bad_key', /queen\.key/],
    [{ cert: good.cert, key: encrypted }, 'key_encrypted', /passphrase.*decrypt/],
    [{ cert: '', key: good.key }, 'bad_certificate', /queen\.crt is not a PEM certificate/],
    [{ cert: good.key, key: good.key }, 'bad_certificate', /queen\.crt/],
    [{ cert: good.cert.slice(0, 200), key: good.key }, 'bad_certificate', /queen\.crt/],
  ];
  for (const [pair, code, message] of cases) {
    assert.throws(
      () => createSniContexts([pairOf(good, 'good'), pairOf(pair)]),
      (error) => {
        assert.ok(error instanceof CertificateError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, message);
        const everything = inspect(error, { depth: 10, showHidden: true });
        for (const line of [...good.key.split('\n'), ...encrypted.split('\n')]) {
          if (line !== '' && !line.startsWith('-')) assert.ok(!everything.includes(line));
        }
        return true;
      },
    );
  }
  assert.throws(() => createSniContexts([]), TypeError);
});

test('a key that OpenSSL finds too short is refused as such', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  const dir = new TemporaryDirectory(t);
  const args = ['req', '-x509', '-newkey', 'rsa:512', '-nodes', '-subj', '/CN=weak', '-days', '1'];
  try {
    await run(openssl, [...args, '-keyout', dir.file('weak.key'), '-out', dir.file('weak.crt')]);
  } catch {
    t.skip('this OpenSSL makes no such key');
    return;
  }
  const cert = readFileSync(dir.file('weak.crt'), 'utf8');
  const key = readFileSync(dir.file('weak.key'), 'utf8');
  assert.throws(
    () => createSniContexts([pairOf({ cert, key })]),
    (error) => error instanceof CertificateError && error.code === 'unusable' && /ERR_SSL_\w+/.test(error.message),
  );
});

test('curl trusts the self-signed certificate by itself, and only for its names', async (t) => {
  const curl = requireComponent('curl', t);
  if (curl === null) return;
  const dir = new TemporaryDirectory(t);
  const made = await ensureSelfSigned(dir.file('tls'), ['queen.lan', 'localhost', '127.0.0.1', '::1']);
  const other = await ensureSelfSigned(dir.file('other'), ['localhost']);
  const contexts = createSniContexts([{ ...made, key: made.keyPem }]);
  const server = createHttpsServer(contexts.defaultOptions(), (_request, response) => response.end('guarded'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  const ask = async (caFile: string, host: string): Promise<string> => {
    const resolve = `${host}:${port}:127.0.0.1`;
    const args = ['-sS', '--noproxy', '*', '--cacert', caFile, '--resolve', resolve, `https://${host}:${port}/`];
    return (await run(curl, args)).stdout;
  };
  try {
    for (const host of ['queen.lan', 'localhost', '127.0.0.1']) assert.equal(await ask(made.certFile, host), 'guarded');
    await assert.rejects(ask(made.certFile, 'hive.lan'), /no alternative certificate subject name|SSL/);
    await assert.rejects(ask(other.certFile, 'localhost'), /self-signed|self signed|unable to get|SSL/);
    const bundle = dir.file('bundle.pem');
    writeFileSync(bundle, other.certPem + made.certPem);
    assert.equal(await ask(bundle, 'localhost'), 'guarded');
  } finally {
    server.close();
  }
});

test('OpenSSL finds nothing against the self-signed certificate at its strictest', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  const made = await ensureSelfSigned(new TemporaryDirectory(t).path, ['localhost']);
  const purpose = ['-purpose', 'sslserver', '-verify_hostname', 'localhost'];
  const { stdout } = await run(openssl, [
    'verify',
    '-x509_strict',
    ...purpose,
    '-CAfile',
    made.certFile,
    made.certFile,
  ]);
  assert.match(stdout, /: OK/);
});
