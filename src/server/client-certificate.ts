/**
 * Client certificates of our listeners: what the handshake asks for, and what is read of the one that was shown. Whether
 * a certificate is good is OpenSSL's word alone (its chain, its dates, its purpose, the revocation lists); whose it is
 * says the policy.
 */
import { createHash, constants as cryptoConstants, X509Certificate } from 'node:crypto';
import type { PeerCertificate, SecureContextOptions, TLSSocket } from 'node:tls';
import type { ClientCertificate, ShownChain } from '../identity/caller.js';
import { canonicalCommonName, canonicalDns, canonicalEmail, canonicalUri } from '../policy/certificate-name.js';
import { type ClientAuthority, authorities, authorityDigest, chainOf } from '../policy/client-authority.js';
import type { MtlsAuthenticator } from '../policy/policy.js';

/**
 * For every context of a listener that asks for certificates: with SNI another context takes over, and would judge by
 * its own authorities.
 *
 * A resumed session is not verified again: neither has its certificate to be in date still, nor its authority to be one
 * of this listener's. So none is resumed. Without tickets TLS 1.3 falls back on session ids, and Node keeps no sessions
 * for them (decision 13).
 *
 * @param secureOptions what the listener has otherwise
 */
export function clientCertificateOptions(
  { authority }: MtlsAuthenticator,
  secureOptions: number,
): SecureContextOptions {
  return {
    ca: authority.caPem,
    ...(authority.crlPems.length === 0 ? {} : { crl: [...authority.crlPems] }),
    ...(authority.partialChain ? { allowPartialTrustChain: true } : {}),
    secureOptions: secureOptions | cryptoConstants.SSL_OP_NO_TICKET,
  };
}

export type ShownCertificate =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'shown';
      readonly certificate: ClientCertificate;
      /** OpenSSL's word for why it is not verified; null where it is. */
      readonly refusal: string | null;
    };

/** Certificates that are read of what a client sends. */
const MOST_SENT = 16;

/**
 * Reads what the client showed, once its handshake is done. Never throws: what cannot be read is not verified.
 *
 * Not by `getPeerX509Certificate`, which takes the certificates above the client's own out of OpenSSL's list and frees
 * none of them: 4 KB each, for every connection of whoever sends some (nodejs/node#65579).
 *
 * @param authority that the handshake was told of
 */
export function readClientCertificate(socket: TLSSocket, authority: ClientAuthority): ShownCertificate {
  // What is never null by its types is so, and empty, where nothing was shown.
  const raw = (socket.getPeerCertificate(false) as PeerCertificate | null)?.raw as Buffer | undefined;
  if (raw === undefined) return { kind: 'none' };
  const leaf = readOne(raw);
  // No session is ever resumed here; were one, nothing of it would have been verified by this listener.
  const resumed = socket.isSessionReused();
  const names = leaf === null ? null : namesOf(leaf);
  const notAfterMs = leaf === null || !socket.authorized ? null : earliestEnd(socket, leaf, authority);
  const verified = socket.authorized && !resumed && notAfterMs !== null && names !== null;
  return {
    kind: 'shown',
    refusal: verified ? null : refusalOf(socket, resumed),
    certificate: {
      verified,
      judgedBy: authorityDigest(authority),
      shown: (): ShownChain | null =>
        leaf === null ? null : { sent: [leaf, ...sentWith(socket, authority)], authorities: authorities(authority) },
      sha256: createHash('sha256').update(raw).digest('hex'),
      ...(names ?? NAMELESS),
      notAfterMs: notAfterMs ?? -Infinity,
    },
  };
}

/** Null: OpenSSL could read it, and we cannot. */
function readOne(raw: Buffer): X509Certificate | null {
  try {
    return new X509Certificate(raw);
  } catch {
    return null;
  }
}

/** Node gives the code of OpenSSL as a text here, whatever its types say. */
function refusalOf(socket: TLSSocket, resumed: boolean): string {
  const code: unknown = socket.authorizationError;
  if (typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code)) return code;
  return resumed ? 'SESSION_RESUMED' : 'UNREADABLE';
}

/**
 * What the client sent with its own certificate, in the order of issuance. Node adds what the authorities' file has; that
 * is left out, so that nothing counts as sent that was not. Nothing of a socket that is gone.
 */
