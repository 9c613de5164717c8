import { X509Certificate } from 'node:crypto';
import * as path from 'node:path';
import { rootCertificates } from 'node:tls';
import type { HttpListener, Policy, TcpListener } from '../../policy/policy.js';
import { type CertificateDescription, describeCertificate } from '../../server/certificate.js';
import { readStateFile } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { daysLeft, validity } from '../certificate-text.js';
import { count } from '../check.js';
import { type Finding, failed, ok, warn } from './finding.js';

export async function lookAtCertificates(
  policy: Policy,
  listener: HttpListener | TcpListener,
  nowMs: number,
): Promise<Finding[]> {
  const { tls, name } = listener;
  const check = `certificate ${name}`;
  if (tls === null) return [];
  if (tls.kind === 'files') {
    const chains = tls.certificates.flatMap(({ certPem, certFile }) => {
      const chain = readChain(certPem);
      return chain === null ? [] : [{ chain, certFile }];
    });
    // What cannot be read, and keys that do not match, are among the issues.
    return [
      ...chains.flatMap(({ chain, certFile }) => judgeChain(check, certFile, chain, nowMs)),
      ...(chains.length === tls.certificates.length
        ? uncovered(
            check,
            listener,
            chains.flatMap(({ chain }) => chain[0].described.names),
          )
        : []),
    ];
  }
  if (tls.kind === 'acme') return await lookAtIssued(policy, tls.hosts, nowMs);
  const file = path.join(policy.stateDir, 'tls', name, 'self-signed.crt');
  let bytes: Buffer | null;
  try {
    bytes = await readStateFile(file, LARGEST_CERTIFICATE);
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    return [failed(check, error.message, 'ask as the user that guardbee runs as; if you did, move it away')];
  }
  if (bytes === null) return [ok(check, `${file} is made at the first start`)];
  const chain = readChain(bytes.toString('utf8'));
  if (chain === null) {
    return [warn(check, `there is no certificate in ${file}`, 'guardbee run, or reload, which makes a new one')];
  }
  const [{ described }] = chain;
  return [
    judgeDates(check, file, described, nowMs, 'guardbee reload, which makes a new one'),
    ...uncovered(check, listener, described.names),
  ];
}

/** Certificates that an authority issues: what is on the disk of each host. The authority is not asked. */
async function lookAtIssued(policy: Policy, hosts: readonly string[], nowMs: number): Promise<Finding[]> {
  const { look } = await import('../../acme/look.js');
  const findings: Finding[] = [];
  for (const host of hosts) {
    const check = `certificate ${host}`;
    const { issued, isUnusable, isOfAnother, status, renewAtMs, fault } = await look(policy, host, nowMs);
    const why = status.lastFailure === null ? null : `${status.lastFailure.why} (${day(status.lastFailure.atMs)})`;
    if (fault !== null) findings.push(failed(check, fault.why, fault.fix));
    else if (issued === null) {
      findings.push(
        why === null
          ? warn(
              check,
              isUnusable
                ? 'the one that is there cannot be served: another is ordered when guardbee runs'
                : 'there is none yet: it is ordered when guardbee runs',
              'guardbee run',
            )
          : failed(check, `there is none: ${why}`, 'mend that, then guardbee reload, which tries again at once'),
      );
    } else if (nowMs >= issued.notAfterMs) {
      findings.push(
        failed(check, `it has expired on ${day(issued.notAfterMs)}${why === null ? '' : `: ${why}`}`, MEND),
      );
    } else if (why !== null) {
      findings.push(warn(check, `valid until ${day(issued.notAfterMs)}, and not renewed: ${why}`, MEND));
    } else if (isOfAnother) {
      const until = `valid until ${day(issued.notAfterMs)}`;
      findings.push(warn(check, `${until}, and not of the authority of acme.directory`, 'guardbee run, or reload'));
    } else if (renewAtMs !== null && nowMs > renewAtMs + (issued.notAfterMs - renewAtMs) / 2) {
      findings.push(warn(check, `valid until ${day(issued.notAfterMs)}, and nobody has renewed it`, 'guardbee run'));
    } else {
      const renewed = renewAtMs === null ? '' : `, renewed from ${day(renewAtMs)} on`;
      findings.push(ok(check, `valid until ${day(issued.notAfterMs)}${renewed}`));
    }
  }
  return findings;
}

