/**
 * What is refused is answered, and what may change something is done, when the record of it is on the disk and not before.
 * The disk hangs for as long as the test wants; the record has been written by then, so that what is waited for is the disk.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AuditRecord } from '../../src/observe/audit/record.js';
import { assertUntouched } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { RawConnection, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil, within } from '../support/wait.js';
import { AuditedGuard } from './audited-guard.js';

const ROUTES = [
  { name: 'health', path: '/health', methods: ['GET'], public: true },
  { name: 'quiet', path: '/quiet', methods: 'any', require: 'write', audit: 'denials_only' },
  { name: 'one', path: '/one', methods: 'any', require: 'write', limits: { concurrent: 1 } },
  { name: 'judged', path: '/judged', methods: ['POST'], require: 'write', body: { max: '2MiB', json: {} } },
  { name: 'late', path: '/late', methods: ['POST'], require: 'write', timeout: '400ms' },
  { name: 'read', path: '/**', methods: ['GET', 'HEAD'], require: 'read' },
  { name: 'write', path: '/**', methods: 'any', require: 'write' },
];

/** Whether it is settled by now; what has had its chance to settle has used it. */
async function isOpen(promise: Promise<unknown>): Promise<boolean> {
  let open = true;
  promise.then(
    () => (open = false),
    () => (open = false),
  );
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setTimeout(resolve, 5));
  return open;
}

