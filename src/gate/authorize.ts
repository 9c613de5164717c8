import type { Rule } from '../check/check.js';
import type { DenialReason } from '../denial.js';
import type { Attempt, Authentication } from '../identity/authenticate.js';
import type { Identity } from '../identity/identity.js';
import type { Carrier, Route, Upstream } from '../policy/policy.js';
import type { Admission } from './admit.js';
import { isCrossSite } from './cross-site.js';
import type { JudgedBody } from './judge-body.js';
import type { Allowance } from './limit.js';

/** Known to this file alone: a permit leads to its class by `constructor`, but not to this. */
const AUTHORIZED = Symbol('authorized');

/**
 * The answer "yes". Only `authorize`, in this file, can make one (the class is not exported), and `forward` and
 * `tunnel` take nothing else: nobody can forget to ask.
 */
class GrantedPermit {
  readonly allow = true;
  readonly #granted = true;
  readonly admission: Admission;
  readonly route: Route;
  readonly upstream: Upstream;
  /** Null on public routes. */
  readonly identity: Identity | null;
  /** Where the credential was; null on public routes. */
  readonly carrier: Carrier | null;
  readonly fingerprint: string | null;
  /** What goes on in place of the body that came; null: that goes on as it comes. */
  readonly body: JudgedBody | null;
  /** What it takes along of its limits; null where the route has none. */
  readonly allowance: Allowance | null;

  constructor(
    by: typeof AUTHORIZED,
    admission: Admission,
    upstream: Upstream,
    proved: (Authentication & { ok: true }) | null,
    met: Met | null,
  ) {
    if (by !== AUTHORIZED) throw new TypeError('only authorize makes permits');
    this.admission = admission;
    this.route = admission.route;
    this.upstream = upstream;
    this.identity = proved?.identity ?? null;
    this.carrier = proved?.carrier ?? null;
    this.fingerprint = proved?.fingerprint ?? null;
    this.body = met?.body ?? null;
    this.allowance = met?.allowance ?? null;
    Object.freeze(this);
  }

  static is(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #granted in value;
  }
}

export type Permit = GrantedPermit;

/** For the two places that forward: the type says so already, this holds against a cast. */
export function assertPermit(permit: Permit): void {
  if (!GrantedPermit.is(permit)) throw new TypeError('forwarding needs a permit');
}

export interface Refusal {
  readonly allow: false;
  readonly reason: DenialReason;
  readonly route: Route | null;
  readonly client: string | null;
  /** Known when it was proved who asks, and that was not enough. */
  readonly identity: Identity | null;
  readonly fingerprint: string | null;
  /** What was shown and did not prove itself; null where nothing was, or nothing that could be guessed. */
  readonly attempt: Attempt | null;
  /** What the reason alone does not say. Null: it says all. */
  readonly particulars: Particulars | null;
}

/** Holds nothing that came from outside: names and words of the policy, numbers of ours. */
export interface Particulars {
  /** Fields of the answer besides those that every refusal has: lower-case names and values in turn. */
  readonly fields: readonly string[];
  /** A value that is not as it should be; null where it is about something else. */
  readonly invalid: Invalid | null;
}

/** Where a value stands, what the policy calls it, and the rule that it breaks. */
export interface Invalid {
  readonly place: 'path' | 'query' | 'header' | 'body';
  /** A name of the policy. */
  readonly name: string;
  readonly rule: Rule;
}

export type Decision = Permit | Refusal;

/** What a route demands besides who asks, looked at one by one and found met. Made by `decide` alone. */
export interface Met {
  /** Null where the route judges no bodies. */
  readonly body: JudgedBody | null;
  /** Null: the route has no limits. */
  readonly allowance: Allowance | null;
}

/** A refusal of somebody who was asked who they are, or of a request to a public route, where nobody is. */
export function refusal(
  admission: Admission,
  authentication: Authentication | null,
  reason: DenialReason,
  particulars: Particulars | null = null,
): Refusal {
  const proved = authentication?.ok === true ? authentication.identity : null;
  return {
    allow: false,
    reason,
    route: admission.route,
    client: admission.client,
    identity: proved,
    fingerprint: authentication?.fingerprint ?? null,
    attempt: authentication?.ok === false ? authentication.attempt : null,
    particulars,
  };
}

/** What can be said by the head alone; null: nothing speaks against it so far. */
export function refusalByHead(admission: Admission, authentication: Authentication | null): Refusal | null {
  const { route } = admission;
  const no = (reason: DenialReason): Refusal => refusal(admission, authentication, reason);
  if (route.upstream === null) return no('route_denied');
  if (route.access.kind === 'public') return null;
  if (authentication === null) return no('credential_missing');
  if (!authentication.ok) return no(authentication.reason);
  if (isCrossSite(admission, authentication.carrier)) return no('cross_site');
  if (route.access.kind === 'require') {
    for (const name of route.access.anyOf) {
      if (authentication.identity.grants.has(name)) return null;
    }
  }
  return no('permission_missing');
}

/**
 * May it.
 * @param authentication null where the route is public and nobody was asked
 * @param met null where the route demands nothing
 */
export function authorize(admission: Admission, authentication: Authentication | null, met: Met | null): Decision {
  const refused = refusalByHead(admission, authentication);
  if (refused !== null) return refused;
  const { upstream, demands, access } = admission.route;
  if (upstream === null) return refusal(admission, authentication, 'route_denied');
  if (demands !== null && met === null) throw new TypeError('nobody has looked at what the route demands');
  const rules = demands?.body?.json ?? null;
  if (rules !== null && met?.body?.rules !== rules)
    throw new TypeError('nobody has judged the body by the rules of its route');
  const proved = access.kind !== 'public' && authentication?.ok === true ? authentication : null;
  return new GrantedPermit(AUTHORIZED, admission, upstream, proved, met);
}
