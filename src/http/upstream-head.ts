import { cgiTwin } from './fields.js';
import type { Message } from './message.js';
import { originOf, readOrigin } from './origin.js';
import { withoutSessionCookies } from './session-cookies.js';

/** What guardbee itself says to the upstream. */
export interface UpstreamHeadContext {
  /** Client address after trusted proxies, canonical form. */
  readonly client: string;
  readonly scheme: 'http' | 'https';
  readonly identity: { readonly name: string; readonly roles: readonly string[] } | null;
  /** Lower-case names that must not go on: enabled credential carriers, `strip_request_headers`. */
  readonly strip: ReadonlySet<string>;
  /** Credential for the upstream, revealed by the caller for this one head. */
  readonly credential: { readonly field: string; readonly value: string } | null;
  /** Subprotocols to offer the upstream when a credential was taken out of the list; null: leave the field alone. */
  readonly subprotocols: readonly string[] | null;
  /** Length in bytes of the body that goes on in place of the one that came; null: that goes on. */
  readonly bodyBytes: number | null;
  /** `Host` of an upstream on another machine, for which TLS vouches; null: it is on this one. */
  readonly far: string | null;
}

/**
 * The request head for the upstream but for the request's id, rebuilt: strip, then set, in one branch, whether or not there is anything to set.
 * Framing is not in it but for the stated length: where no length is known, the body is sent in chunks.
 * Names and values in turn.
 */
export function upstreamHead(message: Message, context: UpstreamHeadContext): string[] {
  const { fields } = message;
  const { credential, subprotocols, far } = context;
  const head: string[] = ['host', far ?? message.authority.text];
  const strip = twinsOf(context.strip);
  const credentialTwin = credential === null ? null : cgiTwin(credential.field);
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const twin = cgiTwin(name);
    if (strip.has(twin) || twin === credentialTwin) continue;
    if (subprotocols !== null && name === 'sec-websocket-protocol') continue;
    if (name === 'cookie') {
      const rest = withoutSessionCookies(fields[i + 1] ?? '');
      if (rest !== null) head.push(name, rest);
      continue;
    }
    const value = fields[i + 1] ?? '';
    head.push(name, far !== null && (name === 'origin' || name === 'referer') ? fromThere(value, far, message) : value);
  }
  if (subprotocols !== null && subprotocols.length > 0) head.push('sec-websocket-protocol', subprotocols.join(', '));
  if (credential !== null) head.push(credential.field, credential.value);
  if (far === null) {
    // X-Forwarded-For is the one client we vouch for, never a list: uvicorn and others believe its left end.
    head.push('x-forwarded-for', context.client, 'x-real-ip', context.client);
    head.push('x-forwarded-proto', context.scheme, 'x-forwarded-host', message.authority.text);
  }
  // Who somebody is on this machine, and that loopback asks, means nothing on another, where it might be believed.
  if (context.identity !== null && far === null) {
    head.push('x-auth-user', fieldValue(context.identity.name), 'x-auth-roles', context.identity.roles.join(','));
  }
  const length = context.bodyBytes ?? (message.framing.kind === 'length' ? message.framing.bytes : 0);
  if (length > 0) head.push('content-length', String(length));
  return head;
}

/** A page of the upstream's own, as the browser has it from here, is one of the upstream's own there. */
function fromThere(value: string, far: string, { scheme, authority }: Message): string {
  const [, origin = '', path = ''] = /^([a-z]+:\/\/[^/?#]+)([/?#].*)?$/i.exec(value) ?? [];
  return origin !== '' && readOrigin(origin) === originOf(scheme, authority) ? `https://${far}${path}` : value;
}

/** Field values are bytes; those of a name are its UTF-8, as other servers hand on names. */
function fieldValue(name: string): string {
  return /^[\x20-\x7e]*$/.test(name) ? name : Buffer.from(name, 'utf8').toString('latin1');
}

const twins = new WeakMap<ReadonlySet<string>, ReadonlySet<string>>();

/** What must not go on must not go on under a name that the upstream can't tell from it; made once for each set. */
function twinsOf(names: ReadonlySet<string>): ReadonlySet<string> {
  const known = twins.get(names);
  if (known !== undefined) return known;
  const made = new Set([...names].map(cgiTwin));
  twins.set(names, made);
  return made;
}
