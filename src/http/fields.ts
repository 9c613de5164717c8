/**
 * What is done with a request field by name. The table is the one place that knows names; whatever is not in it goes
 * through to the upstream.
 */
export type FieldRole =
  /** Belongs to one connection (RFC 9110 §7.6.1) or states the framing: never forwarded as it came. */
  | 'hop'
  /** Ours to say: stripped from the client, then set by `upstream-head`. */
  | 'ours'
  /** Would let the client speak about itself, or rename the request, to an upstream that believes such fields. */
  | 'believed'
  /** A place for a credential; forwarded unless the carrier is enabled on the route. */
  | 'credential';

const ROLES = new Map<string, FieldRole>();
const say = (role: FieldRole, names: string): void => {
  for (const name of names.split(' ')) ROLES.set(name, role);
};

say('hop', 'connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer');
say('hop', 'transfer-encoding content-length upgrade http2-settings expect host');
say('ours', 'x-auth-user x-auth-roles x-forwarded-for x-forwarded-proto x-forwarded-host x-real-ip x-request-id');
say('believed', 'forwarded x-forwarded x-forwarded-port x-forwarded-server x-forwarded-prefix x-forwarded-scheme');
say('believed', 'x-forwarded-ssl x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-preferred-username');
say('believed', 'x-forwarded-by x-forwarded-client-cert x-original-forwarded-for x-remote-user remote-user');
say('believed', 'x-client-ip x-cluster-client-ip true-client-ip x-original-url x-original-uri x-original-host');
say('believed', 'x-rewrite-url x-http-method x-http-method-override x-method-override');
// https://httpoxy.org: CGI turns it into HTTP_PROXY.
say('believed', 'proxy');
say('credential', 'authorization x-api-key x-guardbee-token');

/** Names with these prefixes are ours, whatever follows. */
const OUR_PREFIX = 'x-guardbee-';

/** @param name lower case. */
export function fieldRole(name: string): FieldRole | null {
  const role = ROLES.get(name);
  if (role !== undefined) return role;
  if (name.startsWith(OUR_PREFIX)) return 'ours';
  // `X_Auth_User` and `X.Auth.User` become `X-Auth-User` in servers of the CGI tradition.
  if (name.includes('_') || name.includes('.')) {
    const twin = name.replaceAll(/[_.]/g, '-');
    if (ROLES.has(twin) || twin.startsWith(OUR_PREFIX)) return 'believed';
  }
  return null;
}

/** RFC 9110 §5.6.2. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** RFC 9110 §5.5: no control characters but HTAB. Bytes above 0x7f (obs-text) pass. */
export const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

const LOWER = new Map<string, string>();
const LOWER_MOST = 2048;

/** Lower case of a field name; the usual names are looked up, and the memory for that is bounded. */
export function lowerName(name: string): string {
  const known = LOWER.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  if (LOWER.size < LOWER_MOST && name.length < 64) LOWER.set(name, lower);
  return lower;
}

/** The members of a comma-separated list (RFC 9110 §5.6.1), trimmed; empty ones dropped. */
export function listMembers(value: string): string[] {
  return value
    .split(',')
    .map((member) => member.trim())
    .filter((member) => member !== '');
}
