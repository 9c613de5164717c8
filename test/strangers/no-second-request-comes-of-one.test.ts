import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertUntouched, startGuard, type Guard } from '../support/guard.js';
import { chunk, LAST_CHUNK, RecordingUpstream } from '../support/recording-upstream.js';
import { RawConnection } from '../support/raw-client.js';
import { CORPUS, type Bytes } from './corpus.js';

/** What guardbee says about each request; its values differ from request to request, so they are looked at and cut. */
const OURS: readonly (readonly [name: string, value: RegExp])[] = [
  ['x-forwarded-for', /^127\.0\.0\.1$/],
  ['x-real-ip', /^127\.0\.0\.1$/],
  ['x-forwarded-proto', /^http$/],
  ['x-forwarded-host', /^h$/],
  ['x-request-id', /^[0-9a-f-]{36}$/],
  ['x-auth-user', /^keeper$/],
  ['x-auth-roles', /^operator$/],
];

/** The bytes of a request without the fields above, each of which must be there once. */
function withoutOurs(text: string): string {
  let rest = text;
  for (const [name, value] of OURS) {
    const lines = [...rest.matchAll(new RegExp(`^${name}: (.*)\r\n`, 'gm'))];
    assert.equal(lines.length, 1, `${name} in ${text}`);
    assert.match(lines[0]?.[1] ?? '', value);
    rest = rest.replace(lines[0]?.[0] ?? '', '');
  }
  return rest;
}

describe('no second request comes of one', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start();
    guard = await startGuard({
      upstream: upstream.url,
      routes: [
        { name: 'write', path: '/write', require: 'write' },
        { name: 'read', path: '/read', methods: ['GET'], require: 'read' },
        { name: 'smuggled', path: '/smuggled', deny: true },
      ],
      listener: { timeouts: { body: '2s', head: '5s' } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const bytesOf = ({ bytes }: Bytes): string => bytes.replaceAll('{token}', guard.token);

  describe('refused', { concurrency: 8 }, () => {
    for (const row of CORPUS) {
      const { expect } = row;
      if (!('refused' in expect)) continue;
      test(row.name, async () => {
        using client = await RawConnection.connect(guard.plain);
        client.write(bytesOf(row));
        const response = await client.readResponse('POST');
        assert.equal(response.status, expect.refused.status, response.text());
        const record = await guard.record(response.header('x-request-id') ?? '');
        assert.equal(record['guardbee.reason'], expect.refused.reason);
        if (row.bytes.includes('/smuggled')) {
          assert.equal(response.header('connection'), 'close');
          assert.equal((await client.readToEnd()).toString('latin1'), '', 'somebody answered the rest');
        }
        assertUntouched(upstream);
      });
    }
  });

  describe('framed anew', () => {
    for (const row of CORPUS) {
      const { expect } = row;
      if (!('forwarded' in expect)) continue;
      test(row.name, async () => {
        const requests = upstream.requests.length;
        const before = upstream.bytesSeen;
        using client = await RawConnection.connect(guard.plain);
        client.write(bytesOf(row));
        const response = await client.readResponse('POST');
        assert.equal(response.status, 200, response.text());
        assert.equal(client.pending.length, 0);
        assert.equal(upstream.requests.length, requests + 1);
        const arrived = upstream.requests.at(-1);
        assert.ok(arrived !== undefined);
        const body = await arrived.body;
        assert.equal(body.trailers.length, 0);
        const expected = expect.forwarded.replace(/\{chunks:(.*)\}$/s, (_, text: string) =>
          Buffer.concat([chunk(Buffer.from(text, 'latin1')), LAST_CHUNK]).toString('latin1'),
        );
        const seen = upstream.bytesSeen - before;
        const bytes = arrived.connection.bytes.subarray(-seen).toString('latin1');
        // How a body is cut into chunks is nobody's business; what is in them is.
        const framed = arrived.header('transfer-encoding') === 'chunked';
        const rebuilt = framed
          ? Buffer.concat([arrived.rawHead, chunk(body.bytes), LAST_CHUNK]).toString('latin1')
          : bytes;
        assert.equal(withoutOurs(rebuilt), expected);
      });
    }
  });

  describe('cut in the body', { concurrency: 8 }, () => {
    for (const row of CORPUS) {
      if (!('cut' in row.expect)) continue;
      test(row.name, async () => {
        using client = await RawConnection.connect(guard.plain);
        const mark = `cut-${String(CORPUS.indexOf(row))}`;
        client.write(bytesOf(row).replace('Host: h\r\n', `Host: h\r\nX-Mark: ${mark}\r\n`));
        const response = await client.readResponse('POST');
        assert.equal(response.status, 400, response.text());
        assert.equal((await client.readToEnd()).toString('latin1'), '', 'somebody answered the rest');
        const record = await guard.record(response.header('x-request-id') ?? '');
        assert.equal(record['guardbee.reason'], 'client_body_broken');
        const arrived = upstream.requests.filter((one) => one.header('x-mark') === mark);
        for (const one of arrived) {
          await upstream.waitForClose(one.connection);
          await assert.rejects(one.body);
          assert.equal(one.connection.requests.at(-1), one, 'a second request came of it');
        }
      });
    }
    after(() => {
      assert.ok(upstream.requests.every((one) => one.target !== '/smuggled'));
    });
  });
});
