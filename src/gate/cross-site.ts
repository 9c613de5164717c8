import { originOf, readOrigin } from '../http/origin.js';
import type { Message } from '../http/message.js';
import { AMBIENT_CARRIERS, type Carrier } from '../policy/policy.js';
import type { Admission } from './admit.js';

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * The CSRF rule. A browser shows ambient credentials by itself, whoever made it ask; so where a request can change
 * something, it must not come from another site. curl with a certificate and programs on loopback say nothing of where
 * they come from, and pass; with a cookie, which only browsers have, something must be said.
 */
export function isCrossSite(admission: Admission, carrier: Carrier): boolean {
  if (!AMBIENT_CARRIERS.has(carrier)) return false;
  const { message, route } = admission;
  if (route.safe && SAFE_METHODS.has(message.method) && message.webSocket === null) return false;
  const from = provenance(message, admission.scheme, admission.listener.origins);
  return from === 'foreign' || (from === 'unsaid' && carrier === 'cookie');
}

/** Which site made the browser ask, in its own words: `unsaid` where it is no browser, or one that tells neither. */
export type Provenance = 'ours' | 'foreign' | 'unsaid';

/**
 * Browsers say it in Origin (RFC 6454 §7, WHATWG Fetch "append a request `Origin` header") and in Sec-Fetch-Site (W3C
 * Fetch Metadata §2.2); no page can set either. Both are held to the letter: several origins, several values and
 * unknown words are foreign.
 *
 * @param scheme as the client used it
 * @param origins those that the policy names, in the form of `readOrigin`
 */
export function provenance(
  message: Pick<Message, 'origin' | 'fetchSite' | 'authority'>,
  scheme: 'http' | 'https',
  origins: ReadonlySet<string>,
): Provenance {
  const { origin, fetchSite } = message;
  if (origin === null && fetchSite === null) return 'unsaid';
  const read = origin === null ? null : readOrigin(origin);
  if (read !== null && origins.has(read)) return 'ours';
  const own = read !== null && read === originOf(scheme, message.authority);
  switch (fetchSite) {
    case null:
      return own ? 'ours' : 'foreign';
    case 'same-origin':
      // A page with `Referrer-Policy: no-referrer` sends `Origin: null` with its own forms. A sandboxed page sends it
      // too, but is cross-site to the other field, which looks at the origin itself and at every redirect.
      return own || origin === null || origin === 'null' ? 'ours' : 'foreign';
    case 'none':
      // Typed, or opened from a bookmark.
      return own || origin === null ? 'ours' : 'foreign';
    default:
      return 'foreign';
  }
}
