import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { residentBytes } from '../support/leak.js';
import type { RawConnection } from '../support/raw-client.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';
import { MIB, Payload, PeakMemory, digestOf, pour } from '../streams/payload.js';
import { TcpService, echo, freeRange, startTcpGuard, type TcpGuard } from './fixture.js';

/** The whole is said to be a gigabyte: `GUARDBEE_TEST_TCP_MIB=1024`. */
const LARGE = Number(process.env['GUARDBEE_TEST_TCP_MIB'] ?? '64') * MIB;
/** From V8 12 on (Node 22), buffers that nobody holds any more are collected only when there are 64 MiB of them. */
const GARBAGE = Number(process.versions.v8.split('.')[0]) >= 12 ? 64 * MIB : 0;
const MOST_GROWTH = 32 * MIB + GARBAGE;

/** KohakuRiver's SSH proxy: one line names the machine, one line answers, then it is a pipe. */
function kohakuRiver(connection: Parameters<typeof echo>[0]): void {
  const { socket } = connection;
  let held = Buffer.alloc(0);
  const onData = (bytes: Buffer): void => {
    held = Buffer.concat([held, bytes]);
    const end = held.indexOf('\n');
    if (end < 0) return;
    socket.off('data', onData);
    if (!held.toString('latin1', 0, end).startsWith('REQUEST_TUNNEL ')) {
      socket.end('ERROR Invalid request format.\n');
      return;
    }
    socket.write('SUCCESS\n');
    socket.write(held.subarray(end + 1));
    socket.pipe(socket);
  };
  socket.on('data', onData);
}

