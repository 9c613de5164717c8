import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { loadPolicyText } from '../../src/policy/load.js';
import type { Identity } from '../../src/identity/identity.js';
import { Ownership } from '../../src/state/ownership.js';
import { type Guard, startGuard } from '../support/guard.js';
import { type PolicyValue, policyText, simplePolicy, tokenPair } from '../support/policy-builder.js';
import { type RawResponse, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const ROUTES: readonly PolicyValue[] = [
  { name: 'submit', path: '/v1/jobs', methods: ['POST'], require: 'write', owns: { from: 'response.job_id' } },
  { name: 'nested', path: '/nested', methods: ['POST'], require: 'write', owns: { from: 'response./job/0/id' } },
  { name: 'brief', path: '/brief', methods: ['POST'], require: 'write', owns: { from: 'response.job_id', for: '1ms' } },
  { name: 'stream', path: '/v1/jobs/{job_id}/stream', methods: ['GET'], require: 'read', owner: 'job_id' },
  {
    name: 'cancel',
    path: '/v1/jobs/{job_id}',
    methods: ['DELETE'],
    require: 'write',
    owner: { parameter: 'job_id', unless: ['control'] },
  },
];

const json = (body: string, type = 'application/json'): ReturnType<typeof respond.status> =>
  respond.status(201, [['Content-Type', type]], body);

/** Answers with what was sent, as JSON; in pieces where the path says so. */
async function start(): Promise<RecordingUpstream> {
  return await RecordingUpstream.start({
    respond: async (asked, connection) => {
      const body = (await asked.body).bytes.toString();
      const kind = asked.header('x-kind');
      if (asked.method !== 'POST') await respond.echo()(asked, connection);
      else if (kind === 'pieces') {
        connection.write(
          'HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n',
        );
        for (const byte of body) connection.write(`1\r\n${byte}\r\n`);
        connection.write('0\r\n\r\n');
      } else if (kind === 'text') await json(body, 'text/plain')(asked, connection);
      else if (kind === 'failed')
        await respond.status(500, [['Content-Type', 'application/json']], body)(asked, connection);
      else if (kind === 'coded')
        await respond.status(
          200,
          [
            ['Content-Type', 'application/json'],
            ['Content-Encoding', 'gzip'],
          ],
          body,
        )(asked, connection);
      else await json(body)(asked, connection);
    },
  });
}

interface Bench {
  readonly guard: Guard;
  readonly upstream: RecordingUpstream;
  readonly bob: string;
  readonly admin: string;
}

async function bench(): Promise<Bench & AsyncDisposable> {
  const upstream = await start();
  const [bob, admin] = [tokenPair(), tokenPair()];
  const guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    tokens: [
      { name: 'bob', sha256: bob.sha256, roles: ['operator'] },
      { name: 'admin', sha256: admin.sha256, roles: ['operator'], permissions: ['control'] },
    ],
  });
  return {
    guard,
    upstream,
    bob: bob.token,
    admin: admin.token,
    [Symbol.asyncDispose]: async () => {
      await guard[Symbol.asyncDispose]();
      await upstream.close();
    },
  };
}

async function make(
  guard: Guard,
  token: string,
  body: string,
  kind = 'plain',
  path = '/v1/jobs',
): Promise<RawResponse> {
  return await request(guard.plain, {
    method: 'POST',
    path,
    token,
    headers: [
      ['X-Kind', kind],
      ['Accept-Encoding', 'gzip'],
    ],
    body,
  });
}

test('its maker uses it, on every listener; others do not, but whoever may', async () => {
  await using all = await bench();
  const { guard, upstream, bob, admin } = all;
  const made = await make(guard, guard.token, '{"job_id":"job-1","sse_url":"/x"}');
  assert.equal(made.status, 201);
  assert.equal(made.body.toString(), '{"job_id":"job-1","sse_url":"/x"}');
  assert.equal(upstream.requests.at(-1)?.header('accept-encoding'), null);
  for (const target of [guard.plain, guard.secure]) {
    assert.equal((await request(target, { path: '/v1/jobs/job-1/stream', token: guard.token })).status, 200);
    const seen = upstream.requests.length;
    for (const [token, id] of [
      [bob, 'job-1'],
      [guard.token, 'job-2'],
      [guard.token, 'JOB-1'],
      [admin, 'job-1'],
    ] as const) {
      const refused = await request(target, { path: `/v1/jobs/${id}/stream`, token });
      assert.equal(refused.status, 403);
      assert.equal((await guard.record(refused.header('x-request-id') ?? ''))['guardbee.reason'], 'not_owner');
    }
    assert.equal((await request(target, { path: '/v1/jobs/job-1/stream' })).status, 401);
    assert.equal((await request(target, { method: 'DELETE', path: '/v1/jobs/job-1', token: bob })).status, 403);
    assert.equal(upstream.requests.length, seen, 'the upstream heard of none of them');
    assert.equal((await request(target, { method: 'DELETE', path: '/v1/jobs/job-1', token: admin })).status, 200);
  }
  // Whoever makes the service name another's thing gets no hold of it.
  assert.equal((await make(guard, bob, '{"job_id":"job-1"}')).status, 201);
  assert.equal((await request(guard.plain, { path: '/v1/jobs/job-1/stream', token: bob })).status, 403);
  assert.equal((await request(guard.plain, { path: '/v1/jobs/job-1/stream', token: guard.token })).status, 200);
});

