import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { writePolicy } from '../support/policy-builder.js';
import { runGuardbee, type CommandResult } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const POLICY = `version: 1
listeners:
  ssh:
    type: tcp
    bind: 127.0.0.1:22022
    upstream: tcp://127.0.0.1:22023
    allow_from: [192.168.1.0/24]
  nodes:
    type: tcp
    bind: 127.0.0.1:29000-29009
    upstream: tcp://127.0.0.1:28000-28009
    tls: { self_signed: { names: [queen.lan] } }
    authenticate: [nodes]
    require: connect
  web:
    bind: 127.0.0.1:28080
    upstream: http://127.0.0.1:18080
    routes: [{ name: page, path: /page, public: true }]
authenticators:
  nodes: { type: mtls, ca: ca.pem, identities: [{ san: "DNS:hive-1.lan", name: hive-1, roles: [node] }] }
roles: { node: [connect], viewer: [read] }
`;

describe('explain says who may connect', () => {
  const directory = new TemporaryDirectory();
  let file = '';

  before(() => {
    file = writePolicy(directory, POLICY);
  });
  after(() => {
    directory.remove();
  });

  const explain = async (...args: string[]): Promise<CommandResult> =>
    await runGuardbee(['explain', ...args, '--policy', file]);

  test('from an address that may, and from one that may not', async () => {
    const good = await explain('--listener', 'ssh', '--from', '192.168.1.7');
    assert.equal(good.code, 0, good.stderr);
    assert.match(good.stdout, /^allowed: goes on to 127\.0\.0\.1:22023\n {2}listener: ssh\n/);
    const bad = await explain('--listener', 'ssh', '--from', '10.0.0.1');
    assert.match(bad.stdout, /^refused: address_denied\n/);
    assert.match(bad.stdout, /policy\.yaml:7: allow_from: \[192\.168\.1\.0\/24\]/);
    assert.match(bad.stdout, /needed: {3}no certificate, a connection from 192\.168\.1\.0\/24/);
  });

  test('with a role and without', async () => {
    for (const [args, said] of [
      [[], 'credential_missing'],
      [['--role', 'viewer'], 'permission_missing'],
      [['--role', 'node'], null],
      [['--permission', 'connect'], null],
    ] as const) {
      const { stdout } = await explain('--listener', 'nodes', ...args, '--json');
      const answer = JSON.parse(stdout) as Record<string, unknown>;
      assert.equal(answer['reason'], said);
      assert.equal(answer['decision'], said === null ? 'allowed' : 'refused');
      assert.deepEqual(answer['needed'], {
        allow_from: null,
        from: null,
        certificate: { of: 'nodes', any_of: ['connect'] },
      });
    }
  });

  test('a question that makes no sense is one of usage', async () => {
    for (const [args, says] of [
      [['--listener', 'none'], /there is no listener "none"/],
      [['--listener', 'web'], /is not of type tcp: say METHOD and PATH too/],
      [['GET', '/page', '--listener', 'ssh'], /is of type tcp and reads no requests: leave METHOD and PATH out/],
      [['--listener', 'ssh', '--host', 'queen.lan'], /--host is about requests/],
      [['--listener', 'ssh', '--from', 'nowhere'], /--from is one IP address/],
      [['--listener', 'nodes', '--role', 'nobody'], /there is no role "nobody"/],
    ] as const) {
      const result = await explain(...args);
      assert.equal(result.code, 2, args.join(' '));
      assert.match(result.stderr, says);
    }
  });

  test('show prints what check takes again, and doctor lists what is passed on', async () => {
    const shown = await runGuardbee(['show', file]);
    assert.match(shown.stdout, /bind: "127\.0\.0\.1:29000-29009"\n/);
    assert.match(shown.stdout, /upstream: "tcp:\/\/127\.0\.0\.1:28000-28009"\n/);
    const again = writePolicy(directory, shown.stdout, 'again.yaml');
    const checked = await runGuardbee(['test', again]);
    assert.equal(checked.code, 0, checked.stderr);
    const { stdout } = await runGuardbee(['doctor', file, '--json']);
    const found = JSON.parse(stdout) as { readonly check: string; readonly detail: string }[];
    assert.equal(
      found.find(({ check }) => check === 'tcp ssh')?.detail,
      '127.0.0.1:22022 goes on to 127.0.0.1:22023, as it is, from 192.168.1.0/24',
    );
    assert.ok(found.some(({ check }) => check === 'exposure 127.0.0.1:28000-28009'));
    assert.ok(found.some(({ check }) => check === 'certificate nodes'));
  });
});
