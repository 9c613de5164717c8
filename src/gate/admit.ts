import type { DenialReason } from '../denial.js';
import { withoutWhitespace } from '../http/fields.js';
import type { Message } from '../http/message.js';
import type { Caller } from '../identity/caller.js';
import type { Address } from '../net/address.js';
import { formatAddress, isLoopback, parseAddress } from '../net/address.js';
import { clientAddress } from '../net/client-address.js';
import type { HttpListener, Listener, Route } from '../policy/policy.js';
import { provenance } from './cross-site.js';

/** A request that may be asked who it is: addressed to us, from an allowed place, to a route that is not closed. */
export interface Admission {
  readonly admitted: true;
  readonly listener: HttpListener;
  readonly message: Message;
  readonly route: Route;
  /** Canonical form; after trusted proxies. */
  readonly client: string;
  /** As the client used it; a trusted proxy may have ended its TLS. */
  readonly scheme: 'http' | 'https';
  /** A request id that a trusted proxy gave; null: make one. */
  readonly requestId: string | null;
}

export interface NotAdmitted {
  readonly admitted: false;
  readonly reason: DenialReason;
  readonly route: Route | null;
  readonly client: string | null;
}

/** The first question of all, asked at the socket, before TLS costs anything, and again of each request. */
export function peerAllowed(listener: Listener, peer: Address): boolean {
  return listener.allowFrom === null || listener.allowFrom.has(peer);
}

/**
 * Is the request addressed to this listener. Where being local makes somebody, or is shown as somebody elsewhere, any name but
 * those of loopback and the configured ones is refused: a page whose own name has been made to resolve to loopback (DNS rebinding, CVE-2018-5702)
 * is of one origin with what it asks for, and only the Host field tells.
 */
function answersTo(listener: HttpListener, name: string): boolean {
  if (listener.hosts?.has(name) === true) return true;
  // No name leads to a unix socket, and no browser.
  if ((listener.local === null && !listener.outbound) || listener.bind.path !== undefined)
    return listener.hosts === null;
  const address = name === 'localhost' ? null : parseAddress(name);
  return name === 'localhost' || (address !== null && isLoopback(address));
}

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** A request that is addressed to us and comes from where it may, whatever it asks for. */
export interface Arrival {
  readonly arrived: true;
  /** After trusted proxies. */
  readonly client: Address;
  /** Canonical form of it. */
  readonly at: string;
  readonly scheme: 'http' | 'https';
  readonly requestId: string | null;
}

/** What is asked of every request, those for guardbee's own pages included. */
export function arrive(
  listener: HttpListener,
  message: Message,
  caller: Pick<Caller, 'address' | 'proxied'>,
): Arrival | { readonly arrived: false; readonly reason: DenialReason } {
  const no = (reason: DenialReason) => ({ arrived: false, reason }) as const;
  if (!peerAllowed(listener, caller.address)) return no('address_denied');
  if (!answersTo(listener, message.authority.name)) return no('wrong_host');
  // What an outbound listener shows the upstream counts as shown by whoever asks: no page that a browser of this machine
  // has open may do that, not even by a GET, which in rbee runs a job.
  if (listener.outbound && provenance(message, message.scheme, listener.origins) === 'foreign') return no('cross_site');
  // Who connected to a proxy that passes bytes on is one hop to the left of it; what it says of others is believed no
  // more than if it had connected itself.
  const from = caller.proxied?.source.address ?? caller.address;
  const trusted = listener.trustedProxies.has(from);
  const client =
    trusted && message.forwardedFor !== null
      ? clientAddress(from, message.forwardedFor, listener.trustedProxies)
      : from;
  if (client === null) return no('forwarded_malformed');
  const scheme = trusted && message.forwardedProto !== null ? readScheme(message.forwardedProto) : message.scheme;
  if (scheme === null) return no('forwarded_malformed');
  const requestId =
    trusted && message.requestId !== null && REQUEST_ID.test(message.requestId) ? message.requestId : null;
  return { arrived: true, client, at: formatAddress(client), scheme, requestId };
}

/** The folder of guardbee's own pages, on listeners that have such. */
export const OWN_FOLDER = '.guardbee';

/** Is it for guardbee itself. */
export function isOwnPath(listener: HttpListener, message: Message): boolean {
  return listener.sessions !== null && message.target.segments[0] === OWN_FOLDER;
}

type At = Pick<Caller, 'address' | 'proxied'>;

/** What came of the same head from the same place: nothing else is asked here. */
interface Known {
  readonly caller: At;
  readonly result: Admission | NotAdmitted;
}

/** By the rules first: with those of a policy that is gone, all goes that was kept by them, its secrets too. */
const repeated = new WeakMap<HttpListener, WeakMap<Message, Known>>();

export function admit(listener: HttpListener, message: Message, caller: At): Admission | NotAdmitted {
  if (message.repeated !== 'whole') return admission(listener, message, caller);
  let kept = repeated.get(listener);
  if (kept === undefined) repeated.set(listener, (kept = new WeakMap()));
  const known = kept.get(message);
  if (known?.caller === caller) return known.result;
  const result = admission(listener, message, caller);
  kept.set(message, { caller, result });
  return result;
}

/** Read top to bottom: one check a line, and no match is a denial. */
function admission(listener: HttpListener, message: Message, caller: At): Admission | NotAdmitted {
  const no = (reason: DenialReason, route: Route | null = null, at: string | null = null): NotAdmitted => ({
    admitted: false,
    reason,
    route,
    client: at,
  });
  const arrival = arrive(listener, message, caller);
  if (!arrival.arrived) return no(arrival.reason);
  const { client, at, scheme, requestId } = arrival;

  const { segments, encodedSlash } = message.target;
  // Ours to answer; no route, however wide, takes it upstream.
  if (isOwnPath(listener, message)) return no('route_unknown', null, at);
  const route = listener.routes.match({ segments, method: message.method, encodedSlash });
  if (route === null) return no(encodedSlash ? 'ambiguous_path' : 'route_unknown', null, at);
  if (route.access.kind === 'deny') return no('route_denied', route, at);
  if (route.from !== null && !route.from.has(client)) return no('client_denied', route, at);
  return { admitted: true, listener, message, route, client: at, scheme, requestId };
}

/**
 * X-Forwarded-Proto of a trusted proxy. Where it is a list, one proxy adds to what another or the client itself said;
 * which of them to believe nobody knows, so they must agree.
 */
function readScheme(value: string): 'http' | 'https' | null {
  const [first, ...others] = value.split(',').map((member) => withoutWhitespace(member).toLowerCase());
  if (first !== 'http' && first !== 'https') return null;
  return others.every((other) => other === first) ? first : null;
}
