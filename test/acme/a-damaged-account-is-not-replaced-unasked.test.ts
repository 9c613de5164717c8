import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { AcmeCertificates, type AcmeNotice } from '../../src/acme/certificates.js';
import { PendingChallenges } from '../../src/acme/pending-challenges.js';
import { testCertificates } from '../support/certificates.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { ScriptedAuthority, settingsOf } from './scripted-authority.js';

const HOST = 'a.example.com';

function caring(stateDir: string, notices: AcmeNotice[]): AcmeCertificates {
  const events = {
    notice: (notice: AcmeNotice) => notices.push(notice),
    exchanged: () => undefined,
    broke: (error: unknown) => {
      throw error;
    },
  };
  return new AcmeCertificates(stateDir, new PendingChallenges(), events);
}

/** A certificate of another authority, which is served and to be replaced at once. */
async function writeCertificate(stateDir: string): Promise<void> {
  const { authority } = await testCertificates();
  const { key, cert } = await authority.issue({ names: [HOST] });
  const folder = path.join(stateDir, 'acme/hosts', HOST);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(path.join(folder, 'certificate.pem'), `${key}${cert}`, { mode: 0o600 });
}

/** Has an account opened. Its order is refused, so that nothing is on its way when this ends. @returns its file */
async function openAccount(authority: ScriptedAuthority, stateDir: string): Promise<string> {
  authority.script = (asked, response) => {
    if (asked.path !== '/new-order') return false;
    response.writeHead(403, { 'content-type': 'application/problem+json', 'replay-nonce': 'n' });
    response.end(JSON.stringify({ type: 'urn:ietf:params:acme:error:rejectedIdentifier' }));
    return true;
  };
  const certificates = caring(stateDir, []);
  await certificates.read([HOST]);
  certificates.install(settingsOf(authority), [HOST]);
  await waitUntil(() => certificates.states()[0]?.failed === 1, 'an order that was refused');
  await certificates.stop();
  authority.script = () => false;
  const folder = path.join(stateDir, 'acme/accounts');
  const [account = ''] = readdirSync(folder);
  return path.join(folder, account, 'account.json');
}

const DAMAGES: readonly (readonly [name: string, damage: (text: string) => string])[] = [
  ['empty', () => ''],
  ['half of it', (text) => text.slice(0, text.length / 2)],
  ['no map', () => 'null'],
  ['no key', (text) => JSON.stringify({ ...(JSON.parse(text) as object), key: undefined })],
  ['a key that is none', (text) => text.replace(/KEY-----\\n.{30}/, 'KEY-----\\n')],
];

for (const [name, damage] of DAMAGES) {
  test(`${name}: said at every attempt, and another account only when the file is moved away`, async () => {
    await using authority = await ScriptedAuthority.start();
    using directory = new TemporaryDirectory();
    const file = await openAccount(authority, directory.path);
    const damaged = damage(readFileSync(file, 'utf8'));
    writeFileSync(file, damaged, { mode: 0o600 });
    await writeCertificate(directory.path);
    authority.asked.length = 0;

    const notices: AcmeNotice[] = [];
    const failures = (): AcmeNotice[] => notices.filter(({ event }) => event === 'acme.failed');
    const certificates = caring(directory.path, notices);
    await certificates.read([HOST]);
    for (const nth of [1, 2]) {
      // As a reload does, which tries at once what failed.
      certificates.install(settingsOf(authority), [HOST]);
      const failed = await waitUntil(() => failures()[nth - 1], `failure ${String(nth)}`);
      assert.equal(failed.level, 'warn');
      assert.ok(failed.message.includes(`: ${file} is damaged: it holds no key of an account; `), failed.message);
      assert.match(failed.message, /move it away: another account is opened then; the one from before is valid until/);
      await waitUntil(() => certificates.states()[0]?.failed === nth, 'the end of the attempt');
    }
    assert.deepEqual(authority.asked, []);
    assert.equal(readFileSync(file, 'utf8'), damaged);
    assert.notEqual(certificates.pairOf(HOST), null);

    renameSync(file, `${file}.damaged`);
    certificates.install(settingsOf(authority), [HOST]);
    await waitUntil(() => authority.asked.some((asked) => asked.path === '/account'), 'another account');
    await certificates.stop();
    assert.match(readFileSync(file, 'utf8'), /BEGIN PRIVATE KEY/);
    assert.equal(readFileSync(`${file}.damaged`, 'utf8'), damaged);
  });
}
