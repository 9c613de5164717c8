import type { FailureReason } from '../failure.js';
import { NotThisMachineError } from '../net/this-machine.js';
import { type TlsFault, tlsFault } from '../net/tls-fault.js';

/** Why an upstream request ended early, in the words of the failure table: found out here, or a choice of ours. */
export class GivenUp extends Error {
  override readonly name = 'GivenUp';
  readonly reason: FailureReason;
  constructor(reason: FailureReason) {
    super(reason);
    this.reason = reason;
  }
}

/** What the system says of a socket. */
const BY_CODE: Readonly<Record<string, FailureReason>> = {
  ECONNREFUSED: 'upstream_refused',
  ENOENT: 'upstream_refused',
  EACCES: 'upstream_refused',
  EPERM: 'upstream_refused',
  // The path of a unix socket leads nowhere, or to a socket of another kind.
  ENOTDIR: 'upstream_refused',
  ELOOP: 'upstream_refused',
  EPROTOTYPE: 'upstream_refused',
  ENOTFOUND: 'upstream_refused',
  EAI_AGAIN: 'upstream_refused',
  EAI_FAIL: 'upstream_refused',
  // A machine without IPv6.
  EAFNOSUPPORT: 'upstream_refused',
  EHOSTUNREACH: 'upstream_refused',
  EHOSTDOWN: 'upstream_refused',
  ENETUNREACH: 'upstream_refused',
  ENETDOWN: 'upstream_refused',
  EADDRNOTAVAIL: 'upstream_refused',
  // The unix socket's backlog is full.
  EAGAIN: 'upstream_saturated',
  EMFILE: 'upstream_saturated',
  ENFILE: 'upstream_saturated',
  ETIMEDOUT: 'upstream_timeout',
  ECONNABORTED: 'upstream_gone',
  ECONNRESET: 'upstream_gone',
  EPIPE: 'upstream_gone',
};

/** Which row of the failure table an error of the upstream's side belongs to. */
export function upstreamFailure(error: unknown): FailureReason {
  if (error instanceof GivenUp) return error.reason;
  if (error instanceof NotThisMachineError) return 'upstream_not_loopback';
  if (!(error instanceof Error)) return 'sidecar_error';
  // Several addresses of one name were tried (Happy Eyeballs): all failed, the first speaks for them.
  if (error instanceof AggregateError && error.errors.length > 0) return upstreamFailure(error.errors[0]);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const tls = tlsFault(code);
  return BY_CODE[code] ?? (tls === null ? 'sidecar_error' : BY_TLS[tls]);
}

const BY_TLS: Readonly<Record<TlsFault, FailureReason>> = {
  wrong_name: 'upstream_certificate_wrong_name',
  expired: 'upstream_certificate_expired',
  untrusted: 'upstream_certificate_untrusted',
  refused: 'upstream_refused_certificate',
  no_tls: 'upstream_tls_failed',
};
