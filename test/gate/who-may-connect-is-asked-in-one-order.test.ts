import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { admitConnection, assertConnectionPermit, type ConnectionPermit } from '../../src/gate/admit-connection.js';
import { runPolicyTests, supposeConnection } from '../../src/gate/policy-tests.js';
import { UNLIMITED } from '../../src/gate/limit.js';
import type { Caller, ClientCertificate } from '../../src/identity/caller.js';
import { formatAddress, parseAddress } from '../../src/net/address.js';
import { authorityDigest } from '../../src/policy/client-authority.js';
import { loadPolicyText } from '../../src/policy/load.js';
import type { Policy, TcpListener } from '../../src/policy/policy.js';

const NOW = Date.UTC(2026, 0, 1);
const TEXT = `
version: 1
listeners:
  open: { type: tcp, bind: 127.0.0.1:2222, upstream: tcp://127.0.0.1:22 }
  near: { type: tcp, bind: 127.0.0.1:2223, upstream: tcp://127.0.0.1:22, allow_from: [10.0.0.0/8] }
  behind:
    type: tcp
    bind: 127.0.0.1:2224
    upstream: tcp://127.0.0.1:22
    allow_from: [10.0.0.1]
    from: [192.0.2.0/24]
    trusted_proxies: [10.0.0.1]
    proxy_protocol: require
  nodes:
    type: tcp
    bind: 127.0.0.1:9000-9009
    upstream: "tcp://[::1]:19000-19009"
    allow_from: [10.0.0.0/8]
    tls: { self_signed: { names: [queen.lan] } }
    authenticate: [nodes]
    require: [connect, keeper]
authenticators:
  nodes: { type: mtls, ca: ca.pem, identities: [{ san: "DNS:hive-1.lan", name: hive-1, roles: [node] }, { san: "DNS:viewer.lan", name: viewer, roles: [viewer] }] }
roles: { node: [connect], viewer: [read], keeper: [keep] }
tests:
  - { connect: near, from: 10.1.2.3, expect: allow }
  - { connect: near, from: 192.0.2.1, expect: allow }
  - { connect: nodes, from: 10.0.0.9, as: { roles: [node] }, expect: allow }
  - { connect: nodes, from: 10.0.0.9, as: { roles: [viewer] }, expect: deny, reason: permission_missing }
  - { connect: nodes, from: 10.0.0.9, expect: deny, reason: permission_missing }
`;

async function policy(): Promise<Policy> {
  const loaded = await loadPolicyText(TEXT, 'policy.yaml', { env: { HOME: '/' }, now: NOW, skipSecretFiles: true });
  assert.ok(loaded.ok, JSON.stringify(loaded));
  return loaded.policy;
}

function address(text: string): NonNullable<ReturnType<typeof parseAddress>> {
  const read = parseAddress(text);
  assert.ok(read !== null);
  return read;
}

function caller(
  from: string,
  more: { readonly certificate?: ClientCertificate; readonly proxied?: string } = {},
): Caller {
  const at = address(from);
  const { certificate = null, proxied } = more;
  const destination = { address: at, port: 1 };
  return {
    address: at,
    text: formatAddress(at),
    certificate,
    proxied: proxied === undefined ? null : { source: { address: address(proxied), port: 1 }, destination },
  };
}

function certificate(dns: string, more: Partial<ClientCertificate> = {}): ClientCertificate {
  return {
    verified: true,
    // The files were not read.
    judgedBy: authorityDigest({ caFile: '', caPem: '', crlFile: null, crlPems: [], partialChain: false }),
    shown: () => null,
    sha256: '0'.repeat(64),
    notAfterMs: NOW + 1000,
    dns: [dns],
    uris: [],
    emails: [],
    commonName: null,
    spki: '',
    ...more,
  };
}

const HIVE = certificate('hive-1.lan');

