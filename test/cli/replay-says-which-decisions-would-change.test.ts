import assert from 'node:assert/strict';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { DENIED, TrailBuilder } from '../audit/trail-fixture.js';
import type { Entry } from '../../src/observe/audit/record.js';
import { startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { type PolicyValue, simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { openWebSocket, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

interface Said {
  readonly decisions: number;
  readonly same: number;
  readonly changed: number;
  readonly not_replayed: Readonly<Record<string, number>>;
  readonly changes: readonly {
    readonly listener: string;
    readonly route: string | null;
    readonly who: string | null;
    readonly action: string;
    readonly before: string;
    readonly after: string;
    readonly count: number;
    readonly request_id: string;
  }[];
  readonly chain: { readonly ok: boolean; readonly first?: string };
}

const lines = ({ changes }: Said): string[] =>
  changes
    .map(({ listener, route, who, action, before, after, count }) =>
      [count, listener, route ?? '-', who ?? '-', action, before, after].join(' '),
    )
    .sort();

test('what a running guardbee has decided is asked of another policy', async (t) => {
  const folder = new TemporaryDirectory(t);
  const guest = tokenPair();
  const upstream = await RecordingUpstream.start({ respond: respond.echo() });
  t.after(() => upstream.close());
  const audit = folder.file('audit');
  const GET = { methods: ['GET'], require: 'read' } as const;
  const routes = (closed: boolean): PolicyValue[] => [
    { name: 'health', path: '/health', methods: ['GET'], public: true },
    { name: 'socket', path: '/socket', ...GET, require: closed ? 'write' : 'read' },
    { name: 'big', path: '/big', methods: ['POST'], require: 'write', body: { max: closed ? '4B' : '1KiB' } },
    { name: 'admin', path: '/admin', methods: ['POST'], ...(closed ? { deny: true } : { require: 'write' }) },
    { name: closed ? 'all' : 'read', path: '/**', ...GET },
  ];
  const guard = await startGuard({
    upstream: upstream.url,
    tokens: [{ name: 'guest', sha256: guest.sha256, roles: ['viewer'] }],
    routes: routes(false),
    top: { audit: { dir: audit } },
  });
  const { plain, token, policyFile } = guard;
  const ask = async (path: string, shown: string | null, method = 'GET', body?: string): Promise<number> =>
    (
      await request(plain, {
        path,
        method,
        ...(shown === null ? {} : { token: shown }),
        ...(body === undefined ? {} : { body }),
      })
    ).status;
  assert.deepEqual(
    [await ask('/health', null), await ask('/x', token), await ask('/x', guest.token), await ask('/x', null)],
    [200, 200, 200, 401],
  );
  assert.deepEqual([await ask('/admin', token, 'POST', 'x'), await ask('/admin', token, 'POST', 'x')], [200, 200]);
  assert.equal(await ask('/admin', guest.token, 'POST', 'x'), 403);
  assert.deepEqual([await ask('/big', token, 'POST', '123'), await ask('/big', token, 'POST', '12345')], [200, 200]);
  const session = await h2Connect(guard.secure);
  assert.equal((await h2Request(session, { ':path': '/x', authorization: `Bearer ${token}` })).status, 200);
  session.close();
  upstream.respond = respond.webSocket();
  for (const one of [token, guest.token]) {
    const opened = await openWebSocket(plain, { path: '/socket', token: one });
    assert.equal(opened.response.status, 101);
    opened.connection.close();
  }
  const text = readFileSync(policyFile, 'utf8');
  // Signs what it wrote.
  guard.process.child.kill('SIGTERM');
  assert.deepEqual(await guard.process.exited, { code: 0, signal: null });
  await guard[Symbol.asyncDispose]();

  const policy = JSON.parse(text) as Readonly<Record<string, PolicyValue>>;
  const listeners = policy['listeners'] as Readonly<Record<string, Readonly<Record<string, PolicyValue>>>>;
  const write = (name: string, value: Readonly<Record<string, PolicyValue>>): string => {
    const { tls: _tls, ...secure } = listeners['secure'] ?? {};
    const made = value['routes'] as PolicyValue;
    return writePolicy(
      folder,
      { ...policy, listeners: { main: { ...listeners['main'], routes: made }, secure: { ...secure, routes: made } } },
      name,
    );
  };
  const same = write('same.yaml', { routes: routes(false) });
  const other = write('other.yaml', { routes: routes(true) });

  const unchanged = await perform('replay', '--audit', audit, '--policy', same, '--json');
  const first = JSON.parse(unchanged.stdout) as Said;
  assert.equal(unchanged.code, 0, unchanged.stdout + unchanged.stderr);
  assert.deepEqual([first.decisions, first.same, first.changed, first.not_replayed], [12, 12, 0, {}]);

  const changed = await perform('replay', other, '--audit', audit, '--json');
  assert.equal(changed.code, 1, changed.stderr);
  const second = JSON.parse(changed.stdout) as Said;
  assert.deepEqual(lines(second), [
    '1 main admin guest POST permission_missing route_denied',
    '1 main big keeper POST permitted body_too_large',
    '1 main socket guest GET permitted permission_missing',
    '2 main admin keeper POST permitted route_denied',
  ]);
  assert.match(second.changes[0]?.request_id ?? '', /^[0-9a-f-]{36}$/);
  assert.deepEqual(Object.keys(second), [
    ...['policy', 'decisions', 'same', 'changed', 'not_replayed', 'changes', 'chain'],
  ]);
  assert.deepEqual(Object.keys(second.changes[0] ?? {}), [
    ...['listener', 'route', 'who', 'action', 'before', 'after', 'after_route', 'differs_in', 'count', 'first', 'last'],
    'request_id',
  ]);
  const printed = await perform('replay', other, '--audit', audit);
  assert.equal(printed.code, 1);
  assert.match(printed.stdout, /^changes: of 12 decisions \S+other\.yaml would make 5 otherwise and 7 as they were\n/);
  assert.match(printed.stdout, /\n {7}2 {2}main\/admin POST keeper: permitted -> route_denied\n/);

  const none = await perform('replay', other, '--audit', audit, '--since', '2999-01-01', '--json');
  assert.deepEqual([none.code, (JSON.parse(none.stdout) as Said).decisions], [0, 0]);

  const [segment = ''] = readdirSync(audit).filter((name) => name.endsWith('.ndjson'));
  const file = join(audit, segment);
  writeFileSync(file, readFileSync(file, 'utf8').replace('"action":"POST"', '"action":"PUT"'));
  const broken = await perform('replay', other, '--audit', audit);
  assert.equal(broken.code, 6);
  assert.match(broken.stdout, /^broken: .*its hash does not fit/);
});

describe('what a record does not tell is not guessed', () => {
  const ALLOWED: Entry = {
    ...DENIED,
    event: 'authorization_granted',
    result: 'permitted',
    reason: undefined,
    action: 'GET',
    resource: '/x',
    route: 'all',
    host: 'localhost',
    peer: '192.0.2.7',
    protocol: '1.1',
    roles: ['operator'],
    upstream: '127.0.0.1:17833',
    duration_ms: 1,
    status: 200,
  };
  const refused = (reason: string, more: Partial<Entry> = {}): Entry => ({
    ...ALLOWED,
    event: 'authorization_denied',
    result: 'denied',
    reason,
    ...more,
  });
  const nobody = { who: undefined, authenticator: undefined, roles: undefined, credential: undefined } as const;
  const GET = { methods: ['GET'], require: 'read' } as const;
  const CASES: readonly (readonly [what: string, entry: Entry, expected: string])[] = [
    ['as it was', ALLOWED, 'same'],
    ['a page of our own', { ...ALLOWED, event: 'auth_success', result: 'answered', reason: 'login' }, 'own_page'],
    ['a path that was masked', { ...ALLOWED, resource: '/x/[redacted:a1b2c3]' }, 'resource_redacted'],
    ['a path that was cut', { ...ALLOWED, resource: '/x…' }, 'resource_redacted'],
    [
      'a value in the path',
      refused('field_invalid', { detail: { in: 'path', name: 'id', rule: 'x' } }),
      'value_unknown',
    ],
    ['a limit', refused('rate_exceeded', { resource: '/limited' }), 'limits'],
    ['a limit that there is no longer', refused('rate_exceeded'), 'rate_exceeded permitted'],
    [
      'a limit of a route that is closed',
      refused('rate_exceeded', { resource: '/closed' }),
      'rate_exceeded route_denied',
    ],
    ['a moment', refused('draining'), 'momentary'],
    ['what no policy takes', refused('malformed_head', nobody), 'same'],
    ['a query that is checked', { ...ALLOWED, resource: '/query', query: true }, 'query_unknown'],
    ['no query where one is checked', { ...ALLOWED, resource: '/query' }, 'same'],
    ['a field that is checked', { ...ALLOWED, resource: '/field' }, 'fields_unknown'],
    ['a body that is judged', { ...ALLOWED, action: 'POST', resource: '/body', bytes_in: 9 }, 'body_unknown'],
    ['whose it is', { ...ALLOWED, resource: '/mine/7' }, 'owner_unknown'],
    ['whose it is not', refused('not_owner', { resource: '/mine/7' }), 'same'],
    ['nobody was asked', refused('route_unknown', nobody), 'caller_unknown'],
    ['a public route that is none', { ...ALLOWED, ...nobody }, 'caller_unknown'],
    ['nobody showed anything', refused('credential_missing', nobody), 'same'],
    ['somebody who is gone', { ...ALLOWED, who: 'gone' }, 'permitted credential_invalid'],
    ['another token of the name', { ...ALLOWED, credential: '0f0f0f' }, 'same'],
    ['other roles', { ...ALLOWED, roles: ['viewer'] }, 'permitted permitted'],
    ['a bad token', refused('credential_invalid', { ...nobody, credential: '0f0f0f' }), 'same'],
    [
      'a bad token for a route that is public',
      refused('credential_invalid', { ...nobody, credential: '0f0f0f', resource: '/open' }),
      'credential_invalid permitted',
    ],
    ['a user that showed a certificate', { ...ALLOWED, authenticator: 'nodes' }, 'permitted credential_invalid'],
    [
      'permissions of a JWT',
      { ...ALLOWED, authenticator: 'sso', who: 'ann', roles: [], resource: '/sso' },
      'permissions_unknown',
    ],
    ['roles of a JWT', { ...ALLOWED, authenticator: 'sso', who: 'ann', roles: ['viewer'], resource: '/sso' }, 'same'],
    ['another listener', { ...ALLOWED, listener: 'gone' }, 'listener_missing'],
    ['a client behind a proxy', { ...ALLOWED, client: '10.0.0.1', resource: '/from' }, 'permitted client_denied'],
    ['another host', { ...ALLOWED, host: 'elsewhere.lan' }, 'permitted wrong_host'],
    ['an upstream that moved', { ...ALLOWED, upstream: '127.0.0.1:1' }, 'permitted permitted'],
    [
      'a connection',
      { event: 'authorization_denied', result: 'denied', reason: 'address_denied', listener: 'main' },
      'none',
    ],
    ['our own life', { event: 'started', result: 'noted' }, 'none'],
  ];

  for (const [what, entry, expected] of CASES) {
    test(what, async (t) => {
      const folder = new TemporaryDirectory(t);
      const { sha256 } = tokenPair('a-token-that-nobody-else-has-at-all');
      const range = { type: 'range', min: 0, max: 9 } as const;
      const simple = simplePolicy({
        upstream: 'http://127.0.0.1:17833',
        stateDir: folder.file('state'),
        tokens: [{ name: 'keeper', sha256, roles: ['operator'] }],
        listener: { hosts: ['localhost'], trusted_proxies: ['192.0.2.7'] },
        routes: [
          { name: 'open', path: '/open', methods: ['GET'], public: true },
          { name: 'closed', path: '/closed', deny: true },
          { name: 'limited', path: '/limited', ...GET, limits: { rate: { requests: 1, per: '1d' } } },
          { name: 'query', path: '/query', ...GET, check_query: { n: { ...range, required: false } } },
          { name: 'field', path: '/field', ...GET, check_headers: { 'x-n': { ...range, required: false } } },
          { name: 'body', path: '/body', methods: ['POST'], require: 'write', body: { json: {} } },
          { name: 'make', path: '/mine', methods: ['POST'], require: 'write', owns: { from: 'response.id' } },
          { name: 'mine', path: '/mine/{id}', ...GET, owner: 'id' },
          { name: 'sso', path: '/sso', ...GET, authenticate: ['sso'] },
          { name: 'from', path: '/from', ...GET, from: ['10.9.9.9'] },
          { name: 'rest', path: '/**', ...GET },
        ],
      });
      const authenticators = {
        ...(simple['authenticators'] as Readonly<Record<string, PolicyValue>>),
        sso: {
          type: 'jwt',
          issuer: 'i',
          audience: 'q',
          jwks: { url: 'http://127.0.0.1:9/jwks' },
          roles_from: 'roles',
          permissions_from: 'may',
        },
      };
      const policy = writePolicy(folder, { ...simple, authenticators });
      const trail = new TrailBuilder().add(entry).checkpoint();
      const dir = folder.file('audit');
      trail.write(dir);
      const result = await perform('replay', policy, '--audit', dir, '--json');
      const said = JSON.parse(result.stdout) as Said;
      assert.equal(said.chain.ok, true, said.chain.first);
      const [change] = said.changes;
      const [why] = Object.keys(said.not_replayed);
      const got =
        change !== undefined
          ? `${change.before} ${change.after}`
          : (why ?? (said.same === 1 ? 'same' : said.decisions === 0 ? 'none' : '?'));
      assert.equal(got, expected);
      assert.equal(result.code, change === undefined ? 0 : 1);
    });
  }
});

test('whatever the texts of a trail are, there is an answer, and none of them begins a line of it', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { sha256 } = tokenPair();
  const policy = writePolicy(
    folder,
    simplePolicy({
      upstream: 'http://127.0.0.1:17833',
      stateDir: folder.file('state'),
      tokens: [{ name: 'keeper', sha256, roles: ['operator'] }],
      routes: [{ name: 'rest', path: '/**', methods: ['GET'], require: 'read' }],
    }),
  );
  const trail = new TrailBuilder();
  const forged = 'x\nsame: of 0 decisions';
  const texts = [
    '',
    ' ',
    '\n',
    '/',
    '//',
    '/../x',
    '/%00',
    '*',
    'GET',
    'constructor',
    '__proto__',
    'a\r\nX: y',
    '::1%e',
  ];
  const members = [
    'route',
    'who',
    'action',
    'host',
    'client',
    'peer',
    'credential',
    'authenticator',
    'resource',
  ] as const;
  for (const text of [...texts, forged, '-1', '999.1.1.1', '[::1', '/?#', '\u202e']) {
    for (const member of members) {
      const entry = { ...DENIED, event: 'authorization_granted', result: 'permitted', reason: undefined } as const;
      trail.add({
        ...entry,
        action: 'GET',
        status: 200,
        duration_ms: 3,
        [member]: text,
        request_id: `${text}${member}`,
      });
    }
  }
  const dir = trail.checkpoint().write(folder.file('audit'));
  const { code, stdout, stderr } = await perform('replay', policy, '--audit', dir);
  assert.equal(code, 1, stderr);
  assert.ok(stdout.includes('x\\nsame: of 0 decisions'), stdout);
  for (const line of stdout.trimEnd().split('\n')) assert.match(line, /^(changes: |not known: | {2})/);
});
