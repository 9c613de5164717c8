import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Readable, Writable } from 'node:stream';
import { after, before, beforeEach, describe, test, type TestContext } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { residentBytes } from '../support/leak.js';
import { openWebSocket, RawConnection, requestBytes } from '../support/raw-client.js';
import {
  RecordingUpstream,
  respond,
  type EchoedRequest,
  type RecordedConnection,
  type Respond,
} from '../support/recording-upstream.js';
import { waitUntil, within } from '../support/wait.js';
import { digestOf, download, MIB, Payload, PeakMemory, pour } from './payload.js';

const LARGE = 100 * MIB;
/**
 * From V8 12 on (Node 22), buffers that nobody holds any more are collected only when there are 64 MiB of them; that
 * happens once, whatever passes. A body that is held would come on top of it.
 */
const GARBAGE = Number(process.versions.v8.split('.')[0]) >= 12 ? 64 * MIB : 0;
const MOST_GROWTH = 32 * MIB + GARBAGE;
/** What the kernel may hold between two programs: the third of three numbers is the most. */
const kernel = (file: string): number => Number(readFileSync(`/proc/sys/net/ipv4/${file}`, 'utf8').split(/\s+/)[2]);
/** A stalled body may fill two connections, and a little more. */
const MOST_UNDERWAY = 2 * (kernel('tcp_rmem') + kernel('tcp_wmem')) + 4 * MIB;
const STALLED = Math.max(LARGE, MOST_UNDERWAY + 32 * MIB);
const PATIENCE = 60_000;

/** A request whose body is poured into `body` and whose answer comes out of `answer`. */
interface Transfer extends AsyncDisposable {
  readonly body: Writable;
  readonly answer: Promise<Readable>;
}

