/** `run --shadow`: every request is decided by two policies, and only the first is ever acted on. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { ClientHttp2Session } from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { type Guard, type PolicyObject, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { type PolicyValue, tokenPair } from '../support/policy-builder.js';
import type { LogLine } from '../support/process.js';
import { openWebSocket, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { type Counts, countsOf, metricsPage } from './fixture.js';

const onlyHere = tokenPair();
const renamed = tokenPair();
const GET = { methods: ['GET'] } as const;

/** What both say of a request for the path, in words of the log; `same` where they agree. */
const TABLE: readonly (readonly [
  path: string,
  token: 'keeper' | 'renamed' | null,
  first: number,
  differs: string | null,
])[] = [
  ['/agreed', 'keeper', 200, null],
  ['/agreed', null, 401, null],
  ['/closed', 'keeper', 200, 'permitted route_denied verdict'],
  ['/opened', null, 401, 'credential_missing permitted verdict'],
  ['/elsewhere', 'keeper', 200, 'permitted permitted upstream'],
  ['/other-reason', null, 401, 'credential_missing route_denied reason'],
  ['/from', 'keeper', 200, 'permitted client_denied verdict'],
  ['/renamed-route', 'keeper', 200, null],
  ['/renamed-caller', 'renamed', 200, 'permitted permitted who'],
  ['/unknown', 'keeper', 403, 'route_unknown permitted verdict'],
];

function shadowOf(policy: PolicyObject, stateDir: string, upstream: string): PolicyObject {
  const listeners = policy['listeners'] as Readonly<Record<string, Readonly<Record<string, PolicyValue>>>>;
  const routes = [
    { name: 'agreed', path: '/agreed', ...GET, require: 'read' },
    { name: 'closed', path: '/closed', deny: true },
    { name: 'opened', path: '/opened', ...GET, public: true },
    { name: 'elsewhere', path: '/elsewhere', ...GET, require: 'read', upstream },
    { name: 'other-reason', path: '/other-reason', deny: true },
    { name: 'from', path: '/from', ...GET, require: 'read', from: ['10.1.2.3'] },
    { name: 'quite-another-name', path: '/renamed-route', ...GET, require: 'read' },
    { name: 'renamed-caller', path: '/renamed-caller', ...GET, require: 'read' },
    { name: 'unknown', path: '/unknown', ...GET, require: 'read', upstream },
  ];
  const bearer = (policy['authenticators'] as Readonly<Record<string, { readonly tokens: readonly PolicyObject[] }>>)[
    'keys'
  ];
  const tokens = (bearer?.tokens ?? []).map((one) => (one['name'] === 'before' ? { ...one, name: 'after' } : one));
  return {
    ...policy,
    listeners: Object.fromEntries(
      Object.entries(listeners)
        .filter(([name]) => name !== 'unmatched')
        .map(([name, listener]) => [name, { ...listener, routes }]),
    ),
    authenticators: {
      keys: { type: 'bearer', tokens: [...tokens, { name: 'shadow', sha256: onlyHere.sha256, roles: ['operator'] }] },
    },
    state: { dir: stateDir },
    log: { level: 'trace', file: `${stateDir}.log` },
    admin: { bind: '127.0.0.1:1' },
    audit: { dir: `${stateDir}.audit` },
  };
}

