import assert from 'node:assert/strict';
import { connect as connectTcp } from 'node:net';
import { describe, test } from 'node:test';
import { DENIALS, DENIAL_REASONS, type DenialReason } from '../../src/denial.js';
import type { ExchangeRecord } from '../../src/exchange-record.js';
import { FAILURE_REASONS } from '../../src/failure.js';
import type { Identity } from '../../src/identity/identity.js';
import { Evidence } from '../../src/observe/audit/evidence.js';
import type { AuditRecord } from '../../src/observe/audit/record.js';
import { Redactor } from '../../src/observe/redact.js';
import type { Route } from '../../src/policy/policy.js';
import { ALICE, EXCHANGE, route } from '../observe/exchange-fixture.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { RawConnection, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { AuditedGuard } from './audited-guard.js';
import { TrailPlace } from './opened-trail.js';

/** What the trail calls each refusal. Whoever changes one changes what people search for. */
const CALLED: Readonly<Record<string, readonly DenialReason[]>> = {
  auth_failure: [
    ...(['credential_missing', 'credential_invalid', 'credential_expired', 'credential_not_yet_valid'] as const),
    ...(['credential_malformed', 'credential_ambiguous', 'credential_unverifiable'] as const),
    ...(['login_malformed', 'login_too_large', 'login_type_unsupported', 'session_too_large'] as const),
  ],
  invalid_token_used: ['credential_revoked'],
  authorization_denied: [
    ...(['address_denied', 'client_denied', 'route_unknown', 'route_denied', 'own_page_unknown'] as const),
    ...(['permission_missing', 'operation_unknown', 'not_owner', 'cors_refused'] as const),
  ],
  rate_limit_exceeded: [
    ...(['connections_per_address_exhausted', 'rate_exceeded', 'quota_exceeded'] as const),
    ...(['concurrency_exceeded', 'streams_exceeded'] as const),
  ],
  path_traversal_attempt: ['ambiguous_path'],
  suspicious_activity: [
    ...(['malformed_request', 'malformed_head', 'malformed_target', 'ambiguous_framing', 'host_missing'] as const),
    ...(['host_ambiguous', 'authorization_repeated', 'forwarded_malformed', 'upgrade_malformed'] as const),
    ...(['query_ambiguous', 'body_ambiguous', 'cross_site', 'proxy_header_malformed'] as const),
  ],
  policy_violation: [
    ...(['method_unsupported', 'upgrade_unsupported', 'version_unsupported', 'expectation_unsupported'] as const),
    ...([
      'head_too_large',
      'too_many_fields',
      'head_timeout',
      'proxy_header_timeout',
      'body_timeout',
      'wrong_host',
      'own_page_method',
    ] as const),
    ...(['field_invalid', 'body_type_unsupported', 'body_encoding_unsupported', 'body_too_large'] as const),
    ...(['body_incomplete', 'body_malformed', 'deadline_malformed'] as const),
  ],
  service_refused: [
    ...(['connections_exhausted', 'logout_failed', 'body_budget_exhausted', 'deadline_passed'] as const),
    ...(['limits_unavailable', 'audit_unavailable', 'draining'] as const),
  ],
};

const GET: ExchangeRecord = { ...EXCHANGE, method: 'GET' };

/** What is recorded of it, without what the trail itself adds. */
async function evidenceOf(act: (evidence: Evidence) => void): Promise<AuditRecord[]> {
  using place = new TrailPlace();
  const trail = await place.open();
  const evidence = new Evidence(trail, new Redactor({ knowsDigest: () => false }), 'deny');
  act(evidence);
  evidence.stop();
  await trail.close({ event: 'stopped', result: 'noted' });
  const records = await place.isWhole();
  return records.slice(
    1,
    records.findIndex(({ event }) => event === 'stopped'),
  );
}

/** As `handle` does with a request that may go on. */
function whole(evidence: Evidence, record: ExchangeRecord, unsafe: boolean): void {
  const underway: ExchangeRecord = { ...record, stage: 'underway', outcome: { kind: 'permitted' } };
  if (unsafe) assert.notEqual(evidence.before(underway), false);
  else assert.ok(evidence.accepts);
  void evidence.finished({ ...record, granted: unsafe });
}

