import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startGuard } from '../support/guard.js';
import { countOpenFiles, expectSockets } from '../support/leak.js';
import { RawConnection } from '../support/raw-client.js';

test('a connection that its client ends in the middle of the handshake is given back at once', async () => {
  await using guard = await startGuard({
    upstream: 'http://127.0.0.1:9',
    listener: { timeouts: { handshake: '60s' } },
  });
  const { secure } = guard;
  const before = countOpenFiles(guard.pid).sockets;
  const beginnings = [
    '',
    // A record of a handshake, and in it the beginning of a ClientHello.
    '\x16\x03\x01',
    '\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03',
  ];
  for (const bytes of beginnings) {
    using client = await RawConnection.connect({ port: secure.port });
    if (bytes !== '') client.write(Buffer.from(bytes, 'latin1'));
    client.end();
    await client.waitForEnd();
  }
  // In TLS 1.3 the client's half is over before the server knows.
  for (let i = 0; i < 10; i++) (await RawConnection.connect(secure)).reset();
  for (let i = 0; i < 10; i++) (await RawConnection.connect(secure)).close();
  await expectSockets(guard.pid, before);

  // Nor does a drain wait for any of them.
  const { code } = await guard.process.kill('SIGTERM');
  assert.equal(code, 0);
});
