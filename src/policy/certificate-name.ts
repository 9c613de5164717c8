/**
 * The names of a client certificate, as a policy writes them and as a certificate has them. Both come through here, so
 * that they are compared in one form: what differs after that is another caller.
 */
import { parseAddress } from '../net/address.js';
import { parseHostName } from './host-name.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

/** What a certificate may be known by. */
export type CertificateMatch =
  | { readonly kind: 'san_dns' | 'san_uri' | 'san_email' | 'cn'; readonly value: string }
  /** SHA-256 of the SubjectPublicKeyInfo, base64 (RFC 7469 §2.4). */
  | { readonly kind: 'spki'; readonly value: string };

export const SAN_FORM = 'a name such as "DNS:hive-1.lan", "URI:spiffe://lan/hive-1" or "email:node@hive.lan"';
export const CN_FORM = 'a common name such as hive-1';
export const SPKI_FORM = 'a pin such as "sha256/BASE64", of the public key';

/** What Node writes into a SAN as it stands. Everything else it quotes (CVE-2021-44532), and nothing quoted is a name. */
const PLAIN = /^[\x21\x23-\x26\x28-\x2b\x2d-\x5b\x5d-\x7e]+$/;
const LONGEST_URI = 2048;

/** Lower case without a dot at the end (RFC 5280 §7.2). Null: a pattern, an address, or not a name at all. */
export function canonicalDns(text: string): string | null {
  if (!PLAIN.test(text)) return null;
  const read = parseHostName(text);
  return read.ok && parseAddress(read.value) === null ? read.value : null;
}

/** What stands before the `@` keeps its case, the host behind it has none (RFC 5280 §7.5). */
export function canonicalEmail(text: string): string | null {
  const at = text.lastIndexOf('@');
  if (!PLAIN.test(text) || at < 1 || text.length > 320 || text.indexOf('@') !== at) return null;
  const host = canonicalDns(text.slice(at + 1));
  return host === null ? null : `${text.slice(0, at)}@${host}`;
}

/** Compared letter by letter, as SPIFFE does; so it must be one way only that it can be written in. */
export function canonicalUri(text: string): string | null {
  return PLAIN.test(text) && text.length <= LONGEST_URI && /^[a-z][a-z0-9+.-]*:./i.test(text) ? text : null;
}

/** A name of up to 64 characters (RFC 5280, ub-common-name), without any that are not seen. */
export function canonicalCommonName(text: string): string | null {
  return /^.{1,64}$/su.test(text) && !/[\p{C}\p{Zl}\p{Zp}]/u.test(text) && text.trim() === text ? text : null;
}

export function parseSan(text: string): Parsed<CertificateMatch> {
  if (/\p{Cc}/u.test(text)) return refused('there is a control character in it, and such a name never matches');
  const found = /^(dns|uri|email|ip|ip address|rid|upn):(.*)$/isu.exec(text);
  if (found === null) {
    const guess = canonicalEmail(text) !== null ? 'email' : /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? 'URI' : 'DNS';
    return refused(`the kind of the name is missing; allowed is ${SAN_FORM}`, `write "${guess}:${text}"`);
  }
  const [, kind = '', value = ''] = found;
  switch (kind.toLowerCase()) {
    case 'dns':
      return kind === 'DNS'
        ? parseDnsName(value)
        : refused('the kind is written in upper case', `write "DNS:${value}"`);
    case 'uri': {
      if (kind !== 'URI') return refused('the kind is written in upper case', `write "URI:${value}"`);
      if (value.includes('*')) return refused(WILDCARD, LIST_EACH);
      const uri = canonicalUri(value);
      return uri === null
        ? refused(`a URI begins with its scheme and holds no blanks, commas, quotes and backslashes`)
        : parsed({ kind: 'san_uri', value: uri });
    }
    case 'email': {
      if (kind !== 'email') return refused('the kind is written in lower case', `write "email:${value}"`);
      if (value.includes('*')) return refused(WILDCARD, LIST_EACH);
      const email = canonicalEmail(value);
      return email === null
        ? refused('this is no mail address of the form name@host')
        : parsed({ kind: 'san_email', value: email });
    }
    default:
      return refused(
        `names of this kind are not supported; allowed is ${SAN_FORM}`,
        'pin the key instead: spki: "sha256/…"',
      );
  }
}

const WILDCARD = 'there is a wildcard in it, and an identity is one caller';
const LIST_EACH = 'write an entry for each';

function parseDnsName(value: string): Parsed<CertificateMatch> {
  if (value.includes('*')) return refused(WILDCARD, LIST_EACH);
  if (parseAddress(value) !== null) {
    return refused('this is an address, and no DNS name of a certificate is one', 'write the DNS name, or pin the key');
  }
  const read = parseHostName(value);
  const name = canonicalDns(value);
  if (name !== null) return parsed({ kind: 'san_dns', value: name });
  if (read.ok) return refused('this is no DNS name');
  return refused(read.problem, read.hint?.replace(/^write (\S+)$/, 'write "DNS:$1"'));
}

export function parseCommonName(text: string): Parsed<CertificateMatch> {
  if (text.includes('*')) return refused(WILDCARD, LIST_EACH);
  if (/^cn\s*=/i.test(text)) {
    return refused('the name stands here alone', `write ${text.replace(/^cn\s*=\s*/i, '')}`);
  }
  const name = canonicalCommonName(text);
  return name === null
    ? refused('a common name is 1 to 64 characters, all of which can be seen')
    : parsed({ kind: 'cn', value: name });
}

export const SPKI_COMMAND =
  'openssl x509 -in NODE.crt -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64';

export function parseSpkiPin(text: string): Parsed<CertificateMatch> {
  const pin = /^sha256\/([A-Za-z0-9+/]{43}=)$/.exec(text)?.[1];
  // Base64 in its one form: the bits that 32 bytes leave over are nought.
  if (pin !== undefined && Buffer.from(pin, 'base64').toString('base64') === pin) {
    return parsed({ kind: 'spki', value: pin });
  }
  return refused('a pin is sha256/ and the base64 of 32 bytes', SPKI_COMMAND);
}