describe('a policy that is tried', () => {
  let upstream: RecordingUpstream;
  let elsewhere: RecordingUpstream;
  let guard: Guard;
  let session: ClientHttp2Session;
  let stateDir = '';
  const tokens = (): Readonly<Record<string, string>> => ({ keeper: guard.token, renamed: renamed.token });

  before(async () => {
    upstream = await RecordingUpstream.start({ respond: respond.echo() });
    elsewhere = await RecordingUpstream.start();
    guard = await startGuard({
      upstream: upstream.url,
      tokens: [{ name: 'before', sha256: renamed.sha256, roles: ['operator'] }],
      routes: [
        'agreed',
        'closed',
        'opened',
        'elsewhere',
        'other-reason',
        'from',
        'renamed-route',
        'renamed-caller',
      ].map((name) => ({ name, path: `/${name}`, ...GET, require: 'read' })),
      listeners: { sockets: {}, unmatched: {} },
      top: { admin: { bind: '127.0.0.1:0' } },
      prepare: (directory) => {
        stateDir = directory.file('state-of-the-shadow');
      },
      shadow: (policy) => shadowOf(policy, stateDir, elsewhere.url),
    });
    session = await h2Connect(guard.secure);
  });

  after(async () => {
    session.close();
    await guard[Symbol.asyncDispose]();
    await upstream.close();
    await elsewhere.close();
  });

  const WAYS: readonly (readonly [
    listener: string,
    name: string,
    ask: (path: string, token: string | undefined) => Promise<number>,
  ])[] = [
    [
      'main',
      'HTTP/1.1',
      async (path, token) => (await request(guard.plain, { path, ...(token === undefined ? {} : { token }) })).status,
    ],
    [
      'secure',
      'HTTP/2',
      async (path, token) => {
        const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
        return (await h2Request(session, { ':path': path, ...authorization })).status;
      },
    ],
    [
      'sockets',
      'WebSocket',
      async (path, token) => {
        upstream.respond = respond.webSocket();
        const opened = await openWebSocket(guard.target('sockets'), {
          path,
          ...(token === undefined ? {} : { token }),
        });
        opened.connection.close();
        upstream.respond = respond.echo();
        return opened.response.status;
      },
    ],
  ];

  const shadowLines = (listener: string): readonly LogLine[] =>
    guard.process.logLines.filter(
      (line) => line['event.name'] === 'shadow.differs' && line['guardbee.listener'] === listener,
    );

  for (const [listener, name, ask] of WAYS) {
    test(`is heard and not obeyed over ${name}`, async () => {
      for (const [path, who, status] of TABLE) {
        const got = await ask(path, who === null ? undefined : tokens()[who]);
        assert.equal(got, listener === 'sockets' && status === 200 ? 101 : status, path);
      }
      const expected = TABLE.flatMap(([, , , differs]) => (differs === null ? [] : [differs]));
      const lines = await waitUntil(() => {
        const found = shadowLines(listener);
        return found.length >= expected.length ? found : null;
      }, 'the lines of the shadow');
      const told = lines.map((line) =>
        ['guardbee.verdict', 'guardbee.shadow.verdict', 'guardbee.shadow.differs_in'].map((key) => line[key]).join(' '),
      );
      assert.deepEqual(told, expected);
      for (const line of lines) {
        const record = await guard.record(String(line['guardbee.request_id']));
        assert.equal(record['guardbee.listener'], listener);
      }
      const counts = await countsOf(guard, listener, TABLE.length);
      assert.deepEqual(counts, { same: TABLE.length - expected.length, differs: expected.length, undecided: 0 });
    });
  }

  test('a token that only it knows opens nothing, and is printed nowhere', async () => {
    const answer = await request(guard.plain, { path: `/agreed?x=${onlyHere.token}`, token: onlyHere.token });
    assert.equal(answer.status, 401);
    await waitUntil(
      () => shadowLines('main').some((line) => line['guardbee.verdict'] === 'credential_invalid'),
      'a line of the shadow',
    );
    assert.ok(!guard.process.stdout.includes(onlyHere.token));
  });

  test('a listener that it lacks is told at the start, and its requests are counted as undecided', async () => {
    assert.equal((await request(guard.target('unmatched'), { path: '/closed', token: guard.token })).status, 200);
    const none: Counts = { same: 0, differs: 0, undecided: 1 };
    assert.deepEqual(await countsOf(guard, 'unmatched', 1), none);
    const [line] = guard.process.logLines.filter((one) => one['event.name'] === 'shadow.listener_missing');
    assert.equal(line?.['guardbee.listener'], 'unmatched');
    assert.match(String(line['msg']), /shadow\.yaml has no http listener "unmatched"/);
  });

  test('what cannot be read is compared too', async () => {
    const before = await countsOf(guard, 'main', 0);
    const answer = await request(guard.plain, { path: '/a/../b' });
    assert.equal(answer.status, 400);
    const counts = await countsOf(guard, 'main', before.same + before.differs + before.undecided + 1);
    assert.equal(counts.same, before.same + 1);
  });

  test('its upstream, its state, its log and its admin pages stay untouched; readiness names it', async () => {
    assert.equal(elsewhere.connections.length, 0);
    assert.equal(existsSync(stateDir), false);
    assert.equal(existsSync(`${stateDir}.log`), false);
    assert.equal(existsSync(`${stateDir}.audit`), false);
    const ready = JSON.parse(await metricsPage(guard, '/readyz')) as {
      readonly checks: Readonly<Record<string, { readonly status: string; readonly detail: string }>>;
    };
    const { status, detail } = ready.checks['shadow'] ?? {};
    assert.equal(status, 'ok');
    const version = /version ([0-9a-f]{12}) of .*shadow\.yaml is tried/.exec(detail ?? '')?.[1] ?? '';
    assert.ok((await metricsPage(guard)).includes(`guardbee_shadow_policy_info{version="${version}"} 1`));
  });
});
