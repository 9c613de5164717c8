import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { testCertificates } from '../support/certificates.js';
import type { RawConnection } from '../support/raw-client.js';
import { waitUntil } from '../support/wait.js';
import { TcpService, echo, startTcpGuard, type TcpGuard } from './fixture.js';

describe('only who may connects', () => {
  let service: TcpService;
  let guard: TcpGuard;
  const pairs = new Map<string, { readonly cert: string; readonly key: string }>();

  before(async () => {
    const { authority, ca } = await testCertificates();
    const day = 86_400_000;
    for (const name of ['hive-1', 'viewer', 'nobody'])
      pairs.set(name, await authority.issue({ names: [`${name}.lan`], usage: 'client' }));
    pairs.set('server', await authority.issue({ names: ['hive-1.lan'], usage: 'server' }));
    pairs.set(
      'past',
      await authority.issue({
        names: ['hive-1.lan'],
        usage: 'client',
        notBefore: new Date(Date.now() - 2 * day),
        notAfter: new Date(Date.now() - day),
      }),
    );
    service = await TcpService.start(echo);
    const upstream = `tcp://127.0.0.1:${String(service.port)}`;
    guard = await startTcpGuard({
      listeners: {
        near: { upstream, allow_from: ['127.0.0.1'] },
        far: { upstream, allow_from: ['192.0.2.0/24'] },
        'far-tls': { upstream, allow_from: ['192.0.2.0/24'], tls: true },
        few: { upstream, limits: { connections: 3, connections_per_address: 2 } },
        nodes: { upstream, tls: true, authenticate: ['nodes'], require: ['connect', 'keeper'] },
      },
      authenticators: {
        nodes: {
          type: 'mtls',
          ca: 'nodes.pem',
          identities: [
            { san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['node'] },
            { san: 'DNS:viewer.lan', name: 'viewer', roles: ['viewer'] },
          ],
        },
      },
      files: { 'nodes.pem': ca },
      top: {
        roles: { node: ['connect'], viewer: ['read'], keeper: ['keep'] },
        audit: { on_failure: 'deny' },
        admin: { bind: '127.0.0.1:0' },
      },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
  });

  const goesThrough = async (connection: RawConnection): Promise<void> => {
    connection.write('hello');
    assert.equal((await connection.readBytes(5)).toString(), 'hello');
  };

  const records = (): Record<string, unknown>[] => {
    const folder = join(guard.directory.path, 'state', 'audit', 'log');
    const files = readdirSync(folder).filter((name) => name.endsWith('.ndjson'));
    return files.flatMap((name) =>
      readFileSync(join(folder, name), 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    );
  };

  test('from elsewhere it is reset before a byte, and the service sees no connection', async () => {
    const seen = service.connections.length;
    for (const listener of ['far', 'far-tls']) {
      assert.equal(await guard.heard(listener, 'hello'), 0);
    }
    const line = await guard.refusal('address_denied');
    assert.equal(line['network.peer.address'], '127.0.0.1');
    assert.equal(service.connections.length, seen);
    using near = await guard.connect('near');
    await goesThrough(near);
    assert.equal(service.connections.length, seen + 1);
  });

  test('a certificate of somebody who may is needed, in TLS 1.3 and in 1.2', async () => {
    for (const name of [undefined, 'nobody', 'viewer', 'server', 'past']) {
      const seen = service.connections.length;
      const pair = name === undefined ? undefined : pairs.get(name);
      using connection = await guard.connectTls('nodes', pair);
      connection.write('hello');
      await connection.waitForEnd();
      assert.equal(connection.bytesSeen, 0, name);
      assert.equal(service.connections.length, seen, name);
    }
    const missing = await guard.refusal('permission_missing');
    assert.equal(missing['guardbee.identity'], 'viewer');
    await guard.refusal('credential_missing');
    await guard.refusal('credential_invalid');

    const seen = service.connections.length;
    using connection = await guard.connectTls('nodes', pairs.get('hive-1'));
    await goesThrough(connection);
    connection.end();
    await connection.readToEnd();
    const line = await guard.session((one) => one['guardbee.listener'] === 'nodes');
    assert.equal(line['guardbee.identity'], 'hive-1');
    assert.equal(line['guardbee.decision'], 'allow');
    assert.equal(line['guardbee.bytes_in'], 5);
    assert.equal(line['guardbee.bytes_out'], 5);
    assert.equal(line['msg'], 'session');
    assert.equal(line['guardbee.tls'], true);
    assert.equal('http.response.status_code' in line, false);
    assert.equal(service.connections.length, seen + 1);
  });

  test('so many at once, of one address and in all; who leaves makes room', async () => {
    using first = await guard.connect('few');
    await goesThrough(first);
    using second = await guard.connect('few');
    await goesThrough(second);
    assert.equal(await guard.heard('few', 'hello'), 0);
    await guard.refusal('connections_per_address_exhausted');
    using other = await guard.connect('few', { localAddress: '127.0.0.2' });
    await goesThrough(other);
    assert.equal(await guard.heard('few', 'hello', { localAddress: '127.0.0.3' }), 0);
    await guard.refusal('connections_exhausted');

    first.end();
    await first.readToEnd();
    await guard.session((line) => line['guardbee.listener'] === 'few');
    using again = await guard.connect('few');
    await goesThrough(again);
  });

  test('a session is on record before the service sees it, and its end after; refusals are counted', async () => {
    const trail = await waitUntil(() => {
      const found = records();
      return found.some(({ event, listener }) => event === 'exchange_ended' && listener === 'nodes') ? found : null;
    }, 'the end of a session in the trail');
    const granted = trail.find(({ event, listener }) => event === 'authorization_granted' && listener === 'nodes');
    assert.equal(granted?.['who'], 'hive-1');
    const ended = trail.find(({ event, listener }) => event === 'exchange_ended' && listener === 'nodes');
    assert.equal(ended?.['request_id'], granted['request_id']);
    assert.deepEqual([ended?.['bytes_in'], ended?.['bytes_out']], [5, 5]);
    const denied = trail.filter(({ event }) => event === 'authorization_denied').map(({ reason }) => reason);
    assert.ok(denied.includes('address_denied'));

    const page = await guard.metrics();
    assert.match(page, /^guardbee_connections_refused_total\{listener="far",reason="address_denied"\} 1$/m);
    assert.match(page, /^guardbee_connections_refused_total\{listener="nodes",reason="permission_missing"\} 1$/m);
    assert.match(page, /^guardbee_tcp_sessions_total\{listener="nodes",reason="-"\} 1$/m);
    assert.match(page, /^guardbee_tcp_bytes_total\{listener="nodes",direction="in"\} 5$/m);
    assert.match(page, /^guardbee_open_streams\{listener="few",kind="tcp"\} \d$/m);
    assert.doesNotMatch(page, /guardbee_http_requests_total\{listener="nodes"/);
  });
});

test('what cannot be recorded is not passed on', async (t) => {
  const { bavail, bsize } = statfsSync(tmpdir());
  if (bavail * bsize > 1024 ** 4) {
    t.skip('more than 1 TiB is free here');
    return;
  }
  await using service = await TcpService.start(echo);
  await using guard = await startTcpGuard({
    listeners: { tcp: { upstream: `tcp://127.0.0.1:${String(service.port)}` } },
    // More than there is.
    top: { audit: { on_failure: 'deny', min_free: '1024GiB' } },
  });
  assert.equal(await guard.heard('tcp', 'hello'), 0);
  await guard.refusal('audit_unavailable');
  assert.equal(service.connections.length, 0);
});