const told = (records: readonly AuditRecord[]): string[] =>
  records.map(({ event, result, reason }) => `${event} ${result}${reason === undefined ? '' : ` ${reason}`}`);

describe('a refusal', () => {
  test('each reason has its word', () => {
    assert.deepEqual(Object.values(CALLED).flat().sort(), [...DENIAL_REASONS].sort());
  });
  test('is one record, with who, whence, what and why', async () => {
    const records = await evidenceOf((evidence) => {
      for (const reason of Object.values(CALLED).flat()) {
        void evidence.finished({ ...EXCHANGE, outcome: { kind: 'denied', reason }, status: DENIALS[reason].status });
      }
    });
    const expected = Object.entries(CALLED).flatMap(([event, reasons]) =>
      reasons.map((reason) => `${event} denied ${reason} ${String(DENIALS[reason].status)}`),
    );
    assert.deepEqual(
      records.map(({ event, result, reason, status }) => `${event} ${result} ${reason ?? ''} ${String(status)}`),
      expected,
    );
    const [first] = records;
    assert.ok(first !== undefined);
    const { v, chain, seq, time, prev, hash, policy, event, reason, ...rest } = first;
    assert.ok([v, chain, seq, time, prev, hash, policy, event, reason].every((one) => one !== undefined));
    assert.deepEqual(rest, {
      action: 'POST',
      authenticator: 'keys',
      client: '192.168.1.5',
      credential: 'ab12cd',
      duration_ms: 3,
      host: 'queen.lan:7833',
      listener: 'queen',
      peer: '10.0.0.1',
      protocol: '1.1',
      query: true,
      request_id: EXCHANGE.requestId,
      resource: '/v1/jobs',
      result: 'denied',
      roles: ['operator', 'viewer'],
      route: 'submit',
      status: 401,
      upstream: '127.0.0.1:7833',
      who: 'alice',
    });
  });
  test('of a value says where it stood and which rule it broke, never what it was', async () => {
    const [record] = await evidenceOf((evidence) => {
      const invalid = { place: 'query', name: 'model', rule: 'characters' } as const;
      void evidence.finished({ ...EXCHANGE, outcome: { kind: 'denied', reason: 'field_invalid' }, invalid });
    });
    assert.deepEqual(record?.detail, { in: 'query', name: 'model', rule: 'characters' });
  });
});

describe('what is permitted', () => {
  const sse = { ...GET, stream: 'sse' } as const;
  const named = (audit: Route['audit']): Route => ({ ...route('submit'), audit });
  const cases: Readonly<Record<string, { act: (evidence: Evidence) => void; says: readonly string[] }>> = {
    'safe: one record at its end': {
      act: (evidence) => {
        whole(evidence, GET, false);
      },
      says: ['authorization_granted permitted'],
    },
    'unsafe: one before, one at its end': {
      act: (evidence) => {
        whole(evidence, EXCHANGE, true);
      },
      says: ['authorization_granted permitted', 'exchange_ended permitted'],
    },
    'a safe one that becomes a stream: one when it does': {
      act: (evidence) => {
        evidence.opened({ ...sse, stage: 'underway' });
        void evidence.finished({ ...sse, granted: true });
      },
      says: ['authorization_granted permitted sse', 'exchange_ended permitted sse'],
    },
    'a WebSocket: one before, none when it opens': {
      act: (evidence) => {
        void evidence.before(GET);
        evidence.opened({ ...GET, stream: 'ws', granted: true });
        void evidence.finished({ ...GET, stream: 'ws', granted: true });
      },
      says: ['authorization_granted permitted', 'exchange_ended permitted ws'],
    },
    'a route for inference': {
      act: (evidence) => {
        whole(evidence, { ...EXCHANGE, route: named('inference') }, true);
      },
      says: ['authorization_granted permitted', 'inference_executed permitted'],
    },
    'a route for models': {
      act: (evidence) => {
        whole(evidence, { ...GET, route: named('model_access') }, false);
      },
      says: ['model_accessed permitted'],
    },
    'a route that deletes': {
      act: (evidence) => {
        whole(evidence, { ...EXCHANGE, method: 'DELETE', route: named('data_deletion') }, true);
      },
      says: ['authorization_granted permitted', 'data_deleted permitted'],
    },
    'a route of which only refusals count': {
      act: (evidence) => {
        whole(evidence, { ...EXCHANGE, route: named('denials_only') }, true);
        void evidence.finished({
          ...EXCHANGE,
          route: named('denials_only'),
          outcome: { kind: 'denied', reason: 'permission_missing' },
        });
      },
      says: ['authorization_denied denied permission_missing'],
    },
    'our own pages': {
      act: (evidence) => {
        for (const by of ['login_page', 'login', 'refresh', 'logout', 'preflight'] as const) {
          void evidence.finished({ ...EXCHANGE, outcome: { kind: 'answered', by } });
        }
      },
      says: ['auth_success answered login', 'auth_success answered refresh', 'session_ended answered logout'],
    },
  };
  for (const [name, { act, says }] of Object.entries(cases)) {
    test(name, async () => {
      assert.deepEqual(told(await evidenceOf(act)), says);
    });
  }

  test('and fails: each reason is kept', async () => {
    const records = await evidenceOf((evidence) => {
      for (const reason of FAILURE_REASONS) void evidence.finished({ ...GET, outcome: { kind: 'failed', reason } });
    });
    assert.deepEqual(
      told(records),
      FAILURE_REASONS.map((reason) => `exchange_ended failed ${reason}`),
    );
  });
});

