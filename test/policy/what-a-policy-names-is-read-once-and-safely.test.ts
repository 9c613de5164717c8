import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Issue } from '../../src/policy/issue.js';
import { loadPolicy, loadPolicyText } from '../../src/policy/load.js';
import type { Loaded } from '../../src/policy/load.js';
import type { TokenTable } from '../../src/policy/token-table.js';
import type { Policy } from '../../src/policy/policy.js';
import { exitCodeFor, renderIssues, sortIssues } from '../../src/policy/render-issues.js';
import { NOW, POLICIES, preparePolicy } from './policy-fixture.js';
import type { Fixture } from './policy-fixture.js';

const good = (name: string): string => path.join(POLICIES, 'good', `${name}.yaml`);

function policyOf(loaded: Loaded): Policy {
  assert.ok(loaded.ok, loaded.ok ? '' : renderIssues(loaded.issues));
  return loaded.policy;
}

function codesOf(loaded: Loaded): string[] {
  return (loaded.ok ? [] : loaded.issues).map((issue) => issue.code);
}

function tokensOf(policy: Policy): TokenTable {
  const keys = policy.authenticators.get('keys');
  assert.ok(keys?.type === 'bearer');
  return keys.tokens;
}

describe('a policy with everything', () => {
  let fixture: Fixture;
  let policy: Policy;
  let loaded: Loaded;
  before(async () => {
    fixture = await preparePolicy(good('everything'));
    loaded = await loadPolicy(fixture.file, fixture.options);
    policy = policyOf(loaded);
  });
  after(() => fixture.remove());

  test('says which files it was made of, so that they can be watched', async () => {
    const named = [...loaded.files.keys()].map((file) => path.relative(fixture.folder, file));
    assert.deepEqual(named.sort(), [
      'credentials/upstream-token',
      'everything.yaml',
      'queen.crt',
      'queen.key',
      'redis-url.txt',
      'tokens.yaml',
      'upstream-token.txt',
    ]);
    for (const [file, { content }] of loaded.files)
      assert.equal(
        content,
        createHash('sha256')
          .update(await readFile(file))
          .digest('hex'),
      );
    const callers = await preparePolicy(good('callers-known-by-certificate-and-address'));
    const { files } = await loadPolicy(callers.file, callers.options);
    assert.deepEqual([...files.keys()].map((file) => path.relative(callers.folder, file)).sort(), [
      'callers-known-by-certificate-and-address.yaml',
      'nodes-ca.crl',
      'nodes-ca.pem',
      'queen.crt',
      'queen.key',
      'tokens.yaml',
    ]);
    await callers.remove();
  });

  test('is compiled as it is written', () => {
    const [wide, local, selfmade, www] = policy.listeners;
    assert.ok(wide?.type === 'http' && local?.type === 'http' && selfmade?.type === 'http' && www?.type === 'redirect');
    assert.deepEqual([...(wide.hosts ?? [])], ['queen.lan', 'queen.local', '192.168.1.10', '2001:db8::1', 'localhost']);
    assert.equal(wide.tls?.kind === 'files' && wide.tls.certificates.length, 2);
    assert.deepEqual(selfmade.tls, { kind: 'self_signed', names: ['queen.lan', '192.168.1.10'] });
    assert.equal(local.tls, null);
    assert.deepEqual([...wide.stripRequestHeaders], ['x-admin-token', 'x-debug']);
    assert.deepEqual(wide.limits, {
      headBytes: 32 * 1024,
      headFields: 50,
      connections: 100,
      connectionsPerAddress: null,
    });
    assert.deepEqual(wide.timeouts, {
      handshakeMs: 5000,
      headMs: 5000,
      bodyMs: Infinity,
      upstreamMs: Infinity,
      keepAliveMs: 500,
    });
    assert.deepEqual(local.limits, {
      headBytes: 16 * 1024,
      headFields: 100,
      connections: 2000,
      connectionsPerAddress: null,
    });
    assert.deepEqual([www.hosts, www.httpsPort, www.limits.connections], [['queen.lan'], 8443, 10]);

    const [health, dev, run, rest] = wide.routes.routes;
    assert.ok(health !== undefined && dev !== undefined && run !== undefined && rest !== undefined);
    assert.deepEqual([...(health.methods ?? [])], ['GET', 'HEAD']);
    assert.deepEqual([health.access.kind, health.authenticators], ['public', []]);
    assert.deepEqual([dev.access.kind, dev.methods, dev.upstream], ['deny', null, null]);
    assert.deepEqual(run.access, { kind: 'require', anyOf: ['run', 'keeper'] });
    assert.deepEqual(
      run.authenticators.map((one) => one.name),
      ['keys'],
    );
    assert.deepEqual([run.bodyMs, run.upstreamMs, run.encodedSlash], [Infinity, 300_000, true]);
    assert.equal(run.upstream?.name, 'queen-local:7833');
    assert.equal(run.upstream.mustBeLoopback, true);
    assert.deepEqual(
      rest.authenticators.map((one) => one.name),
      ['keys', 'scraper'],
    );
    assert.equal(rest.upstream, run.upstream, 'one upstream is one object');
    assert.equal(health.upstream?.name, 'unix:/run/queen.sock');

    assert.deepEqual(
      policy.upstreams.map((one) => one.name),
      ['unix:/run/queen.sock', 'queen-local:7833', 'localhost:7833', '127.0.0.1:80'],
    );
    assert.deepEqual(policy.upstreamExposure, { mode: 'firewalled', why: 'nftables drops all but lo' });
    assert.equal(policy.stateDir, path.join(fixture.folder, 'state'));
    assert.deepEqual(policy.log, { level: 'debug', file: path.join(fixture.folder, 'guardbee.log'), format: 'json' });
    assert.deepEqual([policy.admin?.host, policy.admin?.port, policy.admin?.loopback], ['127.0.0.1', 9180, true]);
    assert.equal(policy.drainMs, 60_000);
    assert.match(policy.version, /^[0-9a-f]{12}$/);
  });

  test('shows the upstream its credential and nobody else', () => {
    const [wide] = policy.listeners;
    assert.ok(wide?.type === 'http');
    const shown = wide.routes.routes.map((route) => [route.upstreamAuth?.field, route.upstreamAuth?.value.reveal()]);
    assert.deepEqual(shown, [
      ['authorization', 'Bearer s3cr3t-of-the-upstream'],
      ['authorization', 'Bearer s3cr3t-of-the-upstream'],
      ['authorization', `Basic ${Buffer.from('guardbee:a-credential-of-systemd').toString('base64')}`],
      ['x-api-key', 's3cr3t-of-the-upstream'],
    ]);
    assert.doesNotMatch(JSON.stringify(policy.listeners), /s3cr3t|PRIVATE KEY/);
  });

  test('knows its tokens, in the file and in the policy, in either case', () => {
    const keys = policy.authenticators.get('keys');
    assert.ok(keys?.type === 'bearer');
    assert.equal(keys.tokens.size, 3);
    const upper = keys.tokens.find(`6123456789abcdef${'0123456789abcdef'.repeat(3)}`);
    assert.deepEqual([...(upper?.grants ?? [])], ['run']);
    const anna = keys.tokens.find(`1123456789abcdef${'0123456789abcdef'.repeat(3)}`);
    assert.deepEqual([anna?.name, [...(anna?.grants ?? [])]], ['anna', ['viewer', 'read']]);
    assert.deepEqual([anna?.notBeforeMs, anna?.notAfterMs], [-Infinity, Infinity]);
  });

  test('keeps its tests', () => {
    assert.deepEqual(
      policy.tests.map((one) =>
        one.kind === 'request'
          ? [one.name, one.listener, one.method, one.target, one.upgrade, one.expect, one.reason]
          : [],
      ),
      [
        ['a scraper reads', 'wide', 'GET', '/metrics?x=1', false, { kind: 'allow' }, null],
        ['GET /dev/x', 'wide', 'GET', '/dev/x', true, { kind: 'status', status: 403 }, 'route_denied'],
      ],
    );
  });

  test('cannot be changed', () => {
    const [wide] = policy.listeners;
    assert.ok(wide?.type === 'http');
    const open = (change: () => unknown): void => assert.throws(change, TypeError);
    open(() => Object.assign(policy, { drainMs: 1 }));
    open(() => (policy.listeners as unknown[]).push(1));
    open(() => (wide.hosts as Set<string>).add('evil.example'));
    open(() => (policy.roles as Map<string, unknown>).set('admin', []));
    open(() => (policy.authenticators as Map<string, unknown>).clear());
    open(() => Object.assign(wide.routes.routes[1]?.access ?? {}, { kind: 'public' }));
    open(() => (wide.routes.routes[0]?.methods as Set<string>).add('DELETE'));
    const grants = tokensOf(policy).entries()[0]?.grants;
    open(() => (grants as Set<string>).add('keeper'));
  });
});

