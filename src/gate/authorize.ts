import type { DenialReason } from '../denial.js';
import type { Attempt, Authentication } from '../identity/authenticate.js';
import type { Identity } from '../identity/identity.js';
import type { Carrier, Route, Upstream } from '../policy/policy.js';
import type { Admission } from './admit.js';
import { isCrossSite } from './cross-site.js';

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

  constructor(
    by: typeof AUTHORIZED,
    admission: Admission,
    upstream: Upstream,
    proved: (Authentication & { ok: true }) | null,
  ) {
    if (by !== AUTHORIZED) throw new TypeError('only authorize makes permits');
    this.admission = admission;
    this.route = admission.route;
    this.upstream = upstream;
    this.identity = proved?.identity ?? null;
    this.carrier = proved?.carrier ?? null;
    this.fingerprint = proved?.fingerprint ?? null;
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
}

export type Decision = Permit | Refusal;

/**
 * May it. @param authentication null where the route is public and nobody was asked.
 */
export function authorize(admission: Admission, authentication: Authentication | null): Decision {
  const { route, client } = admission;
  const no = (
    reason: DenialReason,
    identity: Identity | null,
    fingerprint: string | null,
    attempt: Attempt | null = null,
  ): Refusal => ({
    allow: false,
    reason,
    route,
    client,
    identity,
    fingerprint,
    attempt,
  });
  if (route.upstream === null) return no('route_denied', null, null);
  if (route.access.kind === 'public') return new GrantedPermit(AUTHORIZED, admission, route.upstream, null);
  if (authentication === null) return no('credential_missing', null, null);
  if (!authentication.ok) return no(authentication.reason, null, authentication.fingerprint, authentication.attempt);
  if (isCrossSite(admission, authentication.carrier)) {
    return no('cross_site', authentication.identity, authentication.fingerprint);
  }
  if (route.access.kind === 'require') {
    for (const name of route.access.anyOf) {
      if (authentication.identity.grants.has(name))
        return new GrantedPermit(AUTHORIZED, admission, route.upstream, authentication);
    }
  }
  return no('permission_missing', authentication.identity, authentication.fingerprint);
}
