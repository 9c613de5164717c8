import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { endianness } from 'node:os';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { formatAddressAndPort } from '../../src/net/address.js';
import type { Upstream } from '../../src/policy/policy.js';
import { checkExposure, ExposureWatch, isPastListeners, parseProcNetTcp } from '../../src/server/exposure.js';
import type { Exposure, ReadProc } from '../../src/server/exposure.js';
import { charactersOf } from '../net/characters-of.js';

// Recorded on Linux 6.18, x86-64.
const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     
   0: 00000000:1E99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16551 1 00000000ee3d3d01 100 0 0 10 0                     
   2: 0A01A8C0:45A9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16553 1 000000009e788c66 100 0 0 10 0                     
   3: 0100007F:45A9 00000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 16552 2 000000000fc921ae 100 0 0 10 0                     
   4: 0100007F:45A9 0100007F:846C 01 00000000:00000000 00:00000000 00000000     0        0 0 1 000000000400469c 20 0 0 10 -1                         
   5: 0100007F:846C 0100007F:45A9 01 00000000:00000000 00:00000000 00000000     0        0 16559 2 00000000063f2887 20 0 0 10 -1                     
`;
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1E9B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16554 1 00000000b8eb6077 100 0 0 10 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 16555 2 0000000040d69d20 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16556 1 0000000006b07f6c 100 0 0 10 0
   3: B80D0120020001000400030006000500:20FB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16557 1 00000000ad19e657 100 0 0 10 0
   4: 0000000000000000FFFF00000A01A8C0:20FC 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16558 1 00000000d96eb8df 100 0 0 10 0
   5: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:A626 01 00000000:00000000 00:00000000 00000000     0        0 0 1 00000000bd24f50b 20 0 0 10 -1
`;

const little = endianness() === 'LE';
const onlyLittle = { skip: little ? false : 'recorded on a little-endian machine' };
const onlyLinux = { skip: existsSync('/proc/net/tcp') ? false : 'no /proc/net/tcp here' };

const recorded: ReadProc = (file) => (file === '/proc/net/tcp' ? TCP : TCP6);

function failing(code: string): never {
  throw Object.assign(new Error(`${code}: not for you`), { code });
}

function upstream(host: string, port: number, mustBeLoopback = true): Upstream {
  const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  return { name: authority, authority, target: { kind: 'tcp', host, port }, mustBeLoopback, tls: null };
}

function only(found: readonly Exposure[]): Exposure {
  assert.equal(found.length, 1);
  const [one] = found;
  assert.ok(one !== undefined);
  return one;
}

async function listen(host: string, port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  // Without an address the server would not have called back.
  return { server, port: (server.address() as AddressInfo).port };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await delay(10);
  assert.ok(condition());
}

test('listening sockets are read from recorded /proc/net files, and only they', () => {
  const read = (text: string): string[] =>
    parseProcNetTcp(text, 'LE').map((s) => `${formatAddressAndPort(s.address, s.port)} ${s.inode}`);
  assert.deepEqual(read(TCP), ['0.0.0.0:7833 16551', '192.168.1.10:17833 16553', '127.0.0.1:17833 16552']);
  assert.deepEqual(read(TCP6), [
    '[::]:7835 16554',
    '[::1]:8080 16555',
    '127.0.0.1:8081 16556',
    '[2001:db8:1:2:3:4:5:6]:8443 16557',
    '192.168.1.10:8444 16558',
  ]);
});

test('a big-endian machine prints the words the other way round', () => {
  const line =
    '   0: 7F000001:1E99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16551 1 0 100 0 0 10 0';
  assert.deepEqual(parseProcNetTcp(line, 'BE'), [
    { address: { family: 4, words: [0, 0, 0xffff, 0x7f000001] }, port: 7833, inode: 16551 },
  ]);
});

test('what is not such a line is passed over without an error', () => {
  for (const text of ['', '\n\n', '  sl  local_address', '   0: 0100007F:1E99', ' 0A ', '\n 0A \n 0A ', '0A 0A 0A']) {
    assert.deepEqual(parseProcNetTcp(text), [], JSON.stringify(text));
  }
  assert.equal(parseProcNetTcp(`garbage 0A garbage\n${TCP}garbage 0A `).length, 3);
  assert.equal(parseProcNetTcp(TCP.replaceAll('\n', '\r\n')).length, 3);
  fc.assert(
    fc.property(fc.string({ unit: charactersOf('0123456789AF: \n'), maxLength: 300 }), (text) => {
      parseProcNetTcp(text);
    }),
    { numRuns: 2_000, interruptAfterTimeLimit: 5_000 },
  );
});

test('many connections are passed over quickly', () => {
  const established = TCP.split('\n')[4] ?? '';
  const text = `${TCP}${`${established}\n`.repeat(50_000)}${TCP.split('\n')[1] ?? ''}`;
  const start = process.hrtime.bigint();
  assert.equal(parseProcNetTcp(text, 'LE').length, 4);
  assert.ok(process.hrtime.bigint() - start < 1_000_000_000n);
});

