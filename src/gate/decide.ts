import type { Message } from '../http/message.js';
import { type Authentication, authenticate } from '../identity/authenticate.js';
import type { Address } from '../net/address.js';
import type { HttpListener, Route } from '../policy/policy.js';
import { admit } from './admit.js';
import { type Decision, authorize } from './authorize.js';

/** Says who a request is from; policy tests and `explain` put a supposed caller in its place. */
export type Prove = (route: Route, message: Message, nowMs: number) => Authentication;

/**
 * The gate: admit, authenticate, authorize. HTTP/1.1, HTTP/2 and upgrades come through here, and so do `tests:` and
 * `explain`, which is why they can't disagree with what the proxy does. No effects: no log, no metric, no clock.
 */
export function decide(
  listener: HttpListener,
  message: Message,
  peer: Address,
  nowMs: number,
  prove: Prove = authenticate,
): Decision {
  const admission = admit(listener, message, peer);
  if (!admission.admitted) return { allow: false, ...admission, identity: null, fingerprint: null };
  const { route } = admission;
  return authorize(admission, route.access.kind === 'public' ? null : prove(route, message, nowMs));
}
