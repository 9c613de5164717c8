import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClientCertificate } from '../../src/identity/caller.js';
import { proveCertificate } from '../../src/identity/mtls.js';
import { proveAddress } from '../../src/identity/network.js';
import type { CertificateMatch } from '../../src/policy/certificate-name.js';
import { CertificateTable } from '../../src/policy/certificate-table.js';
import { type ClientAuthority, authorityDigest } from '../../src/policy/client-authority.js';
import type { Holder, MtlsAuthenticator, NetworkAuthenticator } from '../../src/policy/policy.js';
import { subjectNames } from '../../src/server/client-certificate.js';

const END = Date.UTC(2027, 0, 1);
const AUTHORITY: ClientAuthority = { caFile: '', caPem: '', crlFile: null, crlPems: [], partialChain: false };

function holder(name: string): Holder {
  return { name, roles: ['node'], grants: new Set(['node', 'report']) };
}

function mtls(identities: readonly (readonly [CertificateMatch, string])[]): MtlsAuthenticator {
  return {
    type: 'mtls',
    name: 'nodes',
    realm: 'guardbee',
    carriers: new Set(['certificate']),
    authority: AUTHORITY,
    identities: new CertificateTable(identities.map(([match, name]) => ({ match, holder: holder(name) }))),
  };
}

function certificate(parts: Partial<ClientCertificate> = {}): ClientCertificate {
  return {
    verified: true,
    judgedBy: authorityDigest(AUTHORITY),
    shown: () => null,
    sha256: '00'.repeat(32),
    dns: ['hive-1.lan'],
    uris: [],
    emails: [],
    commonName: null,
    spki: 'a key',
    notAfterMs: END,
    ...parts,
  };
}

const HIVE_1: readonly [CertificateMatch, string] = [{ kind: 'san_dns', value: 'hive-1.lan' }, 'hive-1'];

test('it counts until its last millisecond, also while its connection is open', () => {
  const nodes = mtls([HIVE_1]);
  const shown = certificate();
  const before = proveCertificate(nodes, shown, END - 1);
  assert.ok(before.ok);
  assert.equal(before.identity.expiresAtMs, END);
  assert.deepEqual(proveCertificate(nodes, shown, END), { ok: false, reason: 'credential_expired' });
});

test('one that was verified by other authorities, or without a list that there is now, is nobody', () => {
  for (const authority of [
    { ...AUTHORITY, caPem: 'another' },
    { ...AUTHORITY, crlPems: ['a list'] },
  ]) {
    assert.deepEqual(proveCertificate({ ...mtls([HIVE_1]), authority }, certificate(), END - 1), {
      ok: false,
      reason: 'credential_invalid',
    });
  }
  const readAgain = { ...mtls([HIVE_1]), authority: { ...AUTHORITY } };
  assert.ok(proveCertificate(readAgain, certificate(), END - 1).ok, 'the same files, read again, judge alike');
});

test('one that OpenSSL did not verify is nobody, whatever it says', () => {
  assert.deepEqual(proveCertificate(mtls([HIVE_1]), certificate({ verified: false }), END - 1), {
    ok: false,
    reason: 'credential_invalid',
  });
});

test('a connection is one identity, and two policies are two', () => {
  const nodes = mtls([HIVE_1]);
  const next = mtls([[{ kind: 'san_dns', value: 'hive-1.lan' }, 'renamed']]);
  const shown = certificate();
  const [first, second, other] = [nodes, nodes, next].map((one) => proveCertificate(one, shown, END - 1));
  assert.ok(first?.ok === true && second?.ok === true && other?.ok === true);
  assert.equal(first.identity, second.identity);
  assert.equal(other.identity.name, 'renamed');
});

test('of several that fit the first of the list is it; a kind of name never stands for another', () => {
  const nodes = mtls([
    [{ kind: 'spki', value: 'a key' }, 'by key'],
    HIVE_1,
    [{ kind: 'cn', value: 'hive-1.lan' }, 'by common name'],
    [{ kind: 'san_uri', value: 'hive-1.lan' }, 'by uri'],
  ]);
  const who = (parts: Partial<ClientCertificate>): string | null => {
    const proof = proveCertificate(nodes, certificate(parts), END - 1);
    return proof.ok ? proof.identity.name : null;
  };
  assert.equal(who({}), 'by key');
  assert.equal(who({ spki: 'another' }), 'hive-1');
  assert.equal(who({ spki: 'another', dns: [], commonName: 'hive-1.lan' }), 'by common name');
  assert.equal(who({ spki: 'another', dns: [], emails: ['hive-1.lan'] }), null);
});

