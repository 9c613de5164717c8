/**
 * Address ranges as a policy writes them. Read once, when the policy loads; requests see the compiled CidrSet.
 *
 * Stricter than the parser underneath: a range that its author and this program could read differently is refused with
 * the text that was probably meant, because a wrong guess here opens or closes a network.
 */
// Not its IPNumber: that one makes two dozen ranges of its own when it is loaded, at every start.
import { dottedDecimalNotationToBinaryString } from 'ip-num/dist/src/BinaryUtils.js';
import { colonHexadecimalNotationToBinaryString } from 'ip-num/dist/src/HexadecimalUtils.js';
import { Validator } from 'ip-num/dist/src/Validator.js';
import { addressOf, formatAddress, parseAddress, sameAddress } from './address.js';
import type { Address, AddressWords } from './address.js';

/** All addresses from `first` to `last`, both included. Only parseCidr makes one. */
export interface CidrRange {
  /** As written in the policy. */
  readonly text: string;
  /** IPv4 and IPv6 never match each other: `::/0` holds no IPv4 address. */
  readonly family: 4 | 6;
  /** Words as in Address: [0, 0, 0xffff, v4] for IPv4. */
  readonly first: AddressWords;
  readonly last: AddressWords;
  /** In bits of its own family: 0–32 for IPv4, 0–128 for IPv6. */
  readonly prefixLength: number;
}

export type CidrResult =
  | { readonly ok: true; readonly range: CidrRange }
  /** `problem` is a clause without full stop that never repeats more of the text than numbers; `hint` says what to write. */
  | { readonly ok: false; readonly problem: string; readonly hint?: string };

/** Longer than any range; what is longer is not looked at. */
const LONGEST_TEXT = 64;

const WHAT_IS_ALLOWED = 'write an address or a range, like 10.0.0.7, 192.168.1.0/24 or 2001:db8::/32';

const refuse = (problem: string, hint: string): CidrResult => ({ ok: false, problem, hint });

/**
 * Reads one address (`10.0.0.7`, which is a range of one) or CIDR range (RFC 4632 §3.1, RFC 4291 §2.3). Bits beyond
 * the prefix, leading zeros, v4-mapped IPv6, zones, blanks, names, ports and netmasks are refused, each with its own
 * problem and hint. Never throws.
 */
export function parseCidr(text: string): CidrResult {
  if (text === '') return refuse('the address is empty', WHAT_IS_ALLOWED);
  if (text.length > LONGEST_TEXT) return refuse('this is too long for an address', WHAT_IS_ALLOWED);
  if (/\s/u.test(text)) return refuseBlanks(text);
  if (text.includes(',')) return refuse('this is a list in one text', 'write one entry for each address or range');
  if (text.includes('%')) {
    return refuse('a zone id (the part from %) has no meaning in a policy', `leave it out${orWrite(cut(text, '%'))}`);
  }
  if (text.includes('[') || text.includes(']')) {
    const inside = /^\[([^[\]]+)\](?::\d+)?$/u.exec(text)?.[1];
    return refuse('brackets and ports do not belong to an address here', `leave them out${orWrite(inside)}`);
  }
  if (text.includes('//')) return refuse('this is a URL, not an address', WHAT_IS_ALLOWED);

  const slash = text.indexOf('/');
  const addressText = slash < 0 ? text : text.slice(0, slash);
  const prefixText = slash < 0 ? null : text.slice(slash + 1);
  const address = parseAddress(addressText);
  if (address === null) return diagnose(addressText, prefixText);
  if (address.family === 4 && addressText.includes(':')) return refuseMapped(address, prefixText);

  const bits = address.family === 4 ? 32 : 128;
  const prefixLength = prefixText === null ? bits : parsePrefix(prefixText);
  if (prefixLength === null) return refusePrefix(address, prefixText ?? '');
  if (prefixLength > bits) {
    return refuse(
      `the prefix length ${prefixLength} is more than ${bits}, the number of bits of an IPv${address.family} address`,
      `write ${formatAddress(address)} for that one host, or a prefix length from 0 to ${bits}`,
    );
  }

  if (!secondReaderAgrees(addressText, address)) return refuse('this is not an address', WHAT_IS_ALLOWED);
  const span = spanOf(address, prefixLength);
  const first = addressOf(span.first);
  if (!sameAddress(first, address)) {
    return refuse(
      `the address has bits set beyond its prefix of ${prefixLength}`,
      `write ${formatAddress(first)}/${prefixLength}, or ${formatAddress(address)}`,
    );
  }
  return { ok: true, range: Object.freeze({ text, family: address.family, ...span, prefixLength }) };
}

