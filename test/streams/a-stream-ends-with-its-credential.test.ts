/**
 * What is underway loses its right to be when its credential does: an event stream, a WebSocket and a request body that
 * is still coming all end within a second, on both sides, and the log says why.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import type { ExchangeRecord } from '../../src/exchange-record.js';
import type { Identity, Revocable } from '../../src/identity/identity.js';
import { endedBy } from '../../src/identity/revocation.js';
import type { Revocations } from '../../src/identity/revocation.js';
import { loadPolicyText } from '../../src/policy/load.js';
import { Upstreams } from '../../src/proxy/upstream.js';
import { MEANS_OF_POLICY } from '../../src/gate/decide.js';
import { openListener } from '../../src/server/listener.js';
import { OpenExchanges } from '../../src/server/open-exchanges.js';
import { FileRevocations } from '../../src/state/revocation-file.js';
import { testCertificates } from '../support/certificates.js';
import { startGuard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { countResources, expectResources } from '../support/leak.js';
import { policyText, simplePolicy, tokenPair } from '../support/policy-builder.js';
import { RawConnection, type Target, openWebSocket, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TestRedis } from '../support/redis.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';
import { EMBEDDED, SHARED, revocable, sidecar } from '../state/fixture.js';

/** A second, and what a busy machine adds to it. */
const SOON_MS = 5000;

async function streamingUpstream(): Promise<RecordingUpstream> {
  return await RecordingUpstream.start({
    respond: (request, connection) => {
      if (request.header('upgrade') !== null) void respond.webSocket()(request, connection);
      // The answer to a body comes after it.
      else if (request.method === 'GET') void respond.silentEvents()(request, connection);
    },
  });
}

interface Underway {
  readonly events: RawConnection;
  readonly socket: RawConnection;
  readonly body: RawConnection;
}

/** One of each, and all three have reached the upstream. */
async function begin(target: Target, upstream: RecordingUpstream, token: string): Promise<Underway> {
  const before = upstream.requests.length;
  const events = await RawConnection.connect(target);
  events.write(requestBytes(target, { path: '/events', token }));
  assert.match(await events.readEvent(), /ready/);
  const opened = await openWebSocket(target, { path: '/socket', token });
  assert.ok(opened.socket !== null);
  const body = await RawConnection.connect(target);
  const head = requestBytes(target, {
    method: 'POST',
    path: '/upload',
    token,
    headers: [['Content-Length', '1000000']],
  });
  body.write(Buffer.concat([head, Buffer.alloc(1000)]));
  await waitUntil(() => upstream.requests.length === before + 3, 'the upstream to have all three');
  return { events, socket: opened.connection, body };
}

/** Resolves to when the last of the three was told; the connection of a body is closed later, so that the answer is read. */
async function allEnd({ events, socket, body }: Underway, timeoutMs = SOON_MS): Promise<number> {
  const answer = await body.readResponse('POST', timeoutMs);
  const answeredAtMs = performance.now();
  assert.equal(answer.status, 401);
  for (const one of [events, socket]) await one.waitForEnd(timeoutMs);
  await body.waitForEnd(timeoutMs);
  for (const one of [events, socket, body]) one.close();
  return Math.max(answeredAtMs, events.endedAtMs ?? Infinity, socket.endedAtMs ?? Infinity);
}

const isEnd = (line: Readonly<Record<string, unknown>>): boolean => line['guardbee.reason'] === 'credential_ended';

test('an expired token ends what it began, unless the listener lets it go on', async () => {
  await using upstream = await streamingUpstream();
  const { token, sha256 } = tokenPair();
  // Time for guardbee to start and for all of it to begin, on a busy machine too.
  await testCertificates();
  const endsAtMs = Date.now() + 8000;
  await using guard = await startGuard({
    upstream: upstream.url,
    tokens: [{ name: 'brief', sha256, roles: ['operator'], not_after: new Date(endsAtMs).toISOString() }],
    listeners: { patient: { streams: { end_at_expiry: false } } },
  });
  const brief = await begin(guard.plain, upstream, token);
  const patient = await begin(guard.target('patient'), upstream, token);
  const endless = await begin(guard.plain, upstream, guard.token);
  const session = await h2Connect(guard.secure);
  const stream = session.request({ ':path': '/events', authorization: `Bearer ${token}` });
  stream.on('error', () => undefined);
  const [first] = (await within(once(stream, 'data'), 'the first event')) as [Buffer];
  assert.match(first.toString(), /ready/);
  const closed = new Promise((resolve) => stream.once('close', resolve));
  assert.ok(Date.now() < endsAtMs, 'all of it began in time');

  await allEnd(brief, 10_000);
  assert.ok(Date.now() >= endsAtMs, 'not before its time');
  await within(closed, 'the stream over HTTP/2 to end');
  await waitUntil(() => guard.records.filter(isEnd).length === 4, 'four lines that say why');
  for (const line of guard.records.filter(isEnd)) {
    assert.equal(line['level'], 'WARN');
    assert.equal(line['guardbee.identity'], 'brief');
  }
  for (const other of [patient, endless]) {
    for (const one of [other.events, other.socket, other.body]) {
      assert.equal(one.ended, null, 'others go on');
      one.close();
    }
  }
  session.destroy();
});