test('what follows the sockets that listen is told by its first line', () => {
  const lines = TCP.split('\n');
  const upTo = (count: number): string => lines.slice(0, count).join('\n');
  for (const text of [
    '',
    '\n',
    upTo(1),
    `${upTo(1)}\n`,
    `${upTo(2)}\n`,
    `${upTo(4)}\n`,
    `${upTo(4)}\n   4: 0100007F`,
  ]) {
    assert.equal(isPastListeners(text), text === '\n', JSON.stringify(text));
  }
  assert.equal(isPastListeners(`${upTo(5)}\n`), true);
  assert.equal(isPastListeners(`${upTo(5)}\n   5: 0100`), true);
});

/** Bytes that this process has asked for in any way. */
const bytesRead = (): number => Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);

test('the connections of the machine are not read, however many there are', onlyLinux, async () => {
  const { server, port } = await listen('127.0.0.1');
  const ends: Socket[] = [];
  server.on('connection', (socket) => ends.push(socket));
  const count = 400;
  try {
    for (let i = 0; i < count; i++) ends.push(connect({ port, host: '127.0.0.1' }));
    await until(() => ends.length === 2 * count);
    const listening = readFileSync('/proc/net/tcp', 'latin1')
      .split('\n')
      .filter((line) => line.includes(' 0A '));
    const before = bytesRead();
    assert.equal(only(checkExposure([upstream('127.0.0.1', port)], [])).state, 'private');
    // Two sockets of each would be 120,000; what listens by IPv6 is in the other file.
    const read = bytesRead() - before;
    assert.ok(read < 2 * 150 * listening.length + 40_000, `${String(read)} bytes`);
  } finally {
    for (const socket of ends) socket.destroy();
    server.close();
  }
});

const cases: readonly (readonly [
  why: string,
  upstream: Upstream,
  ownBinds: readonly { host: string; port: number }[],
  state: Exposure['state'],
  addresses: readonly string[],
])[] = [
  ['on every IPv4 address', upstream('127.0.0.1', 7833), [], 'exposed', ['0.0.0.0:7833']],
  ['on every IPv6 address', upstream('127.0.0.1', 7835), [], 'exposed', ['[::]:7835']],
  ['on a LAN address beside loopback', upstream('127.0.0.1', 17833), [], 'exposed', ['192.168.1.10:17833']],
  ['asked for by name', upstream('localhost', 7833), [], 'exposed', ['0.0.0.0:7833']],
  ['on a global IPv6 address', upstream('::1', 8443), [], 'exposed', ['[2001:db8:1:2:3:4:5:6]:8443']],
  ['on a v4-mapped LAN address', upstream('127.0.0.1', 8444), [], 'exposed', ['192.168.1.10:8444']],
  ['on ::1 alone', upstream('::1', 8080), [], 'private', []],
  ['on v4-mapped loopback alone', upstream('127.0.0.1', 8081), [], 'private', []],
  ['the LAN address is our own', upstream('127.0.0.1', 17833), [{ host: '192.168.1.10', port: 17833 }], 'private', []],
  [
    'our own address in its other form',
    upstream('127.0.0.1', 17833),
    [{ host: '::ffff:192.168.1.10', port: 17833 }],
    'private',
    [],
  ],
  [
    'ours is another port',
    upstream('127.0.0.1', 17833),
    [{ host: '192.168.1.10', port: 8443 }],
    'exposed',
    ['192.168.1.10:17833'],
  ],
  [
    'ours is 0.0.0.0, which is not 192.168.1.10',
    upstream('127.0.0.1', 17833),
    [{ host: '0.0.0.0', port: 17833 }],
    'exposed',
    ['192.168.1.10:17833'],
  ],
  ['ours is all there is', upstream('127.0.0.1', 7833), [{ host: '0.0.0.0', port: 7833 }], 'unknown', []],
  ['ours is 0.0.0.0, not ::', upstream('127.0.0.1', 7835), [{ host: '0.0.0.0', port: 7835 }], 'exposed', ['[::]:7835']],
  ['a bind that is no address', upstream('127.0.0.1', 7833), [{ host: 'x', port: 7833 }], 'exposed', ['0.0.0.0:7833']],
  ['nothing listens', upstream('127.0.0.1', 9), [], 'unknown', []],
  ['on another machine', upstream('192.0.2.1', 7833, false), [], 'unknown', []],
  ['on our own LAN address', upstream('192.168.1.10', 17833, false), [], 'exposed', ['192.168.1.10:17833']],
  ['may be remote but is not', upstream('127.0.0.1', 7833, false), [], 'exposed', ['0.0.0.0:7833']],
];

test('an upstream whose port listens beyond loopback is exposed, unless it is our own listener', onlyLittle, () => {
  for (const [why, one, ownBinds, state, addresses] of cases) {
    const found = only(checkExposure([one], ownBinds, recorded));
    assert.equal(found.state, state, `${why}: ${found.why}`);
    assert.deepEqual(found.addresses, addresses, why);
    if (state === 'private') assert.equal(found.listening, true, why);
    if (found.why.includes('not listening now')) assert.equal(found.listening, false, why);
    assert.equal(found.upstream, one.name);
    assert.notEqual(found.why, '');
  }
});