test('an answer in pieces is read; one that cannot be passes unchanged, and the log says so', async () => {
  await using all = await bench();
  const { guard } = all;
  const own = async (id: string): Promise<number> =>
    (await request(guard.plain, { path: `/v1/jobs/${id}/stream`, token: guard.token })).status;
  assert.equal(
    (await make(guard, guard.token, '{"job_id":"in-pieces"}', 'pieces')).body.toString(),
    '{"job_id":"in-pieces"}',
  );
  assert.equal(await own('in-pieces'), 200);
  assert.equal((await make(guard, guard.token, '{"job":[{"id":7}]}', 'plain', '/nested')).status, 201);
  assert.equal(await own('7'), 200);
  await make(guard, guard.token, '{"job_id":"brief"}', 'plain', '/brief');
  assert.equal(await own('brief'), 403, 'it was remembered for a millisecond');

  const huge = `{"job_id":"huge","more":"${'x'.repeat(80_000)}"}`;
  const table: readonly (readonly [string, string, string, string | null])[] = [
    ['text', '{"job_id":"text"}', 'text', 'not_json'],
    ['coded', '{"job_id":"coded"}', 'coded', 'coded'],
    ['failed', '{"job_id":"failed"}', 'failed', null],
    ['broken', '{"job_id":"broken"', 'plain', 'no_name'],
    ['twice', '{"job_id":"twice","job_id":"twice"}', 'plain', 'no_name'],
    ['none', '{"id":"none"}', 'plain', 'no_name'],
    ['huge', huge, 'plain', 'too_large'],
    ['huge', huge, 'pieces', 'too_large'],
  ];
  for (const [id, body, kind, why] of table) {
    const answer = await make(guard, guard.token, body, kind);
    assert.equal(answer.body.toString(), body, id);
    assert.equal(await own(id), 403, id);
    if (why !== null) await guard.process.waitForLog((line) => line['guardbee.reason'] === why);
  }
});

test('a restart forgets nothing', async () => {
  await using all = await bench();
  const { guard, bob } = all;
  await make(guard, guard.token, '{"job_id":"kept"}');
  const file = guard.directory.file('state/ownership.ndjson');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(readFileSync(file, 'utf8').trim().split('\n').length, 1);
  await guard.process.kill();
  appendFileSync(file, '{"v":1,"upstream":"x');
  await using again = startGuardbee({ args: ['run', '--policy', guard.policyFile] });
  const line = await again.waitForLog(
    (one) => String(one['msg']).startsWith('listening on ') && one['guardbee.listener'] === 'main',
  );
  const target = { port: Number(new URL(String(line['url.full'])).port) };
  assert.equal((await request(target, { path: '/v1/jobs/kept/stream', token: guard.token })).status, 200);
  assert.equal((await request(target, { path: '/v1/jobs/kept/stream', token: bob })).status, 403);
});

const who = (name: string, authenticator = 'keys'): Identity => ({
  name,
  authenticator,
  roles: [],
  grants: new Set(),
  expiresAtMs: Infinity,
  revocables: [],
});

async function opened(
  t: TestContext,
  dir: TemporaryDirectory,
  clock: { nowMs: number },
  most = 3,
  told: string[] = [],
): Promise<Ownership> {
  const text = policyText(
    simplePolicy({
      upstream: 'http://127.0.0.1:7833',
      stateDir: dir.file('state'),
      tokens: [{ name: 'k', sha256: tokenPair().sha256, roles: ['operator'] }],
      routes: [{ name: 'submit', path: '/v1/jobs', require: 'write', owns: { from: 'response.id', most } }],
    }),
  );
  const loaded = await loadPolicyText(text, dir.file('policy.yaml'), { env: {}, now: clock.nowMs });
  assert.ok(loaded.ok);
  const made = await Ownership.open(loaded.policy, {
    now: () => clock.nowMs,
    unnamed: () => undefined,
    notKept: (message) => told.push(message),
  });
  t.after(() => made.close());
  return made;
}