interface Bench {
  readonly target: Target;
  readonly records: ExchangeRecord[];
  readonly underway: OpenExchanges;
  /** How often one of them was asked about. */
  readonly asked: () => number;
}

/** A listener in this process, whose callers are all `identity`. */
async function listening(
  t: TestContext,
  upstream: RecordingUpstream,
  identity: Identity,
  revocations: Revocations,
): Promise<Bench> {
  const dir = new TemporaryDirectory(t);
  const { sha256 } = tokenPair();
  const text = policyText(
    simplePolicy({ upstream: upstream.url, stateDir: dir.path, tokens: [{ name: 'k', sha256, roles: ['operator'] }] }),
  );
  const loaded = await loadPolicyText(text, dir.file('policy.yaml'), { env: {}, now: Date.now() });
  assert.ok(loaded.ok);
  const [listener] = loaded.policy.listeners;
  assert.ok(listener !== undefined);
  let asked = 0;
  const records: ExchangeRecord[] = [];
  const upstreams = new Upstreams();
  const underway = new OpenExchanges((who, nowMs) => {
    asked += 1;
    return endedBy(revocations, who, nowMs);
  });
  const nothing = (): void => undefined;
  const open = await openListener(
    listener,
    null,
    {
      upstreams,
      sink: {
        opened: nothing,
        finished: (record) => {
          records.push(record);
          return null;
        },
      },
      witness: null,
      clock: { now: () => Date.now(), ticks: () => performance.now() },
      means: { ...MEANS_OF_POLICY, prove: () => ({ ok: true, identity, carrier: 'authorization', fingerprint: null }) },
      open: underway,
      generation: underway.generation,
      denials: {
        answer: (_exchange, _refusal, send) => {
          send();
        },
      },
      draining: () => false,
      broke: (error) => {
        throw error;
      },
    },
    {
      opened: nothing,
      closed: nothing,
      passed: nothing,
      refused: nothing,
      tlsFailed: nothing,
      certificateRefused: nothing,
      unreadable: nothing,
    },
    null,
  );
  t.after(async () => {
    underway.stop();
    open.destroy();
    await open.ended;
    upstreams.close();
  });
  return { target: { port: open.address.port }, records, underway, asked: () => asked };
}

const holder = (one: Revocable): Identity => ({
  name: 'keeper',
  authenticator: 'sso',
  roles: ['operator'],
  grants: new Set(['operator', 'read', 'write']),
  expiresAtMs: one.expiresAtMs,
  revocables: [one],
});

test('a revoked credential ends what it began, and nothing is left of it', async (t) => {
  await using upstream = await streamingUpstream();
  const store = await FileRevocations.open(new TemporaryDirectory(t).path, Date.now(), () => undefined);
  t.after(() => store.close());
  const mine = revocable({ settings: EMBEDDED });
  const other = revocable({ settings: EMBEDDED, jti: 'token-2' });
  const revoked = await listening(t, upstream, holder(mine), store);
  const kept = await listening(t, upstream, holder(other), store);
  const before = countResources();
  const underway = await begin(revoked.target, upstream, 'x'.repeat(20));
  const goesOn = await begin(kept.target, upstream, 'x'.repeat(20));
  assert.equal(revoked.underway.size, 3);
  await store.revoke(mine, Date.now());
  const atMs = performance.now();
  const endedAtMs = await allEnd(underway);
  t.diagnostic(`all three ended ${String(Math.round(endedAtMs - atMs))} ms after the revocation`);
  assert.deepEqual(
    revoked.records.map(({ outcome }) => outcome),
    Array.from({ length: 3 }, () => ({ kind: 'failed', reason: 'credential_ended' })),
  );
  assert.equal(revoked.underway.size, 0);
  for (const one of [goesOn.events, goesOn.socket, goesOn.body]) {
    assert.equal(one.ended, null);
    one.close();
  }
  await waitUntil(() => kept.underway.size === 0, 'those that left to be forgotten');
  await waitUntil(
    () => upstream.connections.every((one) => upstream.closedAt(one) !== null),
    'the upstream to hear of it',
  );
  await expectResources(before);
});

test('a revocation at one sidecar ends the streams at another; a store that is away ends none', async (t) => {
  const redis = await TestRedis.start(t);
  if (redis === null) return;
  await using upstream = await streamingUpstream();
  const here = await sidecar(t, redis.url);
  const there = await sidecar(t, redis.url);
  const mine = revocable({ settings: SHARED });
  const other = revocable({ settings: SHARED, jti: 'token-2' });
  const at = await listening(t, upstream, holder(mine), there.store);
  const kept = await listening(t, upstream, holder(other), there.store);
  const underway = await begin(at.target, upstream, 'x'.repeat(20));
  const goesOn = await begin(kept.target, upstream, 'x'.repeat(20));
  await here.store.revoke(mine, Date.now());
  const atMs = performance.now();
  const endedAtMs = await allEnd(underway);
  t.diagnostic(`all three ended ${String(Math.round(endedAtMs - atMs))} ms after the revocation`);

  await redis.stop();
  await waitUntil(() => there.store.known(other, Date.now()) === 'unknown', 'the loss to be noticed');
  const askedBefore = kept.asked();
  await waitUntil(() => kept.asked() >= askedBefore + 6, 'all three to be looked at twice');
  for (const one of [goesOn.events, goesOn.socket, goesOn.body]) {
    assert.equal(one.ended, null);
    one.close();
  }
});
