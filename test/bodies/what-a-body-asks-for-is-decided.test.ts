import assert from 'node:assert/strict';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Guard, assertUntouched, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { tokenPair } from '../support/policy-builder.js';
import { RawConnection, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, chunk, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';

const ROUTES = [
  {
    name: 'submit',
    path: '/v1/jobs',
    methods: 'any',
    body: {
      max: '2KiB',
      json: {
        field: 'operation',
        require_by_value: { status: 'read', infer: ['run', 'write'], worker_install: 'control' },
        check: {
          hive_id: { type: 'identifier', max: 64 },
          prompt: { type: 'prompt', max: 1000 },
          '/stop/*': { type: 'text', max: 10 },
          node: 'caller',
        },
      },
    },
  },
  { name: 'upload', path: '/upload', methods: ['PUT'], require: 'write', body: { max: '2KiB' } },
  { name: 'rest', path: '/**', methods: 'any', require: 'read' },
];
const ROLES = { operator: ['read', 'write'], viewer: ['read'], keeper: ['control', 'run'] };

const JSON_TYPE = ['Content-Type', 'application/json'] as const;
const long = `{"operation":"status","a":"${'a'.repeat(2100)}"}`;

interface Row {
  readonly body: string | Buffer;
  readonly status: number;
  readonly reason: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly invalid?: { readonly name: string; readonly rule: string };
}

const REFUSED: readonly Row[] = [
  { body: '{"operation":"worker_install"}', status: 403, reason: 'permission_missing' },
  { body: '{"operation":"new_thing"}', status: 403, reason: 'operation_unknown' },
  { body: '{"operation":1}', status: 403, reason: 'operation_unknown' },
  { body: '{"operation":["status"]}', status: 403, reason: 'operation_unknown' },
  { body: '{"operation":null}', status: 403, reason: 'operation_unknown' },
  { body: '{}', status: 403, reason: 'operation_unknown' },
  { body: '{"operation":"status","operation":"worker_install"}', status: 403, reason: 'operation_unknown' },
  { body: '{"operation":"status","operat\\u0069on":"worker_install"}', status: 403, reason: 'operation_unknown' },
  { body: '{"operation":"status","Operation":"worker_install"}', status: 400, reason: 'body_ambiguous' },
  { body: '{"operation":"status","a":1,"\\u0061":2}', status: 400, reason: 'body_ambiguous' },
  { body: '["status"]', status: 400, reason: 'body_malformed' },
  { body: '"status"', status: 400, reason: 'body_malformed' },
  { body: '{"operation":"status"} x', status: 400, reason: 'body_malformed' },
  { body: '\ufeff{"operation":"status"}', status: 400, reason: 'body_malformed' },
  { body: '{"operation":"status","a":NaN}', status: 400, reason: 'body_malformed' },
  { body: '{"operation":"status","a":"\\ud800"}', status: 400, reason: 'body_malformed' },
  { body: Buffer.from('{"operation":"status","a":"\xff"}', 'latin1'), status: 400, reason: 'body_malformed' },
  { body: `{"operation":"status","a":${'['.repeat(70)}${']'.repeat(70)}}`, status: 400, reason: 'body_malformed' },
  { body: long, status: 413, reason: 'body_too_large' },
  {
    body: '{"operation":"status","hive_id":"../x"}',
    status: 400,
    reason: 'field_invalid',
    invalid: { name: 'hive_id', rule: 'characters' },
  },
  {
    body: '{"operation":"infer","prompt":"a\\u202eb"}',
    status: 400,
    reason: 'field_invalid',
    invalid: { name: 'prompt', rule: 'bidi' },
  },
  {
    body: '{"operation":"infer","stop":["a","aaaaaaaaaaa"]}',
    status: 400,
    reason: 'field_invalid',
    invalid: { name: '/stop/*', rule: 'too_long' },
  },
  {
    body: '{"operation":"infer","node":"another"}',
    status: 400,
    reason: 'field_invalid',
    invalid: { name: 'node', rule: 'not_the_caller' },
  },
  { body: '{"operation":"status"}', status: 415, reason: 'body_type_unsupported', headers: [] },
  {
    body: '{"operation":"status"}',
    status: 415,
    reason: 'body_type_unsupported',
    headers: [['Content-Type', 'text/plain']],
  },
  {
    body: '{"operation":"status","a":"+ACI-,+ACI-operation+ACI-:+ACI-worker_install"}',
    status: 415,
    reason: 'body_type_unsupported',
    headers: [['Content-Type', 'application/json; charset*0=utf-7']],
  },
  {
    body: Buffer.from('{"operation":"status"}', 'utf16le'),
    status: 415,
    reason: 'body_type_unsupported',
    headers: [['Content-Type', 'application/json; charset=utf-16']],
  },
  {
    body: gzipSync('{"operation":"status"}'),
    status: 415,
    reason: 'body_encoding_unsupported',
    headers: [JSON_TYPE, ['Content-Encoding', 'gzip']],
  },
  {
    body: '{"operation":"status"}',
    status: 415,
    reason: 'body_encoding_unsupported',
    headers: [JSON_TYPE, ['Content-Encoding', 'identity, gzip']],
  },
];

const PASSING: readonly string[] = [
  '{"operation":"status"}',
  ' {"operat\\u0069on" : "infer" ,\n"prompt":"tell \\u00fc me\\n", "stop":["a",null], "node":"keeper","extra":[1e3,-0]}\t',
  '{"operation":"infer","hive_id":"hive-1","n":0.10}',
];

test('what a body asks for is decided by what it says', async (t) => {
  await using upstream = await RecordingUpstream.start();
  const pairs = { viewer: tokenPair(), keeper: tokenPair(), nobody: tokenPair() };
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    tokens: [
      { name: 'v', sha256: pairs.viewer.sha256, roles: ['viewer'] },
      { name: 'k', sha256: pairs.keeper.sha256, roles: ['keeper'] },
      { name: 'n', sha256: pairs.nobody.sha256, permissions: ['other'] },
    ],
    top: { roles: ROLES },
  });
  const { token } = guard;

  await t.test('HTTP/1.1: refused, and the upstream saw nothing', async () => {
    for (const row of REFUSED) {
      const response = await request(guard.plain, {
        method: 'POST',
        path: '/v1/jobs',
        token,
        headers: row.headers ?? [JSON_TYPE],
        body: row.body,
      });
      const shown = `${row.body.toString().slice(0, 60)} ${row.reason}`;
      assert.equal(response.status, row.status, shown);
      const record = await guard.record(response.header('x-request-id') ?? '');
      assert.equal(record['guardbee.reason'], row.reason, shown);
      const invalid = row.invalid === undefined ? [] : [{ in: 'body', ...row.invalid }];
      assert.deepEqual((response.json() as { invalid?: unknown }).invalid ?? [], invalid, shown);
      assert.equal(record['guardbee.invalid.rule'], row.invalid?.rule, shown);
      assertUntouched(upstream);
    }
  });

  await t.test('a type that the upstream would not get is none', async () => {
    const response = await request(guard.plain, {
      method: 'POST',
      path: '/v1/jobs',
      token,
      headers: [JSON_TYPE, ['Connection', 'keep-alive, content-type']],
      body: '{"operation":"status","a":"&operation=worker_install"}',
    });
    assert.equal(response.status, 415);
    assertUntouched(upstream);
  });

  await t.test('HTTP/1.1 in chunks: refused alike', async () => {
    for (const row of REFUSED) {
      const body = Buffer.from(row.body);
      const pieces = [...Array(Math.ceil(body.length / 7)).keys()].map((i) => chunk(body.subarray(i * 7, i * 7 + 7)));
      using connection = await RawConnection.connect(guard.plain);
      const headers = [...(row.headers ?? [JSON_TYPE]), ['Transfer-Encoding', 'chunked'] as const];
      connection.write(requestBytes(guard.plain, { method: 'POST', path: '/v1/jobs', token, headers }));
      connection.write(Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]));
      const response = await connection.readResponse('POST');
      assert.equal(response.status, row.status, `${row.body.toString().slice(0, 60)} ${row.reason}`);
      assertUntouched(upstream);
    }
  });

  await t.test('HTTP/2: refused alike', async () => {
    const session = await h2Connect(guard.secure);
    try {
      for (const row of REFUSED) {
        const headers = Object.fromEntries(
          (row.headers ?? [JSON_TYPE]).map(([name, value]) => [name.toLowerCase(), value]),
        );
        const response = await h2Request(
          session,
          { ':method': 'POST', ':path': '/v1/jobs', authorization: `Bearer ${token}`, ...headers },
          Buffer.from(row.body),
        );
        assert.equal(response.status, row.status, `${row.body.toString().slice(0, 60)} ${row.reason}`);
      }
    } finally {
      session.close();
    }
    assertUntouched(upstream);
  });

  await t.test('who may ask for nothing is refused unread', async () => {
    for (const [shown, status] of [
      [null, 401],
      [pairs.nobody.token, 403],
    ] as const) {
      using connection = await RawConnection.connect(guard.plain);
      connection.write(
        requestBytes(guard.plain, {
          method: 'POST',
          path: '/v1/jobs',
          ...(shown === null ? {} : { token: shown }),
          headers: [JSON_TYPE, ['Content-Length', '1000'], ['Expect', '100-continue']],
        }),
      );
      const response = await connection.readResponse('POST');
      assert.equal(response.status, status);
      assert.deepEqual(response.informational, []);
    }
    using connection = await RawConnection.connect(guard.plain);
    const headers = [JSON_TYPE, ['Content-Length', '2049'] as const, ['Expect', '100-continue'] as const];
    connection.write(requestBytes(guard.plain, { method: 'POST', path: '/v1/jobs', token, headers }));
    const response = await connection.readResponse('POST');
    assert.equal(response.status, 413);
    assert.deepEqual(response.informational, []);
    assertUntouched(upstream);
  });

  await t.test('no upgrade, and nothing without a body', async () => {
    const handshake = await openWebSocket(guard.plain, { path: '/v1/jobs', token });
    handshake.connection.close();
    assert.equal(handshake.response.status, 501);
    assert.equal((await request(guard.plain, { path: '/v1/jobs', token })).status, 415);
    assert.equal((await request(guard.plain, { path: '/v1/jobs', token, headers: [JSON_TYPE] })).status, 400);
    assertUntouched(upstream);
  });

  await t.test('what passes goes on byte for byte, with its length', async () => {
    const session = await h2Connect(guard.secure);
    try {
      for (const body of PASSING) {
        const bytes = Buffer.from(body);
        const ways: readonly (() => Promise<number>)[] = [
          async () =>
            (await request(guard.plain, { method: 'POST', path: '/v1/jobs', token, headers: [JSON_TYPE], body }))
              .status,
          async () => await sendInChunks(guard, bytes),
          async () => await sendAfterContinue(guard, bytes),
          async () =>
            (
              await h2Request(
                session,
                {
                  ':method': 'POST',
                  ':path': '/v1/jobs',
                  authorization: `Bearer ${token}`,
                  'content-type': 'application/json',
                },
                bytes,
              )
            ).status,
        ];
        for (const send of ways) {
          assert.equal(await send(), 200);
          const seen = upstream.requests.at(-1);
          assert.ok(seen !== undefined);
          assert.deepEqual((await seen.body).bytes, bytes);
          assert.deepEqual(seen.headerAll('content-length'), [String(bytes.length)]);
          assert.deepEqual(seen.headerAll('transfer-encoding'), []);
        }
      }
    } finally {
      session.close();
    }
    const keeper = { method: 'POST', path: '/v1/jobs', token: pairs.keeper.token, headers: [JSON_TYPE] };
    assert.equal((await request(guard.plain, { ...keeper, body: '{"operation":"worker_install"}' })).status, 200);
    assert.equal((await request(guard.plain, { ...keeper, body: '{"operation":"status"}' })).status, 403);
    const viewer = { ...keeper, token: pairs.viewer.token };
    assert.equal((await request(guard.plain, { ...viewer, body: '{"operation":"infer"}' })).status, 403);
    const log = await guard.recordWhere((line) => line['guardbee.identity'] === 'k');
    assert.equal(log['guardbee.bytes_in'], '{"operation":"worker_install"}'.length);
  });

  await t.test('a keep-alive connection goes on after refusals', async () => {
    using connection = await RawConnection.connect(guard.plain);
    for (const [body, status] of [
      ['{"operation":"nothing"}', 403],
      ['{"operation":"status"}', 200],
      ['{', 400],
      ['{"operation":"status"}', 200],
    ] as const) {
      connection.write(
        requestBytes(guard.plain, { method: 'POST', path: '/v1/jobs', token, headers: [JSON_TYPE], body }),
      );
      assert.equal((await connection.readResponse('POST')).status, status);
    }
  });

  await t.test('a body that nobody looks into has its limit too', async () => {
    const before = upstream.requests.length;
    const bytesBefore = upstream.connections.reduce((sum, one) => sum + one.bytesSeen, 0);
    const put = { method: 'PUT', path: '/upload', token };
    assert.equal((await request(guard.plain, { ...put, body: 'a'.repeat(2049) })).status, 413);
    assert.equal(upstream.requests.length, before);
    assert.equal(
      upstream.connections.reduce((sum, one) => sum + one.bytesSeen, 0),
      bytesBefore,
    );
    assert.equal((await request(guard.plain, { ...put, body: 'a'.repeat(2048) })).status, 200);

    using connection = await RawConnection.connect(guard.plain);
    connection.write(requestBytes(guard.plain, { ...put, headers: [['Transfer-Encoding', 'chunked']] }));
    connection.write(chunk('a'.repeat(2048)));
    const request2 = await upstream.waitFor((one) => one.requests.at(before + 1), 'a request');
    await waitUntil(() => request2.bodyLength > 0, 'the beginning of a body');
    connection.write(chunk('a'));
    const response = await connection.readResponse('PUT');
    assert.equal(response.status, 413);
    await assert.rejects(request2.body, 'the upstream must not take a cut body for a whole one');
    const record = await guard.record(response.header('x-request-id') ?? '');
    assert.equal(record['guardbee.reason'], 'client_body_too_large');
  });

  async function sendInChunks({ plain }: Guard, bytes: Buffer): Promise<number> {
    using connection = await RawConnection.connect(plain);
    const headers = [JSON_TYPE, ['Transfer-Encoding', 'chunked'] as const];
    connection.write(requestBytes(plain, { method: 'POST', path: '/v1/jobs', token, headers }));
    connection.write(chunk(bytes.subarray(0, 5)));
    connection.write(Buffer.concat([chunk(bytes.subarray(5)), Buffer.from('0\r\nX-Trailer: 1\r\n\r\n')]));
    return (await connection.readResponse('POST')).status;
  }

  async function sendAfterContinue({ plain }: Guard, bytes: Buffer): Promise<number> {
    using connection = await RawConnection.connect(plain);
    const headers = [JSON_TYPE, ['Content-Length', String(bytes.length)] as const, ['Expect', '100-continue'] as const];
    connection.write(requestBytes(plain, { method: 'POST', path: '/v1/jobs', token, headers }));
    assert.match(await connection.readUntil('\r\n\r\n'), /^HTTP\/1\.1 100 /);
    connection.write(bytes);
    return (await connection.readResponse('POST')).status;
  }
});

test("a listener's limit holds on its routes, and a route's takes its place", async () => {
  await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
  await using guard = await startGuard({
    upstream: upstream.url,
    listener: { limits: { body: '1KiB' } },
    routes: [
      { name: 'big', path: '/big', methods: ['PUT'], require: 'write', body: { max: '4KiB' } },
      { name: 'json', path: '/json', methods: ['PUT'], require: 'write', body: { json: {} } },
      { name: 'rest', path: '/**', methods: 'any', require: 'write' },
    ],
  });
  const put = async (path: string, length: number): Promise<number> =>
    (
      await request(guard.plain, {
        method: 'PUT',
        path,
        token: guard.token,
        headers: [JSON_TYPE],
        body: `"${'a'.repeat(length - 2)}"`,
      })
    ).status;
  assert.equal(await put('/small', 1024), 200);
  assert.equal(await put('/small', 1025), 413);
  assert.equal(await put('/big', 4096), 200);
  assert.equal(await put('/big', 4097), 413);
  assert.equal(await put('/json', 1024), 200);
  assert.equal(await put('/json', 1025), 413);
  assert.equal(upstream.requests.length, 3);
});
