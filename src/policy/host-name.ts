import { domainToASCII } from 'node:url';
import { formatAddress, parseAddress } from '../net/address.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const HOST_FORM = 'a host name such as queen.lan, without scheme, port or wildcard';

/** RFC 1123 §2.1 with the underscore that real networks use. */
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * Reads a name or IP literal as the Host field would say it, without port and brackets. Lower case, no trailing dot;
 * IPv6 in its shortest form (RFC 5952).
 */
export function parseHostName(text: string): Parsed<string> {
  if (text === '') return refused(`a host name is not empty; allowed is ${HOST_FORM}`);
  const url = /^[a-z][a-z0-9+.-]*:\/\/([^/?#@]*)/i.exec(text);
  if (url !== null) return refused('this is a URL, not a host name', orNothing(url[1] ?? ''));
  if (text.includes('*')) return refused('wildcards are not supported', 'list each name');
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  const address = parseAddress(bare);
  if (address !== null) {
    const canonical = formatAddress(address);
    if (!canonical.includes(':') && bare.includes(':'))
      return refused('this is an IPv4 address written as IPv6', `write ${canonical}`);
    return parsed(canonical);
  }
  if (/^[^:]+:\d*$/.test(text)) return refused('the port does not belong here', orNothing(text));
  if (/^\[.*\]:\d*$/.test(text)) return refused('the port does not belong here', orNothing(text));
  if (text.includes('/')) return refused(`a path does not belong here; allowed is ${HOST_FORM}`);
  const name = text.toLowerCase().replace(/\.$/, '');
  if (/[^\x20-\x7e]/.test(name)) {
    const ascii = domainToASCII(name);
    return refused('names stand in the file as they stand in DNS', ascii === '' ? undefined : `write ${ascii}`);
  }
  const labels = name.split('.');
  if (name.length > 253 || name.startsWith('_') || !labels.every((label) => LABEL.test(label)))
    return refused(`allowed is ${HOST_FORM}`);
  // A last label of digits is an IPv4 address to browsers (WHATWG URL, "ends in a number"): 10.0.0 would be 10.0.0.0.
  if (/^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '')) {
    return refused(
      'this looks like an IPv4 address and is none',
      'write four numbers from 0 to 255, without leading zeros',
    );
  }
  return parsed(name);
}

function orNothing(authority: string): string | undefined {
  const host = authority.replace(/:\d*$/, '');
  if (host === authority && authority.includes('://')) return undefined;
  const again = host === '' || host.includes('://') ? null : parseHostName(host);
  return again?.ok === true ? `write ${again.value}` : undefined;
}