// What takes time here is waiting.
describe('while the disk does not answer', { concurrency: 3 }, () => {
  const cases: Readonly<
    Record<string, { ask: (audited: AuditedGuard) => Promise<number | null>; status: number; reason: string | null }>
  > = {
    'a refusal over HTTP/1.1': {
      ask: async ({ guard }) => (await request(guard.plain, { path: '/x' })).status,
      status: 401,
      reason: 'credential_missing',
    },
    'a refusal over HTTP/2': {
      ask: async ({ guard }) => {
        const session = await h2Connect(guard.secure);
        try {
          return (await h2Request(session, { ':path': '/x', authorization: 'Bearer wrong' })).status;
        } finally {
          session.destroy();
        }
      },
      status: 401,
      reason: 'credential_invalid',
    },
    'a head that cannot be read': {
      ask: async ({ guard }) => {
        using connection = await RawConnection.connect(guard.plain);
        connection.write('GET / HTTP/1.1\r\nHost x\r\n\r\n');
        return (await connection.readResponse()).status;
      },
      status: 400,
      reason: 'malformed_head',
    },
    'a POST that is permitted': {
      ask: async ({ guard }) => (await request(guard.plain, { method: 'POST', token: guard.token, body: 'x' })).status,
      status: 200,
      reason: null,
    },
    'a POST whose body is judged': {
      ask: async ({ guard }) => {
        const headers = [['Content-Type', 'application/json']] as const;
        const asked = { method: 'POST', path: '/judged', token: guard.token, headers, body: '{"a":1}' };
        return (await request(guard.plain, asked)).status;
      },
      status: 200,
      reason: null,
    },
    'a WebSocket': {
      ask: async ({ guard }) => {
        const { response, connection } = await openWebSocket(guard.plain, { path: '/ws', token: guard.token });
        connection.close();
        return response.status;
      },
      status: 101,
      reason: null,
    },
  };
  for (const [name, { ask, status, reason }] of Object.entries(cases)) {
    test(`${name} waits, and the upstream hears nothing`, async () => {
      await using upstream = await RecordingUpstream.start({
        respond: respond.byPath({ '/ws': respond.webSocket() }, respond.status(200)),
      });
      await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
      const known = audited.records.length;
      audited.disk('hang');
      const answer = ask(audited);
      answer.catch(() => undefined);
      const isMine = (record: AuditRecord): boolean => record.seq > known && (record.reason ?? null) === reason;
      const written = await audited.record(isMine);
      assert.ok(await isOpen(answer));
      assertUntouched(upstream);
      assert.equal(written.result, reason === null ? 'permitted' : 'denied');
      audited.disk('');
      assert.equal(await within(answer, 'the answer'), status);
      if (reason !== null) assertUntouched(upstream);
    });
  }

  test('what is safe and permitted goes on, as does what the policy leaves out', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    const { guard } = audited;
    audited.disk('hang');
    for (const asked of [{ path: '/jobs' }, { method: 'HEAD', path: '/jobs' }, { method: 'POST', path: '/quiet' }]) {
      assert.equal((await request(guard.plain, { ...asked, token: guard.token })).status, 200);
    }
    assert.equal((await request(guard.plain, { path: '/health' })).status, 200);
    audited.disk('');
    await audited.record(({ route }) => route === 'health');
    assert.deepEqual(
      audited.records.filter(({ result }) => result === 'permitted').map(({ route }) => route),
      ['read', 'read', 'health'],
    );
  });

  test('a client that leaves meanwhile is gone: nothing is done, and its limit is free again', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    const { guard } = audited;
    const asked = { method: 'POST', path: '/one', token: guard.token, body: 'x' };
    audited.disk('hang');
    const connection = await RawConnection.connect(guard.plain);
    connection.write(requestBytes(guard.plain, asked));
    await audited.record(({ route }) => route === 'one');
    connection.reset();
    await guard.recordWhere((line) => line['guardbee.reason'] === 'client_gone');
    audited.disk('');
    assert.equal((await request(guard.plain, { ...asked, headers: [['X-Second', '1']] })).status, 200);
    assert.deepEqual(
      upstream.requests.map((one) => one.header('x-second')),
      ['1'],
    );
    const ended = await audited.record(({ reason }) => reason === 'client_gone');
    assert.equal(ended.event, 'exchange_ended');
  });

  test('an HTTP/2 stream that is reset meanwhile is gone too', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    const { guard } = audited;
    const session = await h2Connect(guard.secure);
    audited.disk('hang');
    const stream = session.request({
      ':path': '/one',
      ':method': 'POST',
      authorization: `Bearer ${guard.token}`,
    });
    stream.on('error', () => undefined);
    stream.end('x');
    await audited.record(({ route }) => route === 'one');
    stream.close(8);
    await guard.recordWhere((line) => line['guardbee.reason'] === 'client_gone');
    audited.disk('');
    await audited.record(({ reason }) => reason === 'client_gone');
    assertUntouched(upstream);
    session.destroy();
  });

  test('a deadline ends the wait', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    audited.disk('hang');
    const { guard } = audited;
    const asked = { method: 'POST', path: '/late', token: guard.token, body: 'x' };
    assert.equal((await request(guard.plain, asked)).status, 504);
    audited.disk('');
    assert.equal((await audited.record(({ reason }) => reason === 'deadline_exceeded')).result, 'failed');
    assertUntouched(upstream);
  });

  test('a client that leaves before its refusal is on record: it is on record all the same', async () => {
    await using upstream = await RecordingUpstream.start();
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    audited.disk('hang');
    const connection = await RawConnection.connect(audited.guard.plain);
    connection.write(requestBytes(audited.guard.plain, { path: '/x' }));
    await audited.record(({ reason }) => reason === 'credential_missing');
    connection.reset();
    audited.disk('');
    assert.equal((await request(audited.guard.plain, { path: '/x' })).status, 401);
  });

  test('requests that follow on the same connection wait for their turn', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    const { guard } = audited;
    audited.disk('hang');
    using connection = await RawConnection.connect(guard.plain);
    const first = requestBytes(guard.plain, { path: '/x' });
    connection.write(Buffer.concat([first, requestBytes(guard.plain, { path: '/jobs', token: guard.token })]));
    await audited.record(({ reason }) => reason === 'credential_missing');
    assertUntouched(upstream);
    audited.disk('');
    assert.deepEqual([(await connection.readResponse()).status, (await connection.readResponse()).status], [401, 200]);
  });

  test('longer than is waited: said, refused with 503, not ready; and as before when it answers again', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, routes: ROUTES });
    const { guard } = audited;
    audited.disk('hang');
    const asked = { method: 'POST', token: guard.token, body: 'x' };
    const refused = await request(guard.plain, asked);
    assert.equal(refused.status, 503);
    assert.equal(refused.header('retry-after'), '5');
    // Known by now: nobody waits any more, and what is safe is refused as well.
    const beganMs = performance.now();
    assert.equal((await request(guard.plain, { token: guard.token })).status, 503);
    assert.equal((await request(guard.plain, { path: '/x' })).status, 401);
    assert.ok(performance.now() - beganMs < 2_000);
    assertUntouched(upstream);
    await guard.process.waitForLog((line) => line['event.name'] === 'audit.failing' && line['error.type'] === 'slow');
    audited.disk('');
    await guard.process.waitForLog((line) => line['event.name'] === 'audit.recovered');
    assert.equal((await request(guard.plain, asked)).status, 200);
    const story = await waitUntil(() => {
      const found = audited.records.filter(({ route }) => route !== undefined);
      return found.length >= 6 ? found : null;
    }, 'all records');
    assert.deepEqual(
      story.map(({ event, reason }) => reason ?? event),
      [
        'authorization_granted',
        'audit_unavailable',
        'audit_unavailable',
        'credential_missing',
        'authorization_granted',
        'exchange_ended',
      ],
    );
    // Nor does a record say that the upstream heard of what it did not hear of.
    const refusals = story.filter(({ reason }) => reason === 'audit_unavailable');
    assert.deepEqual(
      refusals.map((one) => one.upstream),
      [undefined, undefined],
    );
  });
});
