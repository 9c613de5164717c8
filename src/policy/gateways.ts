/** This machine's default gateways, out of the kernel's tables. */
import { addressOf, formatAddress, isUnspecified, parseAddress } from '../net/address.js';

/** A route through a gateway, linux/route.h. */
const RTF_GATEWAY = 0x2;

/**
 * Reads `/proc/net/route`: a line each, `Iface Destination Gateway Flags … Mask …`, numbers in hexadecimal.
 *
 * @param order of the kernel: addresses are written as it has them in memory
 * @returns canonical addresses
 */
export function defaultGatewaysV4(text: string, order: 'LE' | 'BE'): string[] {
  const found: string[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, destination = '', gateway = '', flags = '', , , , mask = ''] = line.trim().split(/\s+/);
    if (!/^0{8}$/.test(destination) || !/^0{8}$/.test(mask) || !/^[0-9A-F]{8}$/i.test(gateway)) continue;
    if ((Number.parseInt(flags, 16) & RTF_GATEWAY) === 0) continue;
    const octets = (gateway.match(/../g) ?? []).map((octet) => Number.parseInt(octet, 16));
    found.push((order === 'LE' ? octets.reverse() : octets).join('.'));
  }
  return canonical(found);
}

/** Reads `/proc/net/ipv6_route`: `destination length source length gateway metric …`, addresses in network order. */
export function defaultGatewaysV6(text: string): string[] {
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const [destination = '', length, , , gateway = ''] = line.trim().split(/\s+/);
    if (!/^0{32}$/.test(destination) || length !== '00' || !/^[0-9a-f]{32}$/i.test(gateway)) continue;
    const [a = 0, b = 0, c = 0, d = 0] = (gateway.match(/.{8}/g) ?? []).map((word) => Number.parseInt(word, 16));
    found.push(formatAddress(addressOf([a, b, c, d])));
  }
  return canonical(found);
}

function canonical(texts: readonly string[]): string[] {
  return texts.flatMap((text) => {
    const address = parseAddress(text);
    // A route without a gateway: what it leads to is on the same wire.
    return address === null || isUnspecified(address) ? [] : [formatAddress(address)];
  });
}
