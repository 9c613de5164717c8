import { createHash } from 'node:crypto';
import { isLoopback, isUnspecified, parseAddress } from '../net/address.js';
import { FIELD_VALUE, fieldName, listMembers, withoutWhitespace } from './fields.js';
import type { Authority } from './host.js';
import { setsSessionCookie } from './session-cookies.js';
import { readAuthority, sameAuthority } from './host.js';
import { type Sharing, share } from './sharing.js';

/** What the client's side of the exchange looks like, for an upstream's answer to be fitted to it. */
export interface ClientHeadContext {
  readonly scheme: 'http' | 'https';
  readonly authority: Authority;
  readonly requestId: string;
  /** The upstream's own origin, e.g. `127.0.0.1:7833`; empty for a unix socket. */
  readonly upstreamAuthority: string;
  /** TLS is spoken with the upstream. */
  readonly upstreamSecure: boolean;
  readonly method: string;
  /** Who else may read it; null: whatever the upstream says. */
  readonly sharing: Sharing | null;
}

export interface ClientHead {
  readonly status: number;
  /** Lower-case names and values in turn. */
  readonly fields: string[];
  /** The answer has no body by definition (RFC 9110 §6.4.1), whatever the fields say. */
  readonly bodiless: boolean;
  readonly eventStream: boolean;
}

/** Fields of an answer that go no further: connection-specific, framing that is stated anew, and the upstream's banner. */
const DROPPED: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authentication-info',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'server',
  // Would send clients around the guard (RFC 7838).
  'alt-svc',
  'x-request-id',
]);

/** A head that came before: what was made of it for any client is kept with it. */
export class KnownHead {
  judged: JudgedHead | null | undefined;
}

/** A head of which everything is known but who it is for. */
interface JudgedHead {
  /** Lower-case names and values in turn. */
  readonly fields: readonly string[];
  /** Some of the values depend on who it is for. */
  readonly fitted: boolean;
  readonly eventStream: boolean;
}

/**
 * The answer's head for the client, rebuilt from the upstream's, or null when the upstream's is not one that may be
 * passed on (the exchange then ends with 502 and the connection is not used again).
 *
 * @param known of a status and fields that came before; null: these have not
 */
export function clientHead(
  status: number,
  raw: readonly string[],
  context: ClientHeadContext,
  known: KnownHead | null = null,
): ClientHead | null {
  const judged = known === null ? judge(status, raw) : (known.judged ??= judge(status, raw));
  if (judged === null) return null;
  let fields = judged.fitted ? fit(judged.fields, context) : [...judged.fields];
  if (context.sharing !== null) fields = share(fields, context.sharing);
  fields.push('x-request-id', context.requestId);
  const bodiless = context.method === 'HEAD' || status === 204 || status === 304;
  return { status, fields, bodiless, eventStream: judged.eventStream };
}

function judge(status: number, raw: readonly string[]): JudgedHead | null {
  if (status < 200 || status > 599) return null;
  const fields: string[] = [];
  let nominated: readonly string[] = [];
  let contentLength: string | null = null;
  let coded = false;
  let eventStream = false;
  let fitted = false;
  for (let i = 0; i < raw.length; i += 2) {
    const { lower: name, sound } = fieldName(raw[i] ?? '');
    const value = raw[i + 1] ?? '';
    if (!sound || !FIELD_VALUE.test(value)) return null;
    if (name === 'connection') nominated = [...nominated, ...listMembers(value.toLowerCase())];
    if (name === 'transfer-encoding') {
      // Whatever is not plainly chunked is still in its coding when it gets here, and nobody would be told.
      if (coded || withoutWhitespace(value).toLowerCase() !== 'chunked') return null;
      coded = true;
    }
    if (DROPPED.has(name)) continue;
    switch (name) {
      case 'content-length':
        if (!/^[0-9]{1,16}$/.test(value) || (contentLength !== null && contentLength !== value)) return null;
        // RFC 9110 §8.6: a 204 has none; bytes that follow it after all would be the next answer.
        if (status === 204 && !/^0+$/.test(value)) return null;
        if (contentLength !== null || status === 204) continue;
        contentLength = value;
        break;
      case 'set-cookie':
        // Sessions are ours to begin and to end.
        if (setsSessionCookie(value)) continue;
        fitted = true;
        break;
      case 'location':
      case 'content-location':
        fitted = true;
        break;
      case 'content-type':
        eventStream = eventStream || /^\s*text\/event-stream\b/i.test(value);
        break;
      default:
    }
    fields.push(name, value);
  }
  // RFC 9112 §6.3: a message with both may be read in two ways.
  if (coded && contentLength !== null) return null;
  if (status === 205) {
    // RFC 9110 §15.3.6: nothing may follow, and some clients would take an empty chunk for the next answer.
    if (contentLength === null) fields.push('content-length', '0');
    else if (Number(contentLength) > 0) return null;
  }
  return { fields: withoutNominated(fields, nominated), fitted, eventStream };
}

