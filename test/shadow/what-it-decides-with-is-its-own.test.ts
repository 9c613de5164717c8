/** The second policy has limits, keys, sessions and passwords of its own, and says nothing where it cannot know. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { hashSync } from 'bcryptjs';
import { type Guard, type GuardOptions, type PolicyObject, startGuard } from '../support/guard.js';
import { TestAuthority } from '../support/certificates.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { type PolicyValue, writeFileIn } from '../support/policy-builder.js';
import { openWebSocket, RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { issuerKey, jwkOf, makeToken } from '../support/token-issuer.js';
import { waitUntil } from '../support/wait.js';
import { type Counts, countsOf } from './fixture.js';

const SLOW = { per: '1d' } as const;
const ADMIN = { admin: { bind: '127.0.0.1:0' } } as const;

type Listener = Readonly<Record<string, PolicyValue>>;

/** The policy with other keys for its listeners. */
function withListener(policy: PolicyObject, keys: Listener, top: PolicyObject = {}): PolicyObject {
  const listeners = policy['listeners'] as Readonly<Record<string, Listener>>;
  return {
    ...policy,
    listeners: Object.fromEntries(Object.entries(listeners).map(([name, one]) => [name, { ...one, ...keys }])),
    ...top,
  };
}

async function start(
  t: TestContext,
  options: Omit<GuardOptions, 'upstream'>,
): Promise<{ readonly guard: Guard; readonly upstream: RecordingUpstream }> {
  const upstream = await RecordingUpstream.start({ respond: respond.echo() });
  t.after(() => upstream.close());
  const guard = await startGuard({ upstream: upstream.url, top: ADMIN, ...options });
  t.after(() => guard[Symbol.asyncDispose]());
  return { guard, upstream };
}

const undecidedFor = (guard: Guard): unknown[] =>
  guard.process.logLines
    .filter((line) => line['event.name'] === 'shadow.undecided')
    .map((line) => line['guardbee.reason'])
    .sort();

const differs = (guard: Guard): string[] =>
  guard.process.logLines
    .filter((line) => line['event.name'] === 'shadow.differs')
    .map((line) => `${String(line['guardbee.verdict'])} ${String(line['guardbee.shadow.verdict'])}`)
    .sort();

/** The log is written a tenth of a second late. */
async function saysUndecided(guard: Guard, ...expected: readonly string[]): Promise<void> {
  await waitUntil(() => undecidedFor(guard).length >= expected.length, 'what is undecided');
  assert.deepEqual(undecidedFor(guard), expected);
}

async function saysDiffers(guard: Guard, ...expected: readonly string[]): Promise<void> {
  await waitUntil(() => differs(guard).length >= expected.length, 'what differs');
  assert.deepEqual(differs(guard), expected);
}

const counts = (same: number, differing: number, undecided: number): Counts => ({
  same,
  differs: differing,
  undecided,
});

const JSON_TYPE = [['Content-Type', 'application/json']] as const;

