import { SESSION_COOKIE_PREFIX } from '../http/session-cookies.js';

/**
 * Name of a listener's session cookie. Cookies know no ports: two listeners of one host name would overwrite each
 * other's without it. `__Host-` makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis §4.1.3.2). A listener
 * may have `:` in its name, a cookie may not.
 */
export function sessionCookieName(listener: string): string {
  return `${SESSION_COOKIE_PREFIX}${listener.replaceAll(':', '%3A')}`;
}

/** The Set-Cookie field that begins or refreshes a session. @param maxAgeMs until it ends */
export function setSessionCookie(
  listener: string,
  value: string,
  maxAgeMs: number,
  sameSite: 'strict' | 'lax',
): string {
  const seconds = String(Math.max(0, Math.floor(maxAgeMs / 1000)));
  const site = sameSite === 'strict' ? 'Strict' : 'Lax';
  return `${sessionCookieName(listener)}=${value}; Path=/; Max-Age=${seconds}; Secure; HttpOnly; SameSite=${site}`;
}

/** The Set-Cookie field that ends it. */
export function clearSessionCookie(listener: string): string {
  return `${sessionCookieName(listener)}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict`;
}
