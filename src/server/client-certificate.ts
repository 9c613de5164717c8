/**
 * Client certificates of our listeners: what the handshake asks for, and what is read of the one that was shown. Whether
 * a certificate is good is OpenSSL's word alone (its chain, its dates, its purpose, the revocation lists); whose it is
 * says the policy.
 */
import { createHash, constants as cryptoConstants } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
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
 * @param authority that the handshake was told of
 */
export function readClientCertificate(socket: TLSSocket, authority: ClientAuthority): ShownCertificate {
  const leaf = socket.getPeerX509Certificate();
  if (leaf === undefined) return { kind: 'none' };
  const trusted = authorities(authority);
  const notAfterMs = earliestEnd(leaf, trusted);
  const names = namesOf(leaf);
  // No session is ever resumed here; were one, nothing of it would have been verified by this listener.
  const resumed = socket.isSessionReused();
  const verified = socket.authorized && !resumed && notAfterMs !== null && names !== null;
  return {
    kind: 'shown',
    refusal: verified ? null : refusalOf(socket, resumed),
    certificate: {
      verified,
      judgedBy: authorityDigest(authority),
      shown: () => shownBy(socket, trusted),
      sha256: createHash('sha256').update(leaf.raw).digest('hex'),
      ...(names ?? NAMELESS),
      notAfterMs: notAfterMs ?? -Infinity,
    },
  };
}

/** Node gives the code of OpenSSL as a text here, whatever its types say. */
function refusalOf(socket: TLSSocket, resumed: boolean): string {
  const code: unknown = socket.authorizationError;
  if (typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code)) return code;
  return resumed ? 'SESSION_RESUMED' : 'UNREADABLE';
}

/** Asked of the socket anew: certificates are held by it anyway, and few are ever asked for. */
function shownBy(socket: TLSSocket, trusted: readonly X509Certificate[]): ShownChain | null {
  const leaf = socket.getPeerX509Certificate();
  return leaf === undefined ? null : { sent: sentWith(leaf), authorities: trusted };
}

/** What the client sent, in its order: that is all that stands behind `issuerCertificate`. */
function sentWith(leaf: X509Certificate): X509Certificate[] {
  const sent: X509Certificate[] = [];
  for (let next: X509Certificate | undefined = leaf; next !== undefined; next = next.issuerCertificate) {
    if (sent.length === MOST_SENT) break;
    sent.push(next);
  }
  return sent;
}

/**
 * Of the certificate and those above it; where it is not plain which those are, of all that the client sent. Null: one
 * has no readable date.
 */
function earliestEnd(leaf: X509Certificate, trusted: readonly X509Certificate[]): number | null {
  const sent = sentWith(leaf);
  const ends = (chainOf(leaf, [...sent, ...trusted]) ?? sent).map(({ validTo }) => Date.parse(validTo));
  return ends.some(Number.isNaN) ? null : Math.min(...ends);
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
