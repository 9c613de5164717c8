import type { DenialReason } from '../denial.js';
import { type Deadline, readDeadline } from './deadline.js';
import { FIELD_VALUE, TOKEN, fieldName, listMembers, withoutWhitespace } from './fields.js';
import { type Authority, readAuthority, sameAuthority } from './host.js';
import { type Target, readTarget } from './target.js';

/** A request head as the server's parser delivered it, not yet judged. */
export interface RawHead {
  readonly protocol: '1.0' | '1.1' | '2' | 'unknown';
  readonly scheme: 'http' | 'https';
  readonly method: string;
  /** Request target of HTTP/1, `:path` of HTTP/2. */
  readonly target: string;
  /** `:authority` of HTTP/2; null in HTTP/1. */
  readonly authority: string | null;
  /** Names and values in turn, as sent, without pseudo-header fields. */
  readonly fields: readonly string[];
  /** HTTP/2: the stream is still open after the head. HTTP/1: not asked. */
  readonly moreFollows: boolean;
}

export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  /** HTTP/1 chunked, or an HTTP/2 body of unstated length. */
  | { readonly kind: 'streamed' };

/** Whether any body bytes may follow the head. */
export function hasBody(framing: Framing): boolean {
  return framing.kind === 'streamed' || (framing.kind === 'length' && framing.bytes > 0);
}

export interface WebSocketOffer {
  readonly key: string;
  /** In the order offered, each once. */
  readonly subprotocols: readonly string[];
  /** Sec-WebSocket-Extensions as sent, as one list; null where there was none. */
  readonly extensions: string | null;
}

/** `fields`: all but the target. They are then one object with those of before. */
export type Repeated = 'nothing' | 'fields' | 'whole';

/** A request head that can be read one way only. The deciding code sees this, never the raw head. */
export interface Message {
  readonly protocol: '1.0' | '1.1' | '2';
  readonly scheme: 'http' | 'https';
  readonly method: string;
  readonly target: Target;
  readonly authority: Authority;
  /** Lower-case names and values in turn: end-to-end fields that are neither ours nor believed. Cookie is one field. */
  readonly fields: readonly string[];
  readonly framing: Framing;
  readonly expectsContinue: boolean;
  readonly webSocket: WebSocketOffer | null;
  readonly authorization: string | null;
  readonly apiKey: readonly string[];
  readonly guardbeeToken: readonly string[];
  /** All X-Forwarded-For fields, joined; believed only from trusted proxies. */
  readonly forwardedFor: string | null;
  readonly forwardedProto: string | null;
  readonly requestId: string | null;
  readonly userAgent: string | null;
  /** One field: HTTP/2 may split it. Also among `fields`. */
  readonly cookie: string | null;
  /** All Origin fields, joined; `null` is a word that browsers send. */
  readonly origin: string | null;
  /** Sec-Fetch-Site and Sec-Fetch-Mode (Fetch Metadata), joined likewise. */
  readonly fetchSite: string | null;
  readonly fetchMode: string | null;
  readonly accept: string | null;
  readonly contentType: string | null;
  /** X-Deadline; also among `fields`. Null: none was sent. */
  readonly deadline: Deadline | null;
  /** The client has sent the same before on this connection: what only that says may be kept (`repeated-heads`). */
  readonly repeated: Repeated;
}

export type MessageResult =
  { readonly ok: true; readonly message: Message } | { readonly ok: false; readonly reason: DenialReason };

export interface HeadLimits {
  readonly headBytes: number;
  readonly headFields: number;
}

/**
 * Methods that exist (RFC 9110, 5789, 4918, 3253, 3744, 5323, 5842, 4437, 10008 and PURGE). CONNECT and TRACE are
 * left out: the first would make this a tunnel, the second reflects credentials (RFC 9110 §9.3.8).
 */
const METHODS: ReadonlySet<string> = new Set(
  (
    'GET HEAD POST PUT DELETE PATCH OPTIONS QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT ' +
    'CHECKOUT MERGE MKACTIVITY MKCALENDAR BIND UNBIND REBIND ACL LINK UNLINK PURGE SOURCE M-SEARCH NOTIFY SUBSCRIBE ' +
    'UNSUBSCRIBE'
  ).split(' '),
);

