import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import test from 'node:test';
import type { HeldBody, WantedBody } from '../../src/gate/decide.js';
import type { Underway } from '../../src/gate/underway.js';
import { HeldBodies } from '../../src/server/held-bodies.js';
import { assertUntouched, startGuard } from '../support/guard.js';
import { residentBytes } from '../support/leak.js';
import { tokenPair } from '../support/policy-builder.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';

/** A request in the middle of being decided, and the means to end it. */
class Supposed implements Underway {
  bytesIn = 0;
  continued = 0;
  readonly source = new PassThrough();
  readonly answer = {
    body: this.source,
    sendContinue: (): void => {
      this.continued += 1;
    },
  };
  readonly #afterwards: (() => void)[] = [];

  whenFinished(call: () => void): void {
    this.#afterwards.push(call);
  }

  endBy(): void {
    // Time is not what this is about.
  }

  finish(): void {
    for (const call of this.#afterwards.splice(0)) call();
  }
}

const wanted = (of: Partial<WantedBody> = {}): WantedBody => ({
  by: 'keys anna',
  framing: { kind: 'streamed' },
  expectsContinue: false,
  most: 1000,
  idleMs: 60_000,
  ...of,
});
const length = (bytes: number): Partial<WantedBody> => ({ framing: { kind: 'length', bytes } });
const reasonOf = (held: HeldBody): string => (held.ok ? 'held' : held.reason);

test('a stated length is taken at once, and given back once', async () => {
  const bodies = new HeldBodies(100);
  const one = new Supposed();
  const pending = bodies.hold(one, wanted({ ...length(60), expectsContinue: true }));
  assert.equal(bodies.bytes, 60);
  assert.equal(one.continued, 1);
  const two = new Supposed();
  assert.deepEqual(bodies.hold(two, wanted({ ...length(41), expectsContinue: true })), {
    ok: false,
    reason: 'body_budget_exhausted',
  });
  assert.equal(two.continued, 0);
  assert.equal(bodies.bytes, 60);
  one.source.write('a'.repeat(30));
  one.source.end('b'.repeat(30));
  const held = await pending;
  assert.ok(held.ok);
  assert.equal(held.bytes.toString(), 'a'.repeat(30) + 'b'.repeat(30));
  assert.equal(one.bytesIn, 60);
  held.release();
  held.release();
  assert.equal(bodies.bytes, 0);
  one.finish();
  assert.equal(bodies.bytes, 0);
});

test('what has no stated length is taken as it arrives', async () => {
  const bodies = new HeldBodies(100);
  const one = new Supposed();
  const first = bodies.hold(one, wanted());
  one.source.write('a'.repeat(70));
  await waitUntil(() => bodies.bytes === 70, 'the first piece');
  const two = new Supposed();
  const second = bodies.hold(two, wanted());
  two.source.write('a'.repeat(31));
  assert.equal(reasonOf(await second), 'body_budget_exhausted');
  assert.equal(bodies.bytes, 70);
  one.source.end();
  assert.equal(reasonOf(await first), 'held');
  one.finish();
  assert.equal(bodies.bytes, 0);
});

test('whoever holds most makes room for others, newest first, and never for more than they are left with', async () => {
  const bodies = new HeldBodies(100);
  const by = (name: string, bytes: number): Partial<WantedBody> => ({ ...length(bytes), by: name });
  const hold = (of: Partial<WantedBody>): { one: Supposed; held: HeldBody | Promise<HeldBody> } => {
    const one = new Supposed();
    return { one, held: bodies.hold(one, wanted(of)) };
  };
  const whole = hold(by('mallory', 30));
  whole.one.source.end('a'.repeat(30));
  assert.equal(reasonOf(await whole.held), 'held');
  const [older, newer] = [hold(by('mallory', 30)), hold(by('mallory', 30))];
  const small = hold(by('bob', 10));
  assert.equal(bodies.bytes, 100);
  // No room for whoever holds most.
  assert.equal(reasonOf(await hold(by('mallory', 1)).held), 'body_budget_exhausted');
  const alice = hold(by('alice', 20));
  assert.equal(reasonOf(await newer.held), 'body_budget_exhausted');
  assert.equal(bodies.bytes, 90);
  // What has no stated length finds room alike.
  const carol = hold({ by: 'carol' });
  carol.one.source.write('a'.repeat(25));
  assert.equal(reasonOf(await older.held), 'body_budget_exhausted');
  assert.equal(bodies.bytes, 85);
  // What is whole is on its way, and of the others none has more than the newcomer would have.
  assert.equal(reasonOf(await hold(by('dora', 26)).held), 'body_budget_exhausted');
  assert.equal(bodies.bytes, 85);
  for (const { one } of [whole, older, newer, small, alice, carol]) one.finish();
  assert.equal(bodies.bytes, 0);
});

test('whatever goes wrong, all is given back', async () => {
  const bodies = new HeldBodies(100);
  const cases: readonly (readonly [string, Partial<WantedBody>, (one: Supposed) => void])[] = [
    ['body_too_large', { most: 10 }, ({ source }) => source.write('a'.repeat(11))],
    ['body_timeout', { idleMs: 20 }, ({ source }) => source.write('a')],
    ['body_timeout', { ...length(50), idleMs: 20 }, () => undefined],
    ['body_incomplete', length(50), ({ source }) => source.end('a')],
    ['body_incomplete', {}, ({ source }) => source.destroy()],
    ['body_incomplete', length(50), ({ source }) => source.destroy(new Error('broken'))],
    [
      'body_incomplete',
      length(50),
      (one) => {
        one.source.write('a');
        one.finish();
      },
    ],
  ];
  for (const [reason, what, act] of cases) {
    const one = new Supposed();
    one.source.on('error', () => undefined);
    const pending = bodies.hold(one, wanted(what));
    act(one);
    assert.equal(reasonOf(await pending), reason);
    assert.equal(bodies.bytes, 0, reason);
    one.finish();
    assert.equal(bodies.bytes, 0, reason);
  }
});

test('nothing is waited for where nothing comes', () => {
  const bodies = new HeldBodies(100);
  for (const framing of [{ kind: 'none' }, { kind: 'length', bytes: 0 }] as const) {
    const held = bodies.hold(new Supposed(), wanted({ framing, expectsContinue: true }));
    assert.ok(!(held instanceof Promise) && held.ok && held.bytes.length === 0);
  }
});

const ROUTES = [
  { name: 'submit', path: '/jobs', methods: ['POST'], require: 'write', body: { max: '2MiB', json: {} } },
  { name: 'rest', path: '/**', methods: 'any', require: 'read' },
];
const TWO_MEBIBYTES = 2 * 1024 ** 2;
/** How many of 2 MiB fit into the budget. */
const FITTING = 32;

test('a thousand bodies of 2 MiB at once take no more than the budget', async () => {
  await using upstream = await RecordingUpstream.start({ recordLimit: 1024 });
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    listener: { limits: { connections: 2000 } },
    top: { admin: { bind: '127.0.0.1:0' } },
  });
  const { token } = guard;
  assert.equal((await request(guard.plain, { path: '/warm', token })).status, 200);
  const before = residentBytes(guard.pid);
  const head = requestBytes(guard.plain, {
    method: 'POST',
    path: '/jobs',
    token,
    headers: [
      ['Content-Type', 'application/json'],
      ['Content-Length', String(TWO_MEBIBYTES)],
    ],
  });
  const open: RawConnection[] = [];
  try {
    for (let i = 0; i < 1000; i += 50) {
      open.push(...(await Promise.all(Array.from({ length: 50 }, () => RawConnection.connect(guard.plain)))));
    }
    for (const connection of open) connection.write(Buffer.concat([head, Buffer.from('"')]));
    // Those that found no room are answered, unread; the others wait for the rest of theirs.
    const refused = await waitUntil(() => {
      const answered = open.filter((connection) => connection.pending.length > 0);
      return answered.length === open.length - FITTING ? answered : null;
    }, 'a refusal of all but those that fit');
    for (const connection of refused) {
      const response = await connection.readResponse('POST');
      assert.equal(response.status, 503);
      assert.match(response.header('retry-after') ?? '', /^[1-9][0-9]*$/);
    }
    assert.equal((await request(guard.plain, { path: '/good', token })).status, 200);
    const waiting = open.filter((connection) => !refused.includes(connection));
    const rest = Buffer.alloc(TWO_MEBIBYTES - 1, 'a');
    rest[rest.length - 1] = 0x22;
    for (const connection of waiting) connection.write(rest);
    for (const connection of waiting) assert.equal((await connection.readResponse('POST')).status, 200);
    const grown = residentBytes(guard.pid) - before;
    assert.ok(grown < 200 * 1024 ** 2, `grew by ${(grown / 1024 ** 2).toFixed(0)} MiB`);
  } finally {
    for (const connection of open) connection.close();
  }
  // All was given back: as much as before fits again.
  const whole = Buffer.alloc(TWO_MEBIBYTES, 'a');
  whole[0] = whole[whole.length - 1] = 0x22;
  const again = await Promise.all(
    Array.from({ length: 8 }, () =>
      request(guard.plain, {
        method: 'POST',
        path: '/jobs',
        token,
        headers: [['Content-Type', 'application/json']],
        body: whole,
      }),
    ),
  );
  assert.deepEqual(new Set(again.map(({ status }) => status)), new Set([200]));
});

