/**
 * Rates and quotas over the wire, in one process: exact, by whom they say, told in the words of RateLimit, and without a
 * byte for the upstream of what was refused.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertUntouched, startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { tokenPair } from '../support/policy-builder.js';
import { request, type RawResponse, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';

/** No bucket gives a request back while a test runs: one in four hours. */
const SLOW = { per: '1d' } as const;
const other = tokenPair();
const namesake = tokenPair();

async function statuses(target: Target, times: number, path: string, token?: string): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < times; i++) all.push((await ask(target, path, token)).status);
  return all;
}

async function ask(target: Target, path: string, token?: string): Promise<RawResponse> {
  return await request(target, { path, ...(token === undefined ? {} : { token }) });
}

const counted = (all: readonly number[], status: number): number => all.filter((one) => one === status).length;

describe('limits of requests', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.echo([
        ['RateLimit', '"theirs";r=1;t=1'],
        ['RateLimit-Policy', '"theirs";q=1;w=1'],
        ['RateLimit-Remaining', '7'],
      ]),
    });
    const GET = { methods: ['GET'], require: 'read' } as const;
    guard = await startGuard({
      upstream: upstream.url,
      tokens: [
        { name: 'other', sha256: other.sha256, roles: ['operator'] },
        { name: 'guest', sha256: tokenPair().sha256, permissions: ['nothing'] },
      ],
      authenticators: {
        second: { type: 'bearer', tokens: [{ name: 'keeper', sha256: namesake.sha256, roles: ['operator'] }] },
      },
      listener: { trusted_proxies: ['127.0.0.9'], limits: { rate: { requests: 5, ...SLOW } } },
      routes: [
        { name: 'public', path: '/public', methods: ['GET'], public: true, limits: { rate: { requests: 3, ...SLOW } } },
        { name: 'free', path: '/free', ...GET, limits: { rate: 'off' } },
        { name: 'burst', path: '/burst', ...GET, limits: { rate: { requests: 100, ...SLOW, burst: 2 } } },
        { name: 'strangers', path: '/strangers', ...GET, limits: { rate: { requests: 4, ...SLOW, by: 'address' } } },
        { name: 'all', path: '/all', ...GET, limits: { rate: { requests: 3, ...SLOW, by: 'route' } } },
        { name: 'second', path: '/second', ...GET, authenticate: ['second'] },
        {
          name: 'both',
          path: '/both',
          ...GET,
          limits: {
            rate: [
              { requests: 10, ...SLOW, by: 'address' },
              { requests: 3, ...SLOW },
            ],
            quota: { requests: 2, per: '1d' },
          },
        },
        { name: 'quick', path: '/quick', ...GET, limits: { rate: { requests: 2, per: '1s' } } },
        { name: 'closed', path: '/closed', ...GET, require: 'write', limits: { rate: { requests: 2, ...SLOW } } },
        {
          name: 'bodies',
          path: '/bodies',
          methods: ['POST'],
          require: 'write',
          body: { max: '1KiB', json: {} },
          limits: { rate: { requests: 10, ...SLOW } },
        },
        { name: 'rest', path: '/**', ...GET },
      ],
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const seen = (path: string): number => upstream.requests.filter((one) => one.target === path).length;

  test('a rate is exact, and what it refuses does not reach the upstream', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => ask(guard.plain, '/exact', guard.token)));
    assert.equal(
      counted(
        all.map((one) => one.status),
        200,
      ),
      5,
    );
    assert.equal(
      counted(
        all.map((one) => one.status),
        429,
      ),
      15,
    );
    assert.equal(seen('/exact'), 5);
  });

  test('by identity: others have their own, and a name in another authenticator is somebody else', async () => {
    assert.equal(
      (await ask(guard.plain, '/mine', guard.token)).status,
      429,
      'used up above, for all routes of the listener',
    );
    assert.equal(counted(await statuses(guard.plain, 7, '/other', other.token), 200), 5);
    assert.equal(
      counted(await statuses(guard.plain, 7, '/second', namesake.token), 200),
      5,
      'keeper of second is not keeper of keys',
    );
  });

  test('a route has counters of its own, or none', async () => {
    assert.equal(counted(await statuses(guard.plain, 12, '/free', guard.token), 200), 12);
    assert.equal(counted(await statuses(guard.plain, 4, '/burst', guard.token), 200), 2);
    assert.equal(counted(await statuses(guard.secure, 4, '/exact', guard.token), 200), 4, 'and so has each listener');
  });

  test('by route: everybody together', async () => {
    assert.equal(
      counted(
        [
          ...(await statuses(guard.plain, 2, '/all', guard.token)),
          ...(await statuses(guard.plain, 3, '/all', other.token)),
        ],
        200,
      ),
      3,
    );
    assert.equal(seen('/all'), 3);
  });

  test('by address: strangers are counted before they are asked, and others are not held up by them', async () => {
    const from = (localAddress: string): Target => ({ ...guard.plain, localAddress });
    assert.deepEqual(await statuses(from('127.0.0.2'), 6, '/strangers'), [401, 401, 401, 401, 429, 429]);
    assert.equal((await ask(from('127.0.0.2'), '/strangers', guard.token)).status, 429, 'one address, whoever it is');
    assert.equal((await ask(from('127.0.0.3'), '/strangers', guard.token)).status, 200);
    assert.equal(seen('/strangers'), 1);
  });

  test('on public routes: by address, of IPv6 by /64, after trusted proxies', async () => {
    const via = async (client: string): Promise<number> =>
      (
        await request(
          { ...guard.plain, localAddress: '127.0.0.9' },
          { path: '/public', headers: [['X-Forwarded-For', client]] },
        )
      ).status;
    const all: number[] = [];
    const network = ['2001:db8:1:2::1', '2001:db8:1:2::2', '2001:db8:1:2::3:4', '2001:db8:1:2:ffff:ffff:ffff:ffff'];
    for (const client of network) all.push(await via(client));
    assert.deepEqual(all, [200, 200, 200, 429]);
    assert.equal(await via('2001:db8:1:3::1'), 200, 'the next network');
    assert.equal(await via('192.0.2.1'), 200);
    assert.equal((await ask(guard.plain, '/public')).status, 200);
  });

  test('whoever may not ask at all uses nothing up', async () => {
    const guest = tokenPair();
    assert.deepEqual(await statuses(guard.plain, 3, '/closed', guest.token), [401, 401, 401]);
    assert.deepEqual(await statuses(guard.plain, 3, '/closed', guard.token), [200, 200, 429]);
  });

  test('the answer tells what is left, in place of what the upstream says of its own', async () => {
    const answer = await ask(guard.plain, '/both', other.token);
    assert.equal(answer.status, 200);
    assert.deepEqual(answer.headerAll('ratelimit-policy'), [
      '"rate";q=10;w=86400, "rate-2";q=3;w=86400, "quota";q=2;w=86400',
    ]);
    assert.match(
      answer.headerAll('ratelimit').join('|'),
      /^"rate";r=9;t=8640, "rate-2";r=2;t=28800, "quota";r=1;t=\d+$/,
    );
    assert.equal(answer.header('ratelimit-remaining'), null, 'an older form of the same');
    const unlimited = await ask(guard.plain, '/free', other.token);
    assert.equal(unlimited.header('ratelimit'), '"theirs";r=1;t=1', 'where we count nothing it is not ours to say');
  });

  test('a refusal says when to come back, over HTTP/1.1 and HTTP/2, and the tightest limit has the word', async () => {
    assert.equal((await ask(guard.plain, '/both', other.token)).status, 200);
    const refused = await ask(guard.plain, '/both', other.token);
    assert.equal(refused.status, 429);
    assert.equal((refused.json() as { title: string }).title, 'The quota is used up');
    const seconds = Number(refused.header('retry-after'));
    assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 86_400);
    assert.match(refused.header('ratelimit') ?? '', /"rate-2";r=1;t=57600, "quota";r=0;t=\d+$/);
    const record = await guard.record(refused.header('x-request-id') ?? '');
    assert.equal(record['guardbee.reason'], 'quota_exceeded');

    const session = await h2Connect(guard.secure);
    try {
      const fields = { ':path': '/both', authorization: `Bearer ${other.token}` };
      const first = await h2Request(session, fields);
      assert.equal(first.status, 200);
      assert.match(String(first.headers['ratelimit']), /^"rate";r=9;/);
      assert.equal(first.headers['ratelimit-policy'], '"rate";q=10;w=86400, "rate-2";q=3;w=86400, "quota";q=2;w=86400');
      await h2Request(session, fields);
      const last = await h2Request(session, fields);
      assert.equal(last.status, 429);
      assert.ok(Number(last.headers['retry-after']) >= 1);
      assert.match(String(last.headers['ratelimit']), /"quota";r=0;t=\d+$/);
    } finally {
      session.destroy();
    }
    assert.equal(seen('/both'), 4);
  });

  test('what is refused after it was counted says what is left, too', async () => {
    upstream.connections.length = 0;
    const json = ['Content-Type', 'application/json'] as const;
    const post = async (body: string, field: readonly [string, string]): Promise<RawResponse> =>
      await request(guard.plain, { method: 'POST', path: '/bodies', token: guard.token, headers: [field], body });
    const answers = [
      await post('x'.repeat(2_000), json),
      await post('x', ['Content-Type', 'text/plain']),
      await post('{', json),
    ];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [413, 415, 400],
    );
    assert.deepEqual(
      answers.map((answer) => /r=(\d)/.exec(answer.header('ratelimit') ?? '')?.[1]),
      ['9', '8', '7'],
    );
    assertUntouched(upstream);
  });

  test('whoever waits as long as they are told is let in', async () => {
    let answer: RawResponse;
    do answer = await ask(guard.plain, '/quick', guard.token);
    while (answer.status === 200);
    assert.equal(answer.status, 429);
    const waitMs = Number(answer.header('retry-after')) * 1000;
    assert.equal(waitMs, 1000);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    assert.equal((await ask(guard.plain, '/quick', guard.token)).status, 200);
  });
});
