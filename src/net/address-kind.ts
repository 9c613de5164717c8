/** What an address is for, whoever may reach it from here. */
import { type Address, type AddressWords, addressOf, isLoopback, isUnspecified } from './address.js';

export type AddressKind =
  | 'public'
  /** Of a network of one's own (RFC 1918, 4193, 6598), or that no network should have: documentation, tests, reserved. */
  | 'private'
  | 'loopback'
  /** No host that a service should speak to: link-local (cloud metadata among it), multicast, broadcast, unspecified. */
  | 'special';

/** IPv4 networks by prefix: value, bits, kind. The first that holds the address decides. */
const V4: readonly (readonly [number, number, AddressKind])[] = [
  [0x7f00_0000, 8, 'loopback'],
  [0xa9fe_0000, 16, 'special'], // 169.254.0.0/16, RFC 3927; 169.254.169.254 hands out credentials in clouds
  [0xe000_0000, 4, 'special'], // 224.0.0.0/4
  [0xffff_ffff, 32, 'special'],
  [0x0000_0000, 8, 'special'], // 0.0.0.0/8: Linux takes 0.0.0.0 for itself
  [0x0a00_0000, 8, 'private'],
  [0xac10_0000, 12, 'private'],
  [0xc0a8_0000, 16, 'private'],
  [0x6440_0000, 10, 'private'], // 100.64.0.0/10, RFC 6598
  [0xc000_0000, 24, 'private'], // 192.0.0.0/24, RFC 6890
  [0xc000_0200, 24, 'private'], // 192.0.2.0/24, RFC 5737
  [0xc612_0000, 15, 'private'], // 198.18.0.0/15, RFC 2544
  [0xc633_6400, 24, 'private'], // 198.51.100.0/24
  [0xcb00_7100, 24, 'private'], // 203.0.113.0/24
  [0xf000_0000, 4, 'private'], // 240.0.0.0/4
];

/** @param address as `innerAddress` gives it, where what is inside of another form counts */
export function addressKind(address: Address): AddressKind {
  if (isLoopback(address)) return 'loopback';
  if (isUnspecified(address)) return 'special';
  const { words } = address;
  if (address.family === 4) {
    const found = V4.find(([value, bits]) => words[3] >>> (32 - bits) === value >>> (32 - bits));
    return found?.[2] ?? 'public';
  }
  const top = words[0] >>> 16;
  if (top >>> 8 === 0xff) return 'special'; // ff00::/8
  if (top >>> 6 === 0xfe80 >>> 6) return 'special'; // fe80::/10
  if (top >>> 9 === 0xfc00 >>> 9) return 'private'; // fc00::/7
  // All that is in use is in 2000::/3 (RFC 4291 §2.4): the rest is reserved, site-local (fec0::/10) or local NAT64.
  if (top >>> 13 !== 1) return 'private';
  // 2001::/23 holds Teredo, ORCHID and the like; 2001:db8::/32 and 3fff::/20 are documentation.
  if (top === 0x2001 && ((words[0] & 0xfe00) === 0 || (words[0] & 0xffff) === 0x0db8)) return 'private';
  if (words[0] >>> 12 === 0x3fff_0) return 'private';
  return 'public';
}

/**
 * The IPv4 address inside of an IPv6 one whose packets go to it: v4-compatible (RFC 4291 §2.5.5.1), v4-translated
 * (RFC 2765), NAT64 (RFC 6052, 64:ff9b::/96) and 6to4 (RFC 3056). Others are what they are; v4-mapped is IPv4 already.
 */
export function innerAddress(address: Address): Address {
  const [a, b, c, d] = address.words;
  if (address.family === 4) return address;
  const v4 = (value: number): Address => addressOf([0, 0, 0xffff, value >>> 0] satisfies AddressWords);
  // `::` and `::1` are no IPv4 addresses.
  if (a === 0 && b === 0 && (c === 0 ? d > 1 : c === 0xffff_0000)) return v4(d);
  if (a === 0x0064_ff9b && b === 0 && c === 0) return v4(d);
  if (a >>> 16 === 0x2002) return v4(((a & 0xffff) << 16) | (b >>> 16));
  return address;
}
