/** `type: network` and `local_identity`, with the real program: who is somebody by where they are, and who is not. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { startGuard, type Guard } from '../support/guard.js';
import { runCommand } from '../support/process.js';
import { openWebSocket, request, type RequestOptions, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond, type EchoedRequest } from '../support/recording-upstream.js';

describe('callers that send nothing', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.byPath({ '/socket': respond.webSocket() }, respond.echo()),
    });
    const routes = [
      { name: 'run', path: '/run', methods: ['GET'], safe: false, require: 'read' },
      { name: 'read', path: '/**', methods: ['GET', 'HEAD'], require: 'read' },
      { name: 'write', path: '/**', methods: 'any', require: 'write' },
    ];
    guard = await startGuard({
      upstream: upstream.url,
      routes,
      listeners: {
        local: { local_identity: { name: 'somebody-here', roles: ['operator'] } },
        named: { hosts: ['queen.lan'], local_identity: { name: 'somebody-here', roles: ['viewer'] } },
        proxied: { trusted_proxies: ['127.0.0.2'], local_identity: { name: 'somebody-here', roles: ['viewer'] } },
        lan: { trusted_proxies: ['127.0.0.2'], authenticate: ['lan'] },
      },
      authenticators: {
        lan: {
          type: 'network',
          identities: [
            { from: '192.168.1.7', name: 'hive-1', roles: ['operator'] },
            { from: '2001:DB8:0:0::7', name: 'hive-2', roles: ['viewer'] },
          ],
        },
      },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** Who it was, or the status of the refusal; then the upstream has seen nothing of it. */
  const ask = async (listener: string, options: RequestOptions = {}, from?: string): Promise<string | number> => {
    const target: Target = { ...guard.target(listener), ...(from === undefined ? {} : { localAddress: from }) };
    const seen = bytesSeen(upstream);
    const response = await request(target, options);
    if (response.status !== 200) {
      assert.equal(bytesSeen(upstream), seen, 'the upstream saw something');
      return response.status;
    }
    return (response.json() as EchoedRequest).headers.find(([name]) => name === 'x-auth-user')?.[1] ?? 'nobody';
  };

  const forwarded = (by: string): RequestOptions => ({ headers: [['X-Forwarded-For', by]] });

  test('a network identity is the client after trusted proxies, in any form of its address, and nobody else', async () => {
    assert.equal(await ask('lan', forwarded('192.168.1.7'), '127.0.0.2'), 'hive-1');
    assert.equal(await ask('lan', forwarded('::ffff:192.168.1.7'), '127.0.0.2'), 'hive-1');
    assert.equal(await ask('lan', forwarded('2001:db8::7'), '127.0.0.2'), 'hive-2');
    assert.equal(await ask('lan', forwarded('192.168.1.8'), '127.0.0.2'), 401);
    assert.equal(await ask('lan', { ...forwarded('2001:db8::7'), method: 'POST' }, '127.0.0.2'), 403);
    // The proxy itself, and somebody who is no proxy and says who they are.
    assert.equal(await ask('lan', {}, '127.0.0.2'), 401);
    assert.equal(await ask('lan', forwarded('192.168.1.7')), 401);
    assert.equal(await ask('lan', forwarded('192.168.1.7, 192.168.1.8'), '127.0.0.2'), 401);
    assert.equal(await ask('lan', { token: guard.token }), 401);
  });

  test('a local caller without a credential is the local identity; a credential decides alone', async () => {
    assert.equal(await ask('local'), 'somebody-here');
    assert.equal(await ask('local', { method: 'POST' }), 'somebody-here');
    assert.equal(await ask('local', {}, '127.0.0.9'), 'somebody-here');
    assert.equal(await ask('local', { token: guard.token }), 'keeper');
    assert.equal(await ask('local', { token: 'a-token-that-nobody-has' }), 401);
    assert.equal(await ask('named', { host: 'queen.lan', method: 'POST' }), 403);
    // A listener without it is as closed as ever.
    assert.equal(await ask('main'), 401);
  });

  test('a name that somebody made resolve to loopback is not answered to', async () => {
    for (const host of ['localhost', 'LOCALHOST.', '127.0.0.1', '127.8.9.10', '[::1]', '[::ffff:127.0.0.1]']) {
      assert.equal(await ask('local', { host: `${host}:7833` }), 'somebody-here', host);
    }
    for (const host of [
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.nip.io',
      '0.0.0.0',
      '[::]',
      '192.168.1.7',
      'queen.lan',
    ]) {
      assert.equal(await ask('local', { host: `${host}:7833` }), 421, host);
      assert.equal(await ask('local', { host: `${host}:7833`, token: guard.token }), 421, host);
    }
    assert.equal(await ask('named', { host: 'queen.lan:7833' }), 'somebody-here');
    assert.equal(await ask('named', { host: 'localhost' }), 'somebody-here');
    assert.equal(await ask('named', { host: 'hive.lan' }), 421);
  });

  test('what somebody passed on does not come from this machine', async () => {
    assert.equal(await ask('local', forwarded('203.0.113.9')), 401);
    assert.equal(await ask('local', forwarded('127.0.0.1')), 401);
    assert.equal(await ask('local', forwarded('')), 401);
    assert.equal(await ask('proxied', forwarded('203.0.113.9'), '127.0.0.2'), 401);
    assert.equal(await ask('proxied', forwarded('127.0.0.1'), '127.0.0.2'), 'somebody-here');
    assert.equal(await ask('proxied', forwarded('127.0.0.1'), '127.0.0.3'), 401);
  });

  test('a page of another site changes nothing: being there is a credential that a browser shows by itself', async () => {
    const foreign: RequestOptions = { headers: [['Origin', 'https://evil.example']] };
    const own = { headers: [['Origin', `http://127.0.0.1:${String(guard.target('local').port)}`] as const] };
    assert.equal(await ask('local', { ...foreign, method: 'POST', body: 'x' }), 403);
    assert.equal(await ask('local', { ...foreign, path: '/run' }), 403);
    assert.equal(await ask('local', { headers: [['Sec-Fetch-Site', 'cross-site']], path: '/run' }), 403);
    assert.equal(await ask('local', { headers: [['Origin', 'null']], method: 'POST' }), 403);
    assert.equal(await ask('local', { ...own, method: 'POST' }), 'somebody-here');
    assert.equal(await ask('local', { path: '/run' }), 'somebody-here');
    // With a token, whoever it comes from.
    assert.equal(await ask('local', { ...foreign, method: 'POST', token: guard.token }), 'keeper');
    const lan: RequestOptions = {
      headers: [...(forwarded('192.168.1.7').headers ?? []), ['Origin', 'https://evil.example']],
    };
    assert.equal(await ask('lan', { ...lan, method: 'POST' }, '127.0.0.2'), 403);
  });

  test('nor does it open a WebSocket', async () => {
    const seen = bytesSeen(upstream);
    const foreign = await openWebSocket(guard.target('local'), {
      path: '/socket',
      headers: [['Origin', 'https://evil.example']],
    });
    foreign.connection.close();
    assert.equal(foreign.response.status, 403);
    assert.equal(bytesSeen(upstream), seen, 'the upstream saw something');
    const { socket, connection } = await openWebSocket(guard.target('local'), { path: '/socket' });
    assert.ok(socket !== null);
    socket.send('hello');
    assert.equal(await socket.nextText(), 'hello');
    connection.close();
  });

  test('curl passes as it is', async (t) => {
    const curl = requireComponent('curl', t);
    if (curl === null) return;
    const url = `http://localhost:${String(guard.target('local').port)}/v1/jobs`;
    const result = await runCommand(curl, ['-q', '-sS', '-4', '-d', '{}', '-w', '\n%{http_code}', url]);
    assert.match(result.stdout, /\n200$/);
  });
});

function bytesSeen(upstream: RecordingUpstream): number {
  return upstream.connections.reduce((sum, connection) => sum + connection.bytesSeen, 0);
}
