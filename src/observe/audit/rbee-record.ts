/**
 * Records in the format of rbee's audit-logging crate, so that tools made for it read ours: its events with its fields in
 * its order, chained by its own rule. What has no event there has no record there.
 */
import { createHash } from 'node:crypto';
import type { AuditEvent } from './events.js';
import { type AuditRecord, GENESIS } from './record.js';

export type RbeeValue = string | number | null | readonly string[] | { readonly [name: string]: RbeeValue };
/** Its first member is `event_type`, its second `timestamp`. */
export type RbeeEvent = Readonly<Record<string, RbeeValue>>;

/** How rbee calls the ways in which somebody proves who they are. */
export type RbeeMethod = 'bearer_token' | 'api_key' | 'm_tls' | 'internal';

/** A chain of its own, from its genesis. */
export class RbeeChain {
  readonly #service: string;
  #counter = 0;
  #prev = GENESIS;

  constructor(service: string) {
    this.#service = service;
  }

  /** @param time RFC 3339, in UTC with `Z` @returns a line with its end */
  add(event: RbeeEvent, time: string): string {
    const auditId = `audit-${this.#service}-${this.#counter.toString(16).padStart(16, '0')}`;
    const hash = createHash('sha256')
      .update(auditId)
      // The one place where rbee writes the zone as an offset.
      .update(`${time.slice(0, -1)}+00:00`)
      .update(this.#service)
      .update(JSON.stringify(event))
      .update(this.#prev)
      .digest('hex');
    const record = {
      audit_id: auditId,
      timestamp: time,
      service_id: this.#service,
      event,
      prev_hash: this.#prev,
      hash,
    };
    this.#counter += 1;
    this.#prev = hash;
    return `${JSON.stringify(record)}\n`;
  }
}

/** As rbee writes it: a whole second has no fraction. */
export function rbeeTime(time: string): string {
  return time.replace('.000Z', 'Z');
}

/** @param methodOf of an authenticator of the policy; null: it is not known there. Null: rbee has no such event */
export function rbeeEvent(
  record: AuditRecord,
  service: string,
  methodOf: (authenticator: string) => RbeeMethod | null,
): RbeeEvent | null {
  const write = EVENTS[record.event];
  if (write === undefined) return null;
  const method =
    (record.authenticator === undefined ? null : methodOf(record.authenticator)) ??
    (record.credential === undefined ? 'internal' : 'bearer_token');
  const fields = write(new Facts(record, service, method));
  return { event_type: record.event, timestamp: rbeeTime(record.time), ...fields };
}

/** What rbee's fields ask for, of one record. */
class Facts {
  readonly record: AuditRecord;
  readonly service: string;
  readonly method: RbeeMethod;

  constructor(record: AuditRecord, service: string, method: RbeeMethod) {
    this.record = record;
    this.service = service;
    this.method = method;
  }

  get ip(): string | null {
    return this.record.client ?? this.record.peer ?? null;
  }

  get path(): string {
    return this.record.resource ?? '';
  }

  get who(): string {
    return this.record.who ?? (this.record.credential === undefined ? 'anonymous' : `token:${this.record.credential}`);
  }

  get actor(): RbeeValue {
    return { user_id: this.who, ip: this.ip, auth_method: this.method, session_id: null };
  }

  get resource(): RbeeValue {
    return { resource_type: 'http', resource_id: this.path, parent_id: this.record.route ?? null };
  }

  get reason(): string {
    return this.record.reason ?? '';
  }

  get result(): RbeeValue {
    const { result } = this.record;
    return result === 'permitted' || result === 'answered' ? 'success' : { failure: { reason: this.reason || result } };
  }

  get endpoint(): string {
    return `${this.record.action ?? ''} ${this.path}`.trim();
  }
}

/** rbee has three words for why somebody could not prove who they are. */
const FAILED_BECAUSE: Readonly<Record<string, string>> = {
  credential_missing: 'missing_header',
  credential_expired: 'expired_token',
  credential_invalid: 'invalid_token',
  credential_malformed: 'invalid_token',
  credential_ambiguous: 'invalid_token',
  credential_not_yet_valid: 'invalid_token',
  credential_unverifiable: 'invalid_token',
};

/** In the order of rbee's fields. Numbers that guardbee does not record are 0 there. */
const EVENTS: Readonly<Partial<Record<AuditEvent, (facts: Facts) => RbeeEvent>>> = {
  auth_success: ({ actor, method, path, service }) => ({ actor, method, path, service_id: service }),
  auth_failure: ({ record, ip, path, service, reason }) => ({
    attempted_user: record.who ?? null,
    reason: FAILED_BECAUSE[reason] ?? reason,
    ip: ip ?? '',
    path,
    service_id: service,
  }),
  token_revoked: ({ record, actor, reason }) => ({
    actor,
    token_fingerprint: record.credential ?? '',
    reason: reason === '' ? 'user_requested' : reason,
  }),
  authorization_granted: ({ record, actor, resource }) => ({ actor, resource, action: record.action ?? '' }),
  authorization_denied: ({ record, actor, resource, reason }) => ({
    actor,
    resource,
    action: record.action ?? '',
    reason,
  }),
  rate_limit_exceeded: ({ record, ip, endpoint }) => ({
    ip: ip ?? '',
    endpoint,
    limit: 0,
    actual: record.count ?? 1,
    window_seconds: 0,
  }),
  path_traversal_attempt: ({ actor, path, endpoint }) => ({ actor, attempted_path: path, endpoint }),
  // rbee's own specification would have the first characters of the token itself, which is a part of a secret.
  invalid_token_used: ({ record, ip, endpoint }) => ({
    ip: ip ?? '',
    token_prefix: record.credential ?? '',
    endpoint,
  }),
  policy_violation: ({ record, reason, endpoint, service }) => ({
    policy: record.policy,
    violation: reason,
    details: endpoint,
    severity: 'medium',
    worker_id: service,
    action_taken: record.result,
  }),
  suspicious_activity: ({ actor, reason, endpoint }) => ({
    actor,
    activity_type: reason,
    details: endpoint,
    risk_score: 50,
  }),
  inference_executed: ({ record, who, result, path }) => ({
    customer_id: who,
    job_id: record.request_id ?? '',
    model_ref: path,
    tokens_processed: 0,
    provider_id: null,
    result,
  }),
  model_accessed: ({ record, who, path }) => ({
    customer_id: who,
    model_ref: path,
    access_type: record.action === 'GET' || record.action === 'HEAD' ? 'inspect' : 'inference',
    provider_id: null,
  }),
  data_deleted: ({ who, path, endpoint }) => ({ customer_id: who, data_types: [path], reason: endpoint }),
};
