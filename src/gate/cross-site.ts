import { AMBIENT_CARRIERS, type Carrier } from '../policy/policy.js';
import type { Admission } from './admit.js';

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * The CSRF rule. A browser shows ambient credentials by itself, whoever made it ask; so where a request can change
 * something, it must not come from another site. Browsers say so in Origin (RFC 6454 §7) and Sec-Fetch-Site (Fetch
 * Metadata). curl with a certificate and programs on loopback send neither and pass; with a cookie, which only browsers
 * have, one of the two must be there.
 */
export function isCrossSite(admission: Admission, carrier: Carrier): boolean {
  if (!AMBIENT_CARRIERS.has(carrier)) return false;
  const { message, route } = admission;
  if (route.safe && SAFE_METHODS.has(message.method) && message.webSocket === null) return false;
  const { origin, fetchSite } = message;
  if (origin === null && fetchSite === null) return carrier === 'cookie';
  if (fetchSite !== null && fetchSite !== 'same-origin' && fetchSite !== 'none') return !isOurs(admission, origin);
  return origin !== null && !isOurs(admission, origin);
}

/** The request's own origin, or one that the policy names. */
function isOurs(admission: Admission, origin: string | null): boolean {
  if (origin === null) return false;
  const own = `${admission.scheme}://${admission.message.authority.text.toLowerCase()}`;
  return origin.toLowerCase() === own || admission.listener.origins.has(origin.toLowerCase());
}
