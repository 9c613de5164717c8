import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';
import { CertificateError, describeCertificate } from '../../src/server/certificate.js';
import type { CertificateErrorCode } from '../../src/server/certificate.js';
import { ensureSelfSigned } from '../../src/server/self-signed.js';
import { TestAuthority } from '../support/certificates.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const NAMES = ['localhost', '127.0.0.1', '::1'];
const DAY_MS = 86_400_000;

const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

async function refused(promise: Promise<unknown>, code: CertificateErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof CertificateError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.ok(!error.message.includes('PRIVATE KEY'));
    return true;
  });
}

test('a missing certificate is made, in a private directory, for all names and a little more than a year', async (t) => {
  const dir = new TemporaryDirectory(t).file('state', 'tls');
  const nowMs = Date.now();
  const made = await ensureSelfSigned(
    dir,
    ['Queen.LAN.', '*.hive.lan', '127.0.0.1', '0:0::1', '::ffff:10.0.0.1'],
    nowMs,
  );

  assert.equal(made.created, true);
  assert.deepEqual([mode(dir), mode(made.certFile), mode(made.keyFile)], ['700', '644', '600']);
  assert.deepEqual(readdirSync(dir).sort(), ['self-signed.crt', 'self-signed.key']);
  assert.equal(readFileSync(made.certFile, 'utf8'), made.certPem);
  assert.equal(readFileSync(made.keyFile, 'utf8'), made.keyPem.reveal());
  assert.equal(String(made.keyPem), '[secret]');

  const said = describeCertificate(made.certPem);
  assert.deepEqual([...said.names].sort(), ['*.hive.lan', '10.0.0.1', '127.0.0.1', '::1', 'queen.lan']);
  assert.ok(said.selfSigned);
  assert.ok(said.notBefore.getTime() < nowMs);
  assert.equal(Math.round((said.notAfter.getTime() - said.notBefore.getTime()) / DAY_MS), 397);

  const certificate = new X509Certificate(made.certPem);
  assert.equal(certificate.ca, false);
  assert.equal(certificate.publicKey.asymmetricKeyType, 'ec');
  assert.deepEqual(certificate.publicKey.asymmetricKeyDetails, { namedCurve: 'prime256v1' });
  assert.ok(certificate.checkPrivateKey(createPrivateKey(made.keyPem.reveal())));
  assert.equal(certificate.checkHost('queen.lan'), 'queen.lan');
  assert.equal(certificate.checkIP('10.0.0.1'), '10.0.0.1');
});

test('it serves on while it covers the same names, however they are written, and is not about to end', async (t) => {
  const dir = new TemporaryDirectory(t).path;
  const first = await ensureSelfSigned(dir, NAMES);
  const again = await ensureSelfSigned(dir, ['0::1', 'LOCALHOST', '127.0.0.1', 'localhost']);
  assert.equal(again.created, false);
  assert.equal(again.certPem, first.certPem);
  assert.equal(again.keyPem.reveal(), first.keyPem.reveal());

  const later = await ensureSelfSigned(dir, NAMES, Date.now() + 366 * DAY_MS);
  assert.equal(later.created, false);
  const soonOver = await ensureSelfSigned(dir, NAMES, Date.now() + 367 * DAY_MS);
  assert.equal(soonOver.created, true);
  assert.notEqual(soonOver.certPem, first.certPem);
  assert.notEqual(soonOver.keyPem.reveal(), first.keyPem.reveal());
  // That one begins in the future for us: a clock that was set back.
  assert.equal((await ensureSelfSigned(dir, NAMES)).created, true);
});

test('other names, a lost or foreign key and a broken certificate each make a new one', async (t) => {
  const dir = new TemporaryDirectory(t);
  const made = async (names = NAMES): Promise<boolean> => (await ensureSelfSigned(dir.path, names)).created;
  assert.equal(await made(), true);
  assert.equal(await made([...NAMES, 'queen.lan']), true);
  assert.equal(await made(NAMES), true, 'a name less');
  assert.equal(await made(), false);

  unlinkSync(dir.file('self-signed.key'));
  assert.equal(await made(), true, 'no key');
  unlinkSync(dir.file('self-signed.crt'));
  assert.equal(await made(), true, 'no certificate');

  // A crash between the two renames: the new key beside the old certificate.
  copyFileSync(dir.file('self-signed.crt'), dir.file('old.crt'));
  unlinkSync(dir.file('self-signed.crt'));
  assert.equal(await made(), true);
  copyFileSync(dir.file('old.crt'), dir.file('self-signed.crt'));
  assert.equal(await made(), true, 'a key that is not its own');

  writeFileSync(dir.file('self-signed.key'), '');
  assert.equal(await made(), true, 'an empty key');
  writeFileSync(dir.file('self-signed.crt'), 'not a certificate');
  assert.equal(await made(), true, 'a broken certificate');
  assert.equal(await made(), false);
  assert.equal(mode(dir.file('self-signed.key')), '600');
});

