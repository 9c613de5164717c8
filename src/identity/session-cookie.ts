/**
 * Name of a listener's session cookie. Cookies know no ports: two listeners of one host name would overwrite each
 * other's without it. `__Host-` makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis §4.1.3.2).
 */
export function sessionCookieName(listener: string): string {
  return `__Host-guardbee-${listener}`;
}