const wrong = (reason: DenialReason): MessageResult => ({ ok: false, reason });

/**
 * The same head with another target. Written out: of so many members a spread makes an object of another shape, slowly,
 * and whoever reads messages would meet both.
 */
export function retargeted(message: Message, target: Target, repeated: Repeated): Message {
  return {
    protocol: message.protocol,
    scheme: message.scheme,
    method: message.method,
    target,
    authority: message.authority,
    fields: message.fields,
    framing: message.framing,
    expectsContinue: message.expectsContinue,
    webSocket: message.webSocket,
    authorization: message.authorization,
    apiKey: message.apiKey,
    guardbeeToken: message.guardbeeToken,
    forwardedFor: message.forwardedFor,
    forwardedProto: message.forwardedProto,
    requestId: message.requestId,
    userAgent: message.userAgent,
    cookie: message.cookie,
    origin: message.origin,
    fetchSite: message.fetchSite,
    fetchMode: message.fetchMode,
    accept: message.accept,
    contentType: message.contentType,
    deadline: message.deadline,
    repeated,
  };
}

/** What `limits.head_bytes` bounds: about what it was on the wire. */
export function headSize({ method, target, fields }: RawHead): number {
  let size = method.length + target.length + 12 + fields.length * 2;
  for (const text of fields) size += text.length;
  return size;
}

/**
 * Reads a head or says why it is refused. Everything here is refused before any rule looks, on both protocol versions
 * alike: DESIGN section 6; RFC 9112 §3.2, §6.3, §11; RFC 9113 §8.
 */
