/** rbee's own format, by its rule: two chained records that were computed from rbee's source stand here as they must be. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { AUDIT_EVENTS } from '../../src/observe/audit/events.js';
import { RbeeChain, rbeeEvent, rbeeTime } from '../../src/observe/audit/rbee-record.js';
import { type AuditRecord, GENESIS, readRecord, writeRecord, type Entry } from '../../src/observe/audit/record.js';
import { DENIED } from './trail-fixture.js';

interface RbeeRecord {
  readonly audit_id: string;
  readonly timestamp: string;
  readonly service_id: string;
  readonly event: Readonly<Record<string, unknown>>;
  readonly prev_hash: string;
  readonly hash: string;
}

test('the chain of rbee', () => {
  const chain = new RbeeChain('queen-rbee');
  const first = chain.add(
    {
      event_type: 'auth_failure',
      timestamp: '2025-10-01T16:48:10Z',
      attempted_user: null,
      reason: 'invalid_token',
      ip: '203.0.113.42',
      path: '/v1/jobs',
      service_id: 'queen-rbee',
    },
    '2025-10-01T16:48:10.123Z',
  );
  const second = chain.add(
    {
      event_type: 'auth_success',
      timestamp: '2025-10-01T16:48:11Z',
      actor: { user_id: 'token:a3f2c1', ip: '192.168.1.100', auth_method: 'bearer_token', session_id: null },
      method: 'bearer_token',
      path: '/v1/jobs',
      service_id: 'queen-rbee',
    },
    '2025-10-01T16:48:11Z',
  );
  const [one, two] = [first, second].map((text) => JSON.parse(text) as RbeeRecord);
  assert.equal(one?.hash, '8222eec958e3948b2350e8634bfb272222c9d33066da446bd5ddf3a74404e82b');
  assert.equal(two?.hash, '844cabd09ae665eb6e95668ff19341efbfde0c5b71a05af6ba7b757f074cbeb6');
  assert.equal(one.prev_hash, GENESIS);
  assert.equal(two.prev_hash, one.hash);
  assert.deepEqual(
    [one.audit_id, two.audit_id],
    ['audit-queen-rbee-0000000000000000', 'audit-queen-rbee-0000000000000001'],
  );
  assert.deepEqual(Object.keys(one), ['audit_id', 'timestamp', 'service_id', 'event', 'prev_hash', 'hash']);
  assert.ok(first.endsWith('}\n'));
});

function record(entry: Entry): AuditRecord {
  const place = {
    chain: 'ab'.repeat(16),
    seq: 1,
    time: '2026-11-20T12:00:00.000Z',
    prev: GENESIS,
    policy: 'aabbccddeeff',
  };
  const read = readRecord(Buffer.from(writeRecord(entry, place).line));
  assert.ok(read.ok);
  return read.record;
}

/** The members after `event_type` and `timestamp`, as rbee orders them. */
const FIELDS: Readonly<Record<string, string>> = {
  auth_success: 'actor method path service_id',
  auth_failure: 'attempted_user reason ip path service_id',
  token_revoked: 'actor token_fingerprint reason',
  authorization_granted: 'actor resource action',
  authorization_denied: 'actor resource action reason',
  rate_limit_exceeded: 'ip endpoint limit actual window_seconds',
  path_traversal_attempt: 'actor attempted_path endpoint',
  invalid_token_used: 'ip token_prefix endpoint',
  policy_violation: 'policy violation details severity worker_id action_taken',
  suspicious_activity: 'actor activity_type details risk_score',
  inference_executed: 'customer_id job_id model_ref tokens_processed provider_id result',
  model_accessed: 'customer_id model_ref access_type provider_id',
  data_deleted: 'customer_id data_types reason',
};

test('each event has the fields of rbee in the order of rbee, or is none of its', () => {
  for (const event of AUDIT_EVENTS) {
    const written = rbeeEvent(record({ ...DENIED, event }), 'guardbee', () => 'm_tls');
    assert.equal(
      written === null ? undefined : Object.keys(written).join(' '),
      FIELDS[event] === undefined ? undefined : `event_type timestamp ${FIELDS[event]}`,
      event,
    );
    if (written === null) continue;
    assert.equal(written['event_type'], event);
    assert.equal(written['timestamp'], '2026-11-20T12:00:00Z');
  }
});

test('who did what to what', () => {
  assert.deepEqual(
    rbeeEvent(record(DENIED), 'guardbee', () => null),
    {
      event_type: 'authorization_denied',
      timestamp: '2026-11-20T12:00:00Z',
      // A credential was shown, and the policy does not know (any more) of which kind it was.
      actor: { user_id: 'keeper', ip: '192.0.2.7', auth_method: 'bearer_token', session_id: null },
      resource: { resource_type: 'http', resource_id: '/v1/shutdown', parent_id: 'shutdown' },
      action: 'POST',
      reason: 'permission_missing',
    },
  );
  const stranger = record({
    event: 'auth_failure',
    result: 'denied',
    reason: 'credential_missing',
    peer: '192.0.2.9',
    resource: '/',
  });
  assert.deepEqual(
    rbeeEvent(stranger, 'queen', () => null),
    {
      event_type: 'auth_failure',
      timestamp: '2026-11-20T12:00:00Z',
      attempted_user: null,
      reason: 'missing_header',
      ip: '192.0.2.9',
      path: '/',
      service_id: 'queen',
    },
  );
  const failed = record({
    event: 'inference_executed',
    result: 'failed',
    reason: 'upstream_timeout',
    who: 'ui',
    request_id: 'r1',
  });
  assert.deepEqual(rbeeEvent(failed, 'queen', () => null)?.['result'], { failure: { reason: 'upstream_timeout' } });
});

test('text is hashed as rbee writes it', () => {
  const chain = new RbeeChain('guardbee');
  const event = rbeeEvent(record({ ...DENIED, resource: '/ü/"\\\u007f😀' }), 'guardbee', () => null);
  assert.ok(event);
  const time = rbeeTime('2026-11-20T12:00:00.120Z');
  const line = chain.add(event, time);
  const { hash } = JSON.parse(line) as RbeeRecord;
  // The text of the event as it stands in the line, which is what rbee's reader would compute from.
  const text = /"event":(\{.*\}),"prev_hash"/.exec(line)?.[1] ?? '';
  assert.ok(text.includes('/ü/\\"\\\\\u007f😀'));
  const whole = `audit-guardbee-00000000000000002026-11-20T12:00:00.120+00:00guardbee${text}${GENESIS}`;
  assert.equal(hash, createHash('sha256').update(whole).digest('hex'));
});
