/**
 * A connection outlives the policy of its handshake. What its client certificate proved there counts for as long as the
 * authorities and revocation lists of now would let it in again: fresh lists cut whom they name, and nobody else.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import type { ClientHttp2Stream } from 'node:http2';
import { test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { type Guard, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { OpensslAuthority, type OpensslPair, certificatesOf } from '../support/openssl-authority.js';
import { writeFileIn } from '../support/policy-builder.js';
import { RawConnection, type Target, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';
import { freePort } from '../support/free-port.js';
import { adminOf, hangUp, rewrite } from './reloading-guard.js';

/** Everything that one client has open. */
interface Client {
  readonly as: Target;
  readonly streams: readonly { readonly ended: () => boolean }[];
  readonly idle: RawConnection;
  readonly close: () => void;
}

async function events(target: Target): Promise<RawConnection> {
  const connection = await RawConnection.connect(target);
  connection.write(requestBytes(target, { path: '/events' }));
  assert.match(await connection.readEvent(), /ready/);
  return connection;
}

async function ask(connection: RawConnection, as: Target): Promise<number> {
  connection.write(requestBytes(as, { path: '/thing' }));
  return (await connection.readResponse()).status;
}

async function open(guard: Guard, tcpPort: number, pair: OpensslPair): Promise<Client> {
  const { port, tls } = guard.target('nodes');
  assert.ok(tls !== undefined);
  const shown = { cert: readFileSync(pair.cert, 'utf8'), key: readFileSync(pair.key, 'utf8') };
  const as: Target = { port, tls: { ...tls, ...shown } };
  const http1 = await events(as);
  const tcp = await events({ port: tcpPort, tls: { ...tls, ...shown } });
  const session = await h2Connect(as);
  const stream: ClientHttp2Stream = session.request({ ':path': '/events' });
  stream.on('error', () => undefined);
  await within(once(stream.setEncoding('utf8'), 'data'), 'the first event');
  stream.resume();
  const idle = await RawConnection.connect(as);
  assert.equal(await ask(idle, as), 200);
  return {
    as,
    idle,
    streams: [
      { ended: () => http1.ended !== null },
      { ended: () => tcp.ended !== null },
      { ended: () => stream.destroyed },
    ],
    close: () => {
      for (const one of [http1, tcp, idle]) one.close();
      session.destroy();
    },
  };
}