test('a policy beside itself agrees about everything', async (t) => {
  const { guard, upstream } = await start(t, {
    shadow: (policy) => policy,
    listener: {
      authenticate: ['keys', 'people', 'sso'],
      limits: { rate: { requests: 30, ...SLOW } },
      cors: { origins: ['https://app.lan'], methods: ['GET'] },
    },
    listeners: { web: { tls: true, sessions: { login_with: ['keys'] } } },
    authenticators: {
      people: { type: 'basic', htpasswd_file: 'users.htpasswd', roles: ['viewer'] },
      sso: { type: 'jwt', issuer: 'i', audience: 'q', jwks: { file: 'keys.json' }, roles_from: 'roles' },
    },
    prepare: (directory) => {
      writeFileIn(directory, 'users.htpasswd', `alice:${hashSync('right', 10)}\n`);
      writeFileIn(directory, 'keys.json', JSON.stringify({ keys: [jwkOf(key)] }));
    },
    routes: [
      { name: 'jobs', path: '/v1/jobs', methods: ['POST'], require: 'write', owns: { from: 'response.bodyLength' } },
      { name: 'job', path: '/v1/jobs/{id}', methods: ['GET'], require: 'read', owner: 'id' },
      { name: 'rare', path: '/rare', require: 'read', limits: { rate: { requests: 2, ...SLOW } } },
      { name: 'one', path: '/one', require: 'read', limits: { concurrent: 1 } },
      {
        name: 'judged',
        path: '/judged',
        methods: ['POST'],
        require: 'write',
        body: { max: '100B', json: { check: { prompt: { type: 'prompt' } } } },
      },
      { name: 'rest', path: '/**', require: 'read' },
    ],
  });
  const { plain, token } = guard;
  let asked = 0;
  const ask = async (path: string, options: Parameters<typeof request>[1] = {}): Promise<number> => {
    asked += 1;
    return (await request(plain, { path, token, ...options })).status;
  };
  assert.equal(await ask('/v1/jobs', { method: 'POST', body: '1234567' }), 200);
  assert.deepEqual([await ask('/v1/jobs/7'), await ask('/v1/jobs/8')], [200, 403]);
  assert.deepEqual([await ask('/rare'), await ask('/rare'), await ask('/rare')], [200, 200, 429]);
  const judged = async (body: string): Promise<number> => ask('/judged', { method: 'POST', body, headers: JSON_TYPE });
  assert.deepEqual([await judged('{"prompt":"a"}'), await judged('{"prompt":1}'), await judged('{')], [200, 400, 400]);
  assert.equal(await judged('x'.repeat(101)), 413);
  const chunked = [...JSON_TYPE, ['Transfer-Encoding', 'chunked']] as const;
  asked += 1;
  using client = await RawConnection.connect(plain);
  client.write(requestBytes(plain, { method: 'POST', path: '/judged', token, headers: chunked }));
  client.write(`ff\r\n${'x'.repeat(255)}\r\n`);
  assert.equal((await client.readResponse('POST')).status, 413);

  const jwt = makeToken(
    { alg: 'ES256', kid: key.kid },
    { iss: 'i', aud: 'q', sub: 'ann', roles: ['viewer'], exp: Math.floor(Date.now() / 1000) + 600 },
    key.privateKey,
  );
  for (const shown of [jwt, jwt, `${jwt.slice(0, -4)}AAAA`]) await ask('/page', { token: shown });
  const basic = { authorization: `Basic ${Buffer.from('alice:right').toString('base64')}` };
  const session = await h2Connect(guard.secure);
  t.after(() => {
    session.close();
  });
  assert.equal((await h2Request(session, { ':path': '/page', ...basic })).status, 200);
  await countsOf(guard, 'secure', 1);
  assert.equal((await h2Request(session, { ':path': '/page', ...basic })).status, 200);
  asked += 2;
  await ask('/page', {
    method: 'OPTIONS',
    headers: [
      ['Origin', 'https://app.lan'],
      ['Access-Control-Request-Method', 'GET'],
    ],
  });
  await ask('/page', {
    method: 'OPTIONS',
    headers: [
      ['Origin', 'https://evil.lan'],
      ['Access-Control-Request-Method', 'GET'],
    ],
  });
  const web = guard.target('web');
  const login = await request(web, { method: 'POST', path: '/.guardbee/login', token });
  assert.equal(login.status, 204);
  const headers = [['Cookie', login.header('set-cookie')?.split(';', 1)[0] ?? '']] as const;
  assert.equal((await request(web, { path: '/page', headers })).status, 200);
  await ask('/one');
  upstream.respond = respond.webSocket();
  const opened = await openWebSocket(plain, { path: '/one', token });
  asked += 1;
  assert.equal(await ask('/one'), 429);

  const main = await countsOf(guard, 'main', asked - 2);
  // Not before: what is decided a second time is decided later, and by then the place would be free.
  opened.connection.close();
  assert.deepEqual([main, differs(guard), undecidedFor(guard)], [counts(asked - 2, 0, 0), [], []]);
  assert.deepEqual(await countsOf(guard, 'secure', 2), counts(2, 0, 0));
  assert.deepEqual(await countsOf(guard, 'web', 2), counts(2, 0, 0));
});

