/**
 * An IP address after parsing, ready to be compared. An IPv4 address and its v4-mapped IPv6 form (`::ffff:a.b.c.d`)
 * are the same host, so they are the same value here: `words` is [0, 0, 0xffff, v4] for both. Other IPv6 addresses
 * are their four 32-bit words, most significant first.
 */
export interface Address {
  readonly family: 4 | 6;
  readonly words: readonly [number, number, number, number];
}
