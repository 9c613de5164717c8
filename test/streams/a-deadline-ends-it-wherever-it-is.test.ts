/**
 * At the deadline the upstream hears at once that nobody waits any more, and the client gets a 504, or a stream that is
 * cut: while the credential is checked, while the body comes, before the head, in the middle of a stream.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { hashSync } from 'bcryptjs';
import { type Guard, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { fieldValue } from '../support/message-reader.js';
import { writeFileIn } from '../support/policy-builder.js';
import { type Target, RawConnection, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil, within } from '../support/wait.js';

/** The promise: from the deadline to what the upstream sees. */
const PROMISED_MS = 50;
/** How often each is tried: the machine may be busy with something else once. */
const TIMES = 5;
/** Long enough for whatever must have happened before. */
const SOON_MS = 400;

interface Moment {
  /** By the clock of deadlines, and by that of this process's measuring. */
  readonly atMs: number;
  readonly ticksMs: number;
}

const inMs = (ms: number): Moment => ({ atMs: Date.now() + ms, ticksMs: performance.now() + ms });

describe('a deadline ends it wherever it is', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.byPath(
        {
          '/hang': respond.hang(),
          '/events': respond.silentEvents(),
          '/chatty': respond.chattyEvents(2),
          '/flood': respond.flood(8 * 1024 ** 3),
          '/socket': respond.webSocket(),
        },
        respond.echo(),
      ),
    });
    guard = await startGuard({
      upstream: upstream.url,
      listeners: {
        basic: { authenticate: ['slow'] },
        judged: {
          tls: true,
          authenticate: ['slow'],
          routes: [{ name: 'submit', path: '/**', methods: ['POST'], require: 'read', body: { json: {} } }],
        },
        judged_plain: {
          authenticate: ['slow'],
          routes: [{ name: 'submit', path: '/**', methods: ['POST'], require: 'read', body: { json: {} } }],
        },
        off: { deadlines: 'off' },
        rbee: { deadlines: { answer: 'rbee' } },
        hasty: {
          timeout: '300ms',
          routes: [
            { name: 'patient', path: '/events', timeout: 'none', require: 'read' },
            { name: 'brief', path: '/chatty', timeout: '100ms', require: 'read' },
            { name: 'rest', path: '/**', methods: 'any', require: 'read' },
          ],
        },
        throttled: { authenticate: ['slow', 'keys'], throttle: { after: 1, delay: '30s', most: '30s' } },
      },
      authenticators: { slow: { type: 'basic', htpasswd_file: 'users.htpasswd', roles: ['operator'] } },
      prepare: (directory) => {
        // bcrypt takes a quarter of a second over it, or more.
        const hash = hashSync('right', 12);
        writeFileIn(directory, 'users.htpasswd', `alice:${hash}\ncarol:${hash}\ndora:${hash}\n`);
      },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** From the deadline to the moment when the upstream saw the end; the best of several. */
  async function atOnce(begin: (path: string, deadline: string) => Promise<void>, path: string): Promise<void> {
    let best = Infinity;
    for (let time = 0; time < TIMES && (time < 2 || best > PROMISED_MS); time++) {
      const seen = upstream.requests.length;
      const moment = inMs(SOON_MS);
      const over = begin(path, String(moment.atMs));
      await waitUntil(() => upstream.requests.length > seen, 'the upstream to have it');
      const connection = upstream.requests[seen]?.connection;
      assert.ok(connection !== undefined);
      assert.ok(performance.now() < moment.ticksMs, 'it reached the upstream in time');
      await over;
      await waitUntil(() => connection.endedAtMs !== null, 'the upstream to hear of it');
      const late = (connection.endedAtMs ?? Infinity) - moment.ticksMs;
      assert.ok(late > -20, `${String(late)} ms: before its time`);
      best = Math.min(best, late);
    }
    assert.ok(best < PROMISED_MS, `${String(best)} ms after the deadline`);
  }

  async function exceeded(requestId: string | null): Promise<void> {
    const line = await guard.record(requestId ?? '');
    assert.equal(line['guardbee.reason'], 'deadline_exceeded');
  }

  for (const [name, target] of [
    ['plain', () => guard.plain],
    ['TLS', () => guard.secure],
  ] as const) {
    test(`before the upstream's head, over ${name}: 504`, async () => {
      await atOnce(async (path, deadline) => {
        const answer = await request(target(), { path, token: guard.token, headers: [['X-Deadline', deadline]] });
        assert.equal(answer.status, 504);
        assert.equal(answer.header('content-type'), 'application/problem+json');
        await exceeded(answer.header('x-request-id'));
        assert.equal(upstream.requests.at(-1)?.header('x-deadline'), deadline);
      }, '/hang');
    });

    for (const path of ['/events', '/chatty', '/flood']) {
      test(`in the middle of ${path}, over ${name}: cut`, async () => {
        await atOnce(async (at, deadline) => {
          const client = await RawConnection.connect(target());
          client.write(requestBytes(target(), { path: at, token: guard.token, headers: [['X-Deadline', deadline]] }));
          const head = await client.readHead();
          assert.equal(head.status, 200);
          if (path !== '/flood') client.discard();
          else await client.waitForBytes(1);
          if (path === '/flood') client.discard();
          await client.waitForEnd();
          await exceeded(fieldValue(head.headers, 'x-request-id'));
        }, path);
      });
    }

    test(`in the middle of its own body, over ${name}: 504`, async () => {
      await atOnce(async (path, deadline) => {
        const client = await RawConnection.connect(target());
        const head = requestBytes(target(), {
          method: 'POST',
          path,
          token: guard.token,
          headers: [
            ['X-Deadline', deadline],
            ['Content-Length', '1000'],
          ],
        });
        client.write(Buffer.concat([head, Buffer.alloc(100)]));
        const answer = await client.readResponse('POST');
        assert.equal(answer.status, 504);
        await exceeded(answer.header('x-request-id'));
        client.close();
      }, '/hang');
    });

    test(`a WebSocket, over ${name}: cut`, async () => {
      await atOnce(async (path, deadline) => {
        const opened = await openWebSocket(target(), { path, token: guard.token, headers: [['X-Deadline', deadline]] });
        assert.ok(opened.socket !== null);
        opened.socket.send('still there?');
        assert.equal(await opened.socket.nextText(), 'still there?');
        await opened.connection.waitForEnd();
        await guard.recordWhere((line) => line['guardbee.reason'] === 'deadline_exceeded' && line['url.path'] === path);
      }, '/socket');
    });
  }

  test('over HTTP/2: 504 before the head, a reset after it, and the connection lives on', async () => {
    const session = await h2Connect(guard.secure);
    const authorization = `Bearer ${guard.token}`;
    await atOnce(async (path, deadline) => {
      const answer = await h2Request(session, { ':path': path, authorization, 'x-deadline': deadline });
      assert.equal(answer.status, 504);
    }, '/hang');
    await atOnce(async (path, deadline) => {
      const stream = session.request({ ':path': path, authorization, 'x-deadline': deadline });
      const reset = within(once(stream, 'error'), 'a reset');
      stream.resume();
      await reset;
    }, '/events');
    assert.equal((await h2Request(session, { ':path': '/', authorization })).status, 200);
    session.destroy();
  });

  const basic = (password: string, name = 'alice'): readonly [string, string] => [
    'Authorization',
    `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
  ];

  test('while the credential is checked: 504, and the upstream hears nothing', async () => {
    const seen = upstream.requests.length;
    const moment = inMs(60);
    const answer = await request(guard.target('basic'), {
      headers: [basic('wrong'), ['X-Deadline', String(moment.atMs)]],
    });
    assert.equal(answer.status, 504);
    assert.ok(performance.now() >= moment.ticksMs - 20);
    await exceeded(answer.header('x-request-id'));
    const right = await request(guard.target('basic'), { headers: [basic('right')], timeoutMs: 60_000 });
    assert.equal(right.status, 200);
    assert.equal(upstream.requests.length, seen + 1);
  });

  test('nothing is said after the 504, though a body were welcome', async () => {
    const seen = upstream.requests.length;
    const expecting = [
      ['Content-Type', 'application/json'],
      ['Content-Length', '4'],
      ['Expect', '100-continue'],
    ] as const;
    const target = guard.target('judged_plain');
    using client = await RawConnection.connect(target);
    const headers = [basic('right', 'carol'), ['X-Deadline', String(Date.now() + 60)] as const, ...expecting];
    client.write(requestBytes(target, { method: 'POST', headers }));
    const answer = await client.readResponse('POST');
    assert.equal(answer.status, 504);
    assert.deepEqual(answer.informational, []);
    await client.waitForEnd();
    assert.equal(client.pending.toString(), '');
    const session = await h2Connect(guard.target('judged'));
    try {
      const asked = Object.fromEntries(
        [basic('right', 'dora'), ['X-Deadline', String(Date.now() + 60)] as const, ...expecting].map(
          ([name, value]) => [name.toLowerCase(), value],
        ),
      );
      const stream = session.request({ ':method': 'POST', ':path': '/', ...asked });
      stream.on('error', () => undefined);
      const [head] = (await within(once(stream, 'response'), 'an answer')) as [{ ':status'?: number }];
      assert.equal(head[':status'], 504);
      // Asked of the same thread, and so answered after the first was.
      const other = { ':path': '/', authorization: basic('wrong', 'dora')[1], ':method': 'POST' };
      assert.equal((await h2Request(session, other, 'null')).status, 401);
      stream.destroy();
    } finally {
      session.destroy();
    }
    assert.deepEqual(
      guard.process.logLines.filter((line) => line['event.name'] === 'request.broke'),
      [],
    );
    assert.equal(upstream.requests.length, seen);
  });

  test('a guess counts whose asker did not wait, and no deadline hurries the answer to the next', async () => {
    const target: Target = { ...guard.target('throttled'), localAddress: '127.0.0.31' };
    const short = await request(target, { headers: [basic('guess'), ['X-Deadline', String(Date.now() + 60)]] });
    assert.equal(short.status, 504);
    // Asked of the same thread, and so answered after the guess was.
    const other: Target = { ...target, localAddress: '127.0.0.32' };
    assert.equal((await request(other, { headers: [basic('other', 'bob')], timeoutMs: 60_000 })).status, 401);
    // The second failure from there: its answer is held, and a deadline does not bring it out.
    using client = await RawConnection.connect(target);
    const deadlineMs = Date.now() + 300;
    const headers = [['X-Deadline', String(deadlineMs)]] as const;
    client.write(requestBytes(target, { token: 'a-token-that-nobody-has', headers }));
    await waitUntil(() => Date.now() > deadlineMs + 100, 'the deadline to be past');
    assert.equal((await request(other, { token: guard.token })).status, 200);
    assert.equal(client.pending.toString(), '', 'the answer is held');
    assert.equal(client.ended, null);
  });

  test('past already: 504 at once, malformed or twice: 400; the upstream hears nothing', async () => {
    const seen = upstream.requests.length;
    const table: readonly (readonly [string, readonly (readonly [string, string])[], number, string])[] = [
      ['an hour ago', [['X-Deadline', String(Date.now() - 3_600_000)]], 504, 'deadline_passed'],
      ['written out', [['x-deadline', '2020-01-01T00:00:00Z']], 504, 'deadline_passed'],
      ['no number', [['X-Deadline', 'soon']], 400, 'deadline_malformed'],
      ['empty', [['X-Deadline', '']], 400, 'deadline_malformed'],
      [
        'twice',
        [
          ['X-Deadline', String(Date.now() + 60_000)],
          ['X-Deadline', String(Date.now() + 60_000)],
        ],
        400,
        'deadline_malformed',
      ],
    ];
    const session = await h2Connect(guard.secure);
    for (const [name, headers, status, reason] of table) {
      const answer = await request(guard.plain, { path: '/x', token: guard.token, headers });
      assert.equal(answer.status, status, name);
      assert.equal((await guard.record(answer.header('x-request-id') ?? ''))['guardbee.reason'], reason);
      const stranger = await request(guard.plain, { path: '/x', headers });
      assert.equal(stranger.status, 401, name);
      const fields = headers.map(([, value]) => value);
      const over2 = await h2Request(session, {
        ':path': '/x',
        authorization: `Bearer ${guard.token}`,
        'x-deadline': fields.length === 1 ? fields[0] : fields,
      });
      assert.equal(over2.status, status, name);
    }
    session.destroy();
    assert.equal(upstream.requests.length, seen);
  });

  test('the time of a route or listener ends it without any deadline, and a deadline never extends it', async () => {
    const target = guard.target('hasty');
    const started = performance.now();
    const answer = await request(target, {
      path: '/hang',
      token: guard.token,
      headers: [['X-Deadline', String(Date.now() + 60_000)]],
    });
    assert.equal(answer.status, 504);
    const tookMs = performance.now() - started;
    assert.ok(tookMs >= 295 && tookMs < 5_000, `${String(tookMs)} ms`);
    await exceeded(answer.header('x-request-id'));

    const brief = await RawConnection.connect(target);
    brief.write(requestBytes(target, { path: '/chatty', token: guard.token }));
    const head = await brief.readHead();
    brief.discard();
    await brief.waitForEnd();
    await exceeded(fieldValue(head.headers, 'x-request-id'));

    const patient = await RawConnection.connect(target);
    patient.write(requestBytes(target, { path: '/events', token: guard.token }));
    assert.match(await patient.readEvent(), /ready/);
    assert.equal((await request(target, { path: '/hang', token: guard.token })).status, 504);
    assert.equal(patient.ended, null, 'the route has no end');
    patient.close();
  });

  test('a deadline that is far, or off, ends nothing', async () => {
    const streams: RawConnection[] = [];
    // Beyond what a timer can count, and beyond what a number can.
    for (const [target, deadline] of [
      [guard.plain, String(Date.now() + 2 ** 31 + 60_000)],
      [guard.plain, '18446744073709551615'],
      [guard.plain, '9999-12-31T23:59:59Z'],
      [guard.target('off'), '0'],
      [guard.target('off'), 'nonsense'],
      [guard.target('off'), String(Date.now() + 100)],
    ] as const) {
      const client = await RawConnection.connect(target);
      client.write(requestBytes(target, { path: '/events', token: guard.token, headers: [['X-Deadline', deadline]] }));
      assert.match(await client.readEvent(), /ready/);
      assert.equal(upstream.requests.at(-1)?.header('x-deadline'), deadline);
      streams.push(client);
    }
    const headers: readonly (readonly [string, string])[] = [['X-Deadline', String(Date.now() + 500)]];
    assert.equal((await request(guard.plain, { path: '/hang', token: guard.token, headers })).status, 504);
    for (const client of streams) {
      assert.equal(client.ended, null);
      client.close();
    }
  });

  test("the 504 in rbee's form", async () => {
    const target = guard.target('rbee');
    for (const deadlineMs of [Date.now() - 5_000, Date.now() + 300]) {
      const sentMs = Date.now();
      const answer = await request(target, {
        path: '/hang',
        token: guard.token,
        headers: [['X-Deadline', String(deadlineMs)]],
      });
      assert.equal(answer.status, 504);
      assert.equal(answer.header('content-type'), 'application/json');
      assert.equal(answer.header('retry-after'), '1');
      const said = JSON.parse(answer.body.toString()) as Record<string, unknown>;
      assert.deepEqual(Object.keys(said), ['error', 'deadline_ms', 'elapsed_ms', 'exceeded_by_ms']);
      assert.equal(said['error'], 'deadline_exceeded');
      assert.equal(said['deadline_ms'], deadlineMs);
      assert.equal(answer.header('x-deadline-exceeded-by-ms'), String(said['exceeded_by_ms']));
      const tookMs = Date.now() - sentMs;
      assert.ok(Number(said['elapsed_ms']) <= tookMs + 1);
      assert.ok(Number(said['exceeded_by_ms']) >= Math.max(0, sentMs - deadlineMs));
      assert.ok(Number(said['exceeded_by_ms']) <= Math.max(0, sentMs - deadlineMs) + tookMs);
    }
  });
});
