/**
 * What of a certificate revocation list (RFC 5280 §5.1) must be known when the policy is read: whose it is and until
 * when. Who is revoked by it is for OpenSSL to say, at each handshake; and for `revocations`, where a handshake was before
 * the list.
 */
import { verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

export interface RevocationList {
  /** What is signed, and by what. */
  readonly signedBytes: Buffer;
  readonly signature: Buffer;
  /** Object identifier, dotted. */
  readonly algorithm: string;
  /** Its name in DER. */
  readonly issuer: Buffer;
  /** Epoch milliseconds; null: it never says that it ends, which OpenSSL takes as it is. */
  readonly nextUpdateMs: number | null;
}

/** Signature algorithm → the hash it takes (RFC 4055, RFC 5758); null: the algorithm has its own (RFC 8410). */
const HASHES: ReadonlyMap<string, string | null> = new Map([
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.3.101.112', null],
  ['1.3.101.113', null],
]);

/** Null where the bytes are no list. */
export function readRevocationList(der: Buffer): RevocationList | null {
  try {
    const outer = Der.whole(der, SEQUENCE).children();
    const [signed, algorithm, signature] = outer;
    if (signed === undefined || algorithm === undefined || signature?.tag !== BIT_STRING) return null;
    const fields = signed.expect(SEQUENCE).children();
    // version OPTIONAL, signature, issuer, thisUpdate, nextUpdate OPTIONAL, …
    const at = fields[0]?.tag === INTEGER ? 1 : 0;
    const thisUpdate = fields[at + 2];
    const next = fields[at + 3];
    if (thisUpdate === undefined || readTime(thisUpdate) === null) return null;
    return {
      signedBytes: signed.bytes,
      // The first byte says how many bits are unused: none.
      signature: signature.content.subarray(1),
      algorithm: oid(algorithm.expect(SEQUENCE).children()[0]),
      issuer: (fields[at + 1] ?? signed).expect(SEQUENCE).bytes,
      nextUpdateMs: next === undefined ? null : readTime(next),
    };
  } catch (error) {
    if (error instanceof NotDer) return null;
    throw error;
  }
}

/** Did the holder of this key sign it. Null: the algorithm is not one of those that can be looked at here. */
export function isSignedBy(list: RevocationList, key: KeyObject): boolean | null {
  const hash = HASHES.get(list.algorithm);
  if (hash === undefined) return null;
  try {
    return verify(hash, list.signedBytes, key, list.signature);
  } catch {
    // A key of another kind than the signature.
    return false;
  }
}

/** The serial numbers that it names. Null: it says something of a kind that is not known here, and that matters. */
export function revocations({ signedBytes }: RevocationList): ReadonlySet<string> | null {
  try {
    const fields = Der.whole(signedBytes, SEQUENCE).children();
    const serials = new Set<string>();
    // Behind thisUpdate: nextUpdate, revokedCertificates, [0] crlExtensions; each of them may be missing.
    for (const field of fields.slice(fields[0]?.tag === INTEGER ? 4 : 3)) {
      if (field.tag === EXTENSIONS && hasCritical(field.children()[0])) return null;
      if (field.tag !== SEQUENCE) continue;
      for (const entry of field.children()) {
        const [serial, , extensions] = entry.expect(SEQUENCE).children();
        if (serial?.tag !== INTEGER || (extensions !== undefined && hasCritical(extensions))) return null;
        serials.add(serial.content.toString('hex'));
      }
    }
    return serials;
  } catch (error) {
    if (error instanceof NotDer) return null;
    throw error;
  }
}

/** Extensions that change what a list is about (RFC 5280 §5.2.4, §5.2.5, §5.3.3) are critical. */
function hasCritical(extensions: Der | undefined): boolean {
  if (extensions === undefined) throw new NotDer();
  const marks = extensions
    .expect(SEQUENCE)
    .children()
    .map((one) => one.expect(SEQUENCE).children()[1]);
  return marks.some((mark) => mark?.tag === BOOLEAN && mark.content[0] !== 0);
}

/** By what a list names a certificate (RFC 5280 §4.1): its issuer's name in DER, and its serial number. Null: it is none. */
export function issuedAs(der: Buffer): { readonly issuer: Buffer; readonly serial: string } | null {
  try {
    const fields = Der.whole(der, SEQUENCE).children()[0]?.expect(SEQUENCE).children() ?? [];
    // [0] version OPTIONAL, serialNumber, signature, issuer, …
    const at = fields[0]?.tag === EXTENSIONS ? 1 : 0;
    const [serial, , issuer] = fields.slice(at);
    if (serial?.tag !== INTEGER || issuer === undefined) return null;
    return { issuer: issuer.expect(SEQUENCE).bytes, serial: serial.content.toString('hex') };
  } catch (error) {
    if (error instanceof NotDer) return null;
    throw error;
  }
}

const BOOLEAN = 0x01;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OBJECT_IDENTIFIER = 0x06;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const SEQUENCE = 0x30;
/** [0] of a list; in a certificate that is its version. */
const EXTENSIONS = 0xa0;

class NotDer extends Error {}

/** One element of DER (ITU-T X.690): a tag, a length, and what is in it. */
class Der {
  readonly tag: number;
  /** With tag and length. */
  readonly bytes: Buffer;
  readonly content: Buffer;

  private constructor(tag: number, bytes: Buffer, content: Buffer) {
    this.tag = tag;
    this.bytes = bytes;
    this.content = content;
  }

  static whole(bytes: Buffer, tag: number): Der {
    const element = Der.#first(bytes);
    if (element.bytes.length !== bytes.length) throw new NotDer();
    return element.expect(tag);
  }

  static #first(bytes: Buffer): Der {
    const tag = bytes[0];
    const short = bytes[1];
    if (tag === undefined || short === undefined) throw new NotDer();
    let length = short;
    let start = 2;
    if (short >= 0x80) {
      const count = short - 0x80;
      // Four bytes of length are more than any file that is read.
      if (count < 1 || count > 4 || bytes.length < 2 + count) throw new NotDer();
      length = bytes.readUIntBE(2, count);
      start += count;
    }
    if (bytes.length < start + length) throw new NotDer();
    return new Der(tag, bytes.subarray(0, start + length), bytes.subarray(start, start + length));
  }

  expect(tag: number): this {
    if (this.tag !== tag) throw new NotDer();
    return this;
  }

  children(): Der[] {
    const found: Der[] = [];
    for (let rest = this.content; rest.length > 0;) {
      const element = Der.#first(rest);
      found.push(element);
      rest = rest.subarray(element.bytes.length);
    }
    return found;
  }
}

function oid(element: Der | undefined): string {
  if (element?.tag !== OBJECT_IDENTIFIER) throw new NotDer();
  const numbers: number[] = [];
  let number = 0;
  for (const byte of element.content) {
    number = number * 128 + (byte & 0x7f);
    if (number > Number.MAX_SAFE_INTEGER) throw new NotDer();
    if (byte >= 0x80) continue;
    if (numbers.length === 0) {
      const first = Math.min(2, Math.floor(number / 40));
      numbers.push(first, number - first * 40);
    } else {
      numbers.push(number);
    }
    number = 0;
  }
  return numbers.join('.');
}

/** UTCTime and GeneralizedTime as RFC 5280 §4.1.2.5 allows them: to the second, in UTC. Null: it is no time. */
function readTime(element: Der): number | null {
  if (element.tag !== UTC_TIME && element.tag !== GENERALIZED_TIME) return null;
  const text = element.content.toString('latin1');
  const found = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  if (found === null || (found[1]?.length === 2) !== (element.tag === UTC_TIME)) return null;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = found.slice(1).map(Number);
  const full = element.tag === GENERALIZED_TIME ? year : year < 50 ? 2000 + year : 1900 + year;
  return Date.UTC(full, month - 1, day, hour, minute, second);
}
