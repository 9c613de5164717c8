/** What answers as Redis and is none, or has a script of somebody else's: nothing it says is taken for a count. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, type Socket, createServer } from 'node:net';
import { test } from 'node:test';
import type { CountRule } from '../../src/policy/limit-rules.js';
import { Secret } from '../../src/secret/secret.js';
import { RedisCounters } from '../../src/state/limit-redis.js';
import type { StoreNotice } from '../../src/state/store.js';
import { waitUntil } from '../support/wait.js';

const RULE: CountRule = {
  kind: 'rate',
  id: 'main/rate/1',
  name: 'rate',
  requests: 10,
  perMs: 1000,
  burst: 10,
  by: 'identity',
  shared: true,
  onUnavailable: 'deny',
};
const SOUND = '*3\r\n:0\r\n:9\r\n:100\r\n';
const SECRET = 'a-text-that-nobody-should-see';

test('an answer that makes no sense is none, and the log says once that the store is away', async (t) => {
  let answer = SOUND;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      // Commands of this client come one in a write; all but scripts are about the connection.
      for (const command of bytes.toString('latin1').matchAll(/\*\d+\r\n\$\d+\r\n([A-Za-z]+)/g)) {
        socket.write(/^EVAL/i.test(command[1] ?? '') ? answer : '+OK\r\n');
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const notices: StoreNotice[] = [];
  const { port } = server.address() as AddressInfo;
  const counters = await RedisCounters.open(
    { url: Secret.fromText(`redis://127.0.0.1:${String(port)}`), prefix: 'guardbee:' },
    (notice) => notices.push(notice),
  );
  t.after(() => {
    counters.close();
  });
  for (const nonsense of [
    '*3\r\n$-1\r\n$-1\r\n$-1\r\n',
    '*3\r\n:-1\r\n:9\r\n:100\r\n',
    '*3\r\n:0\r\n:-5\r\n:100\r\n',
    '*3\r\n:9000000000000000000\r\n:5\r\n:100\r\n',
    '*3\r\n$1\r\n0\r\n$1\r\n9\r\n$3\r\n100\r\n',
    '*3\r\n*0\r\n*0\r\n*0\r\n',
    '*1\r\n:0\r\n',
    `+${SECRET}\r\n`,
    `-ERR ${SECRET}\r\n`,
    '$-1\r\n',
  ]) {
    answer = SOUND;
    await waitUntil(() => counters.up, `the store to be up before ${JSON.stringify(nonsense)}`);
    assert.deepEqual(await counters.count([RULE], ['keys anna']), {
      waitsMs: [0],
      balances: [{ remaining: 9, resetMs: 100 }],
    });
    notices.length = 0;
    answer = nonsense;
    assert.equal(await counters.count([RULE], ['keys anna']), null, JSON.stringify(nonsense));
    assert.equal(counters.up, false, JSON.stringify(nonsense));
    assert.deepEqual(
      notices.map(({ event }) => event),
      ['limits.shared_away'],
      JSON.stringify(nonsense),
    );
    assert.ok(!JSON.stringify([notices, counters.detail]).includes(SECRET));
  }
});
