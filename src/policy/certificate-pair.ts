import { X509Certificate, createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';

export type CertificateVerdict =
  /** `expired` is worth a warning: a clock may be wrong, and a renewal may be on its way. */
  | { readonly ok: true; readonly validity: 'valid' | 'expired' | 'not_yet_valid' }
  | { readonly ok: false; readonly of: 'cert' | 'key'; readonly problem: string; readonly hint?: string };

const NO_CERTIFICATE = 'there is no PEM certificate in it';

/** ASN.1 begins with a SEQUENCE, and PEM with a text. */
function isDer(bytes: Buffer): boolean {
  return bytes[0] === 0x30 && !bytes.includes('-----BEGIN ');
}

function mendCertificate(cert: Buffer): string {
  if (isDer(cert)) return 'if it is one in DER, convert it: openssl x509 -inform der -in OLD.crt -out NEW.crt';
  return cert.includes('-----BEGIN CERTIFICATE-----')
    ? 'it is damaged: copy it anew from where it was issued'
    : 'name the file with -----BEGIN CERTIFICATE----- in it';
}

function mendKey(key: Buffer): string {
  if (isDer(key)) return 'if it is one in DER, convert it: openssl pkey -inform der -in OLD.key -out NEW.key';
  return key.includes('PRIVATE KEY-----')
    ? 'it is damaged: copy it anew from where it was made'
    : 'name the file with -----BEGIN PRIVATE KEY----- in it';
}

/** Do these two belong together, and would TLS take them. Says nothing of what the key holds. */
export function judgeCertificatePair(cert: Buffer, key: Buffer, now: number): CertificateVerdict {
  const text = cert.toString('latin1');
  if (text.includes('PRIVATE KEY-----')) {
    return {
      ok: false,
      of: 'cert',
      problem: 'the certificate file holds a private key',
      hint: 'keep the key in a file of its own, of mode 0600',
    };
  }
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(cert);
  } catch {
    return { ok: false, of: 'cert', problem: NO_CERTIFICATE, hint: mendCertificate(cert) };
  }
  // Node reads DER here, and TLS does not.
  if (isDer(cert)) return { ok: false, of: 'cert', problem: NO_CERTIFICATE, hint: mendCertificate(cert) };
  const start = key.indexOf('-----BEGIN ');
  if (start >= 0 && (key.includes('ENCRYPTED PRIVATE KEY-----') || key.includes('Proc-Type: 4,ENCRYPTED'))) {
    return {
      ok: false,
      of: 'key',
      problem: 'the private key is encrypted, and there is nobody to type its passphrase',
      hint: 'decrypt it: openssl pkey -in OLD.key -out NEW.key',
    };
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(key);
  } catch {
    return { ok: false, of: 'key', problem: 'there is no PEM private key in it', hint: mendKey(key) };
  }
  if (!certificate.checkPrivateKey(privateKey)) {
    return {
      ok: false,
      of: 'key',
      problem: 'the private key is not that of the certificate',
      hint: 'the first certificate in the file must be the one of this key, those of its issuers come after it',
    };
  }
  try {
    createSecureContext({ cert, key, minVersion: 'TLSv1.2' });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    const hint = /TOO_SMALL|TOO_WEAK/.test(code)
      ? 'have one issued with ECDSA, or RSA of 2048 bits or more, and SHA-256'
      : "see that each certificate in it is whole: the server's own first, those of its issuers after it";
    return { ok: false, of: 'cert', problem: `TLS does not take it (${code})`, hint };
  }
  if (now > Date.parse(certificate.validTo)) return { ok: true, validity: 'expired' };
  if (now < Date.parse(certificate.validFrom)) return { ok: true, validity: 'not_yet_valid' };
  return { ok: true, validity: 'valid' };
}
