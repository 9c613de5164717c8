import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { testCertificates } from '../support/certificates.js';
import { countOpenFiles, expectSockets } from '../support/leak.js';
import { RawConnection } from '../support/raw-client.js';
import { waitUntil, within } from '../support/wait.js';
import { TcpService, echo, startTcpGuard } from './fixture.js';

test('where the service is not there the connection is reset, and it is said', async () => {
  const gone = createServer().listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as AddressInfo;
  gone.close();
  await once(gone, 'close');
  await using guard = await startTcpGuard({
    listeners: {
      tcp: { upstream: `tcp://127.0.0.1:${String(port)}` },
      unix: { upstream: 'unix:/nowhere/at/all.sock' },
    },
    top: { admin: { bind: '127.0.0.1:0' } },
  });
  for (const listener of ['tcp', 'unix']) {
    assert.equal(await guard.heard(listener, 'hello'), 0);
    const line = await guard.session((one) => one['guardbee.listener'] === listener);
    assert.equal(line['guardbee.reason'], 'upstream_refused');
    assert.equal(line['guardbee.decision'], 'fail');
    assert.equal(line['level'], 'ERROR');
  }
  const page = await guard.metrics();
  assert.match(page, /^guardbee_tcp_sessions_total\{listener="tcp",reason="upstream_refused"\} 1$/m);
  assert.match(page, new RegExp(`^guardbee_upstream_up\\{upstream="127.0.0.1:${String(port)}"\\} 0$`, 'm'));
});

test('silence ends a session where the policy says so, and only silence of both', async () => {
  await using service = await TcpService.start();
  await using guard = await startTcpGuard({
    listeners: {
      idle: { upstream: `tcp://127.0.0.1:${String(service.port)}`, idle: '300ms' },
      quiet: { upstream: `tcp://127.0.0.1:${String(service.port)}` },
    },
  });
  using quiet = await guard.connect('quiet');
  using connection = await guard.connect('idle');
  connection.write('x');
  const there = await service.until(() => service.connections.find(({ bytesSeen }) => bytesSeen > 0), 'a byte');
  const began = performance.now();
  // One direction is enough to keep it.
  const timer = setInterval(() => there.socket.write('y'), 50);
  await connection.waitForBytes(20);
  clearInterval(timer);
  assert.ok(performance.now() - began > 300);
  assert.equal(connection.ended, null);
  assert.equal(await connection.waitForEnd(), 'reset');
  const line = await guard.session();
  assert.equal(line['guardbee.reason'], 'idle_timeout');
  assert.equal(quiet.ended, null);
  await service.until(() => there.closed, 'the service to hear of it');
});

test('a session ends when the policy or its certificate says so', async () => {
  const { authority, ca } = await testCertificates();
  const soon = new Date(Date.now() + 4000);
  const pair = await authority.issue({ names: ['hive-1.lan'], usage: 'client', notAfter: soon });
  await using service = await TcpService.start(echo);
  const upstream = `tcp://127.0.0.1:${String(service.port)}`;
  const mtls = { upstream, tls: true, authenticate: ['nodes'], require: 'connect' };
  await using guard = await startTcpGuard({
    listeners: {
      max: { upstream, streams: { max: '300ms' } },
      nodes: mtls,
      on: { ...mtls, streams: { end_at_expiry: false } },
    },
    authenticators: {
      nodes: {
        type: 'mtls',
        ca: 'nodes.pem',
        identities: [{ san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['node'] }],
      },
    },
    files: { 'nodes.pem': ca },
  });
  using kept = await guard.connectTls('on', pair);
  using cut = await guard.connectTls('nodes', pair);
  for (const connection of [kept, cut]) {
    connection.write('hello');
    await connection.readBytes(5);
  }
  using longest = await guard.connect('max');
  assert.equal(await longest.waitForEnd(), 'reset');
  assert.equal((await guard.session())['guardbee.reason'], 'stream_expired');
  await cut.waitForEnd();
  const line = await guard.session((one) => one['guardbee.listener'] === 'nodes');
  assert.equal(line['guardbee.reason'], 'credential_ended');
  kept.write('still');
  assert.equal((await kept.readBytes(5)).toString(), 'still');
});

test('a drain lets sessions go on, takes no new ones, and ends with them', async () => {
  await using service = await TcpService.start(echo);
  await using guard = await startTcpGuard({
    listeners: { tcp: { upstream: `tcp://127.0.0.1:${String(service.port)}` } },
    top: { drain: '30s' },
  });
  using connection = await guard.connect();
  connection.write('hello');
  await connection.readBytes(5);
  guard.process.child.kill('SIGTERM');
  await guard.process.waitForLog((line) => String(line['msg']).startsWith('draining'));
  await waitUntil(async () => {
    try {
      const late = await RawConnection.connect({ port: guard.port() });
      late.close();
      return false;
    } catch {
      return true;
    }
  }, 'new connections to be refused');
  connection.write('on we go');
  assert.equal((await connection.readBytes(8)).toString(), 'on we go');
  connection.end();
  await connection.readToEnd();
  assert.equal((await within(guard.process.exited, 'the end')).code, 0);
});

test('what is still open at the end of a drain is cut, and the exit code says so', async () => {
  await using service = await TcpService.start(echo);
  await using guard = await startTcpGuard({
    listeners: { tcp: { upstream: `tcp://127.0.0.1:${String(service.port)}` } },
    top: { drain: '200ms' },
  });
  using connection = await guard.connect();
  connection.write('hello');
  await connection.readBytes(5);
  guard.process.child.kill('SIGTERM');
  assert.equal(await connection.waitForEnd(), 'reset');
  assert.equal((await within(guard.process.exited, 'the end')).code, 7);
  assert.equal((await guard.session())['guardbee.reason'], 'shutting_down');
});

test('a thousand connections leave no sockets, whichever side ends them and how', async () => {
  let nth = 0;
  await using service = await TcpService.start(({ socket }) => {
    nth += 1;
    if (nth % 4 === 0) socket.resetAndDestroy();
    else if (nth % 4 === 1) socket.end('bye');
    else socket.pipe(socket);
  });
  await using guard = await startTcpGuard({
    listeners: {
      tcp: { upstream: `tcp://127.0.0.1:${String(service.port)}`, idle: '1h' },
      far: { upstream: `tcp://127.0.0.1:${String(service.port)}`, allow_from: ['192.0.2.1'] },
    },
  });
  const rested = countOpenFiles(guard.process.pid).sockets;
  const one = async (index: number): Promise<void> => {
    const connection = await guard.connect(index % 10 === 9 ? 'far' : 'tcp').catch(() => null);
    if (connection === null) return;
    connection.write('hello');
    if (index % 3 === 0) connection.reset();
    else {
      connection.end();
      await connection.waitForEnd();
    }
    connection.close();
  };
  for (let done = 0; done < 1000; done += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, index) => one(done + index)));
  }
  await expectSockets(guard.process.pid, rested);
});