test('nobody keeps all the room from others', async () => {
  await using upstream = await RecordingUpstream.start();
  const mallory = tokenPair();
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    tokens: [{ name: 'mallory', sha256: mallory.sha256, roles: ['operator'] }],
    top: { admin: { bind: '127.0.0.1:0' } },
  });
  const of = (token: string, fields: readonly (readonly [string, string])[] = []) => ({
    method: 'POST',
    path: '/jobs',
    token,
    headers: [['Content-Type', 'application/json'], ...fields] as const,
  });
  const head = requestBytes(guard.plain, of(mallory.token, [['Content-Length', String(TWO_MEBIBYTES)]]));
  const open = await Promise.all(Array.from({ length: FITTING }, () => RawConnection.connect(guard.plain)));
  try {
    for (const connection of open) connection.write(head);
    const own = { ...of(mallory.token), body: '1' };
    await waitUntil(async () => (await request(guard.plain, own)).status === 503, 'the budget to be used up');
    assert.equal((await request(guard.plain, { ...of(guard.token), body: '1' })).status, 200);
    const [lost, ...more] = await waitUntil(() => {
      const answered = open.filter((connection) => connection.pending.length > 0);
      return answered.length > 0 ? answered : null;
    }, 'one of the others to lose its room');
    assert.deepEqual(more, []);
    assert.equal((await lost?.readResponse('POST'))?.status, 503);
  } finally {
    for (const connection of open) connection.close();
  }
});