test('the oldest are forgotten, and all in their time; the file does not grow with them', async (t) => {
  const dir = new TemporaryDirectory(t);
  const clock = { nowMs: Date.UTC(2026, 0, 1) };
  const upstream = '127.0.0.1:7833';
  const settings = { from: ['id'], forMs: 1_000, most: 3 };
  const first = await opened(t, dir, clock);
  for (const id of ['a', 'b', 'c', 'd']) await first.remember(upstream, id, who('alice'), settings, 'submit');
  const known = (store: Ownership, name = 'alice', authenticator = 'keys'): string =>
    ['a', 'b', 'c', 'd'].filter((id) => store.isOwner(upstream, id, who(name, authenticator), clock.nowMs)).join('');
  assert.equal(known(first), 'bcd');
  assert.equal(known(first, 'bob'), '');
  assert.equal(known(first, 'alice', 'sso'), '', 'a name is its authenticator’s');
  assert.equal(first.isOwner('127.0.0.1:7835', 'b', who('alice'), clock.nowMs), false);
  await first.close();
  const second = await opened(t, dir, clock);
  assert.equal(known(second), 'bcd');
  for (let i = 0; i < 1_100; i++)
    await second.remember(upstream, `more-${String(i)}`, who('alice'), settings, 'submit');
  assert.equal(second.size, 3);
  const lines = readFileSync(dir.file('state/ownership.ndjson'), 'utf8').trim().split('\n').length;
  assert.ok(lines < 1_010, `${String(lines)} lines`);
  clock.nowMs += 999;
  assert.equal(second.isOwner(upstream, 'more-1099', who('alice'), clock.nowMs), true);
  clock.nowMs += 1;
  assert.equal(second.isOwner(upstream, 'more-1099', who('alice'), clock.nowMs), false);
});

test('whoever makes most loses their own oldest, and nobody else theirs', async (t) => {
  const dir = new TemporaryDirectory(t);
  const clock = { nowMs: Date.UTC(2026, 0, 1) };
  const upstream = '127.0.0.1:7833';
  const settings = { from: ['id'], forMs: 60_000, most: 10 };
  const owners = await opened(t, dir, clock, 10);
  const make = (id: string, name: string): Promise<void> =>
    owners.remember(upstream, id, who(name), settings, 'submit');
  await make('of alice', 'alice');
  for (let i = 0; i < 100; i++) await make(`of mallory ${String(i)}`, 'mallory');
  await make('of bob', 'bob');
  const check = (store: Ownership): void => {
    assert.equal(store.size, 10);
    const owns = (id: string, name: string): boolean => store.isOwner(upstream, id, who(name), clock.nowMs);
    assert.ok(owns('of alice', 'alice'));
    assert.ok(owns('of bob', 'bob'));
    assert.ok(owns('of mallory 99', 'mallory'));
    assert.ok(owns('of mallory 92', 'mallory'));
    assert.ok(!owns('of mallory 91', 'mallory'));
  };
  check(owners);
  await owners.close();
  check(await opened(t, dir, clock, 10));
});

test('many at once write the file anew once, not each', async (t) => {
  const dir = new TemporaryDirectory(t);
  const clock = { nowMs: Date.UTC(2026, 0, 1) };
  const settings = { from: ['id'], forMs: 60_000, most: 3 };
  const owners = await opened(t, dir, clock);
  const file = dir.file('state/ownership.ndjson');
  // Each time it is written anew, another file has its name.
  const files = new Set<number>();
  const make = async (i: number): Promise<void> => {
    await owners.remember('127.0.0.1:7833', `job-${String(i)}`, who('alice'), settings, 'submit');
    files.add(statSync(file).ino);
  };
  await Promise.all(Array.from({ length: 1_500 }, (_, i) => make(i)));
  assert.ok(files.size <= 3, `${String(files.size)} files`);
  assert.ok(readFileSync(file, 'utf8').trim().split('\n').length < 1_100);
});

test('what cannot be written is said once, and written when it can be', async (t) => {
  const dir = new TemporaryDirectory(t);
  const clock = { nowMs: Date.UTC(2026, 0, 1) };
  const settings = { from: ['id'], forMs: 60_000, most: 3 };
  const told: string[] = [];
  const owners = await opened(t, dir, clock, 3, told);
  const make = (id: string): Promise<void> => owners.remember('127.0.0.1:7833', id, who('alice'), settings, 'submit');
  const file = dir.file('state/ownership.ndjson');
  // What stands in the file's place cannot be exchanged for it.
  rmSync(file);
  mkdirSync(`${file}/in-the-way`, { recursive: true });
  for (let i = 0; i < 1_100; i++) await make(`job-${String(i)}`);
  assert.equal(told.length, 1, told[0]);
  assert.match(told[0] ?? '', /ownership\.ndjson cannot be written/);
  assert.ok(owners.isOwner('127.0.0.1:7833', 'job-1099', who('alice'), clock.nowMs));
  rmSync(file, { recursive: true });
  clock.nowMs += 1_000;
  await make('job-1100');
  assert.deepEqual(
    readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { readonly id: string }).id),
    ['job-1098', 'job-1099', 'job-1100'],
  );
  assert.equal(told.length, 1);
});
