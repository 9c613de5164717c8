import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { CountRule, CountedBy, LimitDemand, SlotRule } from './limit-rules.js';
import type { RouteAccess } from './policy.js';
import type { QuotaEntry, RateEntry, RouteLimitsEntry } from './schema-limits.js';

/** A map of limits, and what names its counters. */
export interface LimitsAt {
  readonly entry: RouteLimitsEntry | undefined;
  /** The node of `limits`; null where nothing is written. */
  readonly node: Draft | null;
  /** `queen`, or `queen/submit`. */
  readonly id: string;
}

interface Context {
  readonly findings: Findings;
  /** The policy names a Redis. */
  readonly sharedState: boolean;
}

/**
 * The limits of one route: each key is the route's where it has one, else the listener's, whose counters it then has
 * part in.
 *
 * @param access of the route
 * @returns null where nothing is limited
 */
export function compileRouteLimits(
  route: LimitsAt,
  listener: LimitsAt,
  access: RouteAccess['kind'],
  { findings }: Pick<Context, 'findings'>,
): LimitDemand | null {
  if (access === 'deny') {
    findings.warn('wrong_value', route.node, 'key', 'the route is closed to everybody, so there is nothing to limit');
    return null;
  }
  const isPublic = access === 'public';
  const pick = (key: keyof RouteLimitsEntry): LimitsAt => (route.node?.declares(key) === true ? route : listener);
  const rateAt = pick('rate');
  const quotaAt = pick('quota');
  const rules = [...ratesOf(rateAt, isPublic), ...quotaOf(quotaAt, isPublic)];
  const concurrent = slotsOf('concurrent', pick('concurrent'), isPublic);
  const streams = slotsOf('streams', pick('streams'), isPublic);
  if (rules.length === 0 && concurrent === null && streams === null) return null;
  return {
    beforeAsking: rules.filter((rule) => rule.by === 'address'),
    afterAsking: rules.filter((rule) => rule.by !== 'address'),
    concurrent,
    streams,
    policyField: rules.length === 0 ? null : [...rules].sort(byAddressFirst).map(policyMember).join(', '),
  };
}

/** In the order in which they are counted, and told. */
function byAddressFirst(a: CountRule, b: CountRule): number {
  return Number(b.by === 'address') - Number(a.by === 'address');
}

/** draft-ietf-httpapi-ratelimit-headers-10 §3: an Item for each policy, its quota and window as parameters. */
function policyMember(rule: CountRule): string {
  return `"${rule.name}";q=${rule.requests};w=${rule.perMs / 1000}`;
}

function ratesOf({ entry, id }: LimitsAt, isPublic: boolean): CountRule[] {
  const rate = entry?.rate;
  if (rate === undefined || rate === 'off') return [];
  const all: readonly RateEntry[] = Array.isArray(rate) ? rate : [rate];
  return all.map((one, index) => ({
    kind: 'rate',
    name: index === 0 ? 'rate' : `rate-${index + 1}`,
    burst: one.burst ?? one.requests,
    ...counted(`${id}/rate/${index + 1}`, one, isPublic),
  }));
}

function quotaOf({ entry, id }: LimitsAt, isPublic: boolean): CountRule[] {
  const quota = entry?.quota;
  if (quota === undefined || quota === 'off') return [];
  return [{ kind: 'quota', name: 'quota', burst: quota.requests, ...counted(`${id}/quota`, quota, isPublic) }];
}

function counted(
  id: string,
  entry: RateEntry | QuotaEntry,
  isPublic: boolean,
): Pick<CountRule, 'id' | 'requests' | 'perMs' | 'by' | 'shared' | 'onUnavailable'> {
  const by: CountedBy = entry.by ?? 'identity';
  const nobodyAsked = by === 'identity' && isPublic;
  return {
    // Counters of their own: whoever comes from many addresses must not crowd out those that are known.
    id: nobodyAsked ? `${id}/public` : id,
    requests: entry.requests,
    perMs: entry.per,
    by: nobodyAsked ? 'address' : by,
    shared: entry.shared === true,
    onUnavailable: entry.on_unavailable ?? 'local',
  };
}

function slotsOf(key: 'concurrent' | 'streams', { entry, id }: LimitsAt, isPublic: boolean): SlotRule | null {
  const most = entry?.[key];
  if (most === undefined || most === 'off') return null;
  return { id: `${id}/${key}`, most, by: isPublic ? 'address' : 'identity' };
}

/** What a map of limits says that no single value of it shows. Once for each map, however many routes use it. */
export function checkLimits({ entry, node }: LimitsAt, { findings, sharedState }: Context): void {
  if (entry === undefined || node === null) return;
  const { rate, quota } = entry;
  const rateNode = node.get('rate');
  const found: { readonly one: RateEntry | QuotaEntry; readonly at: Draft | null }[] = [];
  if (Array.isArray(rate))
    for (const [index, one] of rate.entries()) found.push({ one, at: rateNode?.at([index]) ?? null });
  else if (rate !== undefined && rate !== 'off') found.push({ one: rate, at: rateNode });
  if (quota !== undefined && quota !== 'off') found.push({ one: quota, at: node.get('quota') });
  for (const { one, at } of found) {
    if (one.shared === true && !sharedState) {
      findings.error(
        'missing_key',
        at?.get('shared') ?? null,
        'key',
        'limits that are shared need a Redis, and the policy has none',
        'write state: { redis: { url: { file: PATH } } }, or leave shared out to count in this process alone',
      );
    }
    if (one.on_unavailable !== undefined && one.shared !== true && at?.declares('shared') !== true) {
      findings.error(
        'wrong_value',
        at?.get('on_unavailable') ?? null,
        'key',
        'on_unavailable is about Redis, and this limit is counted in this process, which is always there',
        'remove it, or write shared: true beside it',
      );
    }
  }
}