test('clients that go or stall give their room back', async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    listener: { timeouts: { body: '300ms' } },
  });
  const { token } = guard;
  const head = requestBytes(guard.plain, {
    method: 'POST',
    path: '/jobs',
    token,
    headers: [
      ['Content-Type', 'application/json'],
      ['Content-Length', String(TWO_MEBIBYTES)],
    ],
  });
  const small = {
    method: 'POST',
    path: '/jobs',
    token,
    headers: [['Content-Type', 'application/json']] as const,
    body: '1',
  };
  for (const leave of ['reset', 'end', 'stall'] as const) {
    const open = await Promise.all(Array.from({ length: FITTING }, () => RawConnection.connect(guard.plain)));
    for (const connection of open) connection.write(head);
    // Not a byte more fits.
    await waitUntil(async () => (await request(guard.plain, small)).status === 503, 'the budget to be used up');
    if (leave === 'reset') for (const connection of open) connection.reset();
    if (leave === 'end') for (const connection of open) connection.end();
    await waitUntil(async () => (await request(guard.plain, small)).status === 200, `room after ${leave}`);
    if (leave === 'stall') {
      for (const connection of open) assert.equal((await connection.readResponse('POST')).status, 408);
    }
    for (const connection of open) connection.close();
  }
  const seen = upstream.requests.map((one) => one.header('content-length'));
  assert.deepEqual(new Set(seen), new Set(['1']));
});

test('a token that is revoked or expires while its body comes sends nothing on', async () => {
  await using upstream = await RecordingUpstream.start();
  const expiring = new Date(Date.now() + 1500).toISOString();
  const pair = tokenPair();
  await using guard = await startGuard({
    upstream: upstream.url,
    routes: ROUTES,
    tokens: [{ name: 'brief', sha256: pair.sha256, roles: ['operator'], not_after: expiring }],
  });
  using connection = await RawConnection.connect(guard.plain);
  connection.write(
    requestBytes(guard.plain, {
      method: 'POST',
      path: '/jobs',
      token: pair.token,
      headers: [
        ['Content-Type', 'application/json'],
        ['Content-Length', '4'],
      ],
    }),
  );
  connection.write('nul');
  await waitUntil(() => Date.now() > Date.parse(expiring), 'the end of the token');
  connection.write('l');
  assert.equal((await connection.readResponse('POST')).status, 401);
  assertUntouched(upstream);
});