/**
 * Does ip-num, a reader that shares no code with ours, read the same address from the text. It does not know the
 * embedded IPv4 of RFC 4291 §2.2 (3), so it gets that one in canonical form.
 */
function secondReaderAgrees(addressText: string, address: Address): boolean {
  try {
    if (address.family === 4) {
      const [valid] = Validator.isValidIPv4String(addressText);
      return valid && BigInt(`0b${dottedDecimalNotationToBinaryString(addressText)}`) === BigInt(address.words[3]);
    }
    const text = addressText.includes('.') ? formatAddress(address) : addressText;
    const [valid] = Validator.isValidIPv6String(text);
    const value = address.words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n);
    return valid && BigInt(`0b${colonHexadecimalNotationToBinaryString(text)}`) === value;
  } catch {
    return false;
  }
}

/** First and last address with the same leading `prefixLength` bits, counted in the address's own family. */
function spanOf(address: Address, prefixLength: number): { readonly first: AddressWords; readonly last: AddressWords } {
  const leading = address.family === 4 ? prefixLength + 96 : prefixLength;
  const [a, b, c, d] = address.words;
  const masks = [0, 32, 64, 96].map((before) => hostMask(Math.min(Math.max(leading - before, 0), 32)));
  const [ma = 0, mb = 0, mc = 0, md = 0] = masks;
  return {
    first: [(a & ~ma) >>> 0, (b & ~mb) >>> 0, (c & ~mc) >>> 0, (d & ~md) >>> 0],
    last: [(a | ma) >>> 0, (b | mb) >>> 0, (c | mc) >>> 0, (d | md) >>> 0],
  };
}

/** A 32-bit word with zeros in front and ones after. A shift by 32 would shift by nothing, hence the branch. */
function hostMask(zeros: number): number {
  return zeros === 32 ? 0 : 0xffff_ffff >>> zeros;
}

/** Decimal without sign or leading zero, at most three digits; null when it is not that. */
function parsePrefix(text: string): number | null {
  return /^(?:0|[1-9]\d{0,2})$/u.test(text) ? Number(text) : null;
}

/** `, and write X` when X is a range on its own; nothing when it is not. */
function orWrite(text: string | undefined): string {
  return text !== undefined && parseCidr(text).ok ? ` and write ${text}` : '';
}

/** `text` without the part from `mark` to the prefix: `fe80::1%eth0/64` → `fe80::1/64`. */
function cut(text: string, mark: string): string {
  const slash = text.indexOf('/');
  return text.slice(0, text.indexOf(mark)) + (slash < 0 ? '' : text.slice(slash));
}

function refuseBlanks(text: string): CidrResult {
  const parts = text.split(/\s+/u).filter((part) => part !== '');
  if (parts.length > 1 && parts.every((part) => parseCidr(part).ok)) {
    return refuse('this is a list in one text', 'write one entry for each address or range');
  }
  return refuse('there is a blank in the address', `leave it out${orWrite(parts.join(''))}`);
}

function refusePrefix(address: Address, prefixText: string): CidrResult {
  const written = formatAddress(address);
  if (prefixText === '') {
    return refuse('there is no prefix length after the slash', `write ${written} for that one host`);
  }
  if (address.family === 4 && prefixText.includes('.')) {
    const length = netmaskLength(prefixText);
    return refuse(
      'this is a netmask, not a prefix length',
      length === null ? WHAT_IS_ALLOWED : `write ${networkText(address, length)}`,
    );
  }
  if (/^0\d{1,3}$/u.test(prefixText)) {
    return refuse('the prefix length has a leading zero', `write ${written}/${Number(prefixText)}`);
  }
  return refuse(
    'what stands after the slash is not a prefix length',
    `write a number from 0 to ${address.family === 4 ? 32 : 128} there`,
  );
}

/** 255.255.255.0 → 24; null when the ones are not all in front. */
function netmaskLength(text: string): number | null {
  const mask = parseAddress(text)?.words[3];
  if (mask === undefined) return null;
  const inverted = ~mask >>> 0;
  // Zeros then ones: adding one leaves a single bit.
  return (inverted & (inverted + 1)) === 0 ? Math.clz32(inverted) : null;
}

/** The network an IPv4 address lies in, as CIDR text. */
function networkText(address: Address, prefixLength: number): string {
  return `${formatAddress(addressOf(spanOf(address, prefixLength).first))}/${prefixLength}`;
}

