/** What is on the disk of each host: whole, none yet, over, damaged, open to others, of another authority. */
import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { HostFiles, NOTHING_TRIED } from '../../src/acme/files.js';
import { TestAuthority } from '../support/certificates.js';
import { simplePolicy, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const DAY_MS = 86_400_000;
const DIRECTORY = 'https://authority.example.com/directory';

interface Told {
  readonly host: string;
  readonly status: string;
  readonly file: string;
  readonly certificate: Readonly<Record<string, unknown>> | null;
  readonly issued_by: string | null;
  readonly renewed_from: string | null;
  readonly last_failure: { readonly time: string; readonly why: string } | null;
  readonly fault: string | null;
}

/** A policy for these hosts, and what there is of each. */
class Hosts {
  readonly folder: TemporaryDirectory;
  readonly policy: string;
  /** Every line of keys that was written. */
  readonly secrets: string[] = [];
  readonly #authority: TestAuthority;

  private constructor(folder: TemporaryDirectory, hosts: readonly string[], authority: TestAuthority) {
    this.folder = folder;
    this.#authority = authority;
    const built = simplePolicy({
      upstream: 'http://127.0.0.1:9',
      stateDir: folder.file('state'),
      routes: [{ name: 'health', path: '/health', methods: ['GET'], public: true }],
      listener: { hosts: [...hosts], tls: { acme: true } },
      top: { acme: { directory: DIRECTORY, terms_agreed: true } },
    });
    this.policy = writePolicy(folder, built);
  }

  static async of(t: TestContext, ...hosts: readonly string[]): Promise<Hosts> {
    return new Hosts(new TemporaryDirectory(t), hosts, await TestAuthority.create());
  }

  files(host: string): HostFiles {
    return new HostFiles(this.folder.file('state'), host);
  }

  async issue(host: string, fromDays: number, toDays: number, directory = DIRECTORY): Promise<HostFiles> {
    const files = this.files(host);
    await files.prepare();
    const at = (days: number): Date => new Date(Math.floor(Date.now() / 1000) * 1000 + days * DAY_MS);
    const pair = await this.#authority.issue({ names: [host], notBefore: at(fromDays), notAfter: at(toDays) });
    await files.writeCertificate(pair.cert, pair.key, directory);
    this.secrets.push(...pair.key.split('\n').filter((line) => line !== '' && !line.startsWith('-')));
    return files;
  }

  async told(code: number): Promise<{ readonly text: string; readonly hosts: readonly Told[] }> {
    const text = await perform('cert', 'issued', this.policy);
    const json = await perform('cert', 'issued', '--json', '--policy', this.policy);
    for (const { stdout, stderr, code: ended } of [text, json]) {
      assert.equal(ended, code, stderr);
      assert.equal(stderr, '');
      for (const secret of ['PRIVATE KEY', ...this.secrets]) assert.ok(!stdout.includes(secret));
    }
    return { text: text.stdout, hosts: (JSON.parse(json.stdout) as { hosts: readonly Told[] }).hosts };
  }
}

test('of each host: until when, from when on it is renewed, and where it is', async (t) => {
  const hosts = await Hosts.of(t, 'a.example.com', 'b.example.com');
  const { certificateFile } = await hosts.issue('a.example.com', -30, 60.5);
  await hosts.issue('b.example.com', -1, 5.5);
  const { text, hosts: told } = await hosts.told(0);
  assert.match(text, /^a\.example\.com\n {2}subject [^]*^b\.example\.com\n {2}subject /m);
  assert.match(text, /^ {2}not after {4}20\S+Z \(60 days left\)$/m);
  assert.match(text, /^ {2}not after {4}20\S+Z \(5 days left\)$/m);
  assert.ok(text.includes(`\n  file         ${certificateFile}\n`));
  assert.deepEqual(
    told.map(({ host, status }) => `${host} ${status}`),
    ['a.example.com valid', 'b.example.com valid'],
  );
  const [first] = told;
  assert.equal(first?.file, certificateFile);
  assert.equal(first.issued_by, DIRECTORY);
  assert.equal(first.certificate?.['days_left'], 60);
  // Two thirds of 90.5 days, or up to a twentieth of them before.
  const inDays = (Date.parse(first.renewed_from ?? '') - Date.now()) / DAY_MS;
  assert.ok(inDays > 25.5 && inDays < 30.5, String(inDays));
  assert.ok(text.includes(`\n  renewed      from ${first.renewed_from ?? ''} on\n`));
});

test('a host without one is said, with what kept it from one', async (t) => {
  const hosts = await Hosts.of(t, 'a.example.com', 'new.example.com', 'lost.example.com');
  await hosts.issue('a.example.com', -1, 60);
  const lost = hosts.files('lost.example.com');
  await lost.prepare();
  const atMs = Date.parse('2026-01-02T03:04:05Z');
  await lost.writeStatus({ ...NOTHING_TRIED, failures: 3, lastFailure: { atMs, why: 'authority: it refuses' } });
  const { text, hosts: told } = await hosts.told(1);
  assert.match(text, /^new\.example\.com\n {2}there is none yet: it is ordered when guardbee runs\n {2}file /m);
  assert.match(
    text,
    /^lost\.example\.com\n {2}there is none yet: [^\n]+\n {2}failed {7}on 2026-01-02T03:04:05\.000Z: authority: it refuses\n/m,
  );
  assert.deepEqual(
    told.map(({ status, certificate, last_failure: failure }) => [status, certificate === null, failure?.why ?? null]),
    [
      ['valid', false, null],
      ['none', true, null],
      ['none', true, 'authority: it refuses'],
    ],
  );
});

test('what is wrong with a file is said, and keeps no other host from being told', async (t) => {
  const names = ['over', 'open', 'damaged', 'folder', 'good'].map((name) => `${name}.example.com`);
  const hosts = await Hosts.of(t, ...names);
  await hosts.issue('over.example.com', -90, -1);
  chmodSync((await hosts.issue('open.example.com', -1, 60)).certificateFile, 0o644);
  writeFileSync((await hosts.issue('damaged.example.com', -1, 60)).certificateFile, 'no certificate\n');
  const files = hosts.files('folder.example.com');
  await new HostFiles(hosts.folder.file('state'), 'folder.example.com/certificate.pem').prepare();
  await hosts.issue('good.example.com', -1, 60);
  const { text, hosts: told } = await hosts.told(1);
  assert.deepEqual(
    told.map(({ status }) => status),
    ['expired', 'unreadable', 'unusable', 'unreadable', 'valid'],
  );
  assert.match(text, /^over\.example\.com\n[^]*?\(expired\)$/m);
  assert.match(text, /^open\.example\.com\n {2}\S+ holds a private key and is open to others \(.*chmod 600 /m);
  assert.match(text, /^damaged\.example\.com\n {2}the one that is there cannot be served: another is ordered /m);
  assert.ok(text.includes(`folder.example.com\n  ${files.certificateFile} cannot be read: it is a folder\n`));
  assert.equal(told[3]?.fault, `${files.certificateFile} cannot be read: it is a folder`);
});

test('one of another authority than the policy names is replaced at once', async (t) => {
  const hosts = await Hosts.of(t, 'a.example.com');
  await hosts.issue('a.example.com', -1, 60, 'https://staging.example.com/directory');
  const { text, hosts: told } = await hosts.told(0);
  assert.match(text, /^ {2}renewed {6}as soon as guardbee runs: it is not of the authority of acme\.directory$/m);
  assert.equal(told[0]?.issued_by, 'https://staging.example.com/directory');
  assert.equal(told[0].renewed_from, null);
  const { stdout } = await perform('doctor', hosts.policy, '--json');
  const findings = JSON.parse(stdout) as readonly Readonly<Record<string, string>>[];
  const found = findings.find(({ check }) => check === 'certificate a.example.com');
  assert.equal(found?.['status'], 'warn');
  assert.match(found['detail'] ?? '', /not of the authority of acme\.directory$/);
});

test('renewal waits where the authority wants to be left alone', async (t) => {
  const hosts = await Hosts.of(t, 'a.example.com');
  const files = await hosts.issue('a.example.com', -80, 10);
  const notBeforeMs = Date.now() + DAY_MS;
  const lastFailure = { atMs: Date.now(), why: 'authority: it limits how often it is asked' };
  await files.writeStatus({ ...NOTHING_TRIED, failures: 1, lastFailure, notBeforeMs, limitedBy: DIRECTORY });
  const { hosts: told } = await hosts.told(0);
  assert.equal(told[0]?.renewed_from, new Date(notBeforeMs).toISOString());
  assert.equal(told[0].last_failure?.why, lastFailure.why);
});

test('a policy for which no authority issues, and one that is broken', async (t) => {
  const folder = new TemporaryDirectory(t);
  const plain = writePolicy(
    folder,
    simplePolicy({
      upstream: 'http://127.0.0.1:9',
      stateDir: folder.file('state'),
      routes: [{ name: 'health', path: '/health', methods: ['GET'], public: true }],
    }),
    'plain.yaml',
  );
  const without = await perform('cert', 'issued', plain);
  assert.equal(without.code, 0, without.stderr);
  assert.match(without.stdout, /no listener has tls: \{ acme: true \}, so no authority issues a certificate$/m);
  const json = await perform('cert', 'issued', plain, '--json');
  assert.deepEqual(JSON.parse(json.stdout), { file: plain, hosts: [] });
  const broken = await perform('cert', 'issued', writePolicy(folder, 'version: 2\n', 'broken.yaml'));
  assert.equal(broken.code, 1);
  assert.equal(broken.stdout, '');
  assert.match(broken.stderr, /broken\.yaml:1:/);
});
