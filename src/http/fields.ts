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
// Where the client is, and how it came.
say(
  'believed',
  'forwarded x-forwarded x-original-forwarded-for x-client-ip client-ip x-cluster-client-ip true-client-ip',
);
say('believed', 'cf-connecting-ip fastly-client-ip x-envoy-external-address proxy-client-ip wl-proxy-client-ip');
say('believed', 'x-scheme x-url-scheme front-end-https');
// Who the client is: what authenticating proxies say to the services behind them.
say('believed', 'remote-user x-remote-user x-webauth-user x-authenticated-user x-ssl-client-cert x-ssl-client-dn');
// Which path or method is really meant. A header field named SCRIPT_NAME moves the path in gunicorn, which believes
// whoever comes from loopback (forwarder_headers).
say('believed', 'x-original-url x-original-uri x-original-host x-original-method x-rewrite-url x-envoy-original-path');
say('believed', 'x-host x-http-host-override x-http-method x-http-method-override x-method-override');
say('believed', 'script-name path-info x-script-name');
// CVE-2025-29927: Next.js skips its middleware, and so its authorization. CVE-2025-61780: Rack::Sendfile.
say('believed', 'x-middleware-subrequest x-sendfile-type x-accel-mapping');
// https://httpoxy.org: CGI turns it into HTTP_PROXY.
say('believed', 'proxy');
say('credential', 'authorization x-api-key x-guardbee-token');

/** Names with these prefixes are ours or believed, whatever follows: every proxy has added one to the second family. */
const OUR_PREFIX = /^x-(?:guardbee|auth|forwarded)-/;
/** Credentials of services behind us, which prove themselves; they say nothing that needs believing. */
const THEIR_CREDENTIALS: ReadonlySet<string> = new Set(['x-auth-token', 'x-auth-key']);

const UNUSUAL = /[^a-z0-9-]/;
const SEPARATORS = /[^a-z0-9]/g;

/**
 * The name that a server of the CGI tradition can't tell from this one: `X_Auth_User` and `X-Auth-User` are both
 * HTTP_X_AUTH_USER, and some (lighttpd) make `_` of every character that is no letter or digit. @param name lower case.
 */
export function cgiTwin(name: string): string {
  return UNUSUAL.test(name) ? name.replaceAll(SEPARATORS, '-') : name;
}

/** @param name lower case. */
export function fieldRole(name: string): FieldRole | null {
  const role = ROLES.get(name);
  if (role !== undefined) return role;
  if (OUR_PREFIX.test(name)) return THEIR_CREDENTIALS.has(name) ? null : 'ours';
  if (!UNUSUAL.test(name)) return null;
  return fieldRole(cgiTwin(name)) === null ? null : 'believed';
}

/** RFC 9110 §5.6.2. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** RFC 9110 §5.5: no control characters but HTAB. Bytes above 0x7f (obs-text) pass. */
export const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** A field name as it came, read once: the same few dozen names come with every message. */
export interface FieldName {
  readonly lower: string;
  /** It is a token (RFC 9110 §5.6.2). */
  readonly sound: boolean;
  readonly role: FieldRole | null;
}

/** Two generations, so that a stranger who makes names up can fill the one and never keeps the usual names out. */
const NAMES_MOST = 1024;
const NAME_LONGEST = 64;
let young = new Map<string, FieldName>();
let old = new Map<string, FieldName>();

/** @param name in any case. */
export function fieldName(name: string): FieldName {
  const known = young.get(name);
  return known ?? remember(name);
}

function remember(name: string): FieldName {
  const lower = name.toLowerCase();
  const read = old.get(name) ?? { lower, sound: TOKEN.test(lower), role: fieldRole(lower) };
  if (name.length > NAME_LONGEST) return read;
  if (young.size >= NAMES_MOST) {
    old = young;
    young = new Map();
  }
  young.set(name, read);
  return read;
}

/**
 * Without the optional whitespace around (RFC 9110 §5.6.3: space and tab). `trim()` would cut more: `chunked` followed
 * by a no-break space is chunked to it, and an unknown coding to Node's parser.
 */
export function withoutWhitespace(value: string): string {
  let from = 0;
  let to = value.length;
  while (from < to && isWhitespace(value.charCodeAt(from))) from += 1;
  while (to > from && isWhitespace(value.charCodeAt(to - 1))) to -= 1;
  return value.slice(from, to);
}

function isWhitespace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** The members of a comma-separated list (RFC 9110 §5.6.1), without whitespace around; empty ones dropped. */
export function listMembers(value: string): string[] {
  return value
    .split(',')
    .map(withoutWhitespace)
    .filter((member) => member !== '');
}