/** `::ffff:10.0.0.0/8` is a sixteenth of all IPv6 addresses to a parser, and a private network to whoever wrote it. */
function refuseMapped(address: Address, prefixText: string | null): CidrResult {
  const problem = 'this is an IPv4 address written as IPv6 (v4-mapped)';
  const written = formatAddress(address);
  if (prefixText === null) return refuse(problem, `write it as IPv4: ${written}`);
  const prefixLength = parsePrefix(prefixText);
  // /96 to /128 count from the left of the IPv6 form; up to /32 the author was already thinking in IPv4.
  if (prefixLength !== null && prefixLength >= 96 && prefixLength <= 128) {
    return refuse(problem, `write it as IPv4: ${networkText(address, prefixLength - 96)}`);
  }
  if (prefixLength !== null && prefixLength <= 32) {
    return refuse(problem, `write it as IPv4: ${networkText(address, prefixLength)}`);
  }
  return refuse(problem, `write it as IPv4, like ${written} or 10.0.0.0/8`);
}

/** Why a text that is not an address is not one. */
function diagnose(addressText: string, prefixText: string | null): CidrResult {
  const prefix = prefixText === null ? '' : `/${prefixText}`;
  if (addressText === '') return refuse('there is no address before the slash', WHAT_IS_ALLOWED);
  if (/^(?:\*|any|all|everyone)$/iu.test(addressText)) {
    return refuse('this is not an address', 'write 0.0.0.0/0 for every IPv4 address and ::/0 for every IPv6 address');
  }
  if (/^[\d.]+$/u.test(addressText)) return diagnoseDotted(addressText, prefix);
  const wildcard = /^((?:\d{1,3}\.){1,3})\*(?:\.\*){0,2}$/u.exec(addressText)?.[1];
  if (wildcard !== undefined) {
    const octets = wildcard.split('.').slice(0, -1);
    return refuse('a wildcard is not an address', orElse(padded(octets, octets.length * 8)));
  }
  if (/^[\d.]+-[\d.]+$/u.test(addressText) || (addressText.includes('-') && addressText.includes(':'))) {
    return refuse(
      'a range from one address to another is not supported',
      'write it as one or more prefixes, like 10.0.0.0/24',
    );
  }
  const withoutPort = /^([\d.]+):\d*$/u.exec(addressText)?.[1];
  if (withoutPort !== undefined) {
    return refuse('a port does not belong to an address here', `leave it out${orWrite(withoutPort)}`);
  }
  if (addressText.includes(':')) return refuse('this is not a valid IPv6 address', WHAT_IS_ALLOWED);
  if (/^localhost\.?$/iu.test(addressText)) {
    return refuse('this is a name, not an address', 'write 127.0.0.1 and ::1, one entry each');
  }
  if (/^[\p{L}\d_](?:[\p{L}\d_.-]*[\p{L}\d_.])?$/u.test(addressText)) {
    return refuse('this is a name, not an address', 'names are not looked up; write the address itself');
  }
  return refuse('this is not an address', WHAT_IS_ALLOWED);
}

function diagnoseDotted(addressText: string, prefix: string): CidrResult {
  const octets = addressText.split('.');
  if (octets.includes('')) return refuse('there is a dot too many in the address', WHAT_IS_ALLOWED);
  const decimal = octets.map((octet) => octet.replace(/^0+(?=\d)/u, ''));
  if (decimal.some((octet, i) => octet !== octets[i])) {
    return refuse(
      'a number in the address has a leading zero, which some programs read as octal',
      orElse(decimal.join('.') + prefix),
    );
  }
  if (octets.some((octet) => octet.length > 3 || Number(octet) > 255)) {
    return refuse('a number in the address is more than 255', WHAT_IS_ALLOWED);
  }
  if (octets.length < 4) {
    return refuse(
      `an IPv4 address has four numbers, here are ${octets.length}`,
      orElse(padded(octets, prefix === '' ? octets.length * 8 : prefix)),
    );
  }
  return refuse(`an IPv4 address has four numbers, here are ${octets.length}`, WHAT_IS_ALLOWED);
}

/** The octets filled up with zeros to four, and the prefix. */
function padded(octets: readonly string[], prefix: number | string): string {
  return `${[...octets, '0', '0', '0'].slice(0, 4).join('.')}${typeof prefix === 'number' ? `/${prefix}` : prefix}`;
}

/** `write X` when X is right, the general hint when it is not. */
function orElse(text: string): string {
  return parseCidr(text).ok ? `write ${text}` : WHAT_IS_ALLOWED;
}
