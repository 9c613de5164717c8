import type { Address } from '../net/address.js';

/** The socket's other end: what is known of it before it has asked for anything. */
export interface Caller {
  readonly address: Address;
  /** Canonical form of it. */
  readonly text: string;
  /** Null where none was asked for or shown. */
  readonly certificate: ClientCertificate | null;
}

/** A client certificate, read once for a connection. */
export interface ClientCertificate {
  /** Its chain leads to the listener's CA, it is in date, and no list revokes it: OpenSSL's word. */
  readonly verified: boolean;
  /** SHA-256 of the certificate, 64 lowercase hex digits. */
  readonly sha256: string;
  /** Names as they stand in it; those with a NUL or other unusual characters are left out. */
  readonly dns: readonly string[];
  readonly uris: readonly string[];
  readonly emails: readonly string[];
  readonly commonName: string | null;
  /** SHA-256 of the SubjectPublicKeyInfo, base64. */
  readonly spki: string;
  readonly notAfterMs: number;
}