export function readMessage(raw: RawHead, limits: HeadLimits): MessageResult {
  const { protocol, scheme, method, fields } = raw;
  if (protocol === 'unknown') return wrong('version_unsupported');
  if (!METHODS.has(method)) return wrong('method_unsupported');
  if (fields.length > limits.headFields * 2) return wrong('too_many_fields');

  let size = method.length + raw.target.length + 12;
  let host: string | null = null;
  let hosts = 0;
  let authorization: string | null = null;
  let authorizations = 0;
  const apiKey: string[] = [];
  const guardbeeToken: string[] = [];
  let forwardedFor: string | null = null;
  let forwardedProto: string | null = null;
  let requestId: string | null = null;
  let userAgent: string | null = null;
  let origin: string | null = null;
  let fetchSite: string | null = null;
  let fetchMode: string | null = null;
  let accept: string | null = null;
  let contentType: string | null = null;
  let deadline: string | null = null;
  let contentLength: string | null = null;
  let contentLengths = 0;
  let transferEncoding: string | null = null;
  let expect: string | null = null;
  let upgrade: string | null = null;
  let connection: string | null = null;
  let persistence = false;
  let subprotocols: string | null = null;
  let webSocketKey: string | null = null;
  let webSocketVersion: string | null = null;
  let extensions: string | null = null;
  let cookie: string | null = null;
  const out: string[] = [];

  for (let i = 0; i < fields.length; i += 2) {
    const { lower: name, sound, role } = fieldName(fields[i] ?? '');
    const value = fields[i + 1] ?? '';
    size += name.length + value.length + 4;
    if (!sound || !FIELD_VALUE.test(value)) return wrong('malformed_head');
    switch (role) {
      case 'hop':
        if (name === 'host') {
          host = value;
          hosts += 1;
        } else if (name === 'content-length') {
          contentLength = value;
          contentLengths += 1;
        } else if (name === 'transfer-encoding') {
          transferEncoding = transferEncoding === null ? value : `${transferEncoding},${value}`;
        } else if (name === 'connection') {
          connection = connection === null ? value : `${connection},${value}`;
        } else if (name === 'expect') {
          expect = expect === null ? value : `${expect},${value}`;
        } else if (name === 'upgrade') {
          upgrade = upgrade === null ? value : `${upgrade},${value}`;
        } else if (name === 'keep-alive' || name === 'proxy-connection') {
          persistence = true;
        }
        break;
      case 'ours':
        if (name === 'x-forwarded-for') forwardedFor = forwardedFor === null ? value : `${forwardedFor},${value}`;
        else if (name === 'x-forwarded-proto')
          forwardedProto = forwardedProto === null ? value : `${forwardedProto},${value}`;
        else if (name === 'x-request-id') requestId = requestId === null ? value : `${requestId},${value}`;
        break;
      case 'believed':
        break;
      case 'credential':
        if (name === 'authorization') {
          authorization = value;
          authorizations += 1;
        } else if (name === 'x-api-key') {
          apiKey.push(value);
        } else {
          guardbeeToken.push(value);
          break; // Ours alone: no upstream has a use for it.
        }
        out.push(name, value);
        break;
      case null:
        if (name === 'cookie') {
          // HTTP/2 may split it (RFC 9113 §8.2.3); HTTP/1 upstreams want one field.
          cookie = cookie === null ? value : `${cookie}; ${value}`;
          break;
        }
        if (name === 'user-agent') userAgent = value;
        else if (name === 'accept') accept = accept === null ? value : `${accept},${value}`;
        else if (name === 'content-type') contentType = contentType === null ? value : `${contentType},${value}`;
        else if (name === 'x-deadline') deadline = deadline === null ? value : `${deadline},${value}`;
        else if (name === 'origin') origin = origin === null ? value : `${origin},${value}`;
        else if (name === 'sec-fetch-site') fetchSite = fetchSite === null ? value : `${fetchSite},${value}`;
        else if (name === 'sec-fetch-mode') fetchMode = fetchMode === null ? value : `${fetchMode},${value}`;
        else if (name === 'sec-websocket-protocol')
          subprotocols = subprotocols === null ? value : `${subprotocols},${value}`;
        else if (name === 'sec-websocket-key')
          webSocketKey = webSocketKey === null ? value : `${webSocketKey},${value}`;
        else if (name === 'sec-websocket-version')
          webSocketVersion = webSocketVersion === null ? value : `${webSocketVersion},${value}`;
        else if (name === 'sec-websocket-extensions')
          extensions = extensions === null ? value : `${extensions},${value}`;
        out.push(name, value);
        break;
    }
  }
  if (cookie !== null) out.push('cookie', cookie);
  if (size > limits.headBytes) return wrong('head_too_large');

  // RFC 9113 §8.2.2: connection-specific fields make an HTTP/2 message malformed.
  if (protocol === '2' && (connection !== null || transferEncoding !== null || upgrade !== null || persistence)) {
    return wrong('malformed_head');
  }
  if (hosts > 1) return wrong('host_ambiguous');
  if (authorizations > 1) return wrong('authorization_repeated');
  const addressed = readAddressed(raw, host);
  if (!addressed.ok) return addressed;

  const framing = readFraming(raw, contentLength, contentLengths, transferEncoding);
  if (framing === null) return wrong('ambiguous_framing');

  let expectsContinue = false;
  if (expect !== null) {
    if (expect.toLowerCase() !== '100-continue') return wrong('expectation_unsupported');
    expectsContinue = protocol !== '1.0' && framing.kind !== 'none';
  }

  const nominated = connection === null ? [] : listMembers(connection).map((member) => member.toLowerCase());
  let webSocket: WebSocketOffer | null = null;
  if (upgrade !== null) {
    if (withoutWhitespace(upgrade).toLowerCase() !== 'websocket') return wrong('upgrade_unsupported');
    const sound =
      protocol === '1.1' &&
      method === 'GET' &&
      framing.kind === 'none' &&
      nominated.includes('upgrade') &&
      webSocketVersion === '13' &&
      webSocketKey !== null &&
      isWebSocketKey(webSocketKey);
    if (!sound || webSocketKey === null) return wrong('upgrade_malformed');
    const offered = subprotocols === null ? [] : listMembers(subprotocols);
    if (!offered.every((member) => TOKEN.test(member) || isBase64Token(member))) return wrong('upgrade_malformed');
    // RFC 6455 §4.1: each once. A credential in the list twice would be taken out once.
    if (new Set(offered).size !== offered.length) return wrong('upgrade_malformed');
    webSocket = { key: webSocketKey, subprotocols: offered, extensions };
  }

  const forwarded = withoutNominated(out, nominated);
  return {
    ok: true,
    message: {
      protocol,
      scheme,
      method,
      target: addressed.target,
      authority: addressed.authority,
      fields: webSocket === null && subprotocols !== null ? withoutHandshake(forwarded) : forwarded,
      framing,
      expectsContinue,
      webSocket,
      authorization,
      apiKey,
      guardbeeToken,
      forwardedFor,
      forwardedProto,
      requestId,
      userAgent,
      cookie,
      origin,
      fetchSite,
      fetchMode,
      accept,
      contentType,
      deadline: deadline === null ? null : readDeadline(deadline),
      repeated: 'nothing',
    },
  };
}