/** What is said to the client of places and cookies of the upstream's. */
function fit(fields: readonly string[], context: ClientHeadContext): string[] {
  const fitted: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const value = fields[i + 1] ?? '';
    switch (name) {
      case 'set-cookie':
        fitted.push(name, cookieFor(value, context));
        break;
      case 'location':
      case 'content-location':
        fitted.push(name, ownLocation(value, context));
        break;
      default:
        fitted.push(name, value);
    }
  }
  return fitted;
}

function withoutNominated(fields: string[], nominated: readonly string[]): string[] {
  const names = new Set(
    nominated.filter(
      (name) => name !== 'close' && name !== 'keep-alive' && name !== 'upgrade' && name !== 'content-length',
    ),
  );
  if (names.size === 0) return fields;
  const kept: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    if (!names.has(fields[i] ?? '')) kept.push(fields[i] ?? '', fields[i + 1] ?? '');
  }
  return kept;
}

function cookieFor(value: string, { scheme, upstreamSecure, upstreamAuthority }: ClientHeadContext): string {
  if (scheme === 'https') return secureCookie(value);
  return upstreamSecure ? localCookie(value, readAuthority(upstreamAuthority)?.name ?? '') : value;
}

/**
 * The client speaks plain HTTP with this machine, and would throw away a cookie for another domain, or keep one from us
 * that is for TLS alone. What browsers take with Secure only (RFC 6265bis §4.1.3, §5.7) keeps it: to them loopback is safe.
 */
function localCookie(value: string, host: string): string {
  const [pair = '', ...attributes] = value.split(';');
  const needsSecure =
    /^[ \t]*__(?:Host|Secure)-/i.test(pair) || /;[ \t]*samesite[ \t]*=[ \t]*none[ \t]*(?:;|$)/i.test(value);
  const kept = attributes.filter((attribute) => {
    const [name = '', of = ''] = attribute.split('=').map((part) => withoutWhitespace(part).toLowerCase());
    if (name === 'secure') return needsSecure;
    const domain = of.replace(/^\./, '');
    return name !== 'domain' || !(host === domain || host.endsWith(`.${domain}`));
  });
  return [pair, ...kept].join(';');
}

/** The upstream speaks plain HTTP and can't know that the client does not (RFC 6265 §4.1.2.5). */
function secureCookie(value: string): string {
  return /;[ \t]*secure[ \t]*(?:;|$)/i.test(value) ? value : `${value}; Secure`;
}

