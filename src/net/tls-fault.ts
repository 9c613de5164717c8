/** What went wrong with TLS on a connection that we opened, by the code of Node's or OpenSSL's error. */
export type TlsFault =
  /** Its certificate is for another name than the one that was asked for. */
  | 'wrong_name'
  /** Its certificate has expired, or is not valid yet. */
  | 'expired'
  /** Its certificate is of no authority that is trusted here, or is not one to be believed. */
  | 'untrusted'
  /** It does not take our certificate, or has seen none. */
  | 'refused'
  /** Something else about the handshake: other versions, or no TLS at all. */
  | 'no_tls';

/** Alerts by which the other side says what it thinks of our certificate (RFC 8446 §6.2). */
const REFUSED = /^ERR_SSL_.*ALERT.*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/;

/** https://nodejs.org/api/tls.html#x509-certificate-error-codes, and what OpenSSL says in the middle of a handshake. */
const UNTRUSTED =
  /^(?:CERT_|CA_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|INVALID_|PATH_LENGTH|ERR_TLS_CERT|ERR_SSL_CERTIFICATE_VERIFY)/;

/** Null: it is not about TLS. */
export function tlsFault(code: string): TlsFault | null {
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
    case 'HOSTNAME_MISMATCH':
      return 'wrong_name';
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID':
      return 'expired';
    default:
      if (REFUSED.test(code)) return 'refused';
      if (UNTRUSTED.test(code)) return 'untrusted';
      return code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_') || code === 'EPROTO' ? 'no_tls' : null;
  }
}
