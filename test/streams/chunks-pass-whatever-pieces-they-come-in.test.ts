/**
 * Answers in chunks (RFC 9112 §7.1), written in all the ways that upstreams write them and cut anywhere on their way: some go on
 * with the framing they came in, others are framed anew, and clients get the same content, or see that the rest is missing.
 */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { RawConnection, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, type RecordedConnection } from '../support/recording-upstream.js';

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n';

interface Written {
  readonly content: Buffer;
  readonly pieces: readonly Buffer[];
}

const sizes = {
  plain: (size: number) => size.toString(16),
  'upper case': (size: number) => size.toString(16).toUpperCase(),
  'zeros in front': (size: number) => `00${size.toString(16)}`,
  extension: (size: number) => `${size.toString(16)};a=b`,
};

const chunk = fc.record({
  data: fc.oneof(
    { weight: 8, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 40 }) },
    // Around the size up to which chunks go on as they came.
    {
      weight: 1,
      arbitrary: fc.integer({ min: 16_300, max: 16_500 }).map((length) => new Uint8Array(length).fill(0x0d)),
    },
  ),
  size: fc.oneof(
    { weight: 6, arbitrary: fc.constant('plain' as const) },
    { weight: 1, arbitrary: fc.constantFrom('upper case' as const, 'zeros in front' as const, 'extension' as const) },
  ),
});

const answer: fc.Arbitrary<Written> = fc
  .record({
    chunks: fc.array(chunk, { maxLength: 12 }),
    trailers: fc.constantFrom('', 'A: b\r\n'),
    cuts: fc.array(fc.nat(2_000), { maxLength: 6 }),
  })
  .map(({ chunks, trailers, cuts }) => {
    const bytes = Buffer.concat([
      Buffer.from(HEAD, 'latin1'),
      ...chunks.flatMap(({ data, size }) => [
        Buffer.from(`${sizes[size](data.length)}\r\n`, 'latin1'),
        data,
        Buffer.from('\r\n', 'latin1'),
      ]),
      Buffer.from(`0\r\n${trailers}\r\n`, 'latin1'),
    ]);
    const ends = [...new Set([...cuts.filter((at) => at > 0 && at < bytes.length), bytes.length])].sort(
      (a, b) => a - b,
    );
    return {
      content: Buffer.concat(chunks.map(({ data }) => data)),
      pieces: ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end)),
    };
  });

async function say(connection: RecordedConnection, pieces: readonly Buffer[]): Promise<void> {
  for (const piece of pieces) {
    connection.write(piece);
    // Each is sent before the next is written: they come one by one, as far as the other side keeps up.
    await turn();
    await turn();
  }
}

describe('chunks pass, whatever pieces they come in', () => {
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

  test('clients of HTTP/1.1, 1.0 and 2 get the content', async () => {
    using client = await RawConnection.connect(guard.secure);
    const session = await h2Connect(guard.secure);
    const ask = requestBytes(guard.secure, { path: '/stream', token: guard.token });
    const older = Buffer.from(ask.toString('latin1').replace('HTTP/1.1', 'HTTP/1.0'), 'latin1');
    await fc.assert(
      fc.asyncProperty(answer, async ({ content, pieces }) => {
        upstream.respond = async (_request, connection) => say(connection, pieces);
        client.write(ask);
        const one = await client.readResponse();
        assert.ok(one.complete);
        assert.deepEqual(one.body, content);
        using another = await RawConnection.connect(guard.secure);
        another.write(older);
        const zero = await another.readResponse();
        assert.ok(zero.complete);
        assert.equal(zero.header('transfer-encoding'), null);
        assert.deepEqual(zero.body, content);
        const two = await h2Request(session, { ':path': '/stream', authorization: `Bearer ${guard.token}` });
        assert.deepEqual(two.body, content);
      }),
      { numRuns: 60, interruptAfterTimeLimit: 4_000, markInterruptAsFailure: false },
    );
    session.close();
  });

  test('where the upstream ends in the middle, the client sees that something is missing, and what came before', async () => {
    await fc.assert(
      fc.asyncProperty(answer, fc.double({ min: 0, max: 0.999, noNaN: true }), async ({ content, pieces }, share) => {
        const all = Buffer.concat(pieces);
        // The head comes whole, and the last byte never.
        const end = HEAD.length + Math.floor((all.length - HEAD.length) * share);
        upstream.respond = async (_request, connection) => {
          await say(connection, [all.subarray(0, end)]);
          connection.end('');
        };
        using client = await RawConnection.connect(guard.secure);
        client.write(requestBytes(guard.secure, { path: '/stream', token: guard.token }));
        const cut = await client.readResponse();
        assert.equal(cut.complete, false);
        assert.deepEqual(cut.body, content.subarray(0, cut.body.length));
      }),
      { numRuns: 40, interruptAfterTimeLimit: 3_000, markInterruptAsFailure: false },
    );
  });

  test('a client that stops reading for a while gets all of them in order', async () => {
    const COUNT = 40_000;
    upstream.respond = async (_request, connection) => {
      connection.write(HEAD);
      for (let number = 0; number < COUNT; number += 1) {
        const text = `data: ${String(number)} ${'x'.repeat(200)}\n\n`;
        if (!connection.socket.write(`${text.length.toString(16)}\r\n${text}\r\n`))
          await new Promise((resolve) => connection.socket.once('drain', resolve));
      }
      connection.write('0\r\n\r\n');
    };
    using client = await RawConnection.connect(guard.secure);
    client.write(requestBytes(guard.secure, { path: '/stream', token: guard.token }));
    await client.waitForBytes(1);
    client.socket.pause();
    // What is on its way fills buffers meanwhile, and then the upstream waits.
    for (let i = 0; i < 50; i += 1) await turn();
    client.socket.resume();
    const { body, complete } = await client.readResponse();
    assert.ok(complete);
    const numbers = [...body.toString('latin1').matchAll(/data: (\d+) x{200}\n\n/g)].map(([, number]) =>
      Number(number),
    );
    assert.deepEqual(
      numbers,
      Array.from({ length: COUNT }, (_, index) => index),
    );
  });
});
