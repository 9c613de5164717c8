import type { FailureReason } from '../failure.js';
import { NotThisMachineError } from '../net/this-machine.js';

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
  return BY_CODE[code] ?? ofTls(code) ?? 'sidecar_error';
}

const UNTRUSTED =
  /^(?:CERT_|CA_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|INVALID_|PATH_LENGTH|ERR_TLS_CERT|ERR_SSL_CERTIFICATE_VERIFY)/;
/** Alerts by which the other side says what it thinks of our certificate, or that it has seen none. */
const REFUSED = /^ERR_SSL_.*ALERT.*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/;

/** What OpenSSL and Node say of a handshake, of the other side's certificate and of ours. */
function ofTls(code: string): FailureReason | null {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID':
      return 'upstream_certificate_expired';
    default:
      if (REFUSED.test(code)) return 'upstream_refused_certificate';
      if (UNTRUSTED.test(code)) return 'upstream_certificate_untrusted';
      return code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_') || code === 'EPROTO'
        ? 'upstream_tls_failed'
        : null;
  }
}
