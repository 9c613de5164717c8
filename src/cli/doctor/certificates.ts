import { readFile } from 'node:fs/promises';
import * as path from 'node:path';
import type { HttpListener, Policy } from '../../policy/policy.js';
import { type CertificateDescription, describeCertificate } from '../../server/certificate.js';
import { daysLeft, validity } from '../cert.js';
import { count } from '../check.js';
import { type Finding, failed, ok, warn } from './finding.js';

export async function lookAtCertificates(policy: Policy, listener: HttpListener, nowMs: number): Promise<Finding[]> {
  const { tls, name } = listener;
  const check = `certificate ${name}`;
  if (tls === null) return [];
  if (tls.kind === 'files') {
    const described = tls.certificates.flatMap(({ certPem, certFile }) => {
      const certificate = certPem === '' ? null : read(certPem);
      return certificate === null ? [] : [{ certificate, certFile }];
    });
    const names = described.flatMap(({ certificate }) => certificate.names);
    return [
      ...described.map(({ certificate, certFile }) => judgeDates(check, certFile, certificate, nowMs)),
      ...(described.length === tls.certificates.length ? uncovered(check, listener, names) : []),
    ];
  }
  const file = path.join(policy.stateDir, 'tls', name, 'self-signed.crt');
  const pem = await readFile(file, 'utf8').catch(() => null);
  const certificate = pem === null ? null : read(pem);
  return certificate === null
    ? [ok(check, `${file} is made at the first start`)]
    : [judgeDates(check, file, certificate, nowMs), ...uncovered(check, listener, certificate.names)];
}

function read(pem: string): CertificateDescription | null {
  try {
    return describeCertificate(pem);
  } catch {
    return null;
  }
}

const SOON_DAYS = 30;

function judgeDates(check: string, file: string, certificate: CertificateDescription, nowMs: number): Finding {
  const fix = 'renew it, then reload guardbee';
  const until = certificate.notAfter.toISOString();
  const state = validity(certificate, nowMs);
  if (state === 'expired') return failed(check, `${file} has expired on ${until}`, fix);
  if (state === 'not_yet_valid') {
    return failed(
      check,
      `${file} is not valid before ${certificate.notBefore.toISOString()}`,
      'look at the clock, or wait',
    );
  }
  const days = daysLeft(certificate, nowMs);
  const left = `${file} has ${count(days, 'day')} left`;
  return days < SOON_DAYS ? warn(check, left, fix) : ok(check, left);
}

/** Hosts that the listener answers for, and no certificate names. */
function uncovered(check: string, listener: HttpListener, names: readonly string[]): Finding[] {
  const missing = [...(listener.hosts ?? [])].filter(
    (host) => !names.includes(host) && !names.includes(host.replace(/^[^.]+/, '*')),
  );
  return missing.length === 0
    ? []
    : [
        warn(
          check,
          `no certificate names ${missing.join(', ')}, so clients will refuse it there`,
          'have these names put in',
        ),
      ];
}
