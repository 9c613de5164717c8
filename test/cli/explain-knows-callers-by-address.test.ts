import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestAuthority, writeKeyPair } from '../support/certificates.js';
import { writeFileIn, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const POLICY = `version: 1
listeners:
  lan:
    bind: 127.0.0.1:7833
    upstream: http://127.0.0.1:17833
    authenticate: [lan]
    routes:
      - { name: heartbeat, path: /heartbeat, methods: [POST], require: report }
      - { name: rest, path: /**, require: control }
  local:
    bind: 127.0.0.1:7834
    upstream: http://127.0.0.1:17833
    local_identity: { name: somebody-here, roles: [node] }
    routes:
      - { name: heartbeat, path: /heartbeat, methods: [POST], require: report }
      - { name: rest, path: /**, require: control }
authenticators:
  lan: { type: network, identities: [{ from: 203.0.113.7, name: hive-1, roles: [node] }] }
roles: { node: [report], keeper: [control] }
tests:
  - { listener: lan, request: POST /heartbeat, from: 203.0.113.7, expect: allow, route: heartbeat }
  - { listener: lan, request: POST /heartbeat, from: 203.0.113.8, expect: 401, reason: credential_missing }
  - { listener: lan, request: GET /x, from: 203.0.113.7, expect: 403, reason: permission_missing }
  - { listener: local, request: POST /heartbeat, expect: allow }
  - { listener: local, request: POST /heartbeat, host: "evil.example", expect: 421, reason: wrong_host }
  - { listener: local, request: GET /x, as: { roles: [keeper] }, expect: allow }
`;

test('who is known by an address is named, and what is said of them is what the gate says', async () => {
  using directory = new TemporaryDirectory();
  const policy = writePolicy(directory, POLICY);
  const tested = await perform('test', '--policy', policy);
  assert.equal(tested.code, 0, tested.stdout + tested.stderr);

  const explain = async (...args: string[]): Promise<string> => {
    const result = await perform('explain', ...args, '--policy', policy);
    assert.equal(result.code, 0, result.stderr);
    return result.stdout;
  };
  const known = await explain('POST', '/heartbeat', '--listener', 'lan', '--from', '203.0.113.7');
  assert.match(known, /^allowed/);
  assert.match(known, /203\.0\.113\.7 is "hive-1" by its address, and has report, which is enough/);
  const unknown = await explain('POST', '/heartbeat', '--listener', 'lan', '--from', '203.0.113.8');
  assert.match(unknown, /^refused: 401 credential_missing/);
  const little = await explain('GET', '/x', '--listener', 'lan', '--from', '203.0.113.7');
  assert.match(little, /^refused: 403 permission_missing/);
  assert.match(
    little,
    /203\.0\.113\.7 is "hive-1" by its address, and has node, report, and the route asks for control/,
  );
  const local = await explain('POST', '/heartbeat', '--listener', 'local');
  assert.match(local, /^allowed[^]*127\.0\.0\.1 is "somebody-here" by its address/);
  // A credential that is shown decides alone, also where showing none would be enough.
  const shown = await explain('POST', '/heartbeat', '--listener', 'local', '--role', 'keeper');
  assert.match(shown, /^refused: 403 permission_missing/);
});

test('show prints who is known by address and by being local', async () => {
  using directory = new TemporaryDirectory();
  const policy = writePolicy(directory, POLICY);
  const shown = await perform('show', '--json', '--policy', policy);
  assert.equal(shown.code, 0, shown.stderr);
  const value = JSON.parse(shown.stdout) as {
    listeners: Record<string, { local_identity?: unknown; routes: { authenticate?: unknown }[] }>;
    authenticators: Record<string, unknown>;
  };
  assert.deepEqual(value.listeners['local']?.local_identity, {
    name: 'somebody-here',
    roles: ['node'],
    permissions: ['report'],
  });
  assert.equal(value.listeners['local'].routes[0]?.authenticate, undefined);
  assert.deepEqual(value.authenticators['lan'], {
    type: 'network',
    identities: [{ from: '203.0.113.7', name: 'hive-1', roles: ['node'], permissions: ['report'] }],
    realm: 'guardbee',
  });
});

test('show prints whose certificates are taken, and the files that say so', async () => {
  using directory = new TemporaryDirectory();
  const authority = await TestAuthority.create();
  writeFileIn(directory, 'nodes-ca.pem', authority.ca, 0o644);
  writeKeyPair(directory, await authority.issue());
  const policy = writePolicy(
    directory,
    `version: 1
listeners:
  queen:
    bind: 127.0.0.1:7833
    tls: { cert: server.crt, key: server.key }
    upstream: http://127.0.0.1:17833
    authenticate: [nodes]
    routes: [{ name: rest, path: /**, require: report }]
authenticators:
  nodes:
    type: mtls
    ca: nodes-ca.pem
    identities:
      - { san: "DNS:Hive-1.LAN", name: hive-1, roles: [node] }
      - { san: "email:a@HIVE.lan", name: hive-2, permissions: [report] }
      - { san: "URI:spiffe://lan/a", name: hive-3, roles: [node] }
      - { cn: queen bee, name: queen, roles: [node] }
      - { spki: "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", name: pinned, roles: [node] }
roles: { node: [report] }
`,
  );
  const shown = await perform('show', '--json', '--policy', policy);
  assert.equal(shown.code, 0, shown.stderr);
  const value = JSON.parse(shown.stdout) as { authenticators: Record<string, unknown> };
  const held = { roles: ['node'], permissions: ['report'] };
  assert.deepEqual(value.authenticators['nodes'], {
    type: 'mtls',
    ca: directory.file('nodes-ca.pem'),
    identities: [
      { san: 'DNS:hive-1.lan', name: 'hive-1', ...held },
      { san: 'email:a@hive.lan', name: 'hive-2', permissions: ['report'] },
      { san: 'URI:spiffe://lan/a', name: 'hive-3', ...held },
      { cn: 'queen bee', name: 'queen', ...held },
      { spki: 'sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=', name: 'pinned', ...held },
    ],
    realm: 'guardbee',
  });
});
