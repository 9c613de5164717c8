/** What goes to the authority and what is shown to it: a certification request, and the certificate of a challenge. */
import { type KeyObject, createHash, createPublicKey, randomBytes, sign } from 'node:crypto';
import {
  bitString,
  explicit,
  implicit,
  integer,
  objectIdentifier,
  octetString,
  sequence,
  set,
  time,
  utf8String,
  yes,
} from './der.js';

const ECDSA_WITH_SHA256 = sequence(objectIdentifier('1.2.840.10045.4.3.2'));
const COMMON_NAME = objectIdentifier('2.5.4.3');
const SUBJECT_ALT_NAME = objectIdentifier('2.5.29.17');
const EXTENSION_REQUEST = objectIdentifier('1.2.840.113549.1.9.14');
/** id-pe-acmeIdentifier (RFC 8737 §3). */
const ACME_IDENTIFIER = objectIdentifier('1.3.6.1.5.5.7.1.31');

function spki(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function subjectAltName(host: string): Buffer {
  return sequence(SUBJECT_ALT_NAME, octetString(sequence(implicit(2, Buffer.from(host, 'latin1')))));
}

/** @param key ECDSA P-256 */
function signed(content: Buffer, key: KeyObject): Buffer {
  return sequence(content, ECDSA_WITH_SHA256, bitString(sign('sha256', content, key)));
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}

/**
 * A request for a certificate of one name (RFC 2986), DER. The name stands in the SAN alone: a common name says nothing
 * to clients (RFC 9525 §2), and has no room for names of more than 64 characters.
 *
 * @param key ECDSA P-256
 */
export function certificationRequest(host: string, key: KeyObject): Buffer {
  const attributes = explicit(0, sequence(EXTENSION_REQUEST, set(sequence(subjectAltName(host)))));
  return signed(sequence(integer(Buffer.from([0])), sequence(), spki(key), attributes), key);
}

const DAY_MS = 86_400_000;

/**
 * The certificate that answers a tls-alpn-01 challenge (RFC 8737 §3), PEM: for this one name, with the digest of the key
 * authorization in a critical extension, so that no ordinary client takes it for a certificate of the host.
 *
 * @param key ECDSA P-256
 */
export function challengeCertificate(host: string, keyAuthorization: string, key: KeyObject, nowMs: number): string {
  const name = sequence(set(sequence(COMMON_NAME, utf8String('guardbee tls-alpn-01'))));
  const digest = createHash('sha256').update(keyAuthorization).digest();
  const extensions = sequence(subjectAltName(host), sequence(ACME_IDENTIFIER, yes(), octetString(octetString(digest))));
  const content = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(randomBytes(16)),
    ECDSA_WITH_SHA256,
    name,
    sequence(time(new Date(nowMs - DAY_MS)), time(new Date(nowMs + 7 * DAY_MS))),
    name,
    spki(key),
    explicit(3, extensions),
  );
  return pem('CERTIFICATE', signed(content, key));
}