function sentWith(socket: TLSSocket, authority: ClientAuthority): X509Certificate[] {
  const sent: X509Certificate[] = [];
  const known = new Set(authorities(authority).map(({ fingerprint256 }) => fingerprint256));
  const whole = socket.getPeerCertificate(true) as PeerCertificate | null;
  for (let at = whole === null ? undefined : above(whole); at !== undefined; at = above(at)) {
    const one = readOne(at.raw);
    if (one === null || sent.length === MOST_SENT) break;
    if (!known.has(one.fingerprint256)) sent.push(one);
  }
  return sent;
}

/** A root stands above itself. */
function above(certificate: PeerCertificate): PeerCertificate | undefined {
  const next = 'issuerCertificate' in certificate ? (certificate.issuerCertificate as PeerCertificate) : undefined;
  return next === certificate ? undefined : next;
}

/**
 * Of the certificate and those above it; where it is not plain which those are, of all that the client sent. Null: one
 * has no readable date.
 */
function earliestEnd(socket: TLSSocket, leaf: X509Certificate, authority: ClientAuthority): number | null {
  const trusted = authorities(authority);
  let chain = chainOf(leaf, trusted);
  // What else it sent is only asked for where the chain needs it.
  if (chain === null || !isEnd(chain.at(-1), authority)) {
    const sent = [leaf, ...sentWith(socket, authority)];
    chain = chainOf(leaf, [...sent, ...trusted]) ?? sent;
  }
  const ends = chain.map(({ validTo }) => Date.parse(validTo));
  return ends.some(Number.isNaN) ? null : Math.min(...ends);
}

function isEnd(last: X509Certificate | undefined, { partialChain }: ClientAuthority): boolean {
  return last !== undefined && (partialChain || last.checkIssued(last));
}

type Names = Pick<ClientCertificate, 'dns' | 'uris' | 'emails' | 'commonName' | 'spki'>;

const NAMELESS: Names = { dns: [], uris: [], emails: [], commonName: null, spki: '' };

/** Null where the key is of a kind that cannot be written out. */
function namesOf(leaf: X509Certificate): Names | null {
  try {
    const spki = leaf.publicKey.export({ type: 'spki', format: 'der' });
    return {
      ...subjectNames(leaf.subjectAltName),
      commonName: commonNameOf(leaf),
      spki: createHash('sha256').update(spki).digest('base64'),
    };
  } catch {
    return null;
  }
}

/**
 * One entry of `subjectAltName` as Node writes it, `DNS:a.example, URI:spiffe://a/b, …`. A value with a comma, a quote,
 * a backslash, a NUL or anything else that is not plain ASCII stands there as a JSON string (CVE-2021-44532), of which
 * no part may be taken for an entry of its own.
 */
const ENTRY = /([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/y;

/** The names of a certificate's SAN that are plain names; see `ENTRY`. */
export function subjectNames(subjectAltName: string | undefined): Pick<Names, 'dns' | 'uris' | 'emails'> {
  const dns: string[] = [];
  const uris: string[] = [];
  const emails: string[] = [];
  const text = subjectAltName ?? '';
  const entry = new RegExp(ENTRY);
  while (entry.lastIndex < text.length) {
    const found = entry.exec(text);
    // Not what Node writes: then nothing in it is believed.
    if (found === null) return { dns: [], uris: [], emails: [] };
    const [, type, value = ''] = found;
    if (value.startsWith('"')) continue;
    if (type === 'DNS') add(dns, canonicalDns(value));
    else if (type === 'URI') add(uris, canonicalUri(value));
    else if (type === 'email') add(emails, canonicalEmail(value));
  }
  return { dns, uris, emails };
}

function add(to: string[], name: string | null): void {
  if (name !== null) to.push(name);
}

/**
 * The one common name. Read from the subject as an object, since its text form is many lines of which a value may fake
 * one (CVE-2021-44533). Where there are several, a list stands there, and nobody knows which of them is meant.
 */
function commonNameOf(leaf: X509Certificate): string | null {
  // Node gives undefined for a subject without any attribute, whatever its types say.
  const subject: unknown = leaf.toLegacyObject().subject;
  const name: unknown = typeof subject === 'object' && subject !== null && 'CN' in subject ? subject.CN : null;
  return typeof name === 'string' ? canonicalCommonName(name) : null;
}