describe('a policy that is asked without its files', () => {
  test('touches none of them', async () => {
    const text = await readFile(good('everything'), 'utf8');
    const options = {
      env: {},
      now: NOW,
      skipSecretFiles: true,
      lookup: () => assert.fail('no name is looked up'),
    };
    const policy = policyOf(await loadPolicyText(text, '/nonexistent/policy.yaml', options));
    const [wide] = policy.listeners;
    assert.ok(wide?.type === 'http' && wide.tls?.kind === 'files');
    const [pair] = wide.tls.certificates;
    assert.deepEqual([pair?.certFile, pair?.certPem, pair?.key.length], ['/nonexistent/queen.crt', '', 0]);
    assert.equal(tokensOf(policy).size, 2, 'tokens that stand in the policy');
  });

  test('does not call a permission unknown that a file may hold', async () => {
    const text = await readFile(good('permission-only-a-token-has'), 'utf8');
    policyOf(await loadPolicyText(text, '/nonexistent/policy.yaml', { env: {}, now: NOW, skipSecretFiles: true }));
  });
});

test('a secret is taken out of the environment, and still there at a reload', async () => {
  const fixture = await preparePolicy(good('secret-from-the-environment-is-warned-of'));
  try {
    for (const round of ['start', 'reload']) {
      const policy = policyOf(await loadPolicy(fixture.file, fixture.options));
      assert.equal(fixture.options.env['UPSTREAM_TOKEN'], undefined, round);
      const [queen] = policy.listeners;
      assert.ok(queen?.type === 'http');
      assert.equal(queen.routes.routes[0]?.upstreamAuth?.value.reveal(), 'Bearer s3cr3t', round);
      assert.ok(
        policy.warnings.some((issue) => issue.code === 'secret_from_environment'),
        round,
      );
    }
  } finally {
    await fixture.remove();
  }
});

