import type { FailureReason } from '../failure.js';
import { NotLoopbackError } from './upstream.js';

/** Our own reason for giving an upstream request up; what undici hands back is then not the upstream's fault. */
export class GivenUp extends Error {
  readonly reason: FailureReason;
  constructor(reason: FailureReason) {
    super(reason);
    this.reason = reason;
  }
}

const BY_CODE: Readonly<Record<string, FailureReason>> = {
  ECONNREFUSED: 'upstream_refused',
  ENOENT: 'upstream_refused',
  EACCES: 'upstream_refused',
  EPERM: 'upstream_refused',
  ENOTFOUND: 'upstream_refused',
  EAI_AGAIN: 'upstream_refused',
  EHOSTUNREACH: 'upstream_refused',
  ENETUNREACH: 'upstream_refused',
  EADDRNOTAVAIL: 'upstream_refused',
  // The unix socket's backlog is full.
  EAGAIN: 'upstream_saturated',
  EMFILE: 'upstream_saturated',
  ENFILE: 'upstream_saturated',
  ETIMEDOUT: 'upstream_timeout',
  UND_ERR_CONNECT_TIMEOUT: 'upstream_timeout',
  UND_ERR_HEADERS_TIMEOUT: 'upstream_timeout',
  UND_ERR_BODY_TIMEOUT: 'upstream_timeout',
  UND_ERR_HEADERS_OVERFLOW: 'upstream_malformed',
  // The framing contradicts the stated length; an answer that merely stops is UND_ERR_SOCKET.
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'upstream_malformed',
  // undici asserts what it takes for granted of an answer: a status of 100 at least, a 101 with Connection and Upgrade.
  ERR_ASSERTION: 'upstream_malformed',
  UND_ERR_REQ_CONTENT_LENGTH_MISMATCH: 'client_body_broken',
  UND_ERR_SOCKET: 'upstream_gone',
  ECONNRESET: 'upstream_gone',
  EPIPE: 'upstream_gone',
};

/** Which row of the failure table an error of the upstream's side belongs to. */
export function upstreamFailure(error: unknown): FailureReason {
  if (error instanceof GivenUp) return error.reason;
  if (error instanceof NotLoopbackError) return 'upstream_not_loopback';
  if (!(error instanceof Error)) return 'sidecar_error';
  // Several addresses of one name were tried (Happy Eyeballs): all failed, the first speaks for them.
  if (error instanceof AggregateError && error.errors.length > 0) return upstreamFailure(error.errors[0]);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (code.startsWith('HPE_') || error.name === 'HTTPParserError') return 'upstream_malformed';
  if (code === 'UND_ERR_SOCKET' && /^bad (?:response|upgrade)$/.test(error.message)) return 'upstream_malformed';
  return BY_CODE[code] ?? 'sidecar_error';
}