describe('large bodies pass through little memory', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;
  let rested = 0;

  before(async () => {
    upstream = await RecordingUpstream.start({ recordLimit: 64 * 1024 });
    guard = await startGuard({ upstream: upstream.url });
    // What a process needs once, it has after this.
    for (const open of [http1, http2]) {
      for (const method of ['GET', 'POST']) {
        upstream.respond = method === 'GET' ? download(new Payload(16 * MIB)) : respond.echo();
        await using transfer = await open(method);
        if (method === 'POST') await pour(new Payload(16 * MIB), transfer.body);
        transfer.body.end();
        await digestOf(await transfer.answer);
      }
    }
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  beforeEach(() => {
    rested = residentBytes(guard.pid);
  });

  const grown = (t: TestContext, peak: PeakMemory): void => {
    const growth = peak.bytes - rested;
    t.diagnostic(`${(rested / MIB).toFixed(1)} MiB, grew by ${(growth / MIB).toFixed(1)} MiB`);
    assert.ok(growth < MOST_GROWTH, `${(growth / MIB).toFixed(1)} MiB more than before`);
  };

  const http1 = async (method: string): Promise<Transfer> => {
    const request = httpsRequest({
      host: '127.0.0.1',
      port: guard.secure.port,
      ca: guard.ca,
      agent: false,
      method,
      path: '/large',
      headers: { authorization: `Bearer ${guard.token}` },
    });
    const answer = new Promise<Readable>((resolve, reject) => {
      request.once('response', (response: IncomingMessage) => {
        resolve(response);
      });
      request.once('error', reject);
    });
    return {
      body: request,
      answer,
      async [Symbol.asyncDispose]() {
        request.destroy();
      },
    };
  };

  const http2 = async (method: string): Promise<Transfer> => {
    const session = await h2Connect(guard.secure);
    const stream = session.request(
      { ':method': method, ':path': '/large', authorization: `Bearer ${guard.token}` },
      { endStream: false },
    );
    const answer = once(stream, 'response').then(() => stream);
    return {
      body: stream,
      answer,
      async [Symbol.asyncDispose]() {
        session.destroy();
      },
    };
  };

  for (const [name, open] of [
    ['HTTP/1.1', http1],
    ['HTTP/2', http2],
  ] as const) {
    test(`${name}: 100 MiB down, byte for byte`, async (t) => {
      using peak = new PeakMemory(guard.pid);
      const payload = new Payload(LARGE);
      upstream.respond = download(payload);
      await using transfer = await open('GET');
      transfer.body.end();
      const got = await within(transfer.answer.then(digestOf), 'the whole answer', PATIENCE);
      assert.deepEqual(got, { length: LARGE, sha256: payload.digest() });
      grown(t, peak);
    });

    test(`${name}: 100 MiB up, byte for byte`, async (t) => {
      using peak = new PeakMemory(guard.pid);
      const payload = new Payload(LARGE);
      upstream.respond = respond.echo();
      await using transfer = await open('POST');
      await within(pour(payload, transfer.body), 'the upload', PATIENCE);
      transfer.body.end();
      let text = '';
      for await (const piece of (await transfer.answer) as AsyncIterable<Buffer>) text += piece.toString();
      const echoed = JSON.parse(text) as EchoedRequest;
      assert.equal(echoed.bodyLength, LARGE);
      assert.equal(echoed.bodySha256, payload.digest());
      grown(t, peak);
    });

    test(`${name}: a reader that stalls holds the upstream back, and then gets it all`, async (t) => {
      using peak = new PeakMemory(guard.pid);
      const payload = new Payload(STALLED);
      const begun = nextFlow(upstream, download(payload));
      await using transfer = await open('GET');
      transfer.body.end();
      const answer = await transfer.answer;
      answer.pause();
      const flow = await begun();
      const held = await standstill(() => flow.taken);
      t.diagnostic(`stalled with ${(held / MIB).toFixed(1)} MiB under way`);
      assert.ok(held < MOST_UNDERWAY, `${(held / MIB).toFixed(1)} MiB went to a reader that takes nothing`);
      assert.equal(flow.connection.socket.writableNeedDrain, true);
      grown(t, peak);
      const got = await within(digestOf(answer), 'the whole answer', PATIENCE);
      assert.deepEqual(got, { length: STALLED, sha256: payload.digest() });
    });

    test(`${name}: an upstream that stalls holds the client back, and then gets it all`, async (t) => {
      using peak = new PeakMemory(guard.pid);
      const payload = new Payload(STALLED);
      const begun = nextFlow(upstream, (request, connection) => {
        connection.socket.pause();
        return respond.echo()(request, connection);
      });
      await using transfer = await open('POST');
      const poured = pour(payload, transfer.body);
      const { connection } = await begun();
      await standstill(() => payload.made);
      t.diagnostic(`stalled with ${(payload.made / MIB).toFixed(1)} MiB under way`);
      assert.ok(
        payload.made < MOST_UNDERWAY,
        `${(payload.made / MIB).toFixed(1)} MiB taken for one that takes nothing`,
      );
      assert.equal(transfer.body.writableNeedDrain, true);
      grown(t, peak);
      connection.socket.resume();
      await within(poured, 'the upload', PATIENCE);
      transfer.body.end();
      let text = '';
      for await (const piece of (await transfer.answer) as AsyncIterable<Buffer>) text += piece.toString();
      assert.equal((JSON.parse(text) as EchoedRequest).bodySha256, payload.digest());
    });
  }

  test('WebSocket: a reader that stalls holds the upstream back, and then gets it all', async (t) => {
    using peak = new PeakMemory(guard.pid);
    const payload = new Payload(STALLED);
    const begun = nextFlow(upstream, async (request, connection) => {
      await respond.webSocket({ echo: 'none' })(request, connection);
      await pour(payload, connection.socket);
    });
    const handshake = await openWebSocket(guard.plain, { token: guard.token });
    using client = handshake.connection;
    client.socket.pause();
    const flow = await begun();
    const held = await standstill(() => flow.taken);
    t.diagnostic(`stalled with ${(held / MIB).toFixed(1)} MiB under way`);
    assert.ok(held < MOST_UNDERWAY);
    grown(t, peak);
    // All that has been read so far and is not of the tunnel is the head.
    const head = client.bytesSeen - client.pending.length;
    client.discard();
    client.socket.resume();
    await client.waitForBytes(head + STALLED, PATIENCE);
    assert.equal(client.bytesSeen, head + STALLED);
  });

  test('a client that stalls and leaves takes its upstream with it', async () => {
    const begun = nextFlow(upstream, download(new Payload(STALLED)));
    const client = await RawConnection.connect(guard.plain);
    client.socket.pause();
    client.write(requestBytes(guard.plain, { token: guard.token }));
    const flow = await begun();
    await standstill(() => flow.taken);
    client.reset();
    await upstream.waitForClose(flow.connection, 1000);
  });
});

/** One answer of the upstream on its way. */
class Flow {
  readonly connection: RecordedConnection;
  readonly #before: number;

  constructor(connection: RecordedConnection) {
    this.connection = connection;
    this.#before = connection.socket.bytesWritten;
  }

  /** Bytes that left this process. */
  get taken(): number {
    const { socket } = this.connection;
    return socket.bytesWritten - socket.writableLength - this.#before;
  }
}

/** Lets the upstream answer the next request so; the answer, once it has begun. */
function nextFlow(upstream: RecordingUpstream, answer: Respond): () => Promise<Flow> {
  let flow: Flow | null = null;
  upstream.respond = (request, connection) => {
    flow = new Flow(connection);
    return answer(request, connection);
  };
  return () => upstream.waitFor(() => flow, 'the request');
}

/** The value once it has not changed for a while: that nothing happens has no event. */
async function standstill(look: () => number): Promise<number> {
  let last = -1;
  let since = 0;
  return await waitUntil(
    () => {
      const now = look();
      if (now !== last) {
        last = now;
        since = performance.now();
      }
      return now > 0 && performance.now() - since > 400 ? now : null;
    },
    'a standstill',
    PATIENCE,
  );
}
