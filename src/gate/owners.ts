import type { Identity } from '../identity/identity.js';
import type { OwnerDemand } from '../policy/demands.js';
import type { OwnsSettings } from '../policy/policy.js';
import type { Admission } from './admit.js';

/** Why the answer of a route that `owns` named nothing. */
export type Unnamed = 'too_large' | 'not_json' | 'coded' | 'no_name' | 'of_another';

/** Who made what, as far as it is remembered. */
export interface Owners {
  /** False too where nobody is known to have made it. @param upstream its name */
  isOwner(upstream: string, id: string, identity: Identity, nowMs: number): boolean;
  /** Resolves once it holds; never rejects. */
  remember(upstream: string, id: string, identity: Identity, settings: OwnsSettings, route: string): Promise<void>;
  unnamed(route: string, why: Unnamed): void;
}

/** For what is only supposed: whatever is asked for is the caller's own. */
export const SUPPOSED_OWNERS: Owners = {
  isOwner: () => true,
  remember: () => Promise.resolve(),
  unnamed: () => undefined,
};

export function mayUse(
  demand: OwnerDemand,
  { message, route }: Admission,
  identity: Identity,
  owners: Owners,
  nowMs: number,
): boolean {
  if (demand.unless.some((name) => identity.grants.has(name))) return true;
  const id = message.target.segments[demand.segment];
  return id !== undefined && route.upstream !== null && owners.isOwner(route.upstream.name, id, identity, nowMs);
}