const key = issuerKey('one', 'P-256');

test('a session is opened with its keys, and a key that is not made yet is not made for it', async (t) => {
  const secret = (letter: string): PolicyValue => ({ file: `${letter}.key` });
  const { guard } = await start(t, {
    listeners: {
      own: { tls: true, sessions: { login_with: ['keys'] } },
      keyed: { tls: true, sessions: { login_with: ['keys'], keys: [secret('a')] } },
    },
    prepare: (directory) => {
      for (const letter of ['a', 'b']) writeFileIn(directory, `${letter}.key`, letter.repeat(48));
    },
    shadow: (policy) => {
      const listeners = policy['listeners'] as Readonly<Record<string, Listener>>;
      const keyed = { ...listeners['keyed'], sessions: { login_with: ['keys'], keys: [secret('b')] } };
      return { ...policy, listeners: { ...listeners, keyed }, state: { dir: 'state-of-the-shadow' } };
    },
  });
  for (const name of ['own', 'keyed']) {
    const target = guard.target(name);
    const login = await request(target, { method: 'POST', path: '/.guardbee/login', token: guard.token });
    const headers = [['Cookie', login.header('set-cookie')?.split(';', 1)[0] ?? '']] as const;
    assert.equal((await request(target, { path: '/page', headers })).status, 200);
  }
  assert.deepEqual(await countsOf(guard, 'own', 2), counts(1, 0, 1));
  assert.deepEqual(await countsOf(guard, 'keyed', 2), counts(1, 1, 0));
  await saysUndecided(guard, 'session_key_unknown');
  await saysDiffers(guard, 'permitted credential_invalid');
  assert.equal(existsSync(guard.directory.file('state-of-the-shadow')), false);
});

test('limits are counted by both, each for itself, and nothing of it goes to Redis', async (t) => {
  const redis = await RecordingUpstream.start();
  t.after(() => redis.close());
  const { guard } = await start(t, {
    listener: { limits: { rate: { requests: 8, ...SLOW } } },
    prepare: (directory) => {
      writeFileIn(directory, 'redis.url', `redis://127.0.0.1:${String(redis.port)}`);
    },
    shadow: (policy) =>
      withListener(
        policy,
        { limits: { rate: { requests: 3, ...SLOW, shared: true, on_unavailable: 'deny' } } },
        { state: { dir: 'state-of-the-shadow', redis: { url: { file: 'redis.url' } } } },
      ),
  });
  const statuses: number[] = [];
  for (let i = 0; i < 10; i += 1) statuses.push((await request(guard.plain, { token: guard.token })).status);
  assert.deepEqual(statuses, [...Array<number>(8).fill(200), 429, 429]);
  assert.deepEqual(await countsOf(guard, 'main', 10), counts(3 + 2, 5, 0));
  await saysDiffers(guard, ...Array<string>(5).fill('permitted rate_exceeded'));
  assert.equal(redis.connections.length, 0);
});