const HTTP_URL = /^(?:http:)?\/\/([^/?#\\]*)([/?#].*)?$/is;
const HTTPS_URL = /^(?:https:)?\/\/([^/?#\\]*)([/?#].*)?$/is;

/**
 * A URL of the upstream's own origin is one the client can't reach; so is one built from the Host we passed on with the
 * upstream's scheme. Both become the origin that the client used. Other URLs are not ours to change.
 */
function ownLocation(value: string, context: ClientHeadContext): string {
  const found = (context.upstreamSecure ? HTTPS_URL : HTTP_URL).exec(value);
  const authority = readAuthority(found?.[1] ?? '');
  if (found === null || authority === null) return value;
  const upstream = readAuthority(context.upstreamAuthority);
  const own = context.upstreamSecure
    ? upstream !== null && sameAuthority(authority, upstream, 'https')
    : (upstream !== null && sameService(authority, upstream)) ||
      authority.text.toLowerCase() === context.authority.text.toLowerCase();
  return own ? `${context.scheme}://${context.authority.text}${found[2] ?? ''}` : value;
}

/** An upstream at 127.0.0.1 may call itself localhost, ::1 or 0.0.0.0; sent to a client, that would mean its own machine. */
function sameService(a: Authority, upstream: Authority): boolean {
  if (sameAuthority(a, upstream, 'http')) return true;
  return isThisMachine(a.name) && isThisMachine(upstream.name) && (a.port ?? 80) === (upstream.port ?? 80);
}

function isThisMachine(name: string): boolean {
  if (name === 'localhost') return true;
  const address = parseAddress(name);
  return address !== null && (isLoopback(address) || isUnspecified(address));
}

export interface UpgradeContext extends ClientHeadContext {
  /** Sec-WebSocket-Key as sent. */
  readonly key: string;
  /** What the upstream was offered. */
  readonly subprotocols: readonly string[];
  /** Extension names the client offered, as sent. */
  readonly extensions: string | null;
  /** Said to the client when the upstream chose none, because a browser fails the handshake otherwise; null: say nothing. */
  readonly fallbackSubprotocol: string | null;
}

/**
 * The fields of a 101 for the client, or null when the upstream's is not a valid answer to the handshake
 * (RFC 6455 §4.1): wrong Upgrade, Connection or Sec-WebSocket-Accept, a subprotocol or extension nobody offered.
 */
export function upgradeHead(raw: readonly string[], context: UpgradeContext): string[] | null {
  let upgrade = 0;
  let nominated: readonly string[] = [];
  let accept: string | null = null;
  let subprotocol: string | null = null;
  const fields: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const { lower: name, sound } = fieldName(raw[i] ?? '');
    const value = raw[i + 1] ?? '';
    if (!sound || !FIELD_VALUE.test(value)) return null;
    switch (name) {
      case 'upgrade':
        if (withoutWhitespace(value).toLowerCase() !== 'websocket') return null;
        upgrade += 1;
        break;
      case 'connection':
        nominated = [...nominated, ...listMembers(value.toLowerCase())];
        break;
      case 'sec-websocket-accept':
        if (accept !== null) return null;
        accept = withoutWhitespace(value);
        break;
      case 'sec-websocket-protocol':
        if (subprotocol !== null || !context.subprotocols.includes(withoutWhitespace(value))) return null;
        subprotocol = withoutWhitespace(value);
        break;
      case 'sec-websocket-extensions':
        if (!extensionsOffered(value, context.extensions)) return null;
        fields.push(name, value);
        break;
      case 'content-length':
      case 'transfer-encoding':
        // RFC 9110 §8.6, RFC 9112 §6.1: neither may stand in a 1xx; a reader that believes one loses the framing.
        return null;
      case 'set-cookie':
        if (setsSessionCookie(value)) break;
        fields.push(name, cookieFor(value, context));
        break;
      default:
        if (!DROPPED.has(name)) fields.push(name, value);
    }
  }
  if (upgrade !== 1 || !nominated.includes('upgrade') || accept !== acceptFor(context.key)) return null;
  const kept = withoutNominated(fields, nominated);
  const chosen = subprotocol ?? context.fallbackSubprotocol;
  if (chosen !== null) kept.push('sec-websocket-protocol', chosen);
  kept.push('upgrade', 'websocket', 'connection', 'Upgrade', 'sec-websocket-accept', accept);
  kept.push('x-request-id', context.requestId);
  return kept;
}

/** RFC 6455 §4.2.2: the fixed GUID is the protocol's. */
function acceptFor(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

function extensionsOffered(answered: string, offered: string | null): boolean {
  const names = (text: string): string[] =>
    listMembers(text).map((member) => withoutWhitespace(member.split(';')[0] ?? '').toLowerCase());
  const known = offered === null ? [] : names(offered);
  return names(answered).every((name) => known.includes(name));
}
