import type { DenialReason } from '../denial.js';
import type { Decision } from './authorize.js';

/** What a decision is to the client and to the upstream, so that two policies' decisions can be held side by side. */
export type Verdict =
  | {
      readonly said: 'permitted';
      readonly route: string;
      readonly upstream: string;
      /** As the upstream is told; null on public routes. */
      readonly who: Told | null;
    }
  | { readonly said: 'denied'; readonly route: string | null; readonly reason: DenialReason }
  /** By guardbee itself: a page of sessions, or a preflight. */
  | { readonly said: 'answered'; readonly by: 'session_page' | 'preflight' };

/** Who it is, in X-Auth-User and X-Auth-Roles. */
export interface Told {
  readonly name: string;
  readonly roles: readonly string[];
}

/** In what two verdicts differ. */
export type Difference = 'verdict' | 'reason' | 'upstream' | 'who';

export function verdictOf(decision: Decision): Verdict {
  if (!decision.allow) return { said: 'denied', route: decision.route?.name ?? null, reason: decision.reason };
  const { route, upstream, identity } = decision;
  return { said: 'permitted', route: route.name, upstream: upstream.name, who: identity };
}

/**
 * Empty where neither the client nor the upstream would see another thing. That another route decides is no difference by
 * itself: routes may be named anew, split and put together.
 */
export function differences(first: Verdict, other: Verdict): readonly Difference[] {
  if (first.said !== other.said) return ['verdict'];
  if (first.said === 'denied' && other.said === 'denied') return first.reason === other.reason ? [] : ['reason'];
  if (first.said === 'answered' && other.said === 'answered') return first.by === other.by ? [] : ['verdict'];
  if (first.said !== 'permitted' || other.said !== 'permitted') return [];
  const found: Difference[] = [];
  if (first.upstream !== other.upstream) found.push('upstream');
  if (!sameCaller(first.who, other.who)) found.push('who');
  return found;
}

/** The order of roles says nothing. */
function sameCaller(first: Told | null, other: Told | null): boolean {
  if (first === null || other === null) return first === other;
  if (first === other) return true;
  if (first.name !== other.name || first.roles.length !== other.roles.length) return false;
  return first.roles.every((role) => other.roles.includes(role));
}

/** One word for it: `permitted`, the reason of a denial, or who answered. */
export function wordFor(verdict: Verdict): 'permitted' | DenialReason | 'session_page' | 'preflight' {
  switch (verdict.said) {
    case 'permitted':
      return 'permitted';
    case 'denied':
      return verdict.reason;
    case 'answered':
      return verdict.by;
  }
}

export function routeIn(verdict: Verdict): string | null {
  return verdict.said === 'answered' ? null : verdict.route;
}