test('bodies are judged where they are held anyway, and never held for it', async (t) => {
  const POST = { methods: ['POST'], require: 'write' } as const;
  const { guard, upstream } = await start(t, {
    routes: [
      {
        name: 'held',
        path: '/held',
        ...POST,
        body: { max: '1KiB', json: { check: { n: { type: 'range', min: 0, max: 9 } } } },
      },
      { name: 'rest', path: '/**', ...POST },
    ],
    shadow: (policy) =>
      withListener(policy, {
        routes: [
          {
            name: 'held',
            path: '/held',
            ...POST,
            body: { max: '1KiB', json: { check: { n: { type: 'range', min: 0, max: 5 } } } },
          },
          { name: 'rest', path: '/**', ...POST, body: { max: '1KiB', json: {} } },
        ],
      }),
  });
  const { plain, token } = guard;
  const post = async (path: string, body: string): Promise<number> =>
    (await request(plain, { method: 'POST', path, token, body, headers: JSON_TYPE })).status;
  assert.deepEqual([await post('/held', '{"n":3}'), await post('/held', '{"n":7}')], [200, 200]);
  assert.deepEqual(await countsOf(guard, 'main', 2), counts(1, 1, 0));
  await saysDiffers(guard, 'permitted field_invalid');

  using client = await RawConnection.connect(plain);
  client.write(
    requestBytes(plain, { method: 'POST', path: '/free', token, headers: [...JSON_TYPE, ['Content-Length', '9']] }),
  );
  client.write('{"a"');
  // It goes on as it comes: nobody waits for the rest of it.
  const arrived = await upstream.waitForRequest((one) => one.target === '/free');
  await upstream.waitForBytes(arrived.connection.bytesSeen);
  client.write(':"b"}');
  assert.equal((await client.readResponse('POST')).status, 200);
  assert.deepEqual(await countsOf(guard, 'main', 3), counts(1, 1, 1));
  await saysUndecided(guard, 'body_not_held');
});

test('who made a thing is what the policy in force remembers', async (t) => {
  const owner = { name: 'job', path: '/v1/jobs/{id}', methods: ['GET'], require: 'read', owner: 'id' } as const;
  const other = { name: 'other', path: '/other/{id}', methods: ['GET'], require: 'read' } as const;
  const submit = { name: 'jobs', path: '/v1/jobs', methods: ['POST'], require: 'write' } as const;
  const behind = await RecordingUpstream.start({ respond: respond.echo() });
  t.after(() => behind.close());
  const { guard } = await start(t, {
    routes: [{ ...submit, owns: { from: 'response.bodyLength' } }, owner, { ...other, upstream: behind.url }],
    shadow: (policy) =>
      withListener(policy, {
        routes: [
          { ...submit, upstream: 'http://127.0.0.1:9', owns: { from: 'response.bodyLength' } },
          { ...owner, upstream: 'http://127.0.0.1:9' },
          { ...other, upstream: 'http://127.0.0.1:9', owner: 'id' },
        ],
      }),
  });
  const { plain, token } = guard;
  assert.equal((await request(plain, { method: 'POST', path: '/v1/jobs', token, body: '1234567' })).status, 200);
  assert.equal((await request(plain, { path: '/v1/jobs/7', token })).status, 200);
  assert.equal((await request(plain, { path: '/v1/jobs/8', token })).status, 403);
  assert.equal((await request(plain, { path: '/other/7', token })).status, 200);
  // Another upstream is a difference where it is asked; nobody is asked for what is not theirs.
  assert.deepEqual(await countsOf(guard, 'main', 4), counts(1, 2, 1));
  await saysUndecided(guard, 'owners_unknown');
});

