/**
 * What a certificate says, for logs and warnings, and why one cannot be used.
 *
 * No CertificateError carries anything of a private key, nor the error of the library underneath, which might.
 */
import { X509Certificate } from 'node:crypto';
import { formatAddress, parseAddress } from '../net/address.js';

export type CertificateErrorCode =
  /** A name for a self-signed certificate is neither a DNS name nor an IP address, or there is none. */
  | 'bad_name'
  /** Not a PEM certificate, or one with unreadable dates. */
  | 'bad_certificate'
  /** Not a PEM private key. */
  | 'bad_key'
  | 'key_encrypted'
  | 'key_mismatch'
  /** OpenSSL refuses the pair, e.g. because the key is too short. */
  | 'unusable'
  /** A private key that others than its owner may read. */
  | 'key_too_open'
  /** A directory in which others may exchange the private key. */
  | 'dir_too_open'
  /** A file in the place of a generated one that guardbee did not make, and will not overwrite. */
  | 'not_ours'
  /** The directory or a file in it could not be read or written. */
  | 'io';

/** Why a certificate cannot be used. The message is one sentence for the operator, with the file and the fix. */
export class CertificateError extends Error {
  override readonly name = 'CertificateError';
  readonly code: CertificateErrorCode;
  /** The file or directory that it is about, where there is one. */
  readonly file: string | null;

  constructor(code: CertificateErrorCode, message: string, file: string | null = null) {
    super(message);
    this.code = code;
    this.file = file;
  }
}

export interface CertificateDescription {
  /** One line: `CN=queen.lan, O=Example`. Empty when the certificate names nobody. */
  readonly subject: string;
  readonly issuer: string;
  /** DNS names (lower case) and IP addresses (canonical) of the SAN; a CN is no name (RFC 9525 §2). */
  readonly names: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SHA-256 of the certificate, `AA:BB:…`. */
  readonly fingerprint256: string;
  readonly selfSigned: boolean;
}

/**
 * Says what the first certificate of a PEM text is.
 *
 * @throws CertificateError `bad_certificate`
 */
export function describeCertificate(pem: string): CertificateDescription {
  return describe(readCertificate(pem, null));
}

/** @throws CertificateError `bad_certificate` */
export function readCertificate(pem: string, file: string | null): X509Certificate {
  // X509Certificate reads DER as well, which createSecureContext does not.
  if (pem.includes('-----BEGIN ')) {
    try {
      return new X509Certificate(pem);
    } catch {
      // Said below.
    }
  }
  throw new CertificateError('bad_certificate', `${file ?? 'this'} is not a PEM certificate`, file);
}

/** @throws CertificateError `bad_certificate` where its dates cannot be read */
export function describe(certificate: X509Certificate, file: string | null = null): CertificateDescription {
  const notBefore = new Date(certificate.validFrom);
  const notAfter = new Date(certificate.validTo);
  if (Number.isNaN(notBefore.getTime()) || Number.isNaN(notAfter.getTime())) {
    throw new CertificateError('bad_certificate', `the dates of ${file ?? 'the certificate'} cannot be read`, file);
  }
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    names: subjectNames(certificate.subjectAltName),
    notBefore,
    notAfter,
    fingerprint256: certificate.fingerprint256,
    selfSigned: isSelfSigned(certificate),
  };
}

/** Node writes one attribute a line, and gives undefined for a name without any, whatever its types say. */
function oneLine(name: string | undefined): string {
  return (name ?? '').split('\n').join(', ');
}

/** Not by `checkIssued`, which asks for an authority (keyCertSign), and ours is none. */
function isSelfSigned(certificate: X509Certificate): boolean {
  if (certificate.subject !== certificate.issuer) return false;
  try {
    return certificate.verify(certificate.publicKey);
  } catch {
    // A key of a kind that OpenSSL does not know.
    return false;
  }
}

/**
 * The DNS names and IP addresses of `subjectAltName` as Node prints it: `DNS:a.example, IP Address:10.0.0.1, …`.
 * A value with unusual characters is printed as a JSON string (CVE-2021-44532), and is no host name.
 */
function subjectNames(subjectAltName: string | undefined): string[] {
  const names = new Set<string>();
  const entry = /([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/gy;
  for (const [, type, value = ''] of (subjectAltName ?? '').matchAll(entry)) {
    if (type === 'DNS' && value !== '' && !value.startsWith('"')) names.add(value.toLowerCase());
    const address = type === 'IP Address' ? parseAddress(value) : null;
    if (address !== null) names.add(formatAddress(address));
  }
  return [...names];
}

/** The stable code of an error of Node or OpenSSL: a word of their source, never of their input. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error';
}
