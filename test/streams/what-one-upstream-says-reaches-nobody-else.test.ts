/**
 * All upstreams are read into one buffer. Whoever kept a piece of it for a client that is slower than the upstream would
 * send that client what came for others since. So: clients of every kind stand still in the middle of their answers,
 * others get theirs meanwhile, and then every byte is looked at.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import type { ClientHttp2Session } from 'node:http2';
import { connect as connectPlain, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import type { FieldList } from '../support/message-reader.js';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { type RecordedConnection, type Respond, RecordingUpstream } from '../support/recording-upstream.js';
import { request, type Target, WEBSOCKET_HANDSHAKE_FIELDS } from '../support/raw-client.js';
import { waitUntil, within } from '../support/wait.js';
import { websocketAccept } from '../support/websocket-frames.js';

const MIB = 1024 * 1024;
/** More than the system holds between two sockets that nobody reads from. */
const STALLS = 6 * MIB;
/** The same, where HTTP/2 lets no more than a window of it go. */
const STALLS_IN_WINDOW = MIB;
const RECORD = 16;
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** Each 16 bytes of it say whose they are, and which. */
function bytesOf(id: string, length: number): Buffer {
  let text = '';
  for (let at = 0; at < length; at += RECORD) text += `${id.padEnd(6)}${String(at).padStart(9)}\n`;
  return Buffer.from(text.slice(0, length), 'latin1');
}

/** Not `deepEqual`, which would print megabytes. */
function assertSame(found: Buffer, wanted: Buffer, whose: string): void {
  if (found.equals(wanted)) return;
  let at = 0;
  while (at < found.length && found[at] === wanted[at]) at += 1;
  const piece = (bytes: Buffer): string => JSON.stringify(bytes.toString('latin1', at, at + 2 * RECORD));
  assert.fail(
    `${whose}: byte ${String(at)} of ${String(wanted.length)} (there are ${String(found.length)}) begins ${piece(found)}, not ${piece(wanted)}`,
  );
}

type Framing = 'counted' | 'chunked' | 'closed' | 'upgraded';

function answerBytes(framing: Framing, body: Buffer, key: string): Buffer {
  const head = (fields: string): Buffer => Buffer.from(`HTTP/1.1 200 OK\r\n${fields}\r\n`, 'latin1');
  switch (framing) {
    case 'counted':
      return Buffer.concat([head(`Content-Length: ${String(body.length)}\r\n`), body]);
    case 'closed':
      return Buffer.concat([head('Connection: close\r\n'), body]);
    case 'chunked': {
      const pieces = [head('Transfer-Encoding: chunked\r\n')];
      // Of no size that divides another, so that the lines between fall anywhere.
      for (let at = 0, size = 1; at < body.length; at += size, size = (size * 7 + 13) % 30_011) {
        const data = body.subarray(at, at + size);
        pieces.push(Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n'));
      }
      return Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]);
    }
    case 'upgraded': {
      const fields = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${websocketAccept(key)}\r\n`;
      return Buffer.concat([Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${fields}\r\n`, 'latin1'), body]);
    }
  }
}

/** Answers of `/FRAMING/ID/LENGTH`; those of an id that begins with `p` come in pieces, each after a round of others. */
class Service {
  readonly open: RecordedConnection[] = [];
  #round: { readonly begun: Promise<void>; readonly begin: () => void } = newRound();

  nextRound(): void {
    const { begin } = this.#round;
    this.#round = newRound();
    begin();
  }

  readonly respond: Respond = async (asked, connection) => {
    const [, framing = '', id = '', length = ''] = asked.target.split('/');
    if (framing === 'named') {
      const bytes = Buffer.from(JSON.stringify({ id, data: bytesOf(id, Number(length)).toString('latin1') }));
      const head = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${String(bytes.length)}\r\n\r\n`;
      await this.#inPieces(Buffer.concat([Buffer.from(head), bytes]), connection, 2_003);
      return;
    }
    const key = asked.header('sec-websocket-key') ?? '';
    const bytes = answerBytes(framing as Framing, bytesOf(id, Number(length)), key);
    if (framing === 'upgraded') connection.tunnel(() => undefined);
    if (id.startsWith('p')) {
      await this.#inPieces(bytes, connection, 11);
    } else {
      connection.write(bytes);
      if (bytes.length > STALLS_IN_WINDOW) this.open.push(connection);
    }
    if (framing === 'closed' || framing === 'upgraded') connection.end();
  };

  /** Nobody takes any more of those that have much to say. */
  async allStandStill(count: number): Promise<void> {
    const left = (): string => this.open.map(({ socket }) => socket.writableLength - socket.bytesWritten).join(' ');
    let before = '';
    await waitUntil(async () => {
      if (this.open.length < count) return false;
      const now = left();
      const still = now === before;
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return still;
    }, 'everybody to stand still');
  }

  async #inPieces(bytes: Buffer, connection: RecordedConnection, size: number): Promise<void> {
    for (let at = 0; at < bytes.length; at += size) {
      connection.write(bytes.subarray(at, at + size));
      await this.#round.begun;
    }
  }
}

function newRound(): { readonly begun: Promise<void>; readonly begin: () => void } {
  let begin = (): void => undefined;
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  return { begun, begin };
}

/** A client that has asked and reads nothing until `read` is called. */
interface Stalled {
  readonly id: string;
  readonly length: number;
  /** To the end. */
  readonly read: () => Promise<Buffer>;
}

async function allOf(from: Readable): Promise<Buffer> {
  const pieces: Buffer[] = [];
  from.on('data', (piece: Buffer) => pieces.push(piece));
  await within(once(from, 'end'), 'the end of an answer', 60_000);
  return Buffer.concat(pieces);
}

async function stallH1(target: Target, framing: Framing, id: string, token: string): Promise<Stalled> {
  const { port, tls } = target;
  const socket: Socket =
    tls === undefined ? connectPlain(port, '127.0.0.1') : connectTls({ port, host: '127.0.0.1', ca: tls.ca });
  await once(socket, tls === undefined ? 'connect' : 'secureConnect');
  const path = `/${framing}/${id}/${String(STALLS)}`;
  const upgrade: FieldList = [...WEBSOCKET_HANDSHAKE_FIELDS, ['Sec-WebSocket-Key', KEY]];
  const fields: FieldList = [['Authorization', `Bearer ${token}`], ...(framing === 'upgraded' ? upgrade : [])];
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  if (framing === 'upgraded') {
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n`);
    return {
      id,
      length: STALLS,
      read: async () => {
        const all = await allOf(socket);
        socket.destroy();
        return all.subarray(all.indexOf('\r\n\r\n') + 4);
      },
    };
  }
  const asked = httpRequest({
    createConnection: () => socket,
    path,
    headers: Object.fromEntries(fields),
  });
  asked.end();
  // Node reads the head, and no more than a little of what nobody listens to.
  const answered = once(asked, 'response') as Promise<[Readable]>;
  return {
    id,
    length: STALLS,
    read: async () => {
      const [answer] = await within(answered, 'an answer');
      const all = await allOf(answer);
      socket.destroy();
      return all;
    },
  };
}