test('a certificate counts where both have the same authority', async (t) => {
  const [ours, theirs] = [await TestAuthority.create('ours'), await TestAuthority.create('theirs')];
  const pair = await ours.issue({ names: ['hive-1.lan'], usage: 'client' });
  const nodes = (ca: string, san: string): PolicyObject => ({
    type: 'mtls',
    ca,
    identities: [{ san: `DNS:${san}`, name: 'hive-1', roles: ['operator'] }],
  });
  const { guard } = await start(t, {
    listeners: {
      alike: { tls: true, authenticate: ['alike'] },
      other: { tls: true, authenticate: ['other', 'keys'] },
      holder: { tls: true, authenticate: ['holder'] },
    },
    authenticators: {
      alike: nodes('ours.pem', 'hive-1.lan'),
      other: nodes('ours.pem', 'hive-1.lan'),
      holder: nodes('ours.pem', 'hive-1.lan'),
    },
    prepare: (directory) => {
      writeFileIn(directory, 'ours.pem', ours.ca, 0o644);
      writeFileIn(directory, 'ours-again.pem', ours.ca, 0o644);
      writeFileIn(directory, 'theirs.pem', theirs.ca, 0o644);
    },
    shadow: (policy) => ({
      ...policy,
      authenticators: {
        ...(policy['authenticators'] as PolicyObject),
        alike: nodes('ours-again.pem', 'hive-1.lan'),
        other: nodes('theirs.pem', 'hive-1.lan'),
        holder: nodes('ours.pem', 'hive-2.lan'),
      },
    }),
  });
  const ask = async (listener: string, token?: string): Promise<number> => {
    const { port } = guard.target(listener);
    const tls = { ca: guard.ca, servername: 'localhost', ...pair };
    return (await request({ port, tls }, token === undefined ? {} : { token })).status;
  };
  assert.deepEqual([await ask('alike'), await ask('other'), await ask('holder')], [200, 200, 200]);
  assert.equal(await ask('other', guard.token), 200);
  assert.deepEqual(await countsOf(guard, 'alike', 1), counts(1, 0, 0));
  assert.deepEqual(await countsOf(guard, 'holder', 1), counts(0, 1, 0));
  assert.deepEqual(await countsOf(guard, 'other', 2), counts(1, 0, 1));
  await saysUndecided(guard, 'certificate_unjudged');
});

test('a second policy that answers slowly holds nobody up, and waits for so much alone', async (t) => {
  const issuer = await RecordingUpstream.start({ respond: respond.hang() });
  t.after(() => issuer.close());
  const sso = { type: 'jwt', issuer: 'i', audience: 'q', jwks: { url: `${issuer.url}/jwks` } } as const;
  const { guard, upstream } = await start(t, {
    authenticators: {
      sso: { type: 'jwt', issuer: 'i', audience: 'q', jwks: { file: 'keys.json' }, permissions_from: 'may' },
    },
    listener: { authenticate: ['sso'] },
    routes: [{ name: 'rest', path: '/**', require: 'read' }],
    prepare: (directory) => {
      writeFileIn(directory, 'keys.json', JSON.stringify({ keys: [jwkOf(key)] }));
    },
    shadow: (policy) => ({ ...policy, authenticators: { ...(policy['authenticators'] as PolicyObject), sso } }),
  });
  await issuer.waitForRequest();
  const good = makeToken(
    { alg: 'ES256', kid: key.kid },
    { iss: 'i', aud: 'q', sub: 'ann', may: ['read'], exp: 4e9 },
    key.privateKey,
  );
  const session = await h2Connect(guard.secure);
  t.after(() => {
    session.close();
  });
  const TIMES = 2_000;
  const took: number[] = [];
  const one = async (): Promise<void> => {
    for (let i = 0; i < TIMES / 20; i += 1) {
      const began = performance.now();
      const { status } = await h2Request(session, { ':path': '/x', authorization: `Bearer ${good}` });
      took.push(performance.now() - began);
      assert.equal(status, 200);
    }
  };
  const beganAll = performance.now();
  await Promise.all(Array.from({ length: 20 }, one));
  took.sort((a, b) => a - b);
  const p99 = took[Math.floor(TIMES * 0.99)] ?? Number.NaN;
  t.diagnostic(`p99 ${p99.toFixed(1)} ms, most ${(took.at(-1) ?? Number.NaN).toFixed(1)} ms`);
  // A hundred in turn for each of twenty: had each waited for the second policy (2 s), it would have been minutes.
  assert.ok(performance.now() - beganAll < 30_000, 'requests waited');
  assert.equal(upstream.requests.length, TIMES);
  const at = await countsOf(guard, 'secure', TIMES - 544);
  assert.equal(at.same + at.differs, 0);
  await waitUntil(() => undecidedFor(guard).includes('queue_full'), 'a full queue');
});
