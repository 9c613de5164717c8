import assert from 'node:assert/strict';
import { constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';

import { after, before, describe, test } from 'node:test';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import {
  openWebSocket,
  RawConnection,
  requestBytes,
  WEBSOCKET_HANDSHAKE_FIELDS,
  type Target,
} from '../support/raw-client.js';
import { RecordingUpstream, respond, type RecordedRequest, type Respond } from '../support/recording-upstream.js';
import { within } from '../support/wait.js';

/** The promise: from the client's end to the upstream's. */
const PROMISED_MS = 50;
/** How often each is tried. The machine may be busy with something else once, but not most of the time. */
const TIMES = 9;
/** And never does anything wait for a timer. */
const NEVER_MS = 500;

/** A client in the middle of something. */
interface Client {
  /** Resolves when the client is where it should be when it leaves. */
  readonly there: Promise<unknown>;
  readonly leave: () => void;
  readonly end: () => void;
}

type Ending = 'reset' | 'close' | 'half-close';

function end(client: RawConnection, how: Ending): void {
  if (how === 'reset') client.reset();
  else if (how === 'close') client.close();
  else client.end();
}

type Moment = 'before the head' | 'while silent' | 'while chatty' | 'during its own upload';

const UPSTREAM: Readonly<Record<Moment, Respond>> = {
  'before the head': respond.hang(),
  'while silent': respond.silentEvents(),
  'while chatty': respond.chattyEvents(2),
  'during its own upload': respond.hang(),
};

describe('the upstream hears that the client left', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start();
    guard = await startGuard({ upstream: upstream.url });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const overHttp1 =
    (target: () => Target, how: Ending) =>
    async (moment: Moment, path: string): Promise<Client> => {
      const client = await RawConnection.connect(target());
      const uploading = moment === 'during its own upload';
      const head = requestBytes(target(), {
        method: uploading ? 'POST' : 'GET',
        path,
        token: guard.token,
        ...(uploading ? { headers: [['Transfer-Encoding', 'chunked']] } : {}),
      });
      client.write(uploading ? Buffer.concat([head, Buffer.from('5\r\nhello\r\n')]) : head);
      const there = moment === 'while silent' || moment === 'while chatty' ? client.readEvent() : Promise.resolve();
      return { there, leave: () => end(client, how), end: () => client.close() };
    };

  const overHttp2 =
    (how: 'stream' | 'session') =>
    async (moment: Moment, path: string): Promise<Client> => {
      const session: ClientHttp2Session = await h2Connect(guard.secure);
      const uploading = moment === 'during its own upload';
      const stream: ClientHttp2Stream = session.request(
        { ':method': uploading ? 'POST' : 'GET', ':path': path, authorization: `Bearer ${guard.token}` },
        { endStream: !uploading },
      );
      stream.on('error', () => undefined);
      if (uploading) stream.write('hello');
      const there =
        moment === 'while silent' || moment === 'while chatty'
          ? within(new Promise((resolve) => stream.once('data', resolve)), 'an event over HTTP/2')
          : Promise.resolve();
      const leave = (): void => {
        if (how === 'stream') stream.close(constants.NGHTTP2_CANCEL);
        else session.destroy();
      };
      return { there, leave, end: () => session.destroy() };
    };

  const overWebSocket =
    (target: () => Target, how: Ending) =>
    async (moment: Moment, path: string): Promise<Client> => {
      if (moment === 'before the head') {
        const client = await RawConnection.connect(target());
        const headers = [...WEBSOCKET_HANDSHAKE_FIELDS, ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='] as const];
        client.write(requestBytes(target(), { path, token: guard.token, headers }));
        const leave = (): void => end(client, how);
        return { there: Promise.resolve(), leave, end: () => client.close() };
      }
      const { connection, socket } = await openWebSocket(target(), { path, token: guard.token });
      assert.ok(socket !== null);
      const leave = (): void => end(connection, how);
      return { there: moment === 'while chatty' ? socket.next() : Promise.resolve(), leave, end: leave };
    };

  const plain = (): Target => guard.plain;
  const secure = (): Target => guard.secure;

  /** Milliseconds from the client's end to the upstream's, in order. */
  const measure = async (
    open: (moment: Moment, path: string) => Promise<Client>,
    moment: Moment,
    name: string,
    answer: Respond,
  ): Promise<number[]> => {
    const took: number[] = [];
    upstream.respond = answer;
    for (let time = 0; time < TIMES; time += 1) {
      const path = `/${`${name} ${moment}`.replaceAll(/[^A-Za-z0-9]+/g, '-')}/${String(time)}`;
      const client = await open(moment, path);
      try {
        const [arrived]: [RecordedRequest, unknown] = await Promise.all([
          upstream.waitForRequest((request) => request.target === path),
          client.there,
        ]);
        const left = performance.now();
        client.leave();
        took.push((await upstream.waitForClose(arrived.connection)) - left);
      } finally {
        client.end();
      }
    }
    return took.sort((a, b) => a - b);
  };

  const WAYS: readonly (readonly [name: string, open: (moment: Moment, path: string) => Promise<Client>])[] = [
    ['HTTP/1.1, reset', overHttp1(plain, 'reset')],
    ['HTTP/1.1, closed', overHttp1(plain, 'close')],
    ['HTTP/1.1, half-closed', overHttp1(plain, 'half-close')],
    ['HTTP/1.1 over TLS, closed', overHttp1(secure, 'close')],
    ['HTTP/1.1 over TLS, half-closed', overHttp1(secure, 'half-close')],
    ['HTTP/2, the stream reset', overHttp2('stream')],
    ['HTTP/2, the connection closed', overHttp2('session')],
  ];

  const SOCKET_WAYS: typeof WAYS = [
    ['WebSocket, reset', overWebSocket(plain, 'reset')],
    ['WebSocket, closed', overWebSocket(plain, 'close')],
    ['WebSocket over TLS, closed', overWebSocket(secure, 'close')],
  ];

  const holds = (took: readonly number[], tell: (text: string) => void): void => {
    const median = took[Math.floor(took.length / 2)] ?? Number.NaN;
    const most = took.at(-1) ?? Number.NaN;
    tell(`median ${median.toFixed(1)} ms, most ${most.toFixed(1)} ms`);
    assert.ok(median <= PROMISED_MS, `median ${median.toFixed(1)} ms`);
    assert.ok(most <= NEVER_MS, `most ${most.toFixed(1)} ms`);
  };

  for (const [name, open] of WAYS) {
    for (const moment of Object.keys(UPSTREAM) as Moment[]) {
      test(`${name}, ${moment}`, async (t) => {
        holds(await measure(open, moment, name, UPSTREAM[moment]), (text) => t.diagnostic(text));
      });
    }
  }

  const chattySocket: Respond = async (request, connection) => {
    await respond.webSocket({ echo: 'none' })(request, connection);
    const timer = setInterval(() => connection.write(Buffer.from([0x81, 2, 0x68, 0x69])), 2);
    connection.socket.once('end', () => clearInterval(timer));
    connection.socket.once('close', () => clearInterval(timer));
  };

  for (const [name, open] of SOCKET_WAYS) {
    for (const [moment, answer] of [
      ['before the head', respond.hang()],
      ['while silent', respond.webSocket()],
      ['while chatty', chattySocket],
    ] as const) {
      test(`${name}, ${moment}`, async (t) => {
        holds(await measure(open, moment, name, answer), (text) => t.diagnostic(text));
      });
    }
  }

  test('a WebSocket handshake that is half-closed before its answer', async (t) => {
    // Decision 6: a handshake whose sender has stopped talking has nobody to talk to.
    const open = overWebSocket(plain, 'half-close');
    holds(await measure(open, 'before the head', 'WebSocket, half-closed', respond.hang()), (text) =>
      t.diagnostic(text),
    );
  });

  test('one client of many on an HTTP/2 connection leaves, the others stay', async () => {
    upstream.respond = respond.silentEvents();
    const session = await h2Connect(guard.secure);
    const open = (path: string): ClientHttp2Stream =>
      session.request({ ':path': path, authorization: `Bearer ${guard.token}` });
    const leaving = open('/leaving');
    const staying = open('/staying');
    const [gone, stays] = await Promise.all([
      upstream.waitForRequest((request) => request.target === '/leaving'),
      upstream.waitForRequest((request) => request.target === '/staying'),
    ]);
    leaving.close(constants.NGHTTP2_CANCEL);
    await upstream.waitForClose(gone.connection);
    assert.equal(upstream.closedAt(stays.connection), null);
    const next = new Promise((resolve) => {
      staying.on('data', (piece: Buffer) => {
        if (piece.includes('still here')) resolve(null);
      });
    });
    stays.connection.write('12\r\ndata: still here\n\n\r\n');
    await within(next, 'an event for the one that stayed');
    session.destroy();
  });

  test('the log says that it was the client, and nobody is blamed', async () => {
    upstream.respond = respond.silentEvents();
    const client = await RawConnection.connect(guard.plain);
    client.write(requestBytes(guard.plain, { path: '/blame', token: guard.token }));
    await client.readEvent();
    client.reset();
    const record = await guard.recordWhere((line) => line['url.path'] === '/blame');
    assert.equal(record['guardbee.reason'], 'client_gone');
    assert.equal(record['level'], 'INFO');
    assert.equal(record['guardbee.stream'], 'sse');
    assert.equal(record['http.response.status_code'], 200);
  });
});
