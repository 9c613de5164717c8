/** Something wrong in a policy, and how to mend it. Never holds the value of a secret. */
export interface Issue {
  readonly severity: 'error' | 'warning';
  /** Stable code, snake_case; tests assert it. */
  readonly code: IssueCode;
  /** Path of the file the issue is in (the policy, or a file it names), as the user wrote it. */
  readonly file: string;
  /** 1-based; 0 where the issue is about the file as a whole. */
  readonly line: number;
  readonly column: number;
  /** Dotted key: `listeners.queen.routes[2].path`. Empty for the document itself. */
  readonly key: string;
  /** What was found and what is allowed; one sentence, no trailing full stop. */
  readonly message: string;
  /** How to fix it, preferably a line to paste. */
  readonly hint?: string;
}

/**
 * The class of an issue picks the exit code (README, "Exit codes"): policy 1, bind 3, secret 4.
 * With issues of several classes the exit code is that of the first class in the order policy, bind, secret.
 */
export type IssueClass = 'policy' | 'bind' | 'secret';

export const ISSUES = Object.freeze({
  yaml_syntax: 'policy',
  yaml_duplicate_key: 'policy',
  yaml_alias: 'policy',
  yaml_null: 'policy',
  yaml_empty_list: 'policy',
  yaml_flow_braces: 'policy',
  yaml_key: 'policy',
  yaml_tag: 'policy',
  yaml_second_document: 'policy',
  too_large: 'policy',
  too_deep: 'policy',
  unknown_key: 'policy',
  missing_key: 'policy',
  wrong_type: 'policy',
  wrong_value: 'policy',
  bad_cidr: 'policy',
  bad_path: 'policy',
  bad_duration: 'policy',
  bad_size: 'policy',
  bad_date: 'policy',
  bad_upstream: 'policy',
  bad_bind: 'policy',
  bad_name: 'policy',
  bad_host: 'policy',
  bad_field_name: 'policy',
  placeholder: 'policy',
  duplicate_name: 'policy',
  duplicate_bind: 'policy',
  duplicate_token: 'policy',
  ambiguous_name: 'policy',
  unknown_name: 'policy',
  ambiguous_authenticators: 'policy',
  bad_token: 'policy',
  bad_htpasswd: 'policy',
  unsafe_public: 'policy',
  unauthenticated_route: 'policy',
  file_unreadable: 'policy',
  file_writable: 'secret',
  bad_identity: 'policy',
  duplicate_identity: 'policy',
  gateway_identity: 'policy',
  bad_certificate: 'policy',
  bad_revocation_list: 'policy',
  mtls_without_tls: 'policy',
  certificate_missing: 'secret',
  bad_key: 'policy',
  key_missing: 'secret',
  test_failed: 'policy',
  sessions_without_tls: 'policy',
  unfit_for_processes: 'policy',
  bind_without_tls: 'bind',
  bind_without_authentication: 'bind',
  local_identity_not_local: 'bind',
  outbound_not_local: 'bind',
  outbound_without_tls: 'bind',
  upstream_not_loopback: 'bind',
  upstream_exposed: 'bind',
  upstream_is_listener: 'bind',
  socket_missing: 'bind',
  socket_elsewhere: 'bind',
  // Of a reload.
  not_reloadable: 'policy',
  address_unavailable: 'policy',
  state_unusable: 'policy',
  worker_failed: 'policy',
  secret_missing: 'secret',
  secret_empty: 'secret',
  secret_too_open: 'secret',
  secret_malformed: 'secret',
  secret_placeholder: 'secret',
  // Warnings.
  route_shadowed: 'policy',
  route_spelling: 'policy',
  route_public: 'policy',
  body_unjudged: 'policy',
  permission_unheld: 'policy',
  role_unheld: 'policy',
  secret_from_environment: 'policy',
  unsafe_key: 'policy',
  token_expired: 'policy',
  weak_hash: 'policy',
  user_without_grants: 'policy',
  certificate_expired: 'policy',
  redis_unencrypted: 'policy',
  authority_without_root: 'policy',
  revocation_list_stale: 'policy',
  gateway_unknown: 'policy',
  url_hosts_open: 'policy',
  acme_unused: 'policy',
  acme_unreachable: 'policy',
}) satisfies Record<string, IssueClass>;

export type IssueCode = keyof typeof ISSUES;
