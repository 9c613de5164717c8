/** The files of a `type: mtls` authenticator: the authorities whose word is taken, and what they have revoked. */
import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { sha256Hex } from '../secret/digest.js';
import { isSignedBy, readRevocationList } from './revocation-list.js';
import type { RevocationList } from './revocation-list.js';

/** What TLS needs to judge client certificates. */
export interface ClientAuthority {
  /** Absolute path. */
  readonly caFile: string;
  /** PEM, one or more certificates. */
  readonly caPem: string;
  /** Absolute path; null: no list is consulted. */
  readonly crlFile: string | null;
  /** PEM, one list each: Node reads no more than one out of a text. */
  readonly crlPems: readonly string[];
  /** An authority in the file is trusted by itself, though its own issuer is not there. */
  readonly partialChain: boolean;
}

const digests = new WeakMap<ClientAuthority, string>();

/** The same for all that judge certificates alike: 64 hex digits. */
export function authorityDigest(authority: ClientAuthority): string {
  let digest = digests.get(authority);
  if (digest === undefined) {
    const { caPem, crlPems, partialChain } = authority;
    digest = sha256Hex(JSON.stringify([caPem, crlPems, partialChain]));
    digests.set(authority, digest);
  }
  return digest;
}

export interface AuthorityProblem {
  readonly severity: 'error' | 'warning';
  readonly of: 'ca' | 'crl';
  readonly kind: 'wrong' | 'date';
  readonly problem: string;
  readonly hint?: string;
}

/** Whose certificates an authority is asked about. */
export type VouchesFor = 'clients' | 'collector' | 'upstream';

export interface AuthorityVerdict {
  /** Null where TLS could not use it. */
  readonly authority: Omit<ClientAuthority, 'caFile' | 'crlFile'> | null;
  readonly problems: readonly AuthorityProblem[];
}

const CERTIFICATE =
  /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[\s\S]*?-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g;
const LIST = /-----BEGIN X509 CRL-----([\s\S]*?)-----END X509 CRL-----/g;

/**
 * Says what is wrong with the files, and makes of them what TLS takes.
 *
 * @param crl null: none is named
 * @param now epoch milliseconds
 */
export function judgeClientAuthority(
  ca: Buffer,
  crl: Buffer | null,
  now: number,
  vouchesFor: VouchesFor = 'clients',
): AuthorityVerdict {
  const problems: AuthorityProblem[] = [];
  const wrong = (of: 'ca' | 'crl', problem: string, hint?: string): void => {
    problems.push({ severity: 'error', of, kind: 'wrong', problem, ...(hint === undefined ? {} : { hint }) });
  };
  const late = (of: 'ca' | 'crl', problem: string, hint: string): void => {
    problems.push({ severity: 'warning', of, kind: 'date', problem, hint });
  };

  const authorities = readAuthorities(ca, now, vouchesFor, wrong, late);
  const lists = crl === null ? [] : readLists(crl, wrong);
  if (problems.some((one) => one.severity === 'error')) return { authority: null, problems };

  const partialChain = authorities.some(
    (one) => !authorities.some((other) => one.certificate.checkIssued(other.certificate)),
  );
  if (crl !== null) {
    checkLists(lists, authorities, now, wrong, late);
    if (partialChain) {
      wrong(
        'crl',
        'a list can only be consulted where the root of each authority stands in the ca file too, and one is missing',
        'add the root, and its list',
      );
    }
  }
  const caPem = authorities.map((one) => one.pem).join('\n');
  const crlPems = lists.map((one) => one.pem);
  if (!problems.some((one) => one.severity === 'error')) {
    try {
      createSecureContext({ ca: caPem, ...(crlPems.length === 0 ? {} : { crl: crlPems }) });
    } catch (error) {
      wrong('ca', `TLS does not take it (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`);
    }
  }
  if (problems.some((one) => one.severity === 'error')) return { authority: null, problems };
  return { authority: { caPem, crlPems, partialChain }, problems };
}

type Wrong = (of: 'ca' | 'crl', problem: string, hint?: string) => void;
type Late = (of: 'ca' | 'crl', problem: string, hint: string) => void;

interface Authority {
  readonly pem: string;
  readonly certificate: X509Certificate;
}

interface NamedList {
  readonly pem: string;
  readonly list: RevocationList;
}

const WHOSE: Readonly<Record<VouchesFor, string>> = {
  clients: 'name the certificate of the authority that issued those of the nodes; a single node is pinned with spki',
  collector: 'name the certificate of the authority that issued that of the collector',
  upstream: 'name the certificate of the authority that issued that of the upstream',
};

