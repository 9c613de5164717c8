import assert from 'node:assert/strict';
import { type AddressInfo, type Server, createServer } from 'node:net';
import { describe, test } from 'node:test';
import { type PolicyValue, simplePolicy, tokenPair, writeFileIn, writePolicy } from '../support/policy-builder.js';
import { startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const token = tokenPair();
const TOKENS = [{ name: 'me', roles: ['viewer'], sha256: token.sha256 }];
const SELF_SIGNED = { self_signed: { names: ['localhost'] } };

/** Loaded before the program: says on stderr when anything listens, even for a moment. */
const WATCH = `data:text/javascript,${encodeURIComponent(`
  import net from 'node:net';
  const { listen } = net.Server.prototype;
  net.Server.prototype.listen = function (...args) {
    process.stderr.write('LISTENED\\n');
    return listen.apply(this, args);
  };
`)}`;

interface Case {
  readonly name: string;
  readonly exit: number;
  /** On stderr. */
  readonly says: RegExp;
  readonly policy: (dir: TemporaryDirectory) => PolicyValue;
}

const policyWith = (
  dir: TemporaryDirectory,
  more: Omit<Parameters<typeof simplePolicy>[0], 'stateDir' | 'upstream'> & { upstream?: string },
): PolicyValue =>
  simplePolicy({ upstream: 'http://127.0.0.1:9', tokens: TOKENS, stateDir: dir.file('state'), ...more });

const CASES: readonly Case[] = [
  {
    name: 'beyond loopback without TLS',
    exit: 3,
    says: /policy\.yaml:\d+:\d+ listeners\.main\.bind[^\n]* no tls/,
    policy: (dir) => policyWith(dir, { bind: '0.0.0.0:0' }),
  },
  {
    name: 'beyond loopback without authentication',
    exit: 3,
    says: /policy\.yaml:\d+:\d+ listeners\.main\.bind[^\n]*requires a credential/,
    policy: (dir) =>
      policyWith(dir, {
        bind: '0.0.0.0:0',
        listener: { tls: SELF_SIGNED },
        tokens: [],
        routes: [{ name: 'health', path: '/health', methods: ['GET'], public: true }],
      }),
  },
  {
    name: 'all IPv6 addresses without TLS',
    exit: 3,
    says: /policy\.yaml:\d+:\d+ listeners\.main\.bind[^\n]* no tls/,
    policy: (dir) => policyWith(dir, { bind: '[::]:0' }),
  },
  {
    name: 'an upstream that is another machine',
    exit: 3,
    says: /policy\.yaml:\d+:\d+ listeners\.main\.upstream[^\n]*loopback/,
    policy: (dir) => policyWith(dir, { upstream: 'http://192.0.2.1:7833' }),
  },
  {
    name: 'a mistake in the policy',
    exit: 1,
    says: /allow_form: unknown key, did you mean allow_from/,
    policy: (dir) => policyWith(dir, { listener: { allow_form: ['10.0.0.0/8'] } }),
  },
  {
    name: 'a test of the policy that fails',
    exit: 1,
    says: /tests\[0\][^\n]*expected allowed/,
    policy: (dir) => policyWith(dir, { top: { tests: [{ request: 'GET /x', expect: 'allow' }] } }),
  },
  {
    name: 'a tokens file that is not there',
    exit: 4,
    says: /authenticators\.keys\.tokens_file[^\n]*guardbee|tokens\.yaml/,
    policy: (dir) =>
      policyWith(dir, { top: { authenticators: { keys: { type: 'bearer', tokens_file: 'tokens.yaml' } } } }),
  },
  {
    name: 'a tokens file that others can read',
    exit: 4,
    says: /chmod/,
    policy: (dir) => {
      writeFileIn(dir, 'tokens.yaml', JSON.stringify({ tokens: TOKENS }), 0o644);
      return policyWith(dir, { top: { authenticators: { keys: { type: 'bearer', tokens_file: 'tokens.yaml' } } } });
    },
  },
];

describe('an unsafe start listens on nothing, even for a moment', { concurrency: 2 }, () => {
  for (const { name, exit, says, policy } of CASES) {
    test(`${name}: exit ${String(exit)}`, async () => {
      using dir = new TemporaryDirectory();
      const file = writePolicy(dir, policy(dir));
      await using guardbee = startGuardbee({ args: ['run', '--policy', file], nodeArgs: ['--import', WATCH] });
      await guardbee.expectExit(exit, 20_000);
      assert.match(guardbee.stderr, says);
      assert.doesNotMatch(guardbee.stderr, /LISTENED|\n\s+at /);
      assert.doesNotMatch(guardbee.stdout + guardbee.stderr, new RegExp(token.token));
      // `check` accepts and refuses the same policies.
      await using check = startGuardbee({ args: ['check', file] });
      await check.expectExit(exit, 20_000);
    });
  }
});

async function listenOn(host: string): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

// Two at a time: the first of them waits for the next look, which is 10 s away.
describe('an upstream whose own port is open to the network', { concurrency: 2 }, () => {
  const open = (dir: TemporaryDirectory, port: number, exposure?: PolicyValue): string =>
    writePolicy(
      dir,
      policyWith(dir, {
        bind: '0.0.0.0:0',
        upstream: `http://127.0.0.1:${String(port)}`,
        listener: { tls: SELF_SIGNED },
        top: { admin: { bind: '127.0.0.1:0' }, ...(exposure === undefined ? {} : { upstream_exposure: exposure }) },
      }),
    );

  test('is said within 10 s when it opens later: not ready, a warning, a metric', async () => {
    using dir = new TemporaryDirectory();
    const first = await listenOn('127.0.0.1');
    await using guardbee = startGuardbee({ args: ['run', '--policy', open(dir, first.port)] });
    const admin = String(
      (await guardbee.waitForLog((line) => line['event.name'] === 'admin.open', 20_000))['url.full'],
    );
    assert.equal((await fetch(`${admin}/readyz`)).status, 200);
    await new Promise((resolve) => first.server.close(resolve));
    const second = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => second.listen(first.port, '0.0.0.0', resolve));
    try {
      await guardbee.waitForLog((line) => line['event.name'] === 'upstream.exposed', 15_000);
      assert.equal((await fetch(`${admin}/readyz`)).status, 503);
      assert.match(await (await fetch(`${admin}/metrics`)).text(), /guardbee_upstream_exposed\{[^}]*\} 1/);
      await guardbee.kill('SIGTERM', 20_000);
    } finally {
      second.close();
    }
  });

  test('refuses the start with exit 3 where a listener is beyond loopback', async () => {
    using dir = new TemporaryDirectory();
    const { server, port } = await listenOn('0.0.0.0');
    try {
      await using guardbee = startGuardbee({
        args: ['run', '--policy', open(dir, port)],
        nodeArgs: ['--import', WATCH],
      });
      await guardbee.expectExit(3, 20_000);
      assert.match(guardbee.stderr, /can be reached around guardbee/);
      assert.match(guardbee.stderr, /firewalled/);
      assert.doesNotMatch(guardbee.stderr, /LISTENED/);
    } finally {
      server.close();
    }
  });

  for (const [name, exposure, ready] of [
    ['firewalled', { firewalled: 'nftables drops it' }, 200],
    ['warn', 'warn', 200],
  ] as const) {
    test(`${name}: starts, and says so`, async () => {
      using dir = new TemporaryDirectory();
      const { server, port } = await listenOn('0.0.0.0');
      try {
        await using guardbee = startGuardbee({ args: ['run', '--policy', open(dir, port, exposure)] });
        await guardbee.waitForLog((line) => line['event.name'] === 'upstream.exposed', 20_000);
        const admin = await guardbee.waitForLog((line) => line['event.name'] === 'admin.open', 20_000);
        const response = await fetch(`${String(admin['url.full'])}/readyz`);
        assert.equal(response.status, ready);
        assert.match(await response.text(), /not on loopback alone/);
        const metrics = await (await fetch(`${String(admin['url.full'])}/metrics`)).text();
        assert.match(metrics, /guardbee_upstream_exposed\{[^}]*\} 1/);
        await guardbee.kill('SIGTERM', 20_000);
      } finally {
        server.close();
      }
    });
  }
});

