/**
 * Every way for a permitted request to go wrong. `where` picks the blame: it alone decides the level of the log line
 * and whether the caller gets an answer at all.
 */
export type FailurePlace = 'client' | 'upstream' | 'sidecar';

export interface FailureRow {
  readonly where: FailurePlace;
  /** 499 is never sent: it is what the log says when nobody was left to answer. */
  readonly status: number;
  readonly title: string;
  readonly level: 'info' | 'warn' | 'error';
}

const row = (where: FailurePlace, status: number, title: string, level: FailureRow['level']): FailureRow =>
  Object.freeze({ where, status, title, level });

export const FAILURES = Object.freeze({
  client_gone: row('client', 499, 'The client went away', 'info'),
  client_body_broken: row('client', 400, 'The request body ended early', 'warn'),
  client_body_timeout: row('client', 408, 'The request body took too long', 'warn'),
  client_body_too_large: row('client', 413, 'The request body is too large', 'warn'),
  deadline_exceeded: row('client', 504, 'The deadline has passed', 'warn'),
  credential_ended: row('client', 401, 'The credential is no longer valid', 'warn'),
  access_withdrawn: row('client', 403, 'The policy no longer allows this', 'warn'),
  stream_expired: row('client', 408, 'The stream was open for as long as it may be', 'info'),
  idle_timeout: row('client', 408, 'Nothing was said for too long', 'info'),
  upstream_refused: row('upstream', 502, 'The service behind is not reachable', 'error'),
  upstream_not_loopback: row('upstream', 502, 'The service behind is not reachable', 'error'),
  upstream_tls_failed: row('upstream', 502, 'The service behind is not reachable', 'error'),
  upstream_certificate_untrusted: row('upstream', 502, 'The service behind could not be verified', 'error'),
  upstream_certificate_expired: row('upstream', 502, 'The service behind could not be verified', 'error'),
  upstream_certificate_wrong_name: row('upstream', 502, 'The service behind could not be verified', 'error'),
  upstream_certificate_wrong_key: row('upstream', 502, 'The service behind could not be verified', 'error'),
  upstream_refused_certificate: row('upstream', 502, 'The service behind refused this server', 'error'),
  upstream_gone: row('upstream', 502, 'The service behind closed the connection', 'error'),
  upstream_malformed: row('upstream', 502, 'The service behind gave an invalid answer', 'error'),
  upstream_timeout: row('upstream', 504, 'The service behind did not answer in time', 'error'),
  upstream_saturated: row('upstream', 503, 'The service behind is busy', 'warn'),
  shutting_down: row('sidecar', 503, 'The server is shutting down', 'warn'),
  sidecar_error: row('sidecar', 500, 'Internal error', 'error'),
}) satisfies Record<string, FailureRow>;

/** Stable code of a failure. */
export type FailureReason = keyof typeof FAILURES;

export const FAILURE_REASONS = Object.freeze(Object.keys(FAILURES)) as readonly FailureReason[];