async function stallH2(session: ClientHttp2Session, framing: Framing, id: string, token: string): Promise<Stalled> {
  const path = `/${framing}/${id}/${String(STALLS_IN_WINDOW)}`;
  const stream = session.request({ ':path': path, authorization: `Bearer ${token}` });
  await within(once(stream, 'response'), 'an answer');
  return { id, length: STALLS_IN_WINDOW, read: () => allOf(stream) };
}

async function small(guard: Guard, session: ClientHttp2Session, id: string): Promise<void> {
  const length = 20 + ((Number(id.slice(1)) * 7_919) % 60_000);
  const framing = (['counted', 'chunked', 'closed'] as const)[length % 3] ?? 'counted';
  const path = `/${framing}/${id}/${String(length)}`;
  const { body } =
    length % 2 === 0
      ? await h2Request(session, { ':path': path, authorization: `Bearer ${guard.token}` })
      : await request(length % 5 === 0 ? guard.secure : guard.plain, { path, token: guard.token });
  assertSame(body, bytesOf(id, length), `${id}, ${framing}`);
}

test('every client gets its own bytes, however slow it is and whatever others ask for meanwhile', async () => {
  const service = new Service();
  await using upstream = await RecordingUpstream.start({ respond: service.respond, recordLimit: 0 });
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: [
      { name: 'named', path: '/named/**', methods: ['POST'], require: 'write', owns: { from: 'response.id' } },
      { name: 'read', path: '/**', methods: ['GET'], require: 'read' },
    ],
  });
  const { token } = guard;
  const session = await h2Connect(guard.secure);
  const idle = await h2Connect(guard.secure);
  try {
    const stalled: Stalled[] = [];
    for (const framing of ['counted', 'chunked', 'closed', 'upgraded'] as const) {
      stalled.push(await stallH1(guard.plain, framing, `1${framing.slice(0, 3)}`, token));
      stalled.push(await stallH1(guard.secure, framing, `s${framing.slice(0, 3)}`, token));
      if (framing !== 'upgraded') stalled.push(await stallH2(idle, framing, `2${framing.slice(0, 3)}`, token));
    }
    await service.allStandStill(stalled.length);
    // Heads, size lines and bodies that come in small pieces, and answers that are held until it is known what they name.
    const slow = (['counted', 'chunked', 'closed'] as const).map(async (framing) => {
      const id = `p${framing.slice(0, 3)}`;
      const { body } = await request(guard.plain, { path: `/${framing}/${id}/300`, token });
      assertSame(body, bytesOf(id, 300), id);
    });
    const named = ['n1', 'n2'].map(async (id) => {
      const { body } = await request(guard.plain, { method: 'POST', path: `/named/${id}/9000`, token, body: '' });
      const read = JSON.parse(body.toString()) as { readonly id: string; readonly data: string };
      assertSame(Buffer.from(read.data), bytesOf(id, 9_000), id);
    });
    const pieced = Promise.all([...slow, ...named]);
    for (let round = 0; round < 34; round += 1) {
      await Promise.all(
        Array.from({ length: 3 }, (_unused, nth) => small(guard, session, `r${String(3 * round + nth)}`)),
      );
      service.nextRound();
    }
    await within(pieced, 'answers in pieces');
    // All at once, while others still ask.
    const read = Promise.all(
      stalled.map(async ({ id, length, read: readAll }) => {
        assertSame(await readAll(), bytesOf(id, length), id);
      }),
    );
    for (let nth = 200; nth < 220; nth += 1) await small(guard, session, `r${String(nth)}`);
    await read;
  } finally {
    session.destroy();
    idle.destroy();
  }
});
