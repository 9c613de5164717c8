/**
 * h2c smuggling (Jake Miller, Bishop Fox, 2020). A proxy that forwards `Upgrade: h2c` and the fields that go with it
 * opens an HTTP/2 connection between client and service, through which every further request passes as mere bytes.
 * Nobody speaks HTTP/2 in clear through a guard, so the upgrade is refused, in whatever way it is asked for.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exchangeUntilEnd } from '../support/raw-client.js';
import { respond } from '../support/recording-upstream.js';
import { Hive } from './hive.js';

const hive = await Hive.shared();
const SETTINGS = 'HTTP2-Settings: AAMAAABkAAQAAP__';
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';

const UPGRADES: readonly (readonly [name: string, fields: readonly string[]])[] = [
  ['as RFC 7540 has it', ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', SETTINGS]],
  ['without naming the settings', ['Connection: Upgrade', 'Upgrade: h2c', SETTINGS]],
  ['without settings', ['Connection: Upgrade', 'Upgrade: h2c']],
  ['without Connection', ['Upgrade: h2c', SETTINGS]],
  ['named by nobody', ['Connection: keep-alive', 'Upgrade: h2c', SETTINGS]],
  ['in capitals', ['Connection: upgrade', 'Upgrade: H2C', SETTINGS]],
  ['in a list', ['Connection: Upgrade', 'Upgrade: websocket, h2c', SETTINGS]],
  ['in a list, first', ['Connection: Upgrade', 'Upgrade: h2c, websocket', SETTINGS]],
  ['in two fields', ['Connection: Upgrade', 'Upgrade: websocket', 'Upgrade: h2c', SETTINGS]],
  ['as h2', ['Connection: Upgrade', 'Upgrade: h2']],
  ['as TLS', ['Connection: Upgrade', 'Upgrade: TLS/1.2']],
  ['as HTTP/2.0', ['Connection: Upgrade', 'Upgrade: HTTP/2.0']],
  ['as nothing', ['Connection: Upgrade', 'Upgrade:']],
];

describe('h2c smuggling', () => {
  before(() => {
    hive.upstream.respond = respond.bytes(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
    );
  });
  after(() => {
    hive.upstream.respond = respond.echo();
  });

  for (const [name, fields] of UPGRADES) {
    test(`${name}: refused`, async () => {
      await hive.refuses(hive.get('/', ...fields) + PREFACE, 'upgrade_unsupported');
    });
  }

  test('with a body: refused', async () => {
    const fields = ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', SETTINGS, 'Content-Length: 4'];
    await hive.refuses(`${hive.head('POST', '/', ...fields)}body${PREFACE}`, 'upgrade_unsupported');
  });

  test('HTTP/2 without asking, where it is not spoken: closed', async () => {
    const seen = hive.upstream.bytesSeen;
    for (const door of hive.doors) {
      const { received } = await exchangeUntilEnd(door, PREFACE);
      assert.match(received.toString('latin1'), /^HTTP\/1\.1 (?:400|501|505) /);
    }
    assert.equal(hive.upstream.bytesSeen, seen);
  });

  test('HTTP2-Settings alone is a field of one connection, and ends here', async () => {
    hive.upstream.respond = respond.echo();
    await hive.permits(hive.get('/', SETTINGS), ({ request }) => {
      assert.equal(request.header('http2-settings'), null);
      assert.equal(request.header('upgrade'), null);
    });
  });
});