test('streams and connections of certificates that are as good as before go on; those of others end', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      asked.target === '/events'
        ? respond.silentEvents()(asked, connection)
        : respond.status(200, [], 'here')(asked, connection),
  });
  using folder = new TemporaryDirectory();
  const nodes = OpensslAuthority.root(openssl, folder.file('nodes'));
  const others = OpensslAuthority.root(openssl, folder.file('others'), 'others');
  const [good, bad] = [nodes.issue('good', { san: 'DNS:hive-1.lan' }), nodes.issue('bad', { san: 'DNS:hive-1.lan' })];
  const fresh = others.issue('fresh', { san: 'DNS:hive-1.lan' });
  const put = (name: string, ...files: readonly string[]): void => {
    const text = files.map((file) => readFileSync(file, 'utf8')).join('');
    writeFileIn(guard.directory, name, text, 0o644);
  };
  await using guard = await startGuard({
    upstream: upstream.url,
    prepare: (directory) => {
      writeFileIn(directory, 'clients.pem', certificatesOf(nodes), 0o644);
      writeFileIn(directory, 'clients.crl', readFileSync(nodes.revoke([], 600), 'utf8'), 0o644);
    },
    authenticators: {
      nodes: {
        type: 'mtls',
        ca: 'clients.pem',
        crl: 'clients.crl',
        identities: [{ san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['operator'] }],
      },
    },
    listeners: { nodes: { tls: true, authenticate: ['nodes'] } },
    top: { admin: { bind: '127.0.0.1:0' } },
  });
  const admin = await adminOf(guard);
  const tcpPort = await freePort();
  rewrite(guard, ({ listeners }) => {
    if (listeners === undefined) return;
    listeners['tunnel'] = {
      type: 'tcp',
      bind: `127.0.0.1:${String(tcpPort)}`,
      upstream: `tcp://127.0.0.1:${String(upstream.port)}`,
      tls: { cert: 'server.crt', key: 'server.key' },
      authenticate: ['nodes'],
      require: 'write',
    };
  });
  const reloads = async (refused: number): Promise<void> => {
    const line = await hangUp(guard);
    assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
    assert.equal(line['guardbee.exchanges_refused'], refused);
  };
  await reloads(0);
  const kept = await open(guard, tcpPort, good);
  const named = await open(guard, tcpPort, bad);
  const goesOn = async (client: Client): Promise<void> => {
    assert.deepEqual(
      client.streams.map((one) => one.ended()),
      [false, false, false],
    );
    assert.equal(await ask(client.idle, client.as), 200);
  };
  const ends = async (client: Client): Promise<void> => {
    for (const one of client.streams) await waitUntil(() => one.ended(), 'a stream to end');
    await client.idle.waitForEnd();
    using again = await RawConnection.connect(client.as);
    assert.equal(await ask(again, client.as), 401);
  };

  await t.test('the same files, read again', async () => {
    await reloads(0);
    await goesOn(named);
  });

  await t.test('a fresh list that names nobody', async () => {
    put('clients.crl', nodes.revoke([], 86_400));
    await reloads(0);
    await goesOn(named);
    await goesOn(kept);
  });

  await t.test('another authority beside', async () => {
    put('clients.pem', nodes.cert, others.cert);
    put('clients.crl', nodes.revoke([], 86_400), others.revoke([], 86_400));
    await reloads(0);
    await goesOn(named);
    using newcomer = await RawConnection.connect({
      ...kept.as,
      tls: { ...kept.as.tls, cert: readFileSync(fresh.cert, 'utf8'), key: readFileSync(fresh.key, 'utf8') },
    } as Target);
    assert.equal(await ask(newcomer, kept.as), 200);
  });

  await t.test('a list that is gone, is another file, or half a file: the one before is asked', async () => {
    const [list, half] = [readFileSync(guard.directory.file('clients.crl'), 'utf8'), 100];
    const breaks = [
      (): void => {
        rmSync(guard.directory.file('clients.crl'));
      },
      (): string => writeFileIn(guard.directory, 'clients.crl', certificatesOf(nodes), 0o644),
      (): string => writeFileIn(guard.directory, 'clients.crl', list.slice(0, half), 0o644),
    ];
    for (const [nth, breakIt] of breaks.entries()) {
      breakIt();
      const line = await hangUp(guard);
      assert.equal(line['event.name'], 'policy.reload_failed', JSON.stringify(line));
      await goesOn(named);
      assert.match((await request(admin, { path: '/readyz' })).text(), /the last reload failed: .*clients\.crl/);
      const metrics = (await request(admin, { path: '/metrics' })).text();
      assert.match(metrics, new RegExp(`^guardbee_reloads_total\\{result="failed"\\} ${String(nth + 1)}$`, 'm'));
    }
  });

  await t.test('a list that names one of them', async () => {
    put('clients.crl', nodes.revoke([bad], 86_400), others.revoke([], 86_400));
    // What is asked of tcp sessions is not counted among the exchanges.
    await reloads(2);
    await ends(named);
    await goesOn(kept);
    const session = await h2Connect(kept.as);
    assert.equal((await h2Request(session, { ':path': '/thing' })).status, 200);
    session.destroy();
  });

  await t.test('an authority that is gone', async () => {
    put('clients.pem', others.cert);
    put('clients.crl', others.revoke([], 86_400));
    await reloads(2);
    await ends(kept);
  });
  kept.close();
  named.close();
});
