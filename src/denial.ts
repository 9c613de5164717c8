/**
 * Every way to be refused. One row is the whole answer: status, the words the caller sees, the challenge, the level
 * of the log line. The keys are the closed list of reason codes, the same in log, metrics, `explain` and policy tests.
 *
 * Statuses: RFC 9110 §15; 421 RFC 9110 §15.5.20; 431 RFC 6585 §5; challenges RFC 6750 §3.
 */

/** What `WWW-Authenticate` says (RFC 6750 §3.1): nothing, the bare scheme, or the scheme with an error code. */
export type Challenge = 'none' | 'bare' | 'invalid_token' | 'insufficient_scope' | 'invalid_request';

export interface DenialRow {
  readonly status: number;
  /** Title of the problem document: says what the caller can do, never which rule or user. */
  readonly title: string;
  readonly challenge: Challenge;
  readonly level: 'info' | 'warn';
}

const row = (
  status: number,
  title: string,
  challenge: Challenge = 'none',
  level: DenialRow['level'] = 'warn',
): DenialRow => Object.freeze({ status, title, challenge, level });

export const DENIALS = Object.freeze({
  // The message itself (before any rule looks).
  malformed_request: row(400, 'The request could not be read'),
  malformed_head: row(400, 'A header field is malformed'),
  malformed_target: row(400, 'The request target is malformed'),
  ambiguous_path: row(400, 'The path can be read in more than one way'),
  ambiguous_framing: row(400, 'The length of the request is ambiguous'),
  host_missing: row(400, 'The request names no host'),
  host_ambiguous: row(400, 'The request names its host in more than one way'),
  authorization_repeated: row(400, 'More than one Authorization field', 'invalid_request'),
  forwarded_malformed: row(400, 'A forwarding header field is malformed'),
  method_unsupported: row(501, 'This method is not supported'),
  upgrade_unsupported: row(501, 'This upgrade is not supported'),
  upgrade_malformed: row(400, 'The upgrade request is malformed'),
  version_unsupported: row(505, 'This HTTP version is not supported'),
  expectation_unsupported: row(417, 'This expectation is not supported'),
  head_too_large: row(431, 'The header fields are too large'),
  too_many_fields: row(431, 'There are too many header fields'),
  head_timeout: row(408, 'The request head took too long'),
  body_timeout: row(408, 'The request body took too long'),
  wrong_host: row(421, 'This server does not answer for that host'),
  // Where it comes from.
  proxy_header_malformed: row(400, 'The PROXY header is malformed'),
  proxy_header_timeout: row(408, 'The PROXY header took too long'),
  address_denied: row(403, 'This address may not connect'),
  connections_exhausted: row(503, 'Too many connections'),
  connections_per_address_exhausted: row(429, 'Too many connections from this address'),
  client_denied: row(403, 'This address may not use this path'),
  // What it asks for.
  route_unknown: row(403, 'Nothing here for you'),
  route_denied: row(403, 'This path is closed'),
  // Who asks.
  credential_missing: row(401, 'A credential is needed', 'bare', 'warn'),
  credential_invalid: row(401, 'The credential is not valid', 'invalid_token'),
  credential_expired: row(401, 'The credential is no longer valid', 'invalid_token'),
  credential_not_yet_valid: row(401, 'The credential is not valid yet', 'invalid_token'),
  credential_malformed: row(400, 'The credential is malformed', 'invalid_request'),
  credential_ambiguous: row(400, 'More than one credential', 'invalid_request'),
  credential_revoked: row(401, 'The credential is no longer valid', 'invalid_token'),
  credential_unverifiable: row(503, 'The credential cannot be checked at present', 'none', 'warn'),
  cross_site: row(403, 'This request came from another site'),
  // Sessions.
  login_malformed: row(400, 'The login form could not be read'),
  login_too_large: row(413, 'The login form is too large'),
  login_type_unsupported: row(415, 'A login form is application/x-www-form-urlencoded, in UTF-8'),
  session_too_large: row(403, 'The credential names too much for a session'),
  logout_failed: row(503, 'The session could not be ended at present'),
  own_page_unknown: row(404, 'There is no such page'),
  own_page_method: row(405, 'This page has another method'),
  permission_missing: row(403, 'The credential does not allow this', 'insufficient_scope'),
  // What a request asks for.
  field_invalid: row(400, 'A value is not as it should be'),
  query_ambiguous: row(400, 'The query can be read in more than one way'),
  body_type_unsupported: row(415, 'The body must be JSON in UTF-8'),
  body_encoding_unsupported: row(415, 'The body must not be compressed'),
  body_too_large: row(413, 'The request body is too large'),
  body_incomplete: row(400, 'The request body ended early'),
  body_malformed: row(400, 'The request body could not be read'),
  body_ambiguous: row(400, 'The request body can be read in more than one way'),
  body_budget_exhausted: row(503, 'Too many request bodies at once'),
  operation_unknown: row(403, 'This cannot be asked for here'),
  not_owner: row(403, 'This belongs to somebody else'),
  deadline_malformed: row(400, 'The deadline could not be read'),
  deadline_passed: row(504, 'The deadline has passed', 'none', 'info'),
  cors_refused: row(403, 'Pages of that origin may not ask for this', 'none', 'info'),
  // How much.
  rate_exceeded: row(429, 'Too many requests'),
  quota_exceeded: row(429, 'The quota is used up'),
  concurrency_exceeded: row(429, 'Too many requests at once'),
  streams_exceeded: row(429, 'Too many open streams'),
  limits_unavailable: row(503, 'The limits cannot be checked at present'),
  // What has to be written down first.
  audit_unavailable: row(503, 'This cannot be recorded at present'),
  // Life of the process.
  draining: row(503, 'The server is shutting down', 'none', 'info'),
}) satisfies Record<string, DenialRow>;

/** Stable code of a refusal. */
export type DenialReason = keyof typeof DENIALS;

export const DENIAL_REASONS = Object.freeze(Object.keys(DENIALS)) as readonly DenialReason[];
