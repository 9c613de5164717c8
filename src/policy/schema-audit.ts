/** What may stand under `audit:` of the policy, and of a route. */
import { z } from 'zod';
import { parseDuration } from './duration.js';
import { parsed, refused } from './parsed.js';
import { AUDITED_AS } from './policy.js';
import { count, filePath, map, scalar, size } from './schema-scalars.js';

const DAY_MS = 86_400_000;

const INTERVAL = 'a duration from 1s to 1d';
const interval = scalar(INTERVAL, 'bad_duration', (text) => {
  const read = parseDuration(text, DAY_MS);
  return !read.ok || read.value >= 1000 ? read : refused(`allowed is ${INTERVAL}`);
}).meta({ description: INTERVAL, examples: ['1m'] });

const KEEP = 'a duration of whole days such as 365d, or forever';
const MOST_DAYS = 36_500;
const keep = scalar(KEEP, 'bad_duration', (text) => {
  if (text === 'forever') return parsed(Infinity);
  const days = /^([1-9][0-9]{0,5})d$/.exec(text)?.[1];
  return days === undefined || Number(days) > MOST_DAYS
    ? refused(`allowed is ${KEEP}, at most ${MOST_DAYS}d`)
    : parsed(Number(days) * DAY_MS);
}).meta({ description: `How long segments are kept: ${KEEP}`, examples: ['365d'] });

export const audit = map('a map such as { on_failure: deny }', {
  dir: filePath.optional().meta({ description: 'Of one process alone; in the state directory unless said' }),
  on_failure: z
    .enum(['deny', 'allow'], { error: 'deny or allow' })
    .optional()
    .meta({ description: 'What becomes of requests while nothing can be recorded; deny unless said' }),
  checkpoint: map('a map such as { records: 1000, interval: 1m }', {
    records: count(1, 1_000_000).optional(),
    interval: interval.optional(),
  })
    .optional()
    .meta({ description: 'When the chain is signed' }),
  rotate: map('a map such as { size: 64MiB }', { size: size(64 * 1024, 4 * 1024 ** 3).optional() })
    .optional()
    .meta({ description: 'A segment ends at this size, and with its day in UTC' }),
  keep: keep.optional(),
  min_free: size(1024, 1024 ** 4)
    .optional()
    .meta({ description: 'With less left on the file system the trail counts as failing' }),
}).meta({ id: 'audit', minProperties: 1, description: 'A trail of what was decided and done, which shows tampering' });

const AS_FORM = 'inference, model_access, data_deletion or denials_only';
export const auditedAs = z
  .enum(AUDITED_AS, { error: AS_FORM })
  .meta({ description: 'What the audit trail calls requests here; denials_only leaves out what is permitted' });

export type AuditEntry = z.output<typeof audit>;
