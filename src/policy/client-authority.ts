/** The files of a `type: mtls` authenticator: the authorities whose word is taken, and what they have revoked. */
import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { sha256Hex } from '../secret/digest.js';
import { isSignedBy, issuedAs, readRevocationList, revocations } from './revocation-list.js';
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

const certificates = new WeakMap<ClientAuthority, readonly X509Certificate[]>();

/** The certificates of the authorities. */
export function authorities(authority: ClientAuthority): readonly X509Certificate[] {
  let all = certificates.get(authority);
  if (all === undefined) {
    all = [...authority.caPem.matchAll(CERTIFICATE)].map(([pem]) => new X509Certificate(pem));
    certificates.set(authority, all);
  }
  return all;
}

/** Certificates in a chain; OpenSSL itself stops at 100. */
const LONGEST_CHAIN = 16;

/**
 * The chain of a certificate, itself first. Null where there could be more than one, or it leads nowhere.
 *
 * @param from all that those above it may be among
 */
export function chainOf(leaf: X509Certificate, from: readonly X509Certificate[]): X509Certificate[] | null {
  const all = new Map(from.map((one) => [one.fingerprint256, one]));
  const chain = [leaf];
  for (let at = leaf; chain.length < LONGEST_CHAIN;) {
    if (at.checkIssued(at)) return chain;
    let above = [...all.values()].filter((one) => at.checkIssued(one));
    // Two keys of one name.
    if (above.length > 1) above = above.filter((one) => at.verify(one.publicKey));
    const [next, another] = above;
    if (next === undefined) return chain.length === 1 ? null : chain;
    if (another !== undefined) return null;
    chain.push(next);
    at = next;
  }
  return null;
}

/**
 * Would TLS, asked again, accept a certificate by the authorities and lists of now. It did so by those of before; only
 * where the chain can be no other than the one that it found then is there an answer without asking it.
 *
 * @param sent what the client showed, its own certificate first
 * @param before the authorities of then
 */
export function wouldVouch(
  authority: ClientAuthority,
  sent: readonly X509Certificate[],
  before: readonly X509Certificate[],
): boolean {
  const [leaf] = sent;
  const now = authorities(authority);
  const chain = leaf === undefined ? null : chainOf(leaf, [...sent, ...before, ...now]);
  if (chain === null) return false;
  const isIn = (all: readonly X509Certificate[], one: X509Certificate): boolean =>
    all.some(({ fingerprint256 }) => fingerprint256 === one.fingerprint256);
  const above = chain.slice(1);
  // The last one is trusted by itself: a root, or any where OpenSSL was told that a part of a chain is enough.
  const end = above.findIndex((one) => isIn(now, one) && (authority.partialChain || one.checkIssued(one)));
  const used = above.slice(0, end + 1);
  if (end === -1 || !used.every((one) => one.ca && (isIn(now, one) || isIn(sent, one)))) return false;
  return authority.crlPems.length === 0 || isListedNowhere([...chain.slice(0, 1), ...used], authority);
}

/**
 * Every one of them has a list of its issuer, as OpenSSL wants it where it is given lists, and stands in none. Where two
 * issuers of one name have lists, OpenSSL may look at that of the other, and refuse it.
 */
function isListedNowhere(chain: readonly X509Certificate[], authority: ClientAuthority): boolean {
  return chain.every((one, depth) => {
    const issuer = chain[depth + 1] ?? one;
    const as = issuedAs(one.raw);
    if (as === null || !one.checkIssued(issuer)) return false;
    const own = listsOf(authority).filter(({ list }) => list.issuer.equals(as.issuer));
    return own.length > 0 && own.every((named) => isBy(issuer, named) && named.serials?.has(as.serial) === false);
  });
}

interface Revocations {
  readonly list: RevocationList;
  /** Null: nobody here knows what it says. */
  readonly serials: ReadonlySet<string> | null;
  /** By the fingerprint of an authority: many connections ask about few. */
  readonly signers: Map<string, boolean>;
}

const revocationsOf = new WeakMap<ClientAuthority, readonly Revocations[]>();

function listsOf(authority: ClientAuthority): readonly Revocations[] {
  let all = revocationsOf.get(authority);
  if (all === undefined) {
    all = readLists(Buffer.from(authority.crlPems.join('\n')), () => undefined).map(({ list }) => ({
      list,
      serials: revocations(list),
      signers: new Map(),
    }));
    revocationsOf.set(authority, all);
  }
  return all;
}

function isBy({ fingerprint256, publicKey }: X509Certificate, { list, signers }: Revocations): boolean {
  const known = signers.get(fingerprint256);
  if (known !== undefined) return known;
  const signed = isSignedBy(list, publicKey) === true;
  signers.set(fingerprint256, signed);
  return signed;
}

export interface AuthorityProblem {
  readonly severity: 'error' | 'warning';
  readonly of: 'ca' | 'crl';
  readonly kind: 'wrong' | 'date' | 'rootless';
  readonly problem: string;
  readonly hint?: string;
}

/** Whose certificates an authority is asked about. */
export type VouchesFor = 'clients' | 'collector' | 'upstream' | 'acme';

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
  // Node gives OpenSSL the word for that only in contexts that are picked by name (decision 13).
  if (partialChain && crl === null && vouchesFor === 'clients') {
    problems.push({
      severity: 'warning',
      of: 'ca',
      kind: 'rootless',
      problem:
        'the root of an authority in it is missing; a client that names no host in its handshake, as one does that connects to an ' +
        'address, is refused with 401',
      hint: 'add the root',
    });
  }
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
  acme: 'name the certificate of the authority that issued that of the ACME server',
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
