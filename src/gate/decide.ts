import type { Message } from '../http/message.js';
import { type Asked, type Authentication, authenticate } from '../identity/authenticate.js';
import type { Caller } from '../identity/caller.js';
import { POLICY_ALONE, type Provers } from '../identity/provers.js';
import type { HttpListener } from '../policy/policy.js';
import { admit } from './admit.js';
import { type Decision, authorize } from './authorize.js';

/** Says who a request is from; policy tests and `explain` put a supposed caller in its place. */
export type Prove = (asked: Asked, caller: Caller, nowMs: number) => Authentication | Promise<Authentication>;

/** The usual way to say it. */
export function proveWith(provers: Provers): Prove {
  return (asked, caller, nowMs) => authenticate(asked, caller, nowMs, provers);
}

const PROVE_BY_POLICY = proveWith(POLICY_ALONE);

/**
 * The gate: admit, authenticate, authorize. HTTP/1.1, HTTP/2 and upgrades come through here, and so do `tests:` and
 * `explain`, which is why they can't disagree with what the proxy does. No effects: no log, no metric, no clock. A
 * promise only where `prove` gives one.
 */
export function decide(
  listener: HttpListener,
  message: Message,
  caller: Caller,
  nowMs: number,
  prove: Prove = PROVE_BY_POLICY,
): Decision | Promise<Decision> {
  const admission = admit(listener, message, caller.address);
  if (!admission.admitted) return { allow: false, ...admission, identity: null, fingerprint: null, attempt: null };
  if (admission.route.access.kind === 'public') return authorize(admission, null);
  const proved = prove(admission, caller, nowMs);
  return proved instanceof Promise ? proved.then((late) => authorize(admission, late)) : authorize(admission, proved);
}

/** The same, where nothing needs to be found out first. @throws TypeError when `prove` makes it wait all the same. */
export function decideNow(
  listener: HttpListener,
  message: Message,
  caller: Caller,
  nowMs: number,
  prove: Prove = PROVE_BY_POLICY,
): Decision {
  const decision = decide(listener, message, caller, nowMs, prove);
  if (decision instanceof Promise) throw new TypeError('this proof takes time');
  return decision;
}