test('an address in use ends the start with exit 5, and the addresses before it are let go', async () => {
  using dir = new TemporaryDirectory();
  const { server, port } = await listenOn('127.0.0.1');
  try {
    const base = policyWith(dir, {}) as { listeners: { main: Record<string, PolicyValue> } };
    const { main } = base.listeners;
    const policy = { ...base, listeners: { main, second: { ...main, bind: `127.0.0.1:${String(port)}` } } };
    await using guardbee = startGuardbee({ args: ['run', '--policy', writePolicy(dir, policy)] });
    await guardbee.expectExit(5, 20_000);
    assert.match(guardbee.stderr, /listener "second": 127\.0\.0\.1:\d+ is already in use/);
    assert.doesNotMatch(guardbee.stderr, /\n\s+at /);
  } finally {
    server.close();
  }
});

test('unsafe keys open what they say, and are named at the start', async () => {
  using dir = new TemporaryDirectory();
  const file = writePolicy(dir, policyWith(dir, { bind: '0.0.0.0:0', listener: { unsafe_plain_http: true } }));
  await using guardbee = startGuardbee({ args: ['run', '--policy', file] });
  const line = await guardbee.waitForLog((one) => one['event.name'] === 'policy.unsafe_key', 20_000);
  assert.equal(line['level'], 'WARN');
  assert.match(String(line['msg']), /unsafe_plain_http/);
  await guardbee.waitForLog((one) => one['event.name'] === 'ready');
  await guardbee.kill('SIGTERM', 20_000);
});
