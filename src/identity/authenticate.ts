import type { DenialReason } from '../denial.js';
import type { Message } from '../http/message.js';
import type { Authenticator, Carrier, Route } from '../policy/policy.js';
import { readCredential } from './credential.js';
import type { Identity } from './identity.js';
import { proveToken } from './static-token.js';

/** What came of asking who it is. `fingerprint` is there whenever a credential was readable, good or bad. */
export type Authentication =
  | { readonly ok: true; readonly identity: Identity; readonly carrier: Carrier; readonly fingerprint: string }
  | { readonly ok: false; readonly reason: DenialReason; readonly fingerprint: string | null };

/** Which authenticator answers for which carrier on a route; computed once for a route. */
const plans = new WeakMap<
  Route,
  { readonly carriers: ReadonlySet<Carrier>; readonly byCarrier: ReadonlyMap<Carrier, Authenticator> }
>();

function planFor(route: Route): {
  readonly carriers: ReadonlySet<Carrier>;
  readonly byCarrier: ReadonlyMap<Carrier, Authenticator>;
} {
  const known = plans.get(route);
  if (known !== undefined) return known;
  const byCarrier = new Map<Carrier, Authenticator>();
  for (const authenticator of route.authenticators) {
    for (const carrier of authenticator.carriers) if (!byCarrier.has(carrier)) byCarrier.set(carrier, authenticator);
  }
  const plan = { carriers: new Set(byCarrier.keys()), byCarrier };
  plans.set(route, plan);
  return plan;
}

/**
 * Who is it. The carrier of the credential picks one authenticator, and that one's word is final: a bad credential
 * never falls through to another, nor to anonymous.
 */
export function authenticate(route: Route, message: Message, nowMs: number): Authentication {
  const plan = planFor(route);
  const read = readCredential(message, plan.carriers);
  if (read.kind === 'none') return { ok: false, reason: 'credential_missing', fingerprint: null };
  if (read.kind === 'refused') return { ok: false, reason: read.reason, fingerprint: null };
  const { credential } = read;
  const authenticator = plan.byCarrier.get(credential.carrier);
  if (authenticator === undefined) return { ok: false, reason: 'credential_missing', fingerprint: null };
  const proof = proveToken(authenticator, credential, nowMs);
  if (!proof.ok) return { ok: false, reason: proof.reason, fingerprint: credential.fingerprint };
  return { ok: true, identity: proof.identity, carrier: credential.carrier, fingerprint: credential.fingerprint };
}
