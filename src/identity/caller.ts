import type { X509Certificate } from 'node:crypto';
import type { Address } from '../net/address.js';
import type { ProxiedConnection } from '../net/proxy-protocol.js';
import type { CertificateNames } from '../policy/certificate-table.js';

/**
 * The socket's other end: what is known of it before it has asked for anything. One object for each connection, and for as
 * long as that lasts: what is kept for a connection is kept by it.
 */
export interface Caller {
  readonly address: Address;
  /** Canonical form of it. */
  readonly text: string;
  /** Null where none was asked for or shown. */
  readonly certificate: ClientCertificate | null;
  /** What a trusted proxy said in a PROXY header: who connected to it. Null: it said nothing, or speaks for itself. */
  readonly proxied: ProxiedConnection | null;
}

export interface ShownChain {
  /** What the client sent, its own certificate first. */
  readonly sent: readonly X509Certificate[];
  /** Those of the handshake. */
  readonly authorities: readonly X509Certificate[];
}

/**
 * A client certificate, read once for a connection: one object for as long as that lasts. Its names are in the form of
 * `policy/certificate-name.ts`; those with a NUL or other unusual characters are left out (CVE-2021-44532).
 */
export interface ClientCertificate extends CertificateNames {
  /** Its chain leads to the listener's CA, it is in date, and no list revokes it: OpenSSL's word. */
  readonly verified: boolean;
  /** Whose word that is: digest of the authorities and lists of the handshake. Others have not been asked. */
  readonly judgedBy: string;
  /** By what others can be asked; null when the connection is over. */
  readonly shown: () => ShownChain | null;
  /** SHA-256 of the certificate, 64 lowercase hex digits. */
  readonly sha256: string;
  /** Epoch milliseconds: when it, or the first certificate above it, ends. */
  readonly notAfterMs: number;
}
