/**
 * What a record can be about: the words of rbee's audit vocabulary that a proxy can witness, and those of a sidecar's
 * own life. A closed list; each reason of a refusal has its word here.
 */
import type { DenialReason } from '../../denial.js';
import type { OwnPage } from '../../exchange-record.js';
import type { AuditedAs } from '../../policy/policy.js';

export const AUDIT_EVENTS = [
  'auth_success',
  'auth_failure',
  'invalid_token_used',
  'authorization_granted',
  'authorization_denied',
  'token_revoked',
  'rate_limit_exceeded',
  'path_traversal_attempt',
  'policy_violation',
  'suspicious_activity',
  'inference_executed',
  'model_accessed',
  'data_deleted',
  // Our own.
  'service_refused',
  'exchange_ended',
  'session_ended',
  'started',
  'stopped',
  'draining',
  'reloaded',
  'tls_failed',
  'audit_accessed',
  'checkpoint',
  'segment_opened',
  'segment_sealed',
  'segments_removed',
  'chain_recovered',
  'records_lost',
  'records_undelivered',
  'clock_went_back',
  'audit_restored',
  'worker_died',
] as const;
export type AuditEvent = (typeof AUDIT_EVENTS)[number];

export const AUDIT_RESULTS = ['permitted', 'denied', 'failed', 'answered', 'noted'] as const;
export type AuditResult = (typeof AUDIT_RESULTS)[number];

/** A refusal is one of these: who it is, what they may, how much, what it looks like, and whether we could. */
export const REFUSED_AS = {
  // What can be read in two ways is how one request is smuggled in another.
  malformed_request: 'suspicious_activity',
  malformed_head: 'suspicious_activity',
  malformed_target: 'suspicious_activity',
  ambiguous_path: 'path_traversal_attempt',
  ambiguous_framing: 'suspicious_activity',
  host_missing: 'suspicious_activity',
  host_ambiguous: 'suspicious_activity',
  authorization_repeated: 'suspicious_activity',
  forwarded_malformed: 'suspicious_activity',
  upgrade_malformed: 'suspicious_activity',
  query_ambiguous: 'suspicious_activity',
  body_ambiguous: 'suspicious_activity',
  method_unsupported: 'policy_violation',
  upgrade_unsupported: 'policy_violation',
  version_unsupported: 'policy_violation',
  expectation_unsupported: 'policy_violation',
  head_too_large: 'policy_violation',
  too_many_fields: 'policy_violation',
  head_timeout: 'policy_violation',
  body_timeout: 'policy_violation',
  wrong_host: 'policy_violation',
  proxy_header_malformed: 'suspicious_activity',
  proxy_header_timeout: 'policy_violation',
  address_denied: 'authorization_denied',
  connections_exhausted: 'service_refused',
  connections_per_address_exhausted: 'rate_limit_exceeded',
  client_denied: 'authorization_denied',
  route_unknown: 'authorization_denied',
  route_denied: 'authorization_denied',
  credential_missing: 'auth_failure',
  credential_invalid: 'auth_failure',
  credential_expired: 'auth_failure',
  credential_not_yet_valid: 'auth_failure',
  credential_malformed: 'auth_failure',
  credential_ambiguous: 'auth_failure',
  credential_unverifiable: 'auth_failure',
  // Somebody goes on using what was taken from them.
  credential_revoked: 'invalid_token_used',
  cross_site: 'suspicious_activity',
  login_malformed: 'auth_failure',
  login_too_large: 'auth_failure',
  login_type_unsupported: 'auth_failure',
  session_too_large: 'auth_failure',
  logout_failed: 'service_refused',
  own_page_unknown: 'authorization_denied',
  own_page_method: 'policy_violation',
  permission_missing: 'authorization_denied',
  field_invalid: 'policy_violation',
  body_type_unsupported: 'policy_violation',
  body_encoding_unsupported: 'policy_violation',
  body_too_large: 'policy_violation',
  body_incomplete: 'policy_violation',
  body_malformed: 'policy_violation',
  body_budget_exhausted: 'service_refused',
  operation_unknown: 'authorization_denied',
  not_owner: 'authorization_denied',
  deadline_malformed: 'policy_violation',
  deadline_passed: 'service_refused',
  cors_refused: 'authorization_denied',
  rate_exceeded: 'rate_limit_exceeded',
  quota_exceeded: 'rate_limit_exceeded',
  concurrency_exceeded: 'rate_limit_exceeded',
  streams_exceeded: 'rate_limit_exceeded',
  limits_unavailable: 'service_refused',
  audit_unavailable: 'service_refused',
  draining: 'service_refused',
} as const satisfies Record<DenialReason, AuditEvent>;

/** Pages of our own. Nobody asks for anything with a preflight, and who only looks at the login page is nobody yet. */
export const ANSWERED_AS: Readonly<Record<OwnPage, AuditEvent | null>> = Object.freeze({
  login_page: null,
  login: 'auth_success',
  logout: 'session_ended',
  refresh: 'auth_success',
  preflight: null,
});

/** What a route says its requests are. */
export const ROUTE_AS: Readonly<Record<AuditedAs, AuditEvent | null>> = Object.freeze({
  denials_only: null,
  inference: 'inference_executed',
  model_access: 'model_accessed',
  data_deletion: 'data_deleted',
});
