import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { TestAuthority, testCertificates, writeKeyPair } from '../support/certificates.js';
import { writeFileIn } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const DAY_MS = 86_400_000;

test('cert dev makes a pair once, for the names that were asked for', async (t) => {
  const folder = new TemporaryDirectory(t);
  const dir = folder.file('tls');
  const argv = ['cert', 'dev', '--name', 'queen.lan', '192.168.1.10,::1', '--name', 'localhost', '--dir', dir];
  const first = await perform(...argv);
  assert.equal(first.code, 0, first.stderr);
  const certFile = folder.file('tls', 'self-signed.crt');
  const keyFile = folder.file('tls', 'self-signed.key');
  assert.ok(first.stdout.startsWith(`made ${certFile} and ${keyFile}\n`));
  assert.match(first.stdout, /\(39\d days left\)/);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  assert.equal(statSync(keyFile).mode & 0o777, 0o600);
  const certificate = new X509Certificate(readFileSync(certFile));
  for (const name of ['queen.lan', 'localhost']) assert.equal(certificate.checkHost(name), name);
  for (const ip of ['192.168.1.10', '::1']) assert.ok(certificate.checkIP(ip));
  const again = await perform(...argv, '--json');
  const report = JSON.parse(again.stdout) as Record<string, unknown>;
  assert.equal(report['created'], false);
  assert.equal(report['cert'], certFile);
  assert.equal(report['sha256'], certificate.fingerprint256);
  for (const text of [first.stdout, again.stdout]) assert.doesNotMatch(text, /PRIVATE KEY/);
});

test('cert dev refuses what is no name, and a key that others can read', async (t) => {
  const folder = new TemporaryDirectory(t);
  const dir = folder.file('tls');
  const bad = await perform('cert', 'dev', '--name', 'https://queen.lan', '--dir', dir);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /neither a DNS name nor an IP address/);
  assert.equal((await perform('cert', 'dev', '--name', 'queen.lan', '--dir', dir)).code, 0);
  chmodSync(folder.file('tls', 'self-signed.key'), 0o644);
  const open = await perform('cert', 'dev', '--name', 'queen.lan', '--dir', dir);
  assert.equal(open.code, 4);
  assert.match(open.stderr, /chmod 600/);
});

test('cert show says whose it is, for which names, and until when', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { authority } = await testCertificates();
  const notAfter = new Date(Math.floor(Date.now() / 1000) * 1000 + 10.5 * DAY_MS);
  const pair = await authority.issue({ commonName: 'queen', names: ['queen.lan', '10.0.0.1'], notAfter });
  const { certFile } = writeKeyPair(folder, pair);
  const { code, stdout } = await perform('cert', 'show', certFile);
  assert.equal(code, 0);
  assert.match(stdout, /^ {2}subject {6}CN=queen$/m);
  assert.match(stdout, /^ {2}issuer {7}CN=guardbee test authority$/m);
  assert.match(stdout, /^ {2}names {8}queen\.lan, 10\.0\.0\.1$/m);
  assert.ok(stdout.includes(`  not after    ${notAfter.toISOString()} (10 days left)\n`));
  assert.ok(stdout.includes(`  sha256       ${new X509Certificate(pair.cert).fingerprint256}\n`));
});

test('one that is over, or has not begun, exits with 1', async (t) => {
  const folder = new TemporaryDirectory(t);
  const authority = await TestAuthority.create();
  const past = await authority.issue({
    notBefore: new Date(Date.now() - 9 * DAY_MS),
    notAfter: new Date(Date.now() - DAY_MS),
  });
  const future = await authority.issue({ notBefore: new Date(Date.now() + DAY_MS) });
  const over = await perform('cert', 'show', writeKeyPair(folder, past, 'past').certFile);
  assert.equal(over.code, 1);
  assert.match(over.stdout, /\(expired\)/);
  const early = await perform('cert', 'show', '--json', writeKeyPair(folder, future, 'future').certFile);
  assert.equal(early.code, 1);
  const { certificates } = JSON.parse(early.stdout) as { certificates: Record<string, unknown>[] };
  assert.equal(certificates[0]?.['validity'], 'not_yet_valid');
});

test('every certificate of a chain is told, and a key beside them is not', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { ca, server } = await testCertificates();
  const file = writeFileIn(folder, 'all.pem', `${server.key}\n${server.cert}\n${ca}\n`);
  const { code, stdout, stderr } = await perform('cert', 'show', file);
  assert.equal(code, 0);
  assert.match(stdout, /certificate 1 of 2\n[^]*certificate 2 of 2\n/);
  assert.match(stdout, /^ {2}issuer {7}itself$/m);
  const secret = server.key.split('\n')[1] ?? '';
  assert.ok(secret.length > 20 && !`${stdout}${stderr}`.includes(secret));
});

test('what is no certificate is told without being shown', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { server } = await testCertificates();
  const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  const cases = [
    [writeFileIn(folder, 'server.key', server.key), /there is no PEM certificate in it/],
    [writeFileIn(folder, 'broken.crt', broken), /a certificate in it cannot be read/],
    [folder.file('nowhere.crt'), /there is no such file/],
    [folder.path, /it cannot be read/],
  ] as const;
  for (const [file, says] of cases) {
    const { code, stdout, stderr } = await perform('cert', 'show', file);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, says);
    assert.equal(stderr.split('\n').length, 2);
  }
});
