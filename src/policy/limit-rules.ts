/** How often, how many at once: the limits of a route, as the policy compiled them. */

/** Whose requests are counted together. On public routes, where nobody is asked, `identity` has become `address`. */
export type CountedBy = 'identity' | 'address' | 'route';

/** What is done with a request that a shared limit can't be asked about. `local`: this process counts alone. */
export type OnUnavailable = 'local' | 'deny' | 'allow';

/** A rate (token bucket) or a quota (fixed windows). */
export interface CountRule {
  readonly kind: 'rate' | 'quota';
  /** Names the counters: `queen/rate/1`, or `queen/submit/rate/1` for those of a route. Never two of one. */
  readonly id: string;
  /** What `RateLimit` and `RateLimit-Policy` call it: `rate`, `rate-2`, `quota`. */
  readonly name: string;
  readonly requests: number;
  readonly perMs: number;
  /** Requests at once after a pause; of a quota the same as `requests`. */
  readonly burst: number;
  readonly by: CountedBy;
  /** Counted in Redis, together with other sidecars. */
  readonly shared: boolean;
  readonly onUnavailable: OnUnavailable;
}

/** How many of something at once. */
export interface SlotRule {
  readonly id: string;
  readonly most: number;
  readonly by: 'identity' | 'address';
}

/** The limits of a route: its own, and those of the listener where it has none. */
export interface LimitDemand {
  /** By address: counted before anybody is asked who they are. */
  readonly beforeAsking: readonly CountRule[];
  /** Counted for those that may ask. */
  readonly afterAsking: readonly CountRule[];
  readonly concurrent: SlotRule | null;
  readonly streams: SlotRule | null;
  /** Value of `RateLimit-Policy`; null where nothing is counted. */
  readonly policyField: string | null;
}
