import type { Permit } from '../gate/authorize.js';
import { upstreamHead } from '../http/upstream-head.js';
import { carrierField, withoutCredential } from '../identity/credential.js';
import type { Carrier, HttpListener, Route } from '../policy/policy.js';

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

/**
 * The head for the upstream of a permitted request. Fields of every enabled carrier are stripped, also on public
 * routes and also those not used this time: a credential meant for us is never the upstream's to see.
 */
export function requestHead(permit: Permit, requestId: string): string[] {
  const { admission, route } = permit;
  const { message, listener } = admission;
  return upstreamHead(message, {
    client: admission.client,
    scheme: admission.scheme,
    requestId,
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
}
