/** Socket activation, by systemd's own program for trying it: it listens, and runs guardbee when somebody connects. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { freePort } from '../support/free-port.js';
import { requireComponent } from '../support/component.js';
import { assertUntouched } from '../support/guard.js';
import { type PolicyValue, simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { GUARDBEE_ENTRY, WatchedProcess, startGuardbee } from '../support/process.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const KEEPER = tokenPair();

interface Activation {
  /** As ListenStream= says it, and the name of each. */
  readonly sockets: readonly (readonly [at: string, name: string])[];
  readonly policyFile: string;
  readonly datagrams?: boolean;
}

/** guardbee as systemd starts it when somebody connects. Null where the test is skipped. */
async function activate(
  t: TestContext,
  { sockets, policyFile, datagrams }: Activation,
): Promise<WatchedProcess | null> {
  const activator = requireComponent('systemd-socket-activate', t);
  if (activator === null) return null;
  const guard = new WatchedProcess(activator, [
    ...sockets.flatMap(([at]) => ['-l', at]),
    ...(datagrams === true ? ['-d'] : []),
    `--fdname=${sockets.map(([, name]) => name).join(':')}`,
    process.execPath,
    GUARDBEE_ENTRY,
    'run',
    '--policy',
    policyFile,
  ]);
  for (const [at] of sockets) await guard.waitForOutput(new RegExp(`Listening on ${at.replaceAll('.', '\\.')} as`));
  return guard;
}

function policyFor(
  directory: TemporaryDirectory,
  upstream: string,
  listener: Readonly<Record<string, PolicyValue>>,
  more: Readonly<Record<string, Readonly<Record<string, PolicyValue>>>> = {},
): string {
  const simple = simplePolicy({
    upstream,
    listener,
    tokens: [{ name: 'keeper', sha256: KEEPER.sha256, roles: ['operator'] }],
    stateDir: directory.file('state'),
  });
  const listeners = simple['listeners'] as Readonly<Record<string, PolicyValue>>;
  return writePolicy(directory, { ...simple, listeners: { ...listeners, ...more } });
}

test('listeners take the sockets that are named, keep them over a reload, and drain', async (t) => {
  using directory = new TemporaryDirectory();
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      asked.target === '/events'
        ? respond.silentEvents()(asked, connection)
        : respond.status(200, [], 'here')(asked, connection),
  });
  const [web, bytes, stray] = [await freePort(), await freePort(), await freePort()];
  const at = (port: number): string => `127.0.0.1:${String(port)}`;
  const tcp = { type: 'tcp', socket: 'hive.socket', bind: at(bytes), upstream: upstream.url.replace('http:', 'tcp:') };
  const policy = (listener: Readonly<Record<string, PolicyValue>>): string =>
    policyFor(directory, upstream.url, { bind: at(web), socket: 'hive.socket', ...listener }, { bytes: tcp });
  await using guard = await activate(t, {
    // Of one unit all have one name: which is whose the address says.
    sockets: [
      [at(stray), 'stray'],
      [at(bytes), 'hive.socket'],
      [at(web), 'hive.socket'],
    ],
    policyFile: policy({}),
  });
  if (guard === null) return;

  // Whoever comes before guardbee waits for it.
  const stream = await RawConnection.connect({ port: web });
  stream.write(requestBytes({ port: web }, { path: '/events', token: KEEPER.token }));
  assert.match(await stream.readEvent(), /ready/);
  assert.equal((await request({ port: web })).status, 401);
  assert.equal((await request({ port: bytes })).status, 200, 'tcp: the upstream answers, whatever is said');
  const unused = await guard.waitForLog((line) => line['event.name'] === 'socket.unused');
  assert.match(String(unused['msg']), new RegExp(`no listener takes: "stray" at ${at(stray)}$`));

  policy({ timeouts: { upstream: '50s' } });
  guard.signal('SIGHUP');
  await guard.waitForLog((line) => line['event.name'] === 'policy.reloaded');
  assert.equal(stream.ended, null);
  assert.equal((await request({ port: web }, { token: KEEPER.token })).status, 200);

  // What systemd handed over stays there, so the policy can't move away from it.
  policy({ bind: at(await freePort()) });
  guard.signal('SIGHUP');
  const refused = await guard.waitForLog((line) => line['event.name'] === 'policy.socket_elsewhere');
  assert.match(String(refused['msg']), /refusing the socket "hive.socket": bind says .* what systemd handed over is/);
  assert.equal((await request({ port: web }, { token: KEEPER.token })).status, 200);

  stream.close();
  guard.signal('SIGTERM');
  await guard.expectExit(0);
});

test('a socket is judged by the address that it really has, before anybody is let in', async (t) => {
  using directory = new TemporaryDirectory();
  await using upstream = await RecordingUpstream.start();
  const port = await freePort();
  const everywhere = `0.0.0.0:${String(port)}`;
  const cases = [
    {
      bind: `127.0.0.1:${String(port)}`,
      says: /refusing the socket "web": bind says 127\.0\.0\.1:\d+, and .* at 0\.0\.0\.0:/,
    },
    { bind: everywhere, says: /listeners\.main\.bind: refusing 0\.0\.0\.0:\d+: it is reachable .* has no tls/ },
  ];
  for (const { bind, says } of cases) {
    const policyFile = policyFor(directory, upstream.url, { bind, socket: 'web' });
    await using guard = await activate(t, { sockets: [[everywhere, 'web']], policyFile });
    if (guard === null) return;
    const client = await RawConnection.connect({ port });
    client.write(requestBytes({ port }, { token: KEEPER.token }));
    await guard.expectExit(3);
    assert.match(guard.stderr, says);
    await client.waitForEnd();
    assert.equal(client.pending.length, 0, 'not a byte');
  }
  assertUntouched(upstream);
});

test('what is missing or of another kind is said', async (t) => {
  using directory = new TemporaryDirectory();
  await using upstream = await RecordingUpstream.start();
  const port = await freePort();
  const bind = `127.0.0.1:${String(port)}`;
  const path = directory.file('unix.sock');
  const policyFile = policyFor(directory, upstream.url, { bind, socket: 'web' });
  {
    await using guard = await activate(t, { sockets: [[path, 'web']], policyFile });
    if (guard === null) return;
    // That it is cut off when the process ends is no error here.
    const client = connect(path).on('error', () => undefined);
    await guard.expectExit(3);
    assert.match(guard.stderr, /what systemd handed over is "web", a unix socket\n {4}fix: /);
    if (!client.closed) await once(client, 'close');
  }
  {
    await using guard = await activate(t, { sockets: [[bind, 'other']], policyFile });
    if (guard === null) return;
    (await RawConnection.connect({ port })).close();
    await guard.expectExit(3);
    assert.match(guard.stderr, /handed over no socket of the name "web", only "other"\n {4}fix: .*socket: other/);
  }
  // Those of another process are not ours.
  await using guard = startGuardbee({
    args: ['run', '--policy', policyFile],
    env: { LISTEN_FDS: '1', LISTEN_PID: '1', LISTEN_FDNAMES: 'web' },
  });
  await guard.expectExit(3);
  assert.match(guard.stderr, /systemd handed over no socket of the name "web", nor any other/);
  assertUntouched(upstream);
});
