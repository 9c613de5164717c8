/**
 * A client sends certificates of authorities with its own. They are believed where the chain needs them, for as long as
 * the connection lasts; they cost no memory for longer, and an odd file of authorities makes nobody wait.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { startGuard, type Guard } from '../support/guard.js';
import { residentBytes } from '../support/leak.js';
import { OpensslAuthority, certificatesOf, type OpensslPair } from '../support/openssl-authority.js';
import { writeFileIn } from '../support/policy-builder.js';
import { RawConnection, request, requestBytes, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { hangUp } from '../reload/reloading-guard.js';

/** A service, and a folder for authorities. */
class Scene implements AsyncDisposable {
  readonly upstream: RecordingUpstream;
  readonly #openssl: string;
  readonly #folder = new TemporaryDirectory();

  constructor(upstream: RecordingUpstream, openssl: string) {
    this.upstream = upstream;
    this.#openssl = openssl;
  }

  root(name: string): OpensslAuthority {
    return OpensslAuthority.root(this.#openssl, this.#folder.file(name), name);
  }

  /** @param authorities who vouches for clients, in PEM */
  async guard(authorities: string): Promise<Guard> {
    return await startGuard({
      upstream: this.upstream.url,
      prepare: (directory) => {
        writeFileIn(directory, 'clients.pem', authorities, 0o644);
      },
      authenticators: {
        nodes: {
          type: 'mtls',
          ca: 'clients.pem',
          identities: [{ san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['operator'] }],
        },
      },
      listeners: { nodes: { tls: true, authenticate: ['nodes'], throttle: 'off' } },
      top: { log: { level: 'debug' } },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#folder.remove();
    await this.upstream.close();
  }
}

/** Null: there is no openssl here, and the test is skipped. */
async function setUp(t: TestContext): Promise<Scene | null> {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return null;
  return new Scene(await RecordingUpstream.start({ respond: respond.status(200, [], 'here') }), openssl);
}

function showing(guard: Guard, pair: OpensslPair, ...above: readonly Pick<OpensslPair, 'cert'>[]): Target {
  const { port, tls } = guard.target('nodes');
  const shown = { cert: certificatesOf(pair, ...above), key: readFileSync(pair.key, 'utf8') };
  return { port, tls: { ...tls, ...shown } } as Target;
}

test('who brought an intermediate goes on when another authority comes in beside its own', async (t) => {
  await using scene = await setUp(t);
  if (scene === null) return;
  const nodes = scene.root('nodes');
  const others = scene.root('others');
  const below = nodes.intermediate('below');
  await using guard = await scene.guard(certificatesOf(nodes));
  const as = showing(guard, below.issue('hive', { san: 'DNS:hive-1.lan' }), below);
  using connection = await RawConnection.connect(as);
  const ask = async (): Promise<number> => {
    connection.write(requestBytes(as, { path: '/thing' }));
    return (await connection.readResponse()).status;
  };
  assert.equal(await ask(), 200);
  writeFileIn(guard.directory, 'clients.pem', certificatesOf(others, nodes), 0o644);
  assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
  assert.equal(await ask(), 200);
  // What it sent is worth nothing without the root.
  writeFileIn(guard.directory, 'clients.pem', certificatesOf(others), 0o644);
  assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
  await connection.waitForEnd();
  assert.equal(scene.upstream.requests.length, 2);
});

test('an intermediate that was only in the file of authorities is not taken for one that was sent', async (t) => {
  await using scene = await setUp(t);
  if (scene === null) return;
  const nodes = scene.root('nodes');
  const below = nodes.intermediate('below');
  await using guard = await scene.guard(certificatesOf(nodes, below));
  const as = showing(guard, below.issue('hive', { san: 'DNS:hive-1.lan' }));
  using connection = await RawConnection.connect(as);
  connection.write(requestBytes(as, { path: '/thing' }));
  assert.equal((await connection.readResponse()).status, 200);
  writeFileIn(guard.directory, 'clients.pem', certificatesOf(nodes), 0o644);
  assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
  await connection.waitForEnd();
  assert.equal((await request(as, { path: '/thing' })).status, 401);
});

test('certificates that a stranger sends, 20 of them, are not kept when it leaves', async (t) => {
  await using scene = await setUp(t);
  if (scene === null) return;
  const nodes = scene.root('nodes');
  const others = scene.root('others');
  await using guard = await scene.guard(certificatesOf(nodes));
  const many = Array.from({ length: 20 }, () => others);
  const stranger = showing(guard, others.issue('stranger', { san: 'DNS:hive-1.lan' }), ...many);
  const visit = async (times: number): Promise<void> => {
    for (let left = times; left > 0; left -= 10) {
      const answers = Array.from({ length: 10 }, async () => (await request(stranger, { path: '/thing' })).status);
      assert.deepEqual(new Set(await Promise.all(answers)), new Set([401]));
    }
  };
  await visit(100);
  const before = residentBytes(guard.process.pid);
  await visit(240);
  const grown = (residentBytes(guard.process.pid) - before) / 1024 / 1024;
  // Kept, they would be 4 KB each: 19 MiB.
  assert.ok(grown < 12, `${grown.toFixed(1)} MiB more after 4,800 certificates`);
  assert.equal(scene.upstream.requests.length, 0);
});

/** Node, asked for all that stands above a certificate of theirs, would look for the end of it for ever. */
test('authorities that issued each other: who shows a certificate of theirs is answered', async (t) => {
  await using scene = await setUp(t);
  if (scene === null) return;
  const root = scene.root('root');
  const one = scene.root('one');
  const two = scene.root('two');
  const circle = [{ cert: two.crossSign(one, 'one-by-two') }, { cert: one.crossSign(two, 'two-by-one') }];
  const rooted = { cert: root.crossSign(one, 'one-by-root') };
  for (const authorities of [circle, [...circle, rooted, root], [rooted, ...circle, root]]) {
    await using guard = await scene.guard(certificatesOf(...authorities));
    const as = showing(guard, one.issue('hive', { san: 'DNS:hive-1.lan' }));
    for (const servername of [undefined, 'localhost']) {
      const tls = { ...as.tls, ...(servername === undefined ? {} : { servername }) };
      const { status } = await request({ ...as, tls } as Target, { path: '/thing' });
      assert.ok(status === 200 || status === 401, String(status));
    }
  }
});
