/**
 * WebSocket smuggling (Mikhail Egorov, 2019; Varnish, Envoy 1.8 and others). A client asks for an upgrade with a
 * `Sec-WebSocket-Version` that nobody speaks. The proxy looks at `Upgrade` alone, believes that a WebSocket is open, and
 * from then on copies bytes; the service answered 426 and waits for the next request, which no rule will ever see.
 */
import { after, before, describe, test } from 'node:test';
import { RawConnection } from '../support/raw-client.js';
import { respond } from '../support/recording-upstream.js';
import { Hive } from './hive.js';

const hive = await Hive.shared();
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: queen.lan\r\n\r\n';

const UPGRADE = 'Upgrade: websocket';
const CONNECTION = 'Connection: Upgrade';
const VERSION = 'Sec-WebSocket-Version: 13';
const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';

const HANDSHAKES: readonly (readonly [name: string, fields: readonly string[]])[] = [
  ['a version that nobody speaks', [UPGRADE, CONNECTION, 'Sec-WebSocket-Version: 1337', KEY]],
  ['an old version', [UPGRADE, CONNECTION, 'Sec-WebSocket-Version: 8', KEY]],
  ['two versions', [UPGRADE, CONNECTION, 'Sec-WebSocket-Version: 13, 8', KEY]],
  ['two version fields', [UPGRADE, CONNECTION, VERSION, 'Sec-WebSocket-Version: 1337', KEY]],
  ['no version', [UPGRADE, CONNECTION, KEY]],
  ['a version with a zero', [UPGRADE, CONNECTION, 'Sec-WebSocket-Version: 013', KEY]],
  ['no key', [UPGRADE, CONNECTION, VERSION]],
  ['two keys', [UPGRADE, CONNECTION, VERSION, KEY, KEY]],
  ['a key of another length', [UPGRADE, CONNECTION, VERSION, 'Sec-WebSocket-Key: c2hvcnQ=']],
  ['a key that is not base64', [UPGRADE, CONNECTION, VERSION, 'Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==']],
  ['an Upgrade that Connection does not name', [UPGRADE, 'Connection: keep-alive', VERSION, KEY]],
  ['an Upgrade without Connection', [UPGRADE, VERSION, KEY]],
  ['a body', [UPGRADE, CONNECTION, VERSION, KEY, `Content-Length: ${String(SMUGGLED.length)}`]],
  ['a chunked body', [UPGRADE, CONNECTION, VERSION, KEY, 'Transfer-Encoding: chunked']],
];

describe('WebSocket smuggling', () => {
  before(() => {
    hive.upstream.respond = respond.status(426, [['Sec-WebSocket-Version', '13']]);
  });
  after(() => {
    hive.upstream.respond = respond.echo();
  });

  for (const [name, fields] of HANDSHAKES) {
    test(`${name}: refused`, async () => {
      await hive.refuses(hive.get('/ws', ...fields) + SMUGGLED, 'upgrade_malformed');
    });
  }

  test('another method: refused', async () => {
    for (const method of ['POST', 'HEAD', 'OPTIONS', 'PUT']) {
      const bytes = hive.head(method, '/ws', UPGRADE, CONNECTION, VERSION, KEY);
      await hive.refuses(bytes + SMUGGLED, 'upgrade_malformed');
    }
  });

  test('HTTP/1.0: refused', async () => {
    const bytes = hive.get('/ws', UPGRADE, CONNECTION, VERSION, KEY).replace('HTTP/1.1', 'HTTP/1.0');
    await hive.refuses(bytes + SMUGGLED, 'upgrade_malformed');
  });

  test('an upgrade behind another request on the same connection is judged like the first', async () => {
    const seen = hive.upstream.requests.length;
    const answered: number[] = [];
    for (const door of hive.doors) {
      using client = await RawConnection.connect(door);
      client.write(
        hive.get('/first') + hive.get('/ws', UPGRADE, CONNECTION, 'Sec-WebSocket-Version: 8', KEY) + SMUGGLED,
      );
      await client.waitForEnd();
      answered.push(client.pending.toString('latin1').split('HTTP/1.1 ').length - 1);
    }
    if (answered.some((count) => count > 2)) throw new Error(`answers: ${answered.join(', ')}`);
    const targets = hive.upstream.requests.slice(seen).map(({ target }) => target);
    if (targets.some((target) => target !== '/first')) throw new Error(targets.join(' '));
  });
});
