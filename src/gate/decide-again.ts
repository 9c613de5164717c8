import type { DenialReason } from '../denial.js';
import type { Authentication } from '../identity/authenticate.js';
import { stillUser } from '../identity/basic.js';
import type { Caller } from '../identity/caller.js';
import type { Identity } from '../identity/identity.js';
import type { HttpListener, Policy, Route } from '../policy/policy.js';
import { type Admission, admit } from './admit.js';
import { type Permit, refusalByHead } from './authorize.js';
import { checkHead } from './check-head.js';
import type { Means } from './decide.js';
import { mayUse } from './owners.js';

/** What another policy says of an exchange that was permitted before it was there. */
export type Again =
  | {
      readonly allow: true;
      readonly listener: HttpListener;
      /** As the other policy has it; null on public routes. */
      readonly identity: Identity | null;
    }
  | { readonly allow: false; readonly reason: DenialReason };

/**
 * Would it still be permitted. Everything is asked again that was asked of its head, and what its body asked for; not how
 * many there are, nor when it should have come. What cannot be found out ends nothing.
 */
export function decideAgain(
  policy: Policy,
  permit: Permit,
  caller: Caller,
  nowMs: number,
  means: Pick<Means, 'prove' | 'owners'>,
): Again | Promise<Again> {
  const admission = admitAgain(policy, permit, caller);
  if ('reason' in admission) return { allow: false, reason: admission.reason };
  if (admission.route.access.kind === 'public') return judge(admission, null, permit, nowMs, means);
  const proved = permit.carrier === 'basic' ? user(admission, permit) : means.prove(admission, caller, nowMs);
  return proved instanceof Promise
    ? proved.then((late) => judge(admission, late, permit, nowMs, means))
    : judge(admission, proved, permit, nowMs, means);
}

/** By the listener that has its name now. Where none has, by its own, and who it is from by those who say so now. */
function admitAgain(
  policy: Policy,
  { admission: before }: Permit,
  caller: Caller,
): Admission | { readonly reason: DenialReason } {
  const listener = policy.listeners.find(({ name }) => name === before.listener.name);
  if (listener?.type === 'http') {
    const admission = admit(listener, before.message, caller);
    return admission.admitted ? admission : { reason: admission.reason };
  }
  return { ...before, route: withJudgesOf(policy, before.route) };
}

function withJudgesOf(policy: Policy, route: Route): Route {
  const authenticators = route.authenticators.flatMap((one) => {
    const now = policy.authenticators.get(one.name);
    return now?.type === one.type ? [now] : [];
  });
  return { ...route, authenticators };
}

/** bcrypt would take its time for each of them; whose hash is still the same is still who they were. */
function user({ route }: Admission, { identity, route: before, fingerprint }: Permit): Authentication {
  const isOf = (one: Route['authenticators'][number]): boolean =>
    one.type === 'basic' && one.name === identity?.authenticator;
  const [was, is] = [before.authenticators.find(isOf), route.authenticators.find(isOf)];
  const found =
    identity === null || was?.type !== 'basic' || is?.type !== 'basic' ? null : stillUser(is, was, identity);
  return found === null
    ? { ok: false, reason: 'credential_invalid', fingerprint, attempt: null }
    : { ok: true, identity: found, carrier: 'basic', fingerprint };
}

function judge(
  admission: Admission,
  proved: Authentication | null,
  permit: Permit,
  nowMs: number,
  { owners }: Pick<Means, 'owners'>,
): Again {
  const { listener, route } = admission;
  const authentication = kept(proved, permit, listener);
  const refused = refusalByHead(admission, authentication);
  if (refused !== null) return { allow: false, reason: refused.reason };
  const identity = authentication?.ok === true && route.access.kind !== 'public' ? authentication.identity : null;
  const { demands } = route;
  if (demands !== null) {
    const wrong = demands.head === null ? null : checkHead(demands.head, admission, authentication);
    if (wrong !== null) return { allow: false, reason: wrong.reason };
    if (demands.owner !== null && (identity === null || !mayUse(demands.owner, admission, identity, owners, nowMs)))
      return { allow: false, reason: 'not_owner' };
    const byValue = demands.body?.json?.byValue ?? null;
    if (byValue !== null) {
      const operation = permit.body?.operation ?? null;
      const anyOf = operation === null ? undefined : byValue.permissions.get(operation);
      if (anyOf === undefined) return { allow: false, reason: 'operation_unknown' };
      if (identity === null || !anyOf.some((name) => identity.grants.has(name)))
        return { allow: false, reason: 'permission_missing' };
    }
  }
  return { allow: true, listener, identity };
}

/** A credential that has run its time began a stream that may outlive it, where the listener lets it; one that nobody can be asked about is as good as it was. */
function kept(proved: Authentication | null, permit: Permit, listener: HttpListener): Authentication | null {
  if (proved === null || proved.ok || permit.identity === null || permit.carrier === null) return proved;
  const outlived = proved.reason === 'credential_expired' && !listener.streamsEndAtExpiry;
  if (!outlived && proved.reason !== 'credential_unverifiable') return proved;
  return { ok: true, identity: permit.identity, carrier: permit.carrier, fingerprint: permit.fingerprint };
}