test('a unix socket is private, even where nothing can be read', () => {
  const socket: Upstream = {
    name: 'unix:/run/queen.sock',
    authority: '',
    target: { kind: 'unix', path: '/run/queen.sock' },
    mustBeLoopback: true,
    tls: null,
  };
  assert.equal(only(checkExposure([socket], [], () => failing('ENOENT'))).state, 'private');
});

test('what cannot be read is unknown, never private', () => {
  const one = [upstream('127.0.0.1', 7833)];
  const all = only(checkExposure(one, [], () => failing('ENOENT')));
  assert.equal(all.state, 'unknown');
  assert.match(all.why, /\/proc\/net\/tcp could not be read/);
  assert.equal(only(checkExposure(one, [], () => failing('EACCES'))).state, 'unknown');
  const headOnly: ReadProc = () => TCP.slice(0, TCP.indexOf('\n') + 1);
  const nothing = only(checkExposure(one, [], headOnly));
  assert.equal(nothing.state, 'unknown');
  assert.match(nothing.why, /not listening now, or in another network namespace/);
});

test('a machine without IPv6 has no tcp6, which hides nothing; an unreadable tcp6 does', onlyLittle, () => {
  const loopback = TCP.split('\n')[3] ?? '';
  const without =
    (code: string): ReadProc =>
    (file) =>
      file === '/proc/net/tcp' ? loopback : failing(code);
  const one = [upstream('127.0.0.1', 17833)];
  assert.equal(only(checkExposure(one, [], without('ENOENT'))).state, 'private');
  assert.equal(only(checkExposure(one, [], without('EACCES'))).state, 'unknown');
  // What is seen to be exposed stays so, whatever else is hidden.
  const exposed: ReadProc = (file) => (file === '/proc/net/tcp' ? TCP : failing('EACCES'));
  assert.equal(only(checkExposure(one, [], exposed)).state, 'exposed');
});

test('real listeners are told apart', onlyLinux, async () => {
  const open = await listen('0.0.0.0');
  const closed = await listen('127.0.0.1');
  try {
    const [first, second] = checkExposure([upstream('127.0.0.1', open.port), upstream('127.0.0.1', closed.port)], []);
    assert.equal(first?.state, 'exposed');
    assert.deepEqual(first.addresses, [`0.0.0.0:${open.port}`]);
    assert.equal(second?.state, 'private');
    const ours = checkExposure([upstream('127.0.0.1', open.port)], [{ host: '0.0.0.0', port: open.port }]);
    assert.equal(only(ours).state, 'unknown');
  } finally {
    open.server.close();
    closed.server.close();
  }
  assert.equal(only(checkExposure([upstream('127.0.0.1', closed.port)], [])).state, 'unknown');
});

test('the watch sees a service move to the network and back, and is silent once stopped', onlyLinux, async () => {
  const first = await listen('127.0.0.1');
  const said: string[] = [];
  const watch = new ExposureWatch({
    upstreams: [upstream('127.0.0.1', first.port)],
    ownBinds: [],
    intervalMs: 10,
    onChange: (current, before) => said.push(`${only(before).state} → ${only(current).state}`),
  });
  assert.equal(only(watch.current).state, 'unknown');
  assert.equal(only(watch.start()).state, 'private');
  assert.equal(watch.start(), watch.current);

  await new Promise((resolve) => first.server.close(resolve));
  await until(() => only(watch.current).state === 'unknown');
  const second = await listen('0.0.0.0', first.port);
  await until(() => only(watch.current).state === 'exposed');
  assert.deepEqual(said, ['private → unknown', 'unknown → exposed']);

  watch.stop();
  await new Promise((resolve) => second.server.close(resolve));
  await delay(60);
  assert.equal(said.length, 2);
  assert.equal(only(watch.current).state, 'exposed');
});

test('the watch survives files that come and go', async () => {
  let readable = true;
  let changes = 0;
  const watch = new ExposureWatch({
    upstreams: [upstream('127.0.0.1', 7833)],
    ownBinds: [],
    intervalMs: 5,
    readProc: (file) => (readable ? recorded(file) : failing('EMFILE')),
    onChange: () => changes++,
  });
  const before = only(watch.start()).state;
  readable = false;
  await until(() => only(watch.current).state === 'unknown');
  readable = true;
  await until(() => only(watch.current).state === before);
  assert.ok(changes >= 2);
  watch.stop();
});

test('a watch alone keeps no process alive', async () => {
  const watch = new ExposureWatch({ upstreams: [], ownBinds: [], intervalMs: 1_000_000, onChange: () => undefined });
  watch.start();
  assert.ok(!process.getActiveResourcesInfo().includes('Timeout'));
  watch.stop();
  await delay(0);
});
