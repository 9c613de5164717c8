/** What may stand under `limits:` of a listener and of a route. */
import { z } from 'zod';
import { parseDuration } from './duration.js';
import { refused } from './parsed.js';
import { bodySize } from './schema-body.js';
import { count, list, map, scalar, size, yes } from './schema-scalars.js';

const DAY_MS = 86_400_000;

/** No timer runs for these: they may be longer than a timer lasts. */
function window(form: string, leastMs: number, mostMs: number) {
  return scalar(form, 'bad_duration', (text) => {
    const read = parseDuration(text, 31 * DAY_MS);
    return !read.ok || (read.value >= leastMs && read.value <= mostMs && read.value % 1000 === 0)
      ? read
      : refused(`allowed is ${form}`);
  }).meta({ description: form, examples: [leastMs === 1000 ? '1m' : '1d'] });
}

const BY = 'identity, address or route';
const common = {
  by: z
    .enum(['identity', 'address', 'route'], { error: BY })
    .optional()
    .meta({ description: 'Whose requests are counted together; on public routes identity means address' }),
  shared: yes.optional().meta({ description: 'Counted in Redis (state.redis), together with other sidecars' }),
  on_unavailable: z
    .enum(['local', 'deny', 'allow'], { error: 'local, deny or allow' })
    .optional()
    .meta({ description: 'Of a shared one, while Redis is away; local: each sidecar counts alone' }),
};

const RATE_FORM = 'a map such as { requests: 100, per: 1m }';
const rate = map(RATE_FORM, {
  requests: count(1, 1_000_000),
  per: window('a duration of whole seconds from 1s to 1d', 1000, DAY_MS),
  burst: count(1, 1_000_000).optional().meta({ description: 'Requests at once after a pause; as many as requests' }),
  ...common,
}).meta({ id: 'rate', description: 'Token bucket: requests a time, and a burst' });
const RATES_FORM = `${RATE_FORM}, or a list of them`;
const RATES_LIST = list(rate, 'rates').max(8, { error: '8 rates at most' });
const rates = z.union([rate, RATES_LIST], { error: RATES_FORM });

const QUOTA_FORM = 'a map such as { requests: 10000, per: 1d }';
const quota = map(QUOTA_FORM, {
  requests: count(1, 1_000_000_000),
  per: window('a duration of whole seconds from 1h to 31d', DAY_MS / 24, 31 * DAY_MS),
  ...common,
}).meta({ id: 'quota', description: 'Fixed windows in UTC, which survive a restart' });

const slots = count(1, 1_000_000);

const counts = {
  connections: count(1, 1_000_000).optional(),
  connections_per_address: count(1, 1_000_000)
    .optional()
    .meta({ description: 'Open at once from one address (IPv6: one /64); trusted proxies are exempt' }),
};

const ofConnections = {
  head: size(1024, 1024 ** 2).optional(),
  fields: count(1, 1000).optional(),
  ...counts,
};

/** Where nothing is known of what is said. */
export const connectionCounts = map('a map such as { connections: 2000 }', counts);

export const connectionLimits = map('a map such as { connections: 2000 }', ofConnections);

export const listenerLimits = map('a map such as { connections: 2000 }', {
  ...ofConnections,
  body: bodySize.optional(),
  rate: rates.optional(),
  quota: quota.optional(),
  concurrent: slots
    .optional()
    .meta({ description: 'Requests at once of one identity; on public routes of one address' }),
  streams: slots.optional().meta({ description: 'Open event streams and WebSockets of one identity' }),
});

const off = (form: string) => z.literal('off', { error: form });
const COUNT_OR_OFF = 'a whole number from 1 to 1000000, or off';
export const routeLimits = map('a map such as { rate: { requests: 10, per: 1m } }', {
  rate: z.union([off(`off, ${RATES_FORM}`), rate, RATES_LIST], { error: `off, ${RATES_FORM}` }).optional(),
  quota: z.union([off(`off, or ${QUOTA_FORM}`), quota], { error: `off, or ${QUOTA_FORM}` }).optional(),
  concurrent: z.union([off(COUNT_OR_OFF), slots], { error: COUNT_OR_OFF }).optional(),
  streams: z.union([off(COUNT_OR_OFF), slots], { error: COUNT_OR_OFF }).optional(),
}).meta({ description: "A key given here takes the place of the listener's, with counters of its own; off: none" });

export type ConnectionLimitsEntry = z.output<typeof connectionLimits>;
export type ListenerLimitsEntry = z.output<typeof listenerLimits>;
export type RouteLimitsEntry = z.output<typeof routeLimits>;
export type RateEntry = z.output<typeof rate>;
export type QuotaEntry = z.output<typeof quota>;
