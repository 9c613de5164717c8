/**
 * Session cookies are between the browser and us. Cookies know no ports, so a browser shows those of every listener to
 * every other one of the same host name: whoever forwards takes all of them out, with sessions of its own or without.
 */

/** What the names of all session cookies of guardbee begin with. */
export const SESSION_COOKIE_PREFIX = '__Host-guardbee-';

/** A Cookie field without them, the other pairs byte for byte; null where nothing is left. */
export function withoutSessionCookies(field: string): string | null {
  if (!field.includes(SESSION_COOKIE_PREFIX)) return field;
  const kept = field.split(';').filter((pair) => !/^[ \t]*__Host-guardbee-/.test(pair));
  const rest = kept.join(';').replace(/^[ \t]+/, '');
  return rest === '' ? null : rest;
}

/** Does a Set-Cookie field set one? Browsers look at the prefix without regard to case (RFC 6265bis §5.7). */
export function setsSessionCookie(field: string): boolean {
  return /^[ \t]*__host-guardbee-/i.test(field);
}