describe('the state directory', () => {
  const text = readFile(good('smallest'), 'utf8');
  for (const [env, expected] of [
    [{ HOME: '/home/x' }, '/home/x/.local/state/guardbee/p'],
    [{ HOME: '/home/x', XDG_STATE_HOME: '/state' }, '/state/guardbee/p'],
    [{ HOME: '/home/x', XDG_STATE_HOME: 'relative' }, '/home/x/.local/state/guardbee/p'],
    [
      { HOME: '/home/x', XDG_STATE_HOME: '/state', STATE_DIRECTORY: '/var/lib/guardbee:/var/lib/b' },
      '/var/lib/guardbee',
    ],
  ] as const) {
    test(expected, async () => {
      assert.equal(
        policyOf(await loadPolicyText(await text, 'p.yaml', { env: { ...env }, now: NOW })).stateDir,
        expected,
      );
    });
  }
});

describe('upstream exposure, when nothing is said of it', () => {
  test('is a warning on loopback, and refused beyond', async () => {
    const text = await readFile(good('smallest'), 'utf8');
    const onLoopback = policyOf(await loadPolicyText(text, 'p.yaml', { env: {}, now: NOW }));
    assert.deepEqual(onLoopback.upstreamExposure, { mode: 'warn' });
    const beyond = text.replace('bind: 127.0.0.1:8443', 'bind: 0.0.0.0:8443\n    tls: { self_signed: { names: [a] } }');
    assert.deepEqual(policyOf(await loadPolicyText(beyond, 'p.yaml', { env: {}, now: NOW })).upstreamExposure, {
      mode: 'refuse',
    });
  });
});

