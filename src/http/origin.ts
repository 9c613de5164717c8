import { type Authority, readAuthority } from './host.js';

const ORIGIN = /^(https?):\/\/([^/?#@\s]+)$/i;

/**
 * An origin in the one form in which it is compared: lower case, without the scheme's own port (RFC 6454 §6.2, WHATWG
 * HTML "serialization of an origin"). Null for everything else: `null`, several of them, a URL with a path.
 */
export function readOrigin(text: string): string | null {
  const found = ORIGIN.exec(text);
  if (found === null) return null;
  const authority = readAuthority(found[2] ?? '');
  return authority === null ? null : originOf(found[1]?.toLowerCase() === 'https' ? 'https' : 'http', authority);
}

/** The origin of a page at this host, in the same form. */
export function originOf(scheme: 'http' | 'https', { name, port }: Authority): string {
  const host = name.includes(':') ? `[${name}]` : name;
  const usual = scheme === 'https' ? 443 : 80;
  return port === null || port === usual ? `${scheme}://${host}` : `${scheme}://${host}:${String(port)}`;
}