test('text of a request: secrets masked, shortened, never able to stop a record', async () => {
  const who: Identity = {
    ...ALICE,
    name: `${'n'.repeat(500)}\ud800`,
    roles: Array.from({ length: 64 }, () => '\ud800\u0000r'),
  };
  const records = await evidenceOf((evidence) => {
    void evidence.finished({
      ...EXCHANGE,
      identity: who,
      path: `/v1/${'\u0001'.repeat(5_000)}`,
      host: `\udfff${'h'.repeat(10_000)}`,
      method: 'M'.repeat(1_000),
      requestId: '\ud800'.repeat(400),
    });
    void evidence.finished({ ...EXCHANGE, path: '/v1/gbee_Zq3v8Xw1LmN5bR7tY2cK4dF6' });
  });
  assert.equal(records.length, 2);
  assert.equal(records[0]?.roles?.length, 16);
  assert.ok((records[0].resource?.length ?? 0) <= 512);
  assert.ok(!(records[1]?.resource ?? '').includes('gbee_Zq3'));
});

describe('what strangers do again and again', () => {
  test('is recorded when it happens first, and then with its number', async () => {
    const records = await evidenceOf((evidence) => {
      for (let number = 0; number < 50; number += 1) {
        evidence.connectionRefused('main', 'address_denied', '192.0.2.7');
        evidence.tlsFailed('main', '192.0.2.7', 'ERR_SSL_NO_SHARED_CIPHER');
      }
      evidence.connectionRefused('main', 'address_denied', '198.51.100.1');
    });
    assert.deepEqual(
      records.map(({ event, reason, peer, count }) => [event, reason, peer, count ?? 1]),
      [
        ['authorization_denied', 'address_denied', '192.0.2.7', 1],
        ['tls_failed', 'ERR_SSL_NO_SHARED_CIPHER', '192.0.2.7', 1],
        ['authorization_denied', 'address_denied', '198.51.100.1', 1],
        ['authorization_denied', 'address_denied', '192.0.2.7', 49],
        ['tls_failed', 'ERR_SSL_NO_SHARED_CIPHER', '192.0.2.7', 49],
      ],
    );
  });
  test('from ever new addresses fills no trail', async () => {
    const records = await evidenceOf((evidence) => {
      for (let number = 0; number < 20_000; number += 1) {
        evidence.connectionRefused('main', 'address_denied', `10.${String(number >> 8)}.${String(number & 255)}.1`);
      }
    });
    assert.ok(records.length < 1_100);
    const refused = records.filter(({ reason }) => reason === 'address_denied');
    assert.equal(
      refused.reduce((sum, { count }) => sum + (count ?? 1), 0),
      20_000,
    );
  });
});

