import type { CountRule, LimitDemand } from '../policy/limit-rules.js';
import type { QuotaEntry, RateEntry, RouteLimitsEntry } from '../policy/schema-limits.js';
import type { Plain } from './yaml-text.js';

type Duration = (ms: number) => string;

/** Rates and other limits as a policy writes them, defaults filled in. */
export function shownLimits(
  entry: RouteLimitsEntry | undefined,
  duration: Duration,
): Readonly<Record<string, Plain | undefined>> {
  const rate = entry?.rate;
  const quota = entry?.quota;
  return {
    rate:
      rate === undefined || rate === 'off'
        ? rate
        : Array.isArray(rate)
          ? rate.map((one) => shownCount(one, duration))
          : shownCount(rate, duration),
    quota: quota === undefined || quota === 'off' ? quota : shownCount(quota, duration),
    concurrent: entry?.concurrent,
    streams: entry?.streams,
  };
}

function shownCount(entry: RateEntry | QuotaEntry, duration: Duration): Plain {
  return {
    requests: entry.requests,
    per: duration(entry.per),
    by: entry.by ?? 'identity',
    ...('burst' in entry && entry.burst !== undefined ? { burst: entry.burst } : {}),
    ...(entry.shared === true ? { shared: true, on_unavailable: entry.on_unavailable ?? 'local' } : {}),
  };
}

/** The limits that a request to a route is held against, in the order in which that is done; a line each. */
export function limitTexts(limits: LimitDemand | null, duration: Duration): string[] {
  if (limits === null) return [];
  const slots = (what: string, rule: LimitDemand['streams']): string[] =>
    rule === null ? [] : [`${what}: ${rule.most} at once by ${rule.by} (${rule.id})`];
  return [
    ...limits.beforeAsking.map((rule) => countText(rule, duration)),
    ...slots('concurrent', limits.concurrent),
    ...slots('streams', limits.streams),
    ...limits.afterAsking.map((rule) => countText(rule, duration)),
  ];
}

function countText(rule: CountRule, duration: Duration): string {
  const burst = rule.burst === rule.requests ? '' : `, ${rule.burst} at once`;
  const shared = rule.shared ? `, shared (${rule.onUnavailable} while Redis is away)` : '';
  return `${rule.name}: ${rule.requests} in ${duration(rule.perMs)} by ${rule.by}${burst}${shared} (${rule.id})`;
}
