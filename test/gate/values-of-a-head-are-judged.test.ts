import assert from 'node:assert/strict';
import test from 'node:test';
import { assertUntouched, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { tokenPair } from '../support/policy-builder.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';

const ROUTES = [
  {
    name: 'job',
    path: '/v1/jobs/{job_id}/{part}',
    methods: ['GET'],
    require: 'read',
    encoded_slash: 'allow',
    check: { job_id: { type: 'identifier', max: 16 } },
    check_query: {
      queen_url: { type: 'url', hosts: ['queen.lan'] },
      n: { type: 'range', min: 0, max: 10, integer: true },
      node: 'caller',
    },
    check_headers: { 'X-Model': { type: 'model_ref', required: true }, 'X-Note': { type: 'text', max: 20 } },
  },
  { name: 'open', path: '/open', methods: ['GET'], public: true, check_query: { id: { type: 'identifier' } } },
  { name: 'rest', path: '/**', methods: 'any', require: 'read' },
];

/** Path with its query, more header fields, and what is wrong. */
const REFUSED: readonly (readonly [string, readonly (readonly [string, string])[], string, object | null])[] = [
  ['/v1/jobs/a.b/x', [], 'field_invalid', { in: 'path', name: 'job_id', rule: 'characters' }],
  ['/v1/jobs/a%2Fb/x', [], 'field_invalid', { in: 'path', name: 'job_id', rule: 'characters' }],
  ['/v1/jobs/%E2%80%AEa/x', [], 'field_invalid', { in: 'path', name: 'job_id', rule: 'characters' }],
  ['/v1/jobs/aaaaaaaaaaaaaaaaa/x', [], 'field_invalid', { in: 'path', name: 'job_id', rule: 'too_long' }],
  [
    '/v1/jobs/a/x?queen_url=http%3A%2F%2Fevil.lan',
    [],
    'field_invalid',
    { in: 'query', name: 'queen_url', rule: 'url_host' },
  ],
  [
    '/v1/jobs/a/x?%71ueen_url=http://127.0.0.1/',
    [],
    'field_invalid',
    { in: 'query', name: 'queen_url', rule: 'url_host' },
  ],
  ['/v1/jobs/a/x?queen_url', [], 'field_invalid', { in: 'query', name: 'queen_url', rule: 'empty' }],
  ['/v1/jobs/a/x?n=10', [], 'field_invalid', { in: 'query', name: 'n', rule: 'out_of_range' }],
  ['/v1/jobs/a/x?n=+1', [], 'field_invalid', { in: 'query', name: 'n', rule: 'not_a_number' }],
  ['/v1/jobs/a/x?node=other', [], 'field_invalid', { in: 'query', name: 'node', rule: 'not_the_caller' }],
  ['/v1/jobs/a/x?n=1&n=2', [], 'query_ambiguous', null],
  ['/v1/jobs/a/x?n=1&%6E=1', [], 'query_ambiguous', null],
  ['/v1/jobs/a/x?n=1&N=1', [], 'query_ambiguous', null],
  ['/v1/jobs/a/x?other=%ff', [], 'query_ambiguous', null],
  ['/v1/jobs/a/x?n=%', [], 'query_ambiguous', null],
  ['/v1/jobs/a/x?a;n=2', [], 'query_ambiguous', null],
  ['/v1/jobs/a/x', [['X-Model', 'b']], 'field_invalid', { in: 'header', name: 'x-model', rule: 'repeated' }],
  ['/v1/jobs/a/x', [['X_Model', 'b']], 'field_invalid', { in: 'header', name: 'x-model', rule: 'repeated' }],
  ['/v1/jobs/a/x', [['X-Note', 'a\x80']], 'field_invalid', { in: 'header', name: 'x-note', rule: 'not_utf8' }],
  ['/v1/jobs/a/x', [['X-Note', 'e'.repeat(21)]], 'field_invalid', { in: 'header', name: 'x-note', rule: 'too_long' }],
];

test('what a path, a query and a header field may be, over the wire', async (t) => {
  await using upstream = await RecordingUpstream.start();
  const other = tokenPair();
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    tokens: [{ name: 'stranger', sha256: other.sha256, permissions: ['report'] }],
    top: { roles: { operator: ['read'], viewer: ['report'] } },
  });
  const { token } = guard;
  const model = ['X-Model', 'org/model'] as const;

  await t.test('refused on HTTP/1.1 with field and rule, in answer and log, and nothing of the value', async () => {
    for (const [path, headers, reason, invalid] of REFUSED) {
      const response = await request(guard.plain, { path, token, headers: [model, ...headers] });
      assert.equal(response.status, 400, path);
      const problem = response.json() as { readonly invalid?: readonly object[] };
      assert.deepEqual(problem.invalid ?? null, invalid === null ? null : [invalid], path);
      const record = await guard.record(response.header('x-request-id') ?? '');
      assert.equal(record['guardbee.reason'], reason, path);
      const logged = {
        in: record['guardbee.invalid.in'],
        name: record['guardbee.invalid.name'],
        rule: record['guardbee.invalid.rule'],
      };
      assert.deepEqual(invalid === null ? null : logged, invalid, path);
    }
    const missing = await request(guard.plain, { path: '/v1/jobs/a/x', token });
    assert.deepEqual((missing.json() as { readonly invalid: unknown }).invalid, [
      { in: 'header', name: 'x-model', rule: 'missing' },
    ]);
    const open = await request(guard.plain, { path: '/open?id=a/b' });
    assert.equal(open.status, 400);
    assertUntouched(upstream);
  });

  await t.test('refused on HTTP/2 alike', async () => {
    const session = await h2Connect(guard.secure);
    try {
      for (const [path, headers, , invalid] of REFUSED) {
        const fields: Record<string, string | string[]> = { 'x-model': 'org/model' };
        for (const [name, value] of headers) {
          const lower = name.toLowerCase();
          fields[lower] = lower in fields ? [String(fields[lower]), value] : value;
        }
        const response = await h2Request(session, { ':path': path, authorization: `Bearer ${token}`, ...fields });
        assert.equal(response.status, 400, path);
        const problem = JSON.parse(response.body.toString()) as { readonly invalid?: readonly object[] };
        assert.deepEqual(problem.invalid ?? null, invalid === null ? null : [invalid], path);
      }
    } finally {
      session.close();
    }
    assertUntouched(upstream);
  });

  await t.test('who may not ask at all learns nothing of the values', async () => {
    const bad = '/v1/jobs/a.b/x?n=1&n=2';
    assert.equal((await request(guard.plain, { path: bad })).status, 401);
    const forbidden = await request(guard.plain, { path: bad, token: other.token });
    assert.equal(forbidden.status, 403);
    assert.ok(!forbidden.text().includes('invalid'));
    assertUntouched(upstream);
  });

  await t.test('sound values pass as they came', async () => {
    const path = '/v1/jobs/job-1_a/x%2Fy?queen_url=http%3A%2F%2Fqueen.lan%3A7833&%6e=9&node=keeper&other=a&other=b';
    const response = await request(guard.plain, { path, token, headers: [model, ['X-Note', 'gr\xc3\xbcn']] });
    assert.equal(response.status, 200);
    assert.equal(upstream.requests.at(-1)?.target, path);
    assert.equal(upstream.requests.at(-1)?.header('x-note'), 'gr\xc3\xbcn');
    assert.equal((await request(guard.plain, { path: '/open?id=a' })).status, 200);
    assert.equal((await request(guard.plain, { path: '/elsewhere?n=1&n=2', token })).status, 200);
  });
});