const ROWS: readonly (readonly [what: string, listener: string, from: Caller, said: string])[] = [
  ['anybody, where nobody is asked', 'open', caller('192.0.2.1'), 'nobody to 127.0.0.1:22'],
  ['an address that may', 'near', caller('10.1.2.3'), 'nobody to 127.0.0.1:22'],
  ['the same as IPv6 has it', 'near', caller('::ffff:10.1.2.3'), 'nobody to 127.0.0.1:22'],
  ['an address that may not', 'near', caller('192.0.2.1'), 'address_denied'],
  ['a client of the proxy', 'behind', caller('10.0.0.1', { proxied: '192.0.2.7' }), 'nobody to 127.0.0.1:22'],
  ['a client of the proxy that may not', 'behind', caller('10.0.0.1', { proxied: '10.0.0.1' }), 'client_denied'],
  ['the proxy itself', 'behind', caller('10.0.0.1'), 'client_denied'],
  ['a client without the proxy', 'behind', caller('192.0.2.7'), 'address_denied'],
  ['a proxy from elsewhere', 'behind', caller('192.0.2.9', { proxied: '192.0.2.7' }), 'address_denied'],
  ['no certificate', 'nodes', caller('10.0.0.9'), 'credential_missing'],
  ['a certificate of somebody who may', 'nodes', caller('10.0.0.9', { certificate: HIVE }), 'hive-1 to [::1]:19003'],
  ['the same from elsewhere', 'nodes', caller('192.0.2.9', { certificate: HIVE }), 'address_denied'],
  ['of nobody', 'nodes', caller('10.0.0.9', { certificate: certificate('else.lan') }), 'credential_invalid'],
  [
    'without the permission',
    'nodes',
    caller('10.0.0.9', { certificate: certificate('viewer.lan') }),
    'permission_missing by viewer',
  ],
  [
    'not verified',
    'nodes',
    caller('10.0.0.9', { certificate: certificate('hive-1.lan', { verified: false }) }),
    'credential_invalid',
  ],
  [
    'of the past',
    'nodes',
    caller('10.0.0.9', { certificate: certificate('hive-1.lan', { notAfterMs: NOW }) }),
    'credential_expired',
  ],
];

describe('who may connect is asked in one order', () => {
  const said = (all: Policy, listener: string, from: Caller, nth = listener === 'nodes' ? 3 : 0): string => {
    const found = all.listeners.find((one) => one.name === listener);
    assert.ok(found?.type === 'tcp');
    const decision = admitConnection(found, from, nth, NOW);
    const who = decision.identity?.name;
    if (decision.allow) {
      assertConnectionPermit(decision);
      return `${who ?? 'nobody'} to ${decision.target.name}`;
    }
    return `${decision.reason}${who === undefined ? '' : ` by ${who}`}`;
  };

  for (const [what, listener, from, expected] of ROWS) {
    test(`${what}: ${expected}`, async () => {
      assert.equal(said(await policy(), listener, from), expected);
    });
  }

  test('each port of a range leads to its own, and to no other', async () => {
    const all = await policy();
    const from = caller('10.0.0.9', { certificate: HIVE });
    for (let nth = 0; nth < 10; nth += 1) {
      assert.equal(said(all, 'nodes', from, nth), `hive-1 to [::1]:${String(19_000 + nth)}`);
    }
    for (const nth of [-1, 10, 0.5, NaN]) assert.throws(() => said(all, 'nodes', from, nth), RangeError);
  });

  test('nobody makes a permit but the gate', async () => {
    const all = await policy();
    const listener = all.listeners.find((one): one is TcpListener => one.name === 'open');
    assert.ok(listener !== undefined);
    const permit = admitConnection(listener, caller('127.0.0.1'), 0, NOW);
    assert.ok(permit.allow);
    const imitation: unknown = Object.assign({}, permit);
    const Made = permit.constructor as new (...given: unknown[]) => ConnectionPermit;
    assert.throws(() => new Made(Symbol('admitted'), listener, 0, '127.0.0.1', null), TypeError);
    assert.throws(() => {
      assertConnectionPermit(imitation as ConnectionPermit);
    }, TypeError);
  });

  test('whatever is shown, from outside allow_from nobody gets in', async () => {
    const all = await policy();
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.boolean(), fc.boolean(), (word, shows, isProxied) => {
        const text = [24, 16, 8, 0].map((shift) => (word >>> shift) & 0xff).join('.');
        const from = caller(text, {
          ...(shows ? { certificate: HIVE } : {}),
          ...(isProxied ? { proxied: '10.0.0.2' } : {}),
        });
        const answer = said(all, 'nodes', from);
        if (!text.startsWith('10.')) assert.equal(answer, 'address_denied');
        else assert.equal(answer, shows ? 'hive-1 to [::1]:19003' : 'credential_missing');
      }),
    );
  });

  test('tests of a policy ask the gate itself', async () => {
    const all = await policy();
    const results = runPolicyTests(all, NOW, () => UNLIMITED);
    assert.deepEqual(
      results.map(({ passed }) => passed),
      [true, false, true, true, false],
    );
    assert.equal(results[1]?.message, 'expected allowed, got refused (address_denied)');
    assert.equal(results[4]?.message, 'expected refused (permission_missing), got refused (credential_missing)');
    const nonsense = { from: '10.0.0.1', as: null };
    assert.equal(supposeConnection(all, { ...nonsense, listener: 'none' }, NOW).kind, 'unanswerable');
    assert.equal(supposeConnection(all, { ...nonsense, listener: 'open', from: 'x' }, NOW).kind, 'unanswerable');
  });
});
