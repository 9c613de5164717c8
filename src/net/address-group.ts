import { parseAddress } from './address.js';

/**
 * Whom to count when addresses are counted: an IPv4 address, or the /64 of an IPv6 one, which is the least that a
 * subscriber gets (RFC 6177), so that one machine has 2^64 addresses to count from.
 *
 * @param text canonical form; anything else is its own group
 */
export function addressGroup(text: string): string {
  const address = parseAddress(text);
  if (address?.family !== 6) return text;
  const [high, low] = address.words;
  return `${high.toString(16)}:${low.toString(16)}/64`;
}