describe('a policy file', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'guardbee-load-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  const options = { env: {}, now: NOW };

  async function load(content: string | Buffer): Promise<Loaded> {
    const file = path.join(folder, 'policy.yaml');
    await writeFile(file, content);
    await chmod(file, 0o644);
    return loadPolicy(file, options);
  }

  test('that is not there, or none, is said to be so', async () => {
    assert.deepEqual(codesOf(await loadPolicy(path.join(folder, 'none.yaml'), options)), ['file_unreadable']);
    assert.deepEqual(codesOf(await loadPolicy(folder, options)), ['file_unreadable']);
    assert.deepEqual(codesOf(await loadPolicy(path.join(folder, 'none.yaml', 'x'), options)), ['file_unreadable']);
  });
  test('larger than 4 MiB is refused', async () => {
    assert.deepEqual(codesOf(await load('# '.padEnd(4 * 1024 * 1024 + 1, 'x'))), ['too_large']);
  });
  test('that is not UTF-8 is refused', async () => {
    assert.deepEqual(codesOf(await load(Buffer.from('version: 1 # \xff', 'latin1'))), ['yaml_syntax']);
  });
  test('with a byte order mark, or with the line ends of Windows, is read', async () => {
    const text = await readFile(good('smallest'), 'utf8');
    policyOf(await load(`\ufeff${text}`));
    policyOf(await load(text.replaceAll('\n', '\r\n')));
  });
});

test('the first class of problems decides the exit code: policy, bind, secret', () => {
  const issue = (code: Issue['code'], severity: Issue['severity'] = 'error'): Issue => ({
    severity,
    code,
    file: 'p.yaml',
    line: 1,
    column: 1,
    key: 'k',
    message: 'm',
  });
  assert.equal(exitCodeFor([]), 0);
  assert.equal(exitCodeFor([issue('route_public', 'warning')]), 0);
  assert.equal(exitCodeFor([issue('secret_missing')]), 4);
  assert.equal(exitCodeFor([issue('secret_missing'), issue('bind_without_tls')]), 3);
  assert.equal(exitCodeFor([issue('secret_missing'), issue('bind_without_tls'), issue('bad_cidr')]), 1);
  assert.equal(exitCodeFor([issue('secret_missing'), issue('bad_cidr', 'warning')]), 4);
});

test('issues are rendered by place, each once, with a count', () => {
  const base = { severity: 'error', code: 'bad_cidr', key: 'a.b', message: 'found x' } as const;
  const rendered = renderIssues(
    sortIssues(
      [
        { ...base, file: 'tokens.yaml', line: 1, column: 1 },
        { ...base, file: 'p.yaml', line: 10, column: 2, hint: 'write y' },
        { ...base, file: 'p.yaml', line: 10, column: 2, hint: 'write y' },
        { ...base, file: 'p.yaml', line: 9, column: 20, severity: 'warning' },
        { ...base, file: 'p.yaml', line: 0, column: 0, key: '' },
      ],
      'p.yaml',
    ),
  );
  assert.equal(
    rendered,
    [
      'p.yaml: found x',
      'p.yaml:9:20 a.b: warning: found x',
      'p.yaml:10:2 a.b: found x',
      '    fix: write y',
      'tokens.yaml:1:1 a.b: found x',
      '3 errors, 1 warning; nothing of this policy is used',
      '',
    ].join('\n'),
  );
  assert.equal(renderIssues([]), '');
});
