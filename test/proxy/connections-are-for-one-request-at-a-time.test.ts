/**
 * Connections to upstreams, from below: whatever the order of events, one connection carries one request at a time, each
 * asker hears one ending, and nothing is left over.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Upstream } from '../../src/policy/policy.js';
import { RequestHead } from '../../src/proxy/head-text.js';
import type { UpstreamConnection } from '../../src/proxy/upstream-connection.js';
import { upstreamFailure } from '../../src/proxy/upstream-failure.js';
import { UpstreamPool } from '../../src/proxy/upstream.js';
import { countResources, expectResources } from '../support/leak.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';

type Ending =
  | { readonly kind: 'ended'; readonly status: number; readonly body: string }
  | { readonly kind: 'failed'; readonly error: Error }
  | { readonly kind: 'left' };

interface Asked {
  readonly path: string;
  readonly method?: string;
  readonly body?: Readable;
  readonly length?: number;
  readonly headTimeoutMs?: number;
  /** The asker pauses at each piece, and goes on a few turns later. */
  readonly slow?: boolean;
}

/** Asks as `forward` does: `release` at the end, `discard` after anything else, each once. */
class Asker {
  readonly pool: UpstreamPool;
  readonly connection: UpstreamConnection;
  readonly ending: Promise<Ending>;
  readonly #body: Readable | null;
  #settle: (ending: Ending) => void = () => undefined;
  #over = false;
  #endings = 0;
  #status = 0;
  #pieces = '';
  heads = 0;

