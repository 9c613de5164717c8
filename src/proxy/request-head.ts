import type { Admission } from '../gate/admit.js';
import type { Permit } from '../gate/authorize.js';
import { upstreamHead } from '../http/upstream-head.js';
import { carrierField, withoutCredential } from '../identity/credential.js';
import type { Identity } from '../identity/identity.js';
import type { Carrier, HttpListener, Route } from '../policy/policy.js';
import { type Following, RequestHead } from './head-text.js';

/** What is taken for ours on a route, and so goes no further; made once. */
interface Withheld {
  /** Fields that never go on: those of the carriers, and what the policy says. */
  readonly fields: ReadonlySet<string>;
  /** The list of subprotocols may hold a credential. */
  readonly subprotocol: boolean;
}

const withheld = new WeakMap<Route, Withheld>();

function withheldOn(listener: HttpListener, route: Route): Withheld {
  const known = withheld.get(route);
  if (known !== undefined) return known;
  const carriers = carriersOf(listener, route);
  const fields = new Set(listener.stripRequestHeaders);
  for (const carrier of carriers) {
    const field = carrierField(carrier);
    if (field !== null) fields.add(field);
  }
  // The answer must be readable here.
  if (route.owns !== null) fields.add('accept-encoding');
  const made = { fields, subprotocol: carriers.has('subprotocol') };
  withheld.set(route, made);
  return made;
}

/** A public route asks for no credential, but clients show on it what they show on the listener's other routes. */
function carriersOf(listener: HttpListener, route: Route): ReadonlySet<Carrier> {
  const routes = route.access.kind === 'public' ? listener.routes.routes : [route];
  return new Set(routes.flatMap(({ authenticators }) => authenticators.flatMap(({ carriers }) => [...carriers])));
}

/** The subprotocols for the upstream, without the credential pair; null where the field goes on as it came. */
export function offeredUpstream(permit: Permit): readonly string[] | null {
  const { listener, message } = permit.admission;
  if (message.webSocket === null || !withheldOn(listener, permit.route).subprotocol) return null;
  return withoutCredential(message.webSocket.subprotocols);
}

/** What is written for the same head from the same place by the same rules, and for whom. */
interface Known {
  readonly identity: Identity | null;
  readonly head: RequestHead;
}

const repeated = new WeakMap<Admission, Known>();

/**
 * The head for the upstream of a permitted request. Fields of every enabled carrier are stripped, also on public
 * routes and also those not used this time: a credential meant for us is never the upstream's to see.
 *
 * @param following what the head announces
 */
export function requestHead(permit: Permit, following: Following): RequestHead {
  const { admission, identity } = permit;
  if (admission.message.repeated !== 'whole' || permit.body !== null) return written(permit, following);
  const known = repeated.get(admission);
  if (known?.identity === identity && known.head.following === following) return known.head;
  const head = written(permit, following);
  repeated.set(admission, { identity, head });
  return head;
}

function written(permit: Permit, following: Following): RequestHead {
  const { admission, route } = permit;
  const { message, listener } = admission;
  const fields = upstreamHead(message, {
    client: admission.client,
    scheme: admission.scheme,
    identity: permit.identity,
    strip: withheldOn(listener, route).fields,
    credential:
      route.upstreamAuth === null
        ? null
        : { field: route.upstreamAuth.field, value: route.upstreamAuth.value.reveal() },
    subprotocols: offeredUpstream(permit),
    bodyBytes: permit.body?.length ?? null,
    far: permit.upstream.tls === null ? null : permit.upstream.authority,
  });
  return new RequestHead(following === 'upgrade' ? 'GET' : message.method, message.target.raw, fields, following);
}
