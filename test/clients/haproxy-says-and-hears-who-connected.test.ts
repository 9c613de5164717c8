import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runCommand, WatchedProcess } from '../support/process.js';
import { RawConnection } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { TcpService, echo, freeRange, startTcpGuard } from '../tcp/fixture.js';

test('haproxy says who connected (v1, v2, checks), and hears it from us', async (t) => {
  const haproxy = requireComponent('haproxy', t);
  if (haproxy === null) return;
  await using service = await TcpService.start(echo);
  const [v1 = 0, v2 = 0, hears = 0] = await freeRange(3);
  const trust = { trusted_proxies: ['127.0.0.1'], proxy_protocol: 'require' };
  await using guard = await startTcpGuard({
    listeners: {
      tcp: { ...trust, upstream: `tcp://127.0.0.1:${String(service.port)}`, from: ['127.0.0.5', '127.0.0.1'] },
      v1: { upstream: `tcp://127.0.0.1:${String(hears)}`, send_proxy_protocol: 'v1' },
      v2: { upstream: `tcp://127.0.0.1:${String(hears)}`, send_proxy_protocol: 'v2' },
    },
  });
  using directory = new TemporaryDirectory();
  const config = writeFileIn(
    directory,
    'haproxy.cfg',
    [
      'defaults',
      '  mode tcp',
      '  timeout connect 5s',
      '  timeout client 30s',
      '  timeout server 30s',
      'listen v1',
      `  bind 127.0.0.1:${String(v1)}`,
      `  server guard 127.0.0.1:${String(guard.port('tcp'))} send-proxy`,
      'listen v2',
      `  bind 127.0.0.1:${String(v2)}`,
      // Its checks are connections of its own: LOCAL.
      `  server guard 127.0.0.1:${String(guard.port('tcp'))} send-proxy-v2 check check-send-proxy inter 100ms`,
      'frontend hears',
      '  mode http',
      `  bind 127.0.0.1:${String(hears)} accept-proxy`,
      '  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst_port]"',
      '',
    ].join('\n'),
  );
  await using proxying = new WatchedProcess(haproxy, ['-db', '-f', config], {
    env: { LD_LIBRARY_PATH: process.env['LD_LIBRARY_PATH'] ?? '' },
  });
  await waitUntil(async () => {
    const probe = await RawConnection.connect({ port: hears }).catch(() => null);
    probe?.close();
    return probe !== null;
  }, `haproxy to listen: ${proxying.stderr}`);

  for (const port of [v1, v2]) {
    using connection = await RawConnection.connect({ port, localAddress: '127.0.0.5' });
    connection.write('hello');
    assert.equal((await connection.readBytes(5)).toString(), 'hello');
    connection.end();
    await connection.readToEnd();
    using stranger = await RawConnection.connect({ port, localAddress: '127.0.0.6' });
    stranger.write('hello');
    await stranger.waitForEnd();
    assert.equal(stranger.bytesSeen, 0);
  }
  await waitUntil(
    () => guard.process.logLines.filter((line) => line['client.address'] === '127.0.0.5').length === 2,
    'the lines of both sessions',
  );
  assert.equal((await guard.refusal('client_denied'))['client.address'], '127.0.0.6');

  for (const listener of ['v1', 'v2']) {
    using connection = await guard.connect(listener, { localAddress: '127.0.0.7' });
    connection.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const said = await connection.readResponse();
    assert.equal(said.text(), `127.0.0.7:${String(connection.socket.localPort)} ${String(guard.port(listener))}`);
  }
  // What it checks with is no refusal.
  const refusals = guard.process.logLines.filter((line) => line['event.name'] === 'connection.refused');
  assert.deepEqual(new Set(refusals.map((line) => line['guardbee.reason'])), new Set(['client_denied']));
});

test('curl says it to an http listener, with TLS and without', async (t) => {
  const curl = requireComponent('curl', t);
  if (curl === null) return;
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  const listener = {
    type: 'http',
    trusted_proxies: ['127.0.0.1'],
    proxy_protocol: 'require',
    upstream: upstream.url,
    routes: [{ name: 'any', path: '/any', public: true }],
  };
  await using guard = await startTcpGuard({ listeners: { http: listener, https: { ...listener, tls: true } } });
  for (const scheme of ['http', 'https']) {
    const url = `${scheme}://127.0.0.1:${String(guard.port(scheme))}/any`;
    const ask = async (...more: string[]): Promise<number> =>
      (await runCommand(curl, ['-q', '-sk', '-o', '/dev/null', '--fail', '--max-time', '20', ...more, url])).code;
    assert.equal(await ask('--haproxy-protocol'), 0);
    assert.notEqual(await ask(), 0);
  }
});