describe('bytes pass both ways as they came', () => {
  let river: TcpService;
  let speaker: TcpService;
  let silent: TcpService;
  let local: TcpService;
  let range: TcpService;
  let guard: TcpGuard;
  const folder = new TemporaryDirectory();

  before(async () => {
    river = await TcpService.start(kohakuRiver);
    speaker = await TcpService.start(({ socket }) => {
      socket.write('SSH-2.0-test\r\n');
      socket.once('end', () => {
        socket.end('goodbye');
      });
    });
    silent = await TcpService.start();
    local = await TcpService.start(echo, { path: folder.file('echo.sock') });
    range = await TcpService.start(echo, { ports: 3 });
    const [first = 0] = await freeRange(3);
    guard = await startTcpGuard({
      listeners: {
        tcp: { upstream: `tcp://127.0.0.1:${String(river.port)}` },
        tls: { upstream: `tcp://127.0.0.1:${String(river.port)}`, tls: true },
        speaker: { upstream: `tcp://127.0.0.1:${String(speaker.port)}` },
        'speaker-tls': { upstream: `tcp://127.0.0.1:${String(speaker.port)}`, tls: true },
        silent: { upstream: `tcp://127.0.0.1:${String(silent.port)}` },
        'silent-tls': { upstream: `tcp://127.0.0.1:${String(silent.port)}`, tls: true },
        local: { upstream: `unix:${folder.file('echo.sock')}` },
        range: {
          bind: `127.0.0.1:${String(first)}-${String(first + 2)}`,
          upstream: `tcp://127.0.0.1:${String(range.port)}-${String(range.port + 2)}`,
        },
      },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    for (const service of [river, speaker, silent, local, range]) await service[Symbol.asyncDispose]();
    folder.remove();
  });

  const connect = async (listener: string): Promise<RawConnection> =>
    listener.endsWith('tls') ? await guard.connectTls(listener) : await guard.connect(listener);

  for (const listener of ['tcp', 'tls']) {
    test(`${listener}: a client that speaks first is heard, ${String(LARGE / MIB)} MiB there and back`, async (t) => {
      using connection = await connect(listener);
      connection.write('REQUEST_TUNNEL 42\n');
      assert.equal(await connection.readUntil('\n'), 'SUCCESS\n');
      const warm = new Payload(8 * MIB);
      const back = (async () => await connection.readBytes(warm.length, 60_000))();
      await pour(warm, connection.socket);
      await back;

      const { socket } = connection;
      socket.removeAllListeners('data');
      const rested = residentBytes(guard.process.pid);
      using peak = new PeakMemory(guard.process.pid);
      const payload = new Payload(LARGE);
      const began = performance.now();
      const echoed = digestOf(socket);
      await pour(payload, socket);
      // The end of what we say is passed on, and the other half goes on until all of it is back.
      socket.end();
      const { length, sha256 } = await within(echoed, 'all of it', 600_000);
      const seconds = (performance.now() - began) / 1000;
      assert.equal(length, LARGE);
      assert.equal(sha256, payload.digest());
      const grown = (peak.bytes - rested) / MIB;
      t.diagnostic(`${((2 * LARGE) / MIB / seconds).toFixed(0)} MiB/s, grew by ${grown.toFixed(1)} MiB`);
      assert.ok(grown * MIB < MOST_GROWTH, `${grown.toFixed(1)} MiB more than before`);
    });
  }

  for (const listener of ['speaker', 'speaker-tls']) {
    test(`${listener}: a service that speaks first is heard, and after the client's end its last word`, async () => {
      using connection = await connect(listener);
      assert.equal(await connection.readUntil('\n'), 'SSH-2.0-test\r\n');
      connection.end();
      assert.equal((await connection.readToEnd()).toString(), 'goodbye');
      assert.equal(await connection.waitForEnd(), 'end');
    });
  }

  for (const listener of ['silent', 'silent-tls']) {
    test(`${listener}: a service that has said its last word goes on hearing`, async () => {
      const before = silent.connections.length;
      using connection = await connect(listener);
      connection.write('early');
      const there = await silent.connection(before);
      there.socket.end('last');
      assert.equal((await connection.readToEnd()).toString(), 'last');
      connection.write(' and late');
      connection.end();
      await silent.until(() => there.ended, 'the end of what the client says');
      assert.equal(there.text, 'early and late');
      await silent.until(() => there.closed, 'the connection to close');
      assert.ok(!there.reset);
      await waitUntil(() => connection.closed, 'the client to be closed');
      assert.equal(connection.ended, 'end');
    });
  }

  test('a side that is reset resets the other', async () => {
    const before = silent.connections.length;
    using client = await connect('silent');
    client.write('x');
    const there = await silent.connection(before);
    await silent.until(() => there.bytesSeen > 0, 'a byte');
    client.reset();
    await silent.until(() => there.closed, 'the service to hear of it');
    assert.ok(there.reset);

    using other = await connect('silent');
    const second = await silent.connection(before + 1);
    second.socket.resetAndDestroy();
    assert.equal(await other.waitForEnd(), 'reset');
    const line = await guard.session(
      (one) => one['guardbee.listener'] === 'silent' && one['guardbee.reason'] === 'upstream_gone',
    );
    assert.equal(line['level'], 'ERROR');
  });

  test('who does not read holds up who writes, and no memory is spent on it', async () => {
    const before = silent.connections.length;
    using client = await connect('silent');
    client.write('x');
    const there = await silent.connection(before);
    await silent.until(() => there.bytesSeen > 0, 'a byte');
    for (const [reader, writer] of [
      [there.socket, client.socket],
      [client.socket, there.socket],
    ] as const) {
      reader.pause();
      const rested = residentBytes(guard.process.pid);
      using peak = new PeakMemory(guard.process.pid);
      let written = 0;
      const piece = Buffer.alloc(64 * 1024);
      // Until it has stood still for a while, however much the kernel takes.
      for (let full = false; !full && written < 512 * MIB;) {
        written += piece.length;
        if (writer.write(piece)) continue;
        const drained = once(writer, 'drain').then(() => true);
        full = !(await Promise.race([drained, stoodStill()]));
      }
      assert.ok(written < 512 * MIB, 'it was never held up');
      assert.ok(peak.bytes - rested < MOST_GROWTH, `${String((peak.bytes - rested) / MIB)} MiB more than before`);
      reader.resume();
      await within(
        waitUntil(() => writer.writableLength === 0, 'all to be written', 30_000),
        'all to be written',
        30_000,
      );
    }
  });

  test('a unix socket, and each port of a range to its own', async () => {
    using connection = await connect('local');
    connection.write('hello');
    assert.equal((await connection.readBytes(5)).toString(), 'hello');
    for (const nth of [0, 2, 1]) {
      const before = range.connections.length;
      using one = await guard.connect('range', { port: guard.port('range') + nth });
      one.write('hello');
      assert.equal((await one.readBytes(5)).toString(), 'hello');
      assert.equal((await range.connection(before)).port, range.port + nth);
      one.end();
      await one.readToEnd();
    }
    const lines = await waitUntil(() => {
      const ended = guard.process.logLines.filter(
        (line) => line['guardbee.stream'] === 'tcp' && line['guardbee.listener'] === 'range',
      );
      return ended.length === 3 ? ended : null;
    }, 'three lines');
    assert.deepEqual(new Set(lines.map((line) => line['guardbee.upstream'])).size, 1);
  });
});

async function stoodStill(): Promise<false> {
  await new Promise((resolve) => setTimeout(resolve, 500));
  return false;
}
