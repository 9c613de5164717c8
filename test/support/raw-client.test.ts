import assert from 'node:assert/strict';
import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { createServer } from 'node:https';
import { testCertificates } from './certificates.js';
import { h2Connect, h2Request } from './h2-client.js';
import { exchangeBytes, openWebSocket, RawConnection, request, requestBytes } from './raw-client.js';
import { RecordingUpstream, respond } from './recording-upstream.js';

describe('raw client', () => {
  const MALFORMED = [
    ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n', /not a status line/],
    ['a folded field', 'HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n', /not a field/],
    ['a space before the colon', 'HTTP/1.1 200 OK\r\nA : b\r\n\r\n', /not a field/],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx', /more than once/],
    [
      'a length and chunks',
      'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      /more than once/,
    ],
    ['a bad chunk size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', /bad size line/],
    [
      'a chunk that is too long',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n',
      /longer than its size/,
    ],
  ] as const;
  for (const [name, bytes, complaint] of MALFORMED) {
    test(`does not accept an answer with ${name}`, async () => {
      await using upstream = await RecordingUpstream.start({ respond: respond.bytes(bytes) });
      await assert.rejects(request(upstream), complaint);
    });
  }

  test('reads answers one after the other, 1xx apart', async () => {
    await using upstream = await RecordingUpstream.start({
      respond: respond.bytes(
        'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: v\r\n\r\n',
      ),
    });
    using client = await RawConnection.connect(upstream);
    client.write(Buffer.concat([requestBytes(upstream), requestBytes(upstream)]));
    for (let number = 0; number < 2; number += 1) {
      const response = await client.readResponse();
      assert.equal(response.text(), 'hi');
      assert.deepEqual(response.trailers, [['T', 'v']]);
      assert.equal(response.informational[0]?.status, 100);
      assert.equal(response.complete, true);
    }
    assert.equal(client.pending.length, 0);
  });

  test('says what it was waiting for and what it had when the time is up', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.bytes('HTTP/1.1 200') });
    await assert.rejects(request(upstream, { timeoutMs: 50 }), /waited 50 ms for .*unread: "HTTP\/1\.1 200"/);
  });

  test('counts more bytes than it keeps, and stalls when told to', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.flood(3_000_000, 'close') });
    using client = await RawConnection.connect(upstream);
    client.socket.pause();
    client.discard();
    client.write(requestBytes(upstream));
    await upstream.waitForRequest();
    assert.equal(client.bytesSeen, 0);
    client.socket.resume();
    await client.waitForBytes(3_000_000);
    assert.equal(client.pending.length, 0);
    await client.waitForEnd();
  });

  test('a refused connection rejects', async () => {
    const upstream = await RecordingUpstream.start();
    const { port } = upstream;
    await upstream.close();
    await assert.rejects(request({ port }), { code: 'ECONNREFUSED' });
  });

  test('a websocket refusal comes back as the answer it is', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(403, [], 'no') });
    const { response, socket, connection } = await openWebSocket(upstream, { protocols: ['bearer', 'x'], token: 't' });
    assert.equal(socket, null);
    assert.equal(response.text(), 'no');
    assert.equal(upstream.requests[0]?.header('sec-websocket-protocol'), 'bearer, x');
    assert.equal(upstream.requests[0].header('authorization'), 'Bearer t');
    connection.close();
  });

  test('a 101 with a wrong accept is an error', async () => {
    await using upstream = await RecordingUpstream.start({
      respond: respond.bytes(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n',
      ),
    });
    await assert.rejects(openWebSocket(upstream), /wrong Sec-WebSocket-Accept/);
  });

  test('verifies the certificate against the authority that was given', async () => {
    const { ca, server: pair, authority } = await testCertificates();
    const server = createServer({ cert: pair.cert, key: pair.key }, (incoming, answer) => {
      answer.end(incoming.url);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      const bytes = 'GET /tls HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
      assert.equal((await exchangeBytes({ port, tls: { ca } }, bytes)).text(), '/tls');
      const other = await (await import('./certificates.js')).TestAuthority.create('another');
      await assert.rejects(exchangeBytes({ port, tls: { ca: other.ca } }, bytes));
      await assert.rejects(exchangeBytes({ port, tls: { ca, servername: 'elsewhere.lan' } }, bytes), {
        code: 'ERR_TLS_CERT_ALTNAME_INVALID',
      });
      assert.match((await authority.issue({ names: ['queen.lan'] })).cert, /BEGIN CERTIFICATE/);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  test('speaks HTTP/2', async () => {
    const { ca, server: pair } = await testCertificates();
    const server = createSecureServer({ cert: pair.cert, key: pair.key });
    server.on('stream', (stream, headers) => {
      stream.respond({ ':status': 200, 'x-path': headers[':path'] });
      stream.pipe(stream);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const session = await h2Connect({ port, tls: { ca } });
    const response = await h2Request(session, { ':method': 'POST', ':path': '/h2' }, 'over two');
    assert.equal(response.status, 200);
    assert.equal(response.headers['x-path'], '/h2');
    assert.equal(response.body.toString(), 'over two');
    session.destroy();
    server.close();
  });
});