  constructor(pool: UpstreamPool, asked: Asked) {
    this.pool = pool;
    this.ending = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const connection = pool.acquire();
    assert.ok(connection !== null);
    this.connection = connection;
    this.#body = asked.body ?? null;
    const fields = ['host', 'x'];
    if (asked.length !== undefined) fields.push('content-length', String(asked.length));
    connection.send(
      {
        head: new RequestHead(asked.method ?? 'GET', asked.path, fields, this.#body === null ? 'nothing' : 'body'),
        requestId: 'r-1',
        body: this.#body,
        headTimeoutMs: asked.headTimeoutMs ?? Number.POSITIVE_INFINITY,
      },
      {
        head: (status) => {
          this.heads += 1;
          this.#status = status;
          return true;
        },
        data: (piece) => {
          this.#pieces += piece.toString('latin1');
          if (asked.slow !== true) return true;
          setImmediate(() => {
            if (!this.#over) this.connection.resume();
          });
          return false;
        },
        chunks: () => false,
        ended: () => {
          this.#end({ kind: 'ended', status: this.#status, body: this.#pieces });
        },
        failed: (error) => {
          this.#end({ kind: 'failed', error });
        },
      },
    );
  }

  leave(): void {
    if (!this.#over) this.#end({ kind: 'left' });
  }

  #end(ending: Ending): void {
    this.#endings += 1;
    assert.equal(this.#endings, 1, 'told of two endings');
    this.#over = true;
    if (ending.kind === 'ended') {
      this.pool.release(this.connection);
    } else {
      this.pool.discard(this.connection);
      this.#body?.destroy();
    }
    this.#settle(ending);
  }
}

async function listening(
  onConnection: (socket: Socket) => void,
  path?: string,
): Promise<{ server: Server; upstream: Upstream }> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(path === undefined ? { port: 0, host: '127.0.0.1' } : { path });
  await once(server, 'listening');
  if (path !== undefined) {
    const name = `unix:${path}`;
    return {
      server,
      upstream: { name, authority: '', target: { kind: 'unix', path }, mustBeLoopback: true, tls: null },
    };
  }
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const authority = `127.0.0.1:${String(address.port)}`;
  return {
    server,
    upstream: {
      name: authority,
      authority,
      target: { kind: 'tcp', host: '127.0.0.1', port: address.port },
      mustBeLoopback: true,
      tls: null,
    },
  };
}

/** What the hostile upstream does with a request; each request says which, by its path. */
const MANNERS = [
  'length',
  'chunked',
  'pieces',
  'close',
  'until-close',
  'reset',
  'reset-mid-body',
  'end-at-once',
  'then-end',
  'then-reset',
  'then-more',
  'early',
  'early-and-end',
  'garbage',
  'silent',
] as const;
type Manner = (typeof MANNERS)[number];

/** Answers with the path that was asked for, in all manners, and sees whether requests overlap. */
function hostile(socket: Socket, seen: { overlaps: number }): void {
  let text = '';
  let busy = false;
  /** Of a body that was answered before it was here. */
  let unread = false;
  socket.on('data', (piece: Buffer) => {
    text += piece.toString('latin1');
    look();
  });
  socket.on('end', () => socket.end());
  const look = (): void => {
    if (unread) {
      const rest = text.indexOf('\r\n0\r\n\r\n');
      if (rest === -1) return;
      text = text.slice(rest + 7);
      unread = false;
    }
    const end = text.indexOf('\r\n\r\n');
    if (end === -1) return;
    const line = /^(?:GET|POST) (\/([a-z-]+)\/\d+) HTTP\/1\.1\r\n/.exec(text);
    if (line === null) {
      seen.overlaps += 1;
      socket.destroy();
      return;
    }
    const [, path = '', manner = ''] = line;
    const chunked = text.slice(0, end).includes('transfer-encoding: chunked');
    const early = chunked && manner.startsWith('early');
    if (chunked && !early && !text.includes('\r\n0\r\n\r\n', end)) return;
    if (busy) seen.overlaps += 1;
    busy = true;
    unread = early;
    text = chunked && !early ? text.slice(text.indexOf('\r\n0\r\n\r\n', end) + 7) : text.slice(end + 4);
    if (text !== '' && !early) seen.overlaps += 1;
    answer(manner as Manner, path);
    if (unread) look();
  };
  const answer = (manner: Manner, path: string): void => {
    const length = `content-length: ${String(path.length)}\r\n`;
    const whole = `HTTP/1.1 200 OK\r\n${length}\r\n${path}`;
    busy = false;
    switch (manner) {
      case 'length':
      case 'early':
        socket.write(whole);
        break;
      case 'early-and-end':
        socket.end(whole);
        break;
      case 'chunked':
        socket.write(
          `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n/\r\n${(path.length - 1).toString(16)}\r\n${path.slice(1)}\r\n0\r\n\r\n`,
        );
        break;
      case 'pieces':
        busy = true;
        void (async () => {
          for (const byte of whole) {
            socket.write(byte);
            await turn();
          }
        })();
        busy = false;
        break;
      case 'close':
        socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\n${length}\r\n${path}`);
        break;
      case 'until-close':
        socket.end(`HTTP/1.1 200 OK\r\n\r\n${path}`);
        break;
      case 'reset':
        socket.resetAndDestroy();
        break;
      case 'reset-mid-body':
        socket.write(`HTTP/1.1 200 OK\r\n${length}\r\n${path.slice(0, 3)}`, () => socket.resetAndDestroy());
        break;
      case 'end-at-once':
        socket.end();
        break;
      case 'then-end':
        socket.end(whole);
        break;
      case 'then-reset':
        socket.write(whole, () => socket.resetAndDestroy());
        break;
      case 'then-more':
        socket.write(`${whole}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen`);
        break;
      case 'garbage':
        socket.write('no http\r\n\r\n');
        break;
      case 'silent':
    }
  };
}

describe('connections are for one request at a time', () => {
  test('in every order of events', async (t) => {
    const before = countResources();
    const warnings: Error[] = [];
    const warned = (warning: Error): void => {
      warnings.push(warning);
    };
    process.on('warning', warned);
    const seen = { overlaps: 0 };
    const sockets = new Set<Socket>();
    const { server, upstream } = await listening((socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      hostile(socket, seen);
    });
    const pool = new UpstreamPool(upstream);
    let number = 0;
    const endings = new Map<string, number>();
    const ask = async (manner: Manner, withBody: boolean, slow: boolean, leaveAfter: number | null): Promise<void> => {
      number += 1;
      const path = `/${manner}/${String(number)}`;
      const body = withBody
        ? Readable.from([Buffer.alloc(10, 'a'), Buffer.alloc(70_000, 'b'), Buffer.from('c')])
        : null;
      body?.on('error', () => undefined);
      const asker = new Asker(pool, {
        path,
        slow,
        method: withBody ? 'POST' : 'GET',
        ...(body === null ? {} : { body }),
        ...(manner === 'silent' ? { headTimeoutMs: 20 } : {}),
      });
      if (leaveAfter !== null) {
        for (let i = 0; i < leaveAfter; i += 1) await turn();
        asker.leave();
      }
      const ending = await within(asker.ending, `an ending of ${path}`);
      endings.set(ending.kind, (endings.get(ending.kind) ?? 0) + 1);
      // Never another's answer, never half of one, never two.
      if (ending.kind === 'ended') assert.equal(ending.body, path);
      assert.ok(asker.heads <= 1);
    };
    try {
      const until = performance.now() + 4_000;
      const one = fc.record({
        manner: fc.constantFrom(...MANNERS),
        withBody: fc.boolean(),
        slow: fc.boolean(),
        leaveAfter: fc.option(fc.nat(6), { freq: 4 }),
        startAfter: fc.nat(12),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 24 }), async (asked) => {
          // Not fast-check's own limit, which leaves a run in the middle.
          if (performance.now() > until) return;
          await Promise.all(
            asked.map(async ({ manner, withBody, slow, leaveAfter, startAfter }) => {
              for (let i = 0; i < startAfter; i += 1) await turn();
              await ask(manner, withBody, slow, leaveAfter);
            }),
          );
          assert.equal(seen.overlaps, 0, 'two requests on one connection');
        }),
        { numRuns: 5_000 },
      );
      t.diagnostic(JSON.stringify(Object.fromEntries(endings)));
      assert.deepEqual(warnings, []);
      for (const kind of ['ended', 'failed', 'left'])
        assert.ok((endings.get(kind) ?? 0) > 50, `${kind}: ${String(endings.get(kind))} of ${String(number)}`);
    } finally {
      process.off('warning', warned);
      pool.close();
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    }
    await expectResources(before);
  });

  for (const kind of ['TCP', 'unix'] as const) {
    for (const [name, answer, kept] of [
      ['a length', 'HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge', true],
      [
        'chunks',
        'HTTP/1.1 413 Too Large\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlarge\r\n0\r\n\r\n',
        true,
      ],
      ['half a length', 'HTTP/1.1 413 Too Large\r\nContent-Length: 50\r\n\r\nlarge', false],
    ] as const) {
      test(`an answer of ${name} before the body is sent, then the end of it all, over ${kind}`, async () => {
        using directory = new TemporaryDirectory();
        const before = countResources();
        const { server, upstream } = await listening(
          (socket) => {
            socket.once('data', () => {
              socket.pause();
              socket.write(answer, () => socket.destroy());
            });
          },
          kind === 'unix' ? directory.file('up.sock') : undefined,
        );
        const pool = new UpstreamPool(upstream);
        try {
          for (let round = 0; round < 100; round += 1) {
            const body = Readable.from(Array.from({ length: 40 }, () => Buffer.alloc(100_000)));
            const asker = new Asker(pool, { path: '/', method: 'POST', body, length: 4_000_000 });
            const ending = await within(asker.ending, 'an ending');
            if (kept) assert.deepEqual(ending, { kind: 'ended', status: 413, body: 'large' }, `round ${String(round)}`);
            else assert.equal(ending.kind === 'failed' ? upstreamFailure(ending.error) : ending, 'upstream_gone');
            assert.ok(body.destroyed, 'the rest of the body is still awaited');
          }
          assert.equal(pool.size, 0);
        } finally {
          pool.close();
          server.close();
          await once(server, 'close');
        }
        await expectResources(before);
      });
    }
  }

  test('a path that leads to no socket is an upstream that is not there', async () => {
    using directory = new TemporaryDirectory();
    writeFileSync(directory.file('file'), '');
    symlinkSync('loop', directory.file('loop'));
    for (const path of ['file', 'file/below', 'loop', 'none', '.']) {
      const name = `unix:${directory.file(path)}`;
      const target = { kind: 'unix', path: directory.file(path) } as const;
      const pool = new UpstreamPool({ name, authority: '', target, mustBeLoopback: true, tls: null });
      const ending = await new Asker(pool, { path: '/' }).ending;
      assert.equal(ending.kind === 'failed' ? upstreamFailure(ending.error) : ending.kind, 'upstream_refused', path);
      assert.equal(pool.size, 0);
      pool.close();
    }
  });

  test('a thousand rounds on one connection leave no listener on it, and the last one no timer', async () => {
    const before = countResources();
    const seen = { overlaps: 0 };
    const { server, upstream } = await listening((socket) => hostile(socket, seen));
    const pool = new UpstreamPool(upstream);
    try {
      let first: UpstreamConnection | null = null;
      for (let round = 0; round < 1_000; round += 1) {
        const asker = new Asker(pool, {
          path: `/length/${String(round)}`,
          headTimeoutMs: round % 2 === 0 ? 1_000 : 60_000,
          ...(round % 3 === 0 ? { method: 'POST', body: Readable.from([Buffer.alloc(100_000)]) } : {}),
        });
        first ??= asker.connection;
        assert.equal(asker.connection, first, 'another connection');
        assert.equal((await asker.ending).kind, 'ended');
      }
      assert.equal(pool.size, 1);
      assert.equal(seen.overlaps, 0);
      await waitUntil(() => pool.size === 0, 'the connection to be dropped');
    } finally {
      pool.close();
      server.close();
      await once(server, 'close');
    }
    await expectResources(before);
  });
});
