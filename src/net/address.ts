/**
 * IP addresses as values. Text is read once, strictly, into an Address; everything later compares integers.
 *
 * What is refused here is refused on purpose: `010.0.0.1` is 10.0.0.1 to some programs and 8.0.0.1 to others
 * (CVE-2021-29921), and an address that two readers read differently must not decide anything.
 */

/** Four unsigned 32-bit words, most significant first. */
export type AddressWords = readonly [number, number, number, number];

/**
 * An IP address after parsing, ready to be compared. An IPv4 address and its v4-mapped IPv6 form (`::ffff:a.b.c.d`)
 * are the same host, so they are the same value here: `words` is [0, 0, 0xffff, v4] and `family` is 4 for both. Other
 * IPv6 addresses are their four 32-bit words, most significant first, as unsigned numbers.
 */
export interface Address {
  readonly family: 4 | 6;
  readonly words: AddressWords;
}

const DOT = 0x2e;
const COLON = 0x3a;

/** `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`: nothing longer is an address. */
const LONGEST_TEXT = 45;

/** The Address of four words, each of which must be an unsigned 32-bit integer. */
export function addressOf(words: AddressWords): Address {
  return { family: isMapped(words) ? 4 : 6, words };
}

/** The Address of an unsigned 32-bit IPv4 value. */
function addressOfV4(value: number): Address {
  return { family: 4, words: [0, 0, 0xffff, value] };
}

function isMapped(words: AddressWords): boolean {
  return words[2] === 0xffff && words[0] === 0 && words[1] === 0;
}

/**
 * Reads an address: dotted IPv4 (four decimal numbers without leading zeros) or IPv6 in every form of RFC 4291 §2.2,
 * embedded IPv4 included, in either case. No zone, no brackets, no port, no blanks.
 *
 * @returns null for anything else; never throws. Cheap enough for every request.
 */
export function parseAddress(text: string): Address | null {
  const length = text.length;
  if (length < 2 || length > LONGEST_TEXT) return null;
  // The first separator says which family it claims to be: it stands within the first five characters of either.
  for (let i = 0; i < 5 && i < length; i++) {
    const c = text.charCodeAt(i);
    if (c === DOT) {
      const value = parseDotted(text, 0);
      return value < 0 ? null : addressOfV4(value);
    }
    if (c === COLON) return parseV6(text);
  }
  return null;
}

/**
 * Reads what `socket.remoteAddress` says: an address as `parseAddress` reads it, or an IPv6 one with a zone
 * (`fe80::1%eth0`, RFC 4007 §11), whose zone is cut off. A zone is local to this machine, so it is accepted from the
 * kernel and from nobody else.
 *
 * @returns null for anything else, and for the `undefined` of a socket that is already gone; never throws.
 */
export function parsePeerAddress(text: string | undefined): Address | null {
  if (text === undefined) return null;
  const zone = text.indexOf('%');
  if (zone < 0) return parseAddress(text);
  if (zone === text.length - 1) return null;
  const bare = text.slice(0, zone);
  return bare.includes(':') ? parseAddress(bare) : null;
}

/** Four decimal octets from `start` to the end of `text`, as an unsigned 32-bit number; -1 when it is not that. */
function parseDotted(text: string, start: number): number {
  const length = text.length;
  let value = 0;
  let octets = 0;
  let octet = -1;
  for (let i = start; i <= length; i++) {
    // The end closes the last octet as a dot would.
    const c = i < length ? text.charCodeAt(i) : DOT;
    if (c === DOT) {
      if (octet < 0 || octets === 4) return -1;
      value = value * 256 + octet;
      octets++;
      octet = -1;
      continue;
    }
    const digit = c - 0x30;
    // octet === 0 here means a leading zero.
    if (digit < 0 || digit > 9 || octet === 0) return -1;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return -1;
  }
  return octets === 4 ? value : -1;
}