test('names are taken out of what Node writes, and nothing quoted is one', () => {
  const rows: [string | undefined, string[], string[], string[]][] = [
    [undefined, [], [], []],
    ['', [], [], []],
    ['DNS:Hive-1.LAN, URI:spiffe://lan/a, email:n@HIVE.lan', ['hive-1.lan'], ['spiffe://lan/a'], ['n@hive.lan']],
    ['IP Address:192.168.1.7, DNS:a.lan', ['a.lan'], [], []],
    // CVE-2021-44532: one entry that holds what reads like another.
    ['DNS:"evil\\u002c DNS:hive-1.lan"', [], [], []],
    ['DNS:"evil, DNS:hive-1.lan", DNS:b.lan', ['b.lan'], [], []],
    ['DNS:"a\\", DNS:hive-1.lan", DNS:b.lan', ['b.lan'], [], []],
    ['DNS:"hive-1.lan\\u0000.evil"', [], [], []],
    ['DNS:*.lan, DNS:192.168.1.7, DNS:', [], [], []],
    ['othername:<unsupported>, DirName:"CN = x", DNS:a.lan', ['a.lan'], [], []],
    // Not in any form that Node writes: nothing of it is believed.
    ['DNS:a.lan DNS:"b', [], [], []],
    ['DNS:a.lan, "DNS:b.lan', [], [], []],
    ['DNS:hive-1.lan,DNS:b.lan', [], [], []],
  ];
  for (const [text, dns, uris, emails] of rows) {
    assert.deepEqual(subjectNames(text), { dns, uris, emails }, text);
  }
});

test('10,000 certificates and 10,000 addresses cost per request what 10 do', () => {
  const matches = (count: number): MtlsAuthenticator =>
    mtls(Array.from({ length: count }, (_, i) => [{ kind: 'san_dns', value: `hive-${i}.lan` }, `hive-${i}`] as const));
  const addresses = (count: number): NetworkAuthenticator => ({
    type: 'network',
    name: 'lan',
    realm: 'guardbee',
    carriers: new Set(['address']),
    hosts: new Map(
      Array.from({ length: count }, (_, i) => [`10.0.${i >> 8}.${i & 255}`, holder(`hive-${i}`)] as const),
    ),
    local: null,
  });
  const ROUNDS = 20_000;
  const time = (act: (round: number) => boolean): number => {
    const start = process.hrtime.bigint();
    let found = 0;
    for (let round = 0; round < ROUNDS; round++) if (act(round)) found++;
    assert.equal(found, ROUNDS);
    return Number(process.hrtime.bigint() - start) / ROUNDS;
  };
  const sides = [10, 10_000].map((count) => {
    const nodes = matches(count);
    const lan = addresses(count);
    const last = `hive-${count - 1}.lan`;
    const open = certificate({ dns: [last] });
    return {
      // A request on a connection that is open, and the first on a new one.
      open: () => time(() => proveCertificate(nodes, open, 0).ok),
      fresh: () => time(() => nodes.identities.find({ ...open, dns: [last] }) !== null),
      address: () =>
        time(() => proveAddress(lan, `10.0.${(count - 1) >> 8}.${(count - 1) & 255}`, () => false) !== null),
    };
  });
  for (const kind of ['open', 'fresh', 'address'] as const) {
    // The best of several rounds: other tests run on the same cores.
    const best = [Infinity, Infinity];
    for (let round = 0; round < 12; round++) {
      for (const [at, side] of sides.entries()) best[at] = Math.min(best[at] ?? Infinity, side[kind]());
    }
    const [few = 0, many = 0] = best;
    // A walk over the list would be a thousand times.
    assert.ok(many < few * 5 + 200, `${kind}: ${few} ns for 10, ${many} ns for 10,000`);
  }
});
