/** Who may be known by an address alone: one host, which is neither this machine nor many. */
import { formatAddress, isLoopback, isUnspecified, parseAddress } from '../net/address.js';
import type { Address } from '../net/address.js';
import { parseCidr } from '../net/cidr.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const NETWORK_HOST_FORM = 'the address of one host such as 192.168.1.7';

/** Reads the address of a network identity into its canonical text. */
export function parseNetworkHost(text: string): Parsed<string> {
  const read = parseCidr(text);
  if (!read.ok) return refused(read.problem, read.hint);
  const { range } = read;
  if (range.prefixLength !== (range.family === 4 ? 32 : 128)) {
    return refused(
      'this is a range, and whoever gets an address in it would be this caller; allowed is one host',
      'write an entry for each host, each with its name; a range belongs into `from` of a route or `allow_from`',
    );
  }
  const address = parseAddress(text.replace(/\/.*$/, ''));
  if (address === null) return refused(`allowed is ${NETWORK_HOST_FORM}`);
  if (isUnspecified(address)) return refused('this is no host: nobody connects from it', `write ${NETWORK_HOST_FORM}`);
  if (isLoopback(address)) {
    return refused(
      'this is the machine itself: every user and program on it would be this caller',
      'give them a token; or, on a plain listener of 127.0.0.1, write local_identity: { name: local, roles: [ROLE] }',
    );
  }
  if (isMany(address)) {
    return refused('this is a multicast or broadcast address: nobody connects from it', `write ${NETWORK_HOST_FORM}`);
  }
  return parsed(formatAddress(address));
}

/** 224.0.0.0/4 (RFC 5771), 255.255.255.255 (RFC 919), ff00::/8 (RFC 4291 §2.7). */
function isMany({ family, words }: Address): boolean {
  if (family === 6) return words[0] >>> 24 === 0xff;
  return words[3] >>> 28 === 14 || words[3] === 0xffff_ffff;
}
