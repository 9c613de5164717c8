import { parseAddress } from './address.js';
import type { Address } from './address.js';
import type { CidrSet } from './cidr-set.js';

/** More hops than any real chain of proxies has. */
const MOST_ENTRIES = 64;

/**
 * Who asked, when the peer is a proxy that is believed. X-Forwarded-For grows to the right, one entry a hop, so it is
 * read from the right: each trusted proxy vouches for the entry it wrote, and the first entry that is not a trusted
 * proxy is the client. What stands to the left of it was said by the client itself and is not even read.
 *
 * Entries are addresses, optionally with a port: `10.0.0.1`, `10.0.0.1:5123`, `2001:db8::1`, `[2001:db8::1]`,
 * `[2001:db8::1]:5123`.
 *
 * @param peer the socket's other end
 * @param forwardedFor every X-Forwarded-For value of the request in order, joined with `,`; empty when there is none
 * @param trusted the listener's `trusted_proxies`
 * @returns the client; the peer itself when it is not trusted or names nobody; the leftmost entry when all are trusted;
 * null when an entry that had to be read is not an address (`unknown`, empty, RFC 7239 §6.3 `_hidden` included) or when
 * there are more than 64 entries: the request is then refused (`forwarded_malformed`). Never throws.
 */
export function clientAddress(peer: Address, forwardedFor: string, trusted: CidrSet): Address | null {
  // The caller asks only for trusted peers; were it to forget, the header must still not be believed.
  if (!trusted.has(peer)) return peer;
  if (isBlank(forwardedFor)) return peer;
  if (countEntries(forwardedFor) > MOST_ENTRIES) return null;

  let client = peer;
  let end = forwardedFor.length;
  while (end >= 0) {
    // lastIndexOf takes a negative position for 0, which would find a comma at the very start again.
    const comma = end === 0 ? -1 : forwardedFor.lastIndexOf(',', end - 1);
    const entry = parseEntry(trimmed(forwardedFor, comma + 1, end));
    if (entry === null) return null;
    client = entry;
    if (!trusted.has(entry)) return client;
    end = comma;
  }
  return client;
}

function isOptionalWhitespace(c: number): boolean {
  return c === 0x20 || c === 0x09;
}

function isBlank(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (!isOptionalWhitespace(text.charCodeAt(i))) return false;
  return true;
}

function countEntries(list: string): number {
  let count = 1;
  for (let i = list.indexOf(','); i >= 0 && count <= MOST_ENTRIES; i = list.indexOf(',', i + 1)) count++;
  return count;
}

/** Without the optional whitespace around (RFC 9110 §5.6.3: space and tab); `trim()` would cut more than that. */
function trimmed(text: string, start: number, end: number): string {
  let from = start;
  let to = end;
  while (from < to && isOptionalWhitespace(text.charCodeAt(from))) from++;
  while (to > from && isOptionalWhitespace(text.charCodeAt(to - 1))) to--;
  return text.slice(from, to);
}

function parseEntry(entry: string): Address | null {
  if (entry.startsWith('[')) {
    const close = entry.indexOf(']');
    if (close < 0) return null;
    const inside = entry.slice(1, close);
    if (!inside.includes(':')) return null;
    if (close < entry.length - 1 && (entry[close + 1] !== ':' || !isPort(entry, close + 2))) return null;
    return parseAddress(inside);
  }
  // One colon divides an IPv4 address from its port; an IPv6 address has two at least.
  const colon = entry.indexOf(':');
  if (colon < 0 || entry.includes(':', colon + 1)) return parseAddress(entry);
  return isPort(entry, colon + 1) ? parseAddress(entry.slice(0, colon)) : null;
}

/** Is the rest of the text a port: decimal, at most 65535. */
function isPort(text: string, start: number): boolean {
  const length = text.length - start;
  if (length < 1 || length > 5) return false;
  let port = 0;
  for (let i = start; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return false;
    port = port * 10 + digit;
  }
  return port <= 65535;
}
