import { formatAddress, parseAddress } from '../net/address.js';

/** Who a request is addressed to: the Host field, or `:authority` in HTTP/2 (RFC 9110 §7.2). */
export interface Authority {
  /** As sent; this is what the upstream gets. */
  readonly text: string;
  /** Lower case, no port, no trailing dot, no brackets; an IPv6 address in its one form (RFC 5952). */
  readonly name: string;
  /** Null where none was given. */
  readonly port: number | null;
}

const REG_NAME = /^([A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\.?)(?::([0-9]{1,5}))?$/;
const IPV6 = /^\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}))?$/;
/** RFC 1035 §2.3.4, with the dot at the end. */
const LONGEST_NAME = 254;

/** Null when it isn't a host: userinfo, paths, blanks, empty labels and percent-encoding are not allowed in it. */
export function readAuthority(text: string): Authority | null {
  const named = REG_NAME.exec(text);
  const found = named ?? IPV6.exec(text);
  if (found === null) return null;
  const port = found[2] === undefined ? null : Number(found[2]);
  if (port !== null && port > 65535) return null;
  const host = found[1] ?? '';
  if (named === null) {
    const address = parseAddress(host);
    return address === null || !host.includes(':') ? null : { text, name: formatAddress(address), port };
  }
  if (host.length > LONGEST_NAME) return null;
  const name = host.toLowerCase();
  return { text, name: name.endsWith('.') ? name.slice(0, -1) : name, port };
}

/** The same host, whatever the case, and with the scheme's own port counting as none. */
export function sameAuthority(a: Authority, b: Authority, scheme: 'http' | 'https'): boolean {
  const usual = scheme === 'https' ? 443 : 80;
  return a.name === b.name && (a.port ?? usual) === (b.port ?? usual);
}
