import { X509Certificate, createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';

export type CertificateVerdict =
  /** `expired` is worth a warning: a clock may be wrong, and a renewal may be on its way. */
  | { readonly ok: true; readonly validity: 'valid' | 'expired' | 'not_yet_valid' }
  | { readonly ok: false; readonly of: 'cert' | 'key'; readonly problem: string; readonly hint?: string };

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
    return { ok: false, of: 'cert', problem: 'there is no PEM certificate in it' };
  }
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
    return { ok: false, of: 'key', problem: 'there is no PEM private key in it' };
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
    return {
      ok: false,
      of: 'cert',
      problem: `TLS does not take it (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`,
    };
  }
  if (now > Date.parse(certificate.validTo)) return { ok: true, validity: 'expired' };
  if (now < Date.parse(certificate.validFrom)) return { ok: true, validity: 'not_yet_valid' };
  return { ok: true, validity: 'valid' };
}