/** Value of a hexadecimal digit's character code; -1 for any other. */
function hexDigit(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30;
  const lower = c | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function parseV6(text: string): Address | null {
  const length = text.length;
  const groups: Groups = [0, 0, 0, 0, 0, 0, 0, 0];
  let count = 0;
  /** How many groups stand before `::`; -1 while there is none. */
  let gap = -1;
  let i = 0;
  if (text.charCodeAt(0) === COLON) {
    if (text.charCodeAt(1) !== COLON) return null;
    gap = 0;
    i = 2;
  }
  while (i < length) {
    if (count === 8) return null;
    const start = i;
    let group = 0;
    let c = 0;
    for (; i < length; i++) {
      c = text.charCodeAt(i);
      const digit = hexDigit(c);
      if (digit < 0) break;
      if (i - start === 4) return null;
      group = group * 16 + digit;
    }
    if (i < length && c === DOT) {
      const v4 = parseDotted(text, start);
      if (v4 < 0 || count > 6) return null;
      groups[count] = v4 >>> 16;
      groups[count + 1] = v4 & 0xffff;
      count += 2;
      break;
    }
    if (i === start) return null;
    groups[count++] = group;
    if (i === length) break;
    if (c !== COLON) return null;
    i++;
    // One colon at the end joins nothing.
    if (i === length) return null;
    if (text.charCodeAt(i) === COLON) {
      if (gap >= 0) return null;
      gap = count;
      i++;
    }
  }
  if (gap < 0) {
    if (count !== 8) return null;
  } else {
    // `::` stands for one group of zeros at least (RFC 4291 §2.2).
    if (count === 8) return null;
    for (let from = count - 1, to = 7; from >= gap; from--, to--) {
      groups[to] = groups[from] ?? 0;
      groups[from] = 0;
    }
  }
  return addressOf([
    word(groups[0], groups[1]),
    word(groups[2], groups[3]),
    word(groups[4], groups[5]),
    word(groups[6], groups[7]),
  ]);
}

type Groups = [number, number, number, number, number, number, number, number];

function word(high: number, low: number): number {
  return ((high << 16) | low) >>> 0;
}

/** The one text of an address: dotted for IPv4 and its v4-mapped form, RFC 5952 §4 for all other IPv6. */
export function formatAddress(address: Address): string {
  const words = address.words;
  if (isMapped(words)) return formatV4(words[3]);
  // The longest run of two zero groups or more becomes `::`; the first of equals (RFC 5952 §4.2).
  let runStart = 8;
  let runLength = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groupAt(words, end) === 0) end++;
    if (end - i > runLength) {
      runStart = i;
      runLength = end - i;
    }
    i = end;
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === runStart) {
      text += '::';
      i += runLength - 1;
      continue;
    }
    if (i > 0 && i !== runStart + runLength) text += ':';
    text += groupAt(words, i).toString(16);
  }
  return text;
}

/** The i-th 16-bit group of eight. */
function groupAt(words: AddressWords, i: number): number {
  const word = words[i >>> 1] ?? 0;
  return (i & 1) === 0 ? word >>> 16 : word & 0xffff;
}

function formatV4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 0xff}.${(value >>> 8) & 0xff}.${value & 0xff}`;
}

/** The address as it stands before a port: `10.0.0.1:80`, `[::1]:80`. */
export function formatAddressAndPort(address: Address, port: number): string {
  const text = formatAddress(address);
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}

/** Is it this machine talking to itself: 127.0.0.0/8 (RFC 1122 §3.2.1.3), its v4-mapped form, or ::1. */
export function isLoopback(address: Address): boolean {
  const words = address.words;
  if (isMapped(words)) return words[3] >>> 24 === 127;
  return words[3] === 1 && words[0] === 0 && words[1] === 0 && words[2] === 0;
}

/** Is it 0.0.0.0, its v4-mapped form, or ::. A socket bound to it listens on every address. */
export function isUnspecified(address: Address): boolean {
  const words = address.words;
  return words[3] === 0 && words[0] === 0 && words[1] === 0 && (words[2] === 0 || words[2] === 0xffff);
}

/** Is it the same host: IPv4 and its v4-mapped form are. */
export function sameAddress(a: Address, b: Address): boolean {
  return (
    a.words[3] === b.words[3] && a.words[2] === b.words[2] && a.words[1] === b.words[1] && a.words[0] === b.words[0]
  );
}