const MEND = 'look at the log (acme.failed); guardbee reload tries again at once';

function day(ms: number): string {
  return new Date(ms).toISOString();
}

const LARGEST_CERTIFICATE = 1024 * 1024;

interface Link {
  readonly certificate: X509Certificate;
  readonly described: CertificateDescription;
}

/** The server's own first. */
type Chain = readonly [Link, ...(readonly Link[])];

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

function readChain(pem: string): Chain | null {
  try {
    const [first, ...rest] = (pem.match(CERTIFICATE) ?? []).map((block) => ({
      certificate: new X509Certificate(block),
      described: describeCertificate(block),
    }));
    return first === undefined ? null : [first, ...rest];
  } catch {
    return null;
  }
}

const SOON_DAYS = 30;
const NOW_DAYS = 7;
const RENEW = 'renew it, then guardbee reload';
const FULL_CHAIN = "have the server's certificate first and after it each its issuer, as in fullchain.pem";

function judgeChain(check: string, file: string, chain: Chain, nowMs: number): Finding[] {
  const [own, ...others] = chain;
  const findings = [judgeDates(check, file, own.described, nowMs, RENEW)];
  for (const [index, { certificate, described }] of others.entries()) {
    const place = `${file}, certificate ${String(index + 2)},`;
    const before = chain[index]?.certificate;
    if (before?.checkIssued(certificate) !== true || !before.verify(certificate.publicKey)) {
      findings.push(
        failed(check, `${place} has not issued the one before it, so clients find no way to it`, FULL_CHAIN),
      );
      break;
    }
    const dates = judgeDates(check, place, described, nowMs, RENEW);
    if (dates.status !== 'ok') findings.push(dates);
  }
  if (others.length === 0) findings.push(...judgeLone(check, file, own));
  return findings;
}

/** A certificate without others after it. */
function judgeLone(check: string, file: string, { certificate, described }: Link): Finding[] {
  if (described.selfSigned) return [ok(check, `${file} is self-signed, so clients must be told to trust it`)];
  // Public authorities say where their own certificate is found, and issue by intermediates that no client has.
  // Others are their clients' own business: they may well know this issuer.
  if (certificate.infoAccess?.includes('CA Issuers') !== true) return [];
  const known = rootCertificates.some((pem) => {
    const root = new X509Certificate(pem);
    return certificate.checkIssued(root) && certificate.verify(root.publicKey);
  });
  return known
    ? []
    : [warn(check, `${file} holds no intermediate, so clients that do not know its issuer refuse it`, FULL_CHAIN)];
}

function judgeDates(
  check: string,
  file: string,
  certificate: CertificateDescription,
  nowMs: number,
  fix: string,
): Finding {
  const state = validity(certificate, nowMs);
  if (state === 'expired') {
    return failed(check, `${file} has expired on ${certificate.notAfter.toISOString()}`, fix);
  }
  if (state === 'not_yet_valid') {
    return failed(
      check,
      `${file} is not valid before ${certificate.notBefore.toISOString()}`,
      'look at the clock, or wait',
    );
  }
  const days = daysLeft(certificate, nowMs);
  const left = `${file} has ${count(days, 'day')} left`;
  if (days < NOW_DAYS) return failed(check, left, fix);
  return days < SOON_DAYS ? warn(check, left, fix) : ok(check, left);
}

/** Hosts that the listener answers for, and no certificate names. */
function uncovered(check: string, listener: HttpListener | TcpListener, names: readonly string[]): Finding[] {
  const hosts = listener.type === 'http' ? listener.hosts : null;
  const missing = [...(hosts ?? [])].filter(
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