test('a guardbee that runs: what came over each door is there, from start to stop', async () => {
  await using upstream = await RecordingUpstream.start({
    respond: respond.byPath({ '/ws': respond.webSocket(), '/events': respond.events(['one']) }, respond.status(200)),
  });
  await using audited = await AuditedGuard.start({
    upstream: upstream.url,
    listeners: { elsewhere: { allow_from: ['192.0.2.0/24'] } },
  });
  const { guard } = audited;
  const { token } = guard;
  {
    using connection = await RawConnection.connect(guard.plain);
    connection.write('GET /unreadable HTTP/1.1\r\nHost x\r\n\r\n');
    assert.equal((await connection.readResponse()).status, 400);
  }
  {
    using connection = await RawConnection.connect(guard.plain);
    connection.write(requestBytes(guard.plain, { path: '/a/../../etc/passwd' }));
    assert.equal((await connection.readResponse()).status, 400);
  }
  const session = await h2Connect(guard.secure);
  assert.equal(
    (await h2Request(session, { ':path': '/h2?token=hidden', authorization: `Bearer ${token}` })).status,
    200,
  );
  session.destroy();
  assert.equal((await request(guard.plain, { path: '/events', token })).status, 200);
  const { connection, response } = await openWebSocket(guard.plain, { path: '/ws', token });
  assert.equal(response.status, 101);
  connection.close();
  for (let number = 0; number < 3; number += 1) {
    const refused = connectTcp(guard.target('elsewhere').port, '127.0.0.1');
    refused.on('error', () => undefined);
    await new Promise((resolve) => refused.once('close', resolve));
    const { port } = guard.secure;
    const noTls = connectTcp(port, '127.0.0.1');
    noTls.on('error', () => undefined);
    noTls.end('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    noTls.resume();
    await new Promise((resolve) => noTls.once('close', resolve));
  }
  await waitUntil(
    () => audited.records.filter(({ event }) => event === 'exchange_ended').length === 2,
    'the streams to end',
  );
  await guard.process.kill('SIGTERM', 20_000);
  const records = audited.records.filter(({ event }) => event !== 'segment_opened' && event !== 'checkpoint');
  assert.deepEqual(told(records.slice(0, 3)), [
    'started noted',
    'suspicious_activity denied malformed_head',
    'path_traversal_attempt denied ambiguous_path',
  ]);
  const h2 = records.find(({ protocol }) => protocol === '2');
  assert.deepEqual([h2?.event, h2?.resource, h2?.query, h2?.status], ['authorization_granted', '/h2', true, 200]);
  const events = records.filter(({ resource }) => resource === '/events');
  assert.deepEqual(told(events), ['authorization_granted permitted sse', 'exchange_ended permitted sse']);
  const ws = records.filter(({ resource }) => resource === '/ws');
  assert.deepEqual(
    ws.map(({ event, upgrade }) => [event, upgrade]),
    [
      ['authorization_granted', true],
      ['exchange_ended', true],
    ],
  );
  for (const match of ['address_denied', 'tls_failed'] as const) {
    const alike = records.filter(({ event, reason }) => event === match || reason === match);
    assert.equal(
      alike.reduce((sum, { count }) => sum + (count ?? 1), 0),
      3,
      match,
    );
    assert.ok(alike.length <= 2);
  }
  assert.equal(records.at(-1)?.event, 'stopped');
});

test('a redirect listener: what cannot be read there is a refusal like any other', async () => {
  await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
  await using audited = await AuditedGuard.start({
    upstream: upstream.url,
    listeners: {
      web: {
        type: 'redirect',
        hosts: ['queen.lan'],
        https_port: 8443,
        upstream: undefined,
        routes: undefined,
        authenticate: undefined,
        throttle: undefined,
      } as never,
    },
  });
  const web = audited.guard.target('web');
  using connection = await RawConnection.connect(web);
  connection.write('GET //evil.example/../x HTTP/1.1\r\nHost: queen.lan\r\n\r\n');
  assert.equal((await connection.readResponse()).status, 400);
  const record = await audited.record(({ listener }) => listener === 'web');
  assert.equal(record.result, 'denied');
});