type Addressed =
  | { readonly ok: true; readonly target: Target; readonly authority: Authority }
  | { readonly ok: false; readonly reason: DenialReason };

/** RFC 9112 §3.2.2: a target in absolute form must name the same host as the Host field; two readers could differ. */
function readAddressed(raw: RawHead, host: string | null): Addressed {
  const no = (reason: DenialReason): Addressed => ({ ok: false, reason });
  const named = raw.authority ?? host;
  if (named === null || named === '') return no('host_missing');
  const authority = readAuthority(named);
  if (authority === null) return no('malformed_head');
  if (raw.authority !== null && host !== null && raw.authority.toLowerCase() !== host.toLowerCase())
    return no('host_ambiguous');

  let text = raw.target;
  if (raw.protocol !== '2' && text.charCodeAt(0) !== 0x2f) {
    const absolute = /^(https?):\/\/([^/?#]*)([/?].*)?$/i.exec(text);
    if (absolute === null) return no('malformed_target');
    const inTarget = readAuthority(absolute[2] ?? '');
    if (inTarget === null) return no('malformed_target');
    if (absolute[1]?.toLowerCase() !== raw.scheme || !sameAuthority(inTarget, authority, raw.scheme))
      return no('host_ambiguous');
    const rest = absolute[3] ?? '/';
    text = rest.startsWith('?') ? `/${rest}` : rest;
  }
  const read = readTarget(text);
  return read.ok ? { ok: true, target: read.target, authority } : read;
}

/** RFC 9112 §6.3, refusing each case it calls a possible request smuggling. Null: refuse. */
function readFraming(
  raw: RawHead,
  contentLength: string | null,
  lengths: number,
  transferEncoding: string | null,
): Framing | null {
  if (lengths > 1) return null;
  if (transferEncoding !== null) {
    if (contentLength !== null || raw.protocol !== '1.1') return null;
    return withoutWhitespace(transferEncoding).toLowerCase() === 'chunked' ? { kind: 'streamed' } : null;
  }
  if (contentLength !== null) {
    if (!/^[0-9]{1,15}$/.test(contentLength)) return null;
    const bytes = Number(contentLength);
    if (raw.protocol === '2' && !raw.moreFollows && bytes !== 0) return null;
    // `Content-Length: 0` is a statement for some servers (411 without it), so it stays one.
    return { kind: 'length', bytes };
  }
  return raw.protocol === '2' && raw.moreFollows ? { kind: 'streamed' } : { kind: 'none' };
}

/** RFC 6455 §4.1: 16 bytes in base64. */
function isWebSocketKey(value: string): boolean {
  return /^[A-Za-z0-9+/]{22}==$/.test(value);
}

/** Browsers can only show a credential in a subprotocol; base64 has `/` and `=`, which a token (RFC 6455) may not. */
function isBase64Token(member: string): boolean {
  return /^[A-Za-z0-9+/=_.~-]{1,8192}$/.test(member);
}

/**
 * Drops the fields that `Connection` names (RFC 9110 §7.6.1). Ours are not among them: they are set later, so a client
 * can't delete an identity or forwarding field by naming it there.
 */
function withoutNominated(fields: string[], nominated: readonly string[]): string[] {
  const names = new Set(nominated.filter((name) => name !== 'close' && name !== 'keep-alive' && name !== 'upgrade'));
  return names.size === 0 ? fields : withoutFields(fields, (name) => names.has(name));
}

/** Outside a handshake these fields mean nothing, and the list of subprotocols may hold a credential. */
function withoutHandshake(fields: string[]): string[] {
  return withoutFields(fields, (name) => name.startsWith('sec-websocket-'));
}

function withoutFields(fields: readonly string[], drop: (name: string) => boolean): string[] {
  const kept: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    if (!drop(name)) kept.push(name, fields[i + 1] ?? '');
  }
  return kept;
}