test('a key that others may read is refused, not used and not repaired in silence', async (t) => {
  const dir = new TemporaryDirectory(t).path;
  const { keyFile } = await ensureSelfSigned(dir, NAMES);
  for (const open of [0o640, 0o604, 0o660, 0o644, 0o610, 0o601]) {
    chmodSync(keyFile, open);
    await refused(ensureSelfSigned(dir, NAMES), 'key_too_open', /open to others \(mode 06.*chmod 600/);
    assert.equal(mode(keyFile), open.toString(8));
  }
  // Nor is it overwritten where a new one would be made.
  await refused(ensureSelfSigned(dir, ['queen.lan']), 'key_too_open', /self-signed\.key/);
  chmodSync(keyFile, 0o400);
  assert.equal((await ensureSelfSigned(dir, NAMES)).created, false);
});

test('a directory in which others could exchange the key is refused', async (t) => {
  const dir = new TemporaryDirectory(t).file('tls');
  mkdirSync(dir);
  for (const open of [0o770, 0o707, 0o777, 0o1777]) {
    chmodSync(dir, open);
    await refused(ensureSelfSigned(dir, NAMES), 'dir_too_open', /others may write.*chmod 700/);
    assert.deepEqual(readdirSync(dir), []);
  }
  chmodSync(dir, 0o755);
  assert.equal((await ensureSelfSigned(dir, NAMES)).created, true);
});

test("a certificate that is somebody's own is not overwritten", async (t) => {
  const dir = new TemporaryDirectory(t);
  const authority = await TestAuthority.create();
  const { cert, key } = await authority.issue({ names: ['queen.lan'] });
  writeFileSync(dir.file('self-signed.crt'), cert);
  writeFileSync(dir.file('self-signed.key'), key, { mode: 0o600 });
  await refused(ensureSelfSigned(dir.path, NAMES), 'not_ours', /move it away/);
  assert.equal(readFileSync(dir.file('self-signed.key'), 'utf8'), key);
  assert.equal(readFileSync(dir.file('self-signed.crt'), 'utf8'), cert);
});

test('links, directories and endless files in its place are refused', async (t) => {
  const dir = new TemporaryDirectory(t);
  const keyFile = dir.file('self-signed.key');
  writeFileSync(dir.file('elsewhere'), 'precious', { mode: 0o600 });
  symlinkSync(dir.file('elsewhere'), keyFile);
  await refused(ensureSelfSigned(dir.path, NAMES), 'not_ours', /self-signed\.key/);
  assert.equal(readFileSync(dir.file('elsewhere'), 'utf8'), 'precious');
  unlinkSync(keyFile);

  symlinkSync('/dev/zero', dir.file('self-signed.crt'));
  await refused(ensureSelfSigned(dir.path, NAMES), 'not_ours', /self-signed\.crt/);
  unlinkSync(dir.file('self-signed.crt'));

  writeFileSync(keyFile, Buffer.alloc(70_000), { mode: 0o600 });
  await refused(ensureSelfSigned(dir.path, NAMES), 'not_ours', /self-signed\.key/);
  unlinkSync(keyFile);

  mkdirSync(keyFile, { mode: 0o700 });
  await refused(ensureSelfSigned(dir.path, NAMES), 'not_ours', /self-signed\.key/);
});

test('what cannot be written says so and leaves nothing behind', async (t) => {
  const dir = new TemporaryDirectory(t);
  writeFileSync(dir.file('file'), '');
  await refused(ensureSelfSigned(dir.file('file', 'tls'), NAMES), 'io', /cannot be kept: ENOTDIR/);
  await refused(ensureSelfSigned(dir.file('file'), NAMES), 'io', /cannot be kept: EEXIST/);
  assert.ok(existsSync(dir.file('file')));
});

test('two starts at once agree on one certificate', async (t) => {
  const dir = new TemporaryDirectory(t).path;
  const all = await Promise.all(Array.from({ length: 5 }, () => ensureSelfSigned(dir, NAMES)));
  assert.equal(all.filter((one) => one.created).length, 1);
  assert.equal(new Set(all.map((one) => one.certPem)).size, 1);
  // A refusal does not stop the next one.
  await Promise.allSettled([ensureSelfSigned(dir, []), ensureSelfSigned(dir, NAMES)]).then(([bad, good]) => {
    assert.equal(bad.status, 'rejected');
    assert.equal(good.status, 'fulfilled');
  });
});

test('only DNS names and IP addresses are put in a certificate', async (t) => {
  const dir = new TemporaryDirectory(t).path;
  const bad = [
    '',
    '.',
    ' ',
    'queen lan',
    'queen.lan:8443',
    '[::1]',
    '1.2.3.4/32',
    '1.2.3',
    '256.1.1.1',
    '010.0.0.1',
    'a.0x7f',
    '-queen.lan',
    'queen-.lan',
    'queen..lan',
    '*',
    '*lan',
    'a.*.lan',
    'queen.lan, DNS:evil',
    'queen.lan\nevil',
    'queen.lan\0',
    'bücher.example',
    'https://queen.lan',
    'a'.repeat(64),
    `${'a.'.repeat(127)}aa`,
  ];
  for (const name of bad) await refused(ensureSelfSigned(dir, [name]), 'bad_name', /neither a DNS name nor/);
  await refused(ensureSelfSigned(dir, []), 'bad_name', /at least one name/);
  assert.deepEqual(readdirSync(dir), []);
  const good = ['queen', 'hive_1', 'xn--bcher-kva.example', '3com.example', '*.lan', 'a'.repeat(63), '2001:db8::1'];
  const made = await ensureSelfSigned(dir, good);
  assert.deepEqual([...describeCertificate(made.certPem).names].sort(), [...good].sort());
});
