import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import { parseAddress } from '../../src/net/address.js';
import { proxyHeader, readProxyHeader } from '../../src/net/proxy-protocol.js';
import type { RawConnection } from '../support/raw-client.js';
import { RecordingUpstream, respond, type EchoedRequest } from '../support/recording-upstream.js';
import { TcpService, echo, startTcpGuard, type TcpGuard } from './fixture.js';

const LOCAL = Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a', 'hex'), Buffer.from('20000000', 'hex')]);

function header(version: 'v1' | 'v2', from: string, port = 4711): Buffer {
  const address = parseAddress(from);
  const there = parseAddress('192.0.2.200');
  assert.ok(address !== null && there !== null);
  return proxyHeader(version, { source: { address, port }, destination: { address: there, port: 22 } });
}

describe('proxies say who connected', () => {
  let service: TcpService;
  let upstream: RecordingUpstream;
  let guard: TcpGuard;

  before(async () => {
    service = await TcpService.start(echo);
    upstream = await RecordingUpstream.start({ respond: respond.echo() });
    const to = `tcp://127.0.0.1:${String(service.port)}`;
    const trust = {
      trusted_proxies: ['127.0.0.1', '203.0.113.7'],
      proxy_protocol: 'require',
      timeouts: { head: '500ms' },
    };
    const http = {
      ...trust,
      type: 'http',
      upstream: upstream.url,
      routes: [
        { name: 'near', path: '/near', public: true, from: ['198.51.100.0/24'] },
        { name: 'any', path: '/any', public: true },
      ],
    };
    guard = await startTcpGuard({
      listeners: {
        tcp: { ...trust, upstream: to, from: ['198.51.100.0/24', '127.0.0.1', '127.0.0.2'] },
        tls: { ...trust, upstream: to, tls: true, from: ['198.51.100.0/24'] },
        v1: { ...trust, upstream: to, send_proxy_protocol: 'v1' },
        v2: { ...trust, upstream: to, send_proxy_protocol: 'v2' },
        outside: { upstream: to, tls: true, send_proxy_protocol: 'v2' },
        few: { ...trust, upstream: to, limits: { connections_per_address: 1 } },
        http,
        https: { ...http, tls: true },
      },
      top: { log: { level: 'debug' } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
    await upstream.close();
  });

  for (const version of ['v1', 'v2'] as const) {
    test(`${version}: who connected is judged, in one piece and byte by byte`, async () => {
      using connection = await guard.connect('tcp');
      connection.write(Buffer.concat([header(version, '198.51.100.9'), Buffer.from('hello')]));
      assert.equal((await connection.readBytes(5)).toString(), 'hello');
      connection.end();
      await connection.readToEnd();
      const line = await guard.session((one) => one['client.address'] === '198.51.100.9');
      assert.equal(line['network.peer.address'], '127.0.0.1');

      using slow = await guard.connect('tcp');
      for (const byte of Buffer.concat([header(version, '198.51.100.10'), Buffer.from('x')])) {
        slow.write(Buffer.from([byte]));
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal((await slow.readBytes(1)).toString(), 'x');

      const seen = service.connections.length;
      using far = await guard.connect('tcp');
      far.write(header(version, '198.51.101.9'));
      assert.equal(await far.waitForEnd(), 'reset');
      const refused = await guard.refusal('client_denied');
      assert.equal(refused['client.address'], '198.51.101.9');
      assert.equal(service.connections.length, seen);
    });

    test(`${version}: the service is told`, async () => {
      const before = service.connections.length;
      using connection = await guard.connect(version);
      connection.write(Buffer.concat([header('v1', '2001:db8::9'), Buffer.from('hello')]));
      const there = await service.connection(before);
      await service.until(() => there.text.endsWith('hello'), 'the bytes behind the header');
      const read = readProxyHeader(there.bytes);
      assert.ok(read.kind === 'header' && read.connection !== null);
      assert.equal(there.text.slice(read.length), 'hello');
      assert.equal(read.connection.source.port, 4711);
      assert.deepEqual(read.connection.source.address, parseAddress('2001:db8::9'));

      // The proxy itself, by its own address; and somebody else, who needs no header.
      for (const localAddress of ['127.0.0.1', '127.0.0.2']) {
        const next = service.connections.length;
        using own = await guard.connect(version, { localAddress });
        if (localAddress === '127.0.0.1') own.write(LOCAL);
        own.write('hello');
        const one = await service.connection(next);
        await service.until(() => one.text.endsWith('hello'), 'the bytes behind the header');
        const said = readProxyHeader(one.bytes);
        assert.ok(said.kind === 'header' && said.connection !== null);
        assert.deepEqual(said.connection.source.address, parseAddress(localAddress));
        assert.equal(said.connection.source.port, own.socket.localPort);
        assert.equal(said.connection.destination.port, guard.port(version));
        assert.equal(one.text.slice(said.length), 'hello');
      }
    });
  }

  test('without a header, with a broken one or a late one a trusted proxy is closed at once', async () => {
    const seen = service.connections.length;
    for (const bytes of ['SSH-2.0-x\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n', '\r\n\r\n\0\r\nQUIT\n\x31']) {
      for (const listener of ['tcp', 'tls', 'http', 'https']) {
        using connection = await guard.connect(listener);
        connection.write(bytes);
        assert.equal(await connection.waitForEnd(), 'reset');
        assert.equal(connection.bytesSeen, 0);
      }
    }
    await guard.refusal('proxy_header_malformed');
    using late = await guard.connect('tcp');
    late.write('PROXY TCP4 1.2');
    assert.equal(await late.waitForEnd(), 'reset');
    await guard.refusal('proxy_header_timeout');
    // Who only looks whether we are there is let go without a word.
    const lines = guard.process.logLines.filter((line) => line['event.name'] === 'connection.refused').length;
    using look = await guard.connect('tcp');
    look.end();
    assert.equal(await look.waitForEnd(), 'end');
    assert.equal(guard.process.logLines.filter((line) => line['event.name'] === 'connection.refused').length, lines);
    assert.equal(service.connections.length, seen);
  });

  test('of others a header is not read: it is what they say', async () => {
    const before = service.connections.length;
    using connection = await guard.connect('tcp', { localAddress: '127.0.0.2' });
    connection.write(header('v1', '198.51.100.9'));
    const there = await service.connection(before);
    await service.until(() => there.text.startsWith('PROXY TCP4'), 'the bytes, passed on');
    connection.end();
    await connection.readToEnd();
    const line = await guard.session(
      (one) => one['client.address'] === '127.0.0.2' && one['guardbee.listener'] === 'tcp',
    );
    assert.equal(line['guardbee.decision'], 'allow');
  });

  test('the header comes before TLS', async () => {
    using raw = await guard.connect('tls');
    raw.write(header('v2', '198.51.100.77'));
    raw.socket.removeAllListeners('data');
    const secure = connectTls({ socket: raw.socket, ca: guard.ca, servername: 'localhost' });
    await once(secure, 'secureConnect');
    secure.write('hello');
    assert.equal(String((await once(secure, 'data'))[0]), 'hello');
    secure.end();
    await guard.session((one) => one['client.address'] === '198.51.100.77' && one['guardbee.tls'] === true);
  });

  test('the service is told of those that speak TLS to us, too', async () => {
    const before = service.connections.length;
    using connection = await guard.connectTls('outside');
    connection.write('hello');
    const there = await service.connection(before);
    await service.until(() => there.text.endsWith('hello'), 'the bytes behind the header');
    const said = readProxyHeader(there.bytes);
    assert.ok(said.kind === 'header' && said.connection !== null);
    assert.equal(said.connection.source.port, connection.socket.localPort);
    assert.equal(said.connection.destination.port, guard.port('outside'));
    assert.equal(there.text.slice(said.length), 'hello');
  });

  test('connections are counted by who connected', async () => {
    const open = async (from: string): Promise<RawConnection> => {
      const connection = await guard.connect('few');
      connection.write(Buffer.concat([header('v1', from), Buffer.from('hello')]));
      return connection;
    };
    using first = await open('198.51.100.1');
    using other = await open('198.51.100.2');
    for (const one of [first, other]) assert.equal((await one.readBytes(5)).toString(), 'hello');
    using second = await open('198.51.100.1');
    assert.equal(await second.waitForEnd(), 'reset');
    const line = await guard.refusal('connections_per_address_exhausted');
    assert.equal(line['client.address'], '198.51.100.1');
  });

  const ask = async (
    listener: string,
    path: string,
    from: Buffer,
    fields = '',
  ): Promise<{ status: number; request: EchoedRequest | null }> => {
    const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${fields}Connection: close\r\n\r\n`;
    using connection = await guard.connect(listener);
    if (listener === 'http') {
      connection.write(Buffer.concat([from, Buffer.from(request)]));
      const response = await connection.readResponse();
      return { status: response.status, request: response.status === 200 ? (response.json() as EchoedRequest) : null };
    }
    connection.write(from);
    connection.socket.removeAllListeners('data');
    const secure = connectTls({
      socket: connection.socket,
      ca: guard.ca,
      servername: 'localhost',
      ALPNProtocols: ['http/1.1'],
    });
    secure.write(request);
    const pieces: Buffer[] = [];
    secure.on('data', (piece: Buffer) => pieces.push(piece));
    await once(secure, 'end');
    secure.destroy();
    const text = Buffer.concat(pieces).toString('latin1');
    const status = Number(text.slice(9, 12));
    return {
      status,
      request: status === 200 ? (JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as EchoedRequest) : null,
    };
  };

  for (const listener of ['http', 'https']) {
    test(`${listener}: the client is who connected, and what it says of others is not believed`, async () => {
      const client = async (...asked: Parameters<typeof ask>): Promise<string | undefined> => {
        const { request } = await ask(...asked);
        const fields = request?.headers ?? [];
        return fields.find(([name]) => name.toLowerCase() === 'x-forwarded-for')?.[1];
      };
      assert.equal(await client(listener, '/any', header('v2', '198.51.100.9')), '198.51.100.9');
      assert.equal(await client(listener, '/any', header('v1', '2001:db8::9')), '2001:db8::9');
      const forged = 'X-Forwarded-For: 198.51.100.200\r\n';
      assert.equal(await client(listener, '/any', header('v2', '192.0.2.1'), forged), '192.0.2.1');
      // A trusted proxy behind a trusted proxy says it in the field.
      assert.equal(await client(listener, '/any', header('v2', '203.0.113.7'), forged), '198.51.100.200');
      // The proxy itself.
      assert.equal(await client(listener, '/any', LOCAL), '127.0.0.1');
      assert.equal((await ask(listener, '/near', header('v2', '198.51.100.9'))).status, 200);
      assert.equal((await ask(listener, '/near', header('v2', '198.51.101.9'))).status, 403);
      assert.equal((await ask(listener, '/near', header('v2', '198.51.101.9'), forged)).status, 403);
    });
  }

  test('two requests behind one header are of one client', async () => {
    using connection = await guard.connect('http');
    connection.write(header('v2', '198.51.100.33'));
    for (const path of ['/any', '/near']) {
      connection.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      assert.equal((await connection.readResponse()).status, 200);
    }
  });
});
