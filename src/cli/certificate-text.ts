/** What is said of a certificate, to people and as JSON. */
import type { CertificateDescription } from '../server/certificate.js';
import { count } from './check.js';
import type { Line } from './voice.js';

const DAY_MS = 86_400_000;

/** Whole days until it ends; negative once it has. */
export function daysLeft(certificate: CertificateDescription, nowMs: number): number {
  return Math.floor((certificate.notAfter.getTime() - nowMs) / DAY_MS);
}

export function validity(certificate: CertificateDescription, nowMs: number): 'valid' | 'expired' | 'not_yet_valid' {
  if (nowMs > certificate.notAfter.getTime()) return 'expired';
  return nowMs < certificate.notBefore.getTime() ? 'not_yet_valid' : 'valid';
}

export function linesOf(certificate: CertificateDescription, nowMs: number): Line[] {
  const { subject, issuer, names, notBefore, notAfter, fingerprint256, selfSigned } = certificate;
  const state = validity(certificate, nowMs);
  const days = daysLeft(certificate, nowMs);
  const left =
    state === 'expired'
      ? ({ tone: 'bad', text: 'expired' } as const)
      : state === 'not_yet_valid'
        ? ({ tone: 'bad', text: 'not valid yet' } as const)
        : ({ tone: days < 30 ? 'warning' : 'good', text: `${count(days, 'day')} left` } as const);
  return [
    `  subject      ${subject === '' ? '(none)' : subject}`,
    `  issuer       ${selfSigned ? 'itself' : issuer}`,
    `  names        ${names.length === 0 ? '(none)' : names.join(', ')}`,
    `  not before   ${notBefore.toISOString()}`,
    [`  not after    ${notAfter.toISOString()} (`, left, ')'],
    `  sha256       ${fingerprint256}`,
  ];
}

export function inJson(certificate: CertificateDescription, nowMs: number): Readonly<Record<string, unknown>> {
  return {
    subject: certificate.subject,
    issuer: certificate.issuer,
    names: certificate.names,
    not_before: certificate.notBefore.toISOString(),
    not_after: certificate.notAfter.toISOString(),
    days_left: daysLeft(certificate, nowMs),
    validity: validity(certificate, nowMs),
    self_signed: certificate.selfSigned,
    sha256: certificate.fingerprint256,
  };
}
