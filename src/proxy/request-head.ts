import type { Permit } from '../gate/authorize.js';
import { upstreamHead } from '../http/upstream-head.js';
import { carrierField, withoutCredential } from '../identity/credential.js';
import type { HttpListener, Route } from '../policy/policy.js';

/** Fields that never go on, for a route of a listener; the sum of what the policy says, made once. */
const strips = new WeakMap<Route, ReadonlySet<string>>();

function stripFor(listener: HttpListener, route: Route): ReadonlySet<string> {
  const known = strips.get(route);
  if (known !== undefined) return known;
  const strip = new Set(listener.stripRequestHeaders);
  for (const authenticator of route.authenticators) {
    for (const carrier of authenticator.carriers) {
      const field = carrierField(carrier);
      if (field !== null) strip.add(field);
    }
  }
  strips.set(route, strip);
  return strip;
}

/**
 * The head for the upstream of a permitted request. Fields of every enabled carrier are stripped, also on public
 * routes and also those not used this time: a credential meant for us is never the upstream's to see.
 */
export function requestHead(permit: Permit, requestId: string): string[] {
  const { admission, route } = permit;
  const { message, listener } = admission;
  const offered = message.webSocket?.subprotocols ?? null;
  const takesSubprotocol = route.authenticators.some((authenticator) => authenticator.carriers.has('subprotocol'));
  return upstreamHead(message, {
    client: admission.client,
    scheme: admission.scheme,
    requestId,
    identity: permit.identity,
    strip: stripFor(listener, route),
    credential:
      route.upstreamAuth === null
        ? null
        : { field: route.upstreamAuth.field, value: route.upstreamAuth.value.reveal() },
    subprotocols: offered !== null && takesSubprotocol ? withoutCredential(offered) : null,
  });
}