function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.subject === certificate.issuer && certificate.verify(certificate.publicKey);
}

function readAuthorities(ca: Buffer, now: number, vouchesFor: VouchesFor, wrong: Wrong, late: Late): Authority[] {
  const text = ca.toString('latin1');
  if (text.includes('PRIVATE KEY-----')) {
    wrong('ca', 'it holds a private key, which guardbee has no use for', 'keep the certificate of the authority alone');
    return [];
  }
  const found: Authority[] = [];
  const seen = new Set<string>();
  for (const [pem] of text.matchAll(CERTIFICATE)) {
    const place = `the ${ordinal(found.length + 1)} certificate in it`;
    let certificate: X509Certificate;
    if (pem.startsWith('-----BEGIN TRUSTED')) {
      wrong('ca', `${place} carries trust settings of OpenSSL`, 'openssl x509 -in OLD.pem -out NEW.pem');
      return [];
    }
    try {
      certificate = new X509Certificate(pem);
    } catch {
      wrong('ca', `${place} cannot be read`);
      return [];
    }
    // One that nobody issued but its holder vouches for itself alone, and says so.
    const vouchesForItself = vouchesFor === 'upstream' && isSelfSigned(certificate);
    if (!certificate.ca && !vouchesForItself) {
      wrong('ca', `${place} is no authority (it does not say CA:TRUE), so it can vouch for nobody`, WHOSE[vouchesFor]);
      return [];
    }
    if (seen.has(certificate.fingerprint256)) continue;
    seen.add(certificate.fingerprint256);
    const day = (date: string): string => new Date(date).toISOString().slice(0, 10);
    if (now > Date.parse(certificate.validTo)) {
      late(
        'ca',
        `${place} expired on ${day(certificate.validTo)}: no certificate that it issued is taken`,
        'put its successor beside it',
      );
    } else if (now < Date.parse(certificate.validFrom)) {
      late('ca', `${place} is not valid before ${day(certificate.validFrom)}`, 'look at the clock');
    }
    found.push({ pem, certificate });
  }
  if (found.length === 0) {
    wrong('ca', 'there is no PEM certificate in it', 'openssl x509 -inform der -in OLD.cer -out NEW.pem, if it is DER');
  }
  return found;
}

function readLists(crl: Buffer, wrong: Wrong): NamedList[] {
  const found: NamedList[] = [];
  for (const [pem, base64 = ''] of crl.toString('latin1').matchAll(LIST)) {
    const list = readRevocationList(Buffer.from(base64, 'base64'));
    if (list === null) {
      wrong('crl', `the ${ordinal(found.length + 1)} list in it cannot be read`);
      return [];
    }
    found.push({ pem, list });
  }
  if (found.length === 0) {
    wrong(
      'crl',
      'there is no PEM revocation list in it',
      'openssl crl -inform der -in OLD.crl -out NEW.crl, if it is DER',
    );
  }
  return found;
}

function checkLists(
  lists: readonly NamedList[],
  authorities: readonly Authority[],
  now: number,
  wrong: Wrong,
  late: Late,
): void {
  const covered = new Set<Authority>();
  for (const [index, { list }] of lists.entries()) {
    const place = `the ${ordinal(index + 1)} list in it`;
    const signers = authorities.filter((one) => isSignedBy(list, one.certificate.publicKey) !== false);
    for (const one of signers) covered.add(one);
    if (signers.length === 0) {
      wrong(
        'crl',
        `${place} is signed by none of the authorities in the ca file`,
        'name the list that this authority issues: openssl ca -gencrl',
      );
    } else if (list.nextUpdateMs !== null && list.nextUpdateMs <= now) {
      late(
        'crl',
        `${place} was to be replaced on ${new Date(list.nextUpdateMs).toISOString().slice(0, 10)}: until it is, every certificate is refused`,
        'fetch the newest list',
      );
    }
  }
  const bare = authorities.filter((one) => !covered.has(one));
  if (bare.length === 0 || covered.size === 0) return;
  late(
    'crl',
    `it has no list of ${bare.length === 1 ? 'one authority' : `${String(bare.length)} authorities`} in the ca file: every certificate from there is refused`,
    'put the list of each authority into the file',
  );
}

function ordinal(number: number): string {
  return ['first', 'second', 'third'][number - 1] ?? `${String(number)}th`;
}
