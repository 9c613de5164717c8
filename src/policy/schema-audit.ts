/** What may stand under `audit:` of the policy, and of a route. */
import { z } from 'zod';
import { parseDuration } from './duration.js';
import { namesLoopback } from './loopback-name.js';
import { type Parsed, parsed, refused } from './parsed.js';
import { AUDITED_AS } from './policy.js';
import { count, filePath, flag, map, scalar, secret, size } from './schema-scalars.js';

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

const URL_FORM = 'an https URL such as https://collector.example.com/audit';

/** Records say who did what: they leave this machine under TLS alone. */
function parseCollectorUrl(value: string): Parsed<string> {
  if (!/^https?:\/\/[^\s\p{Cc}\\]+$/u.test(value) || !URL.canParse(value)) return refused(`allowed is ${URL_FORM}`);
  const url = new URL(value);
  if (url.username !== '' || url.password !== '') {
    return refused('a user name or password does not belong into a URL', 'write token: { file: PATH }');
  }
  if (url.hash !== '') return refused('a fragment does not belong here', 'leave out what begins with "#"');
  if (url.protocol === 'http:' && !namesLoopback(url.hostname)) {
    return refused(
      'without TLS whoever is on the way reads the records and can swallow them; allowed is https, or http to this machine (127.0.0.1, [::1], localhost)',
      'write https://…',
    );
  }
  return parsed(url.href);
}

const BATCH_INTERVAL = 'a duration from 100ms to 1h';
const deliver = map('a map such as { url: https://collector.example.com/audit, token: { file: PATH } }', {
  url: scalar(URL_FORM, 'wrong_value', parseCollectorUrl).meta({ pattern: '^https?://', description: URL_FORM }),
  token: secret.optional(),
  client_certificate: map('{ cert: FILE, key: FILE }', { cert: filePath, key: filePath })
    .optional()
    .meta({ description: 'What guardbee shows of itself in TLS' }),
  ca: filePath
    .optional()
    .meta({ description: 'PEM: who vouches for the collector; without it those that Node comes with' }),
  batch: map('a map such as { records: 500, bytes: 1MiB, interval: 1s }', {
    records: count(1, 10_000).optional(),
    bytes: size(16 * 1024, 8 * 1024 * 1024).optional(),
    interval: scalar(BATCH_INTERVAL, 'bad_duration', (text) => {
      const read = parseDuration(text, 3_600_000);
      return !read.ok || read.value >= 100 ? read : refused(`allowed is ${BATCH_INTERVAL}`);
    })
      .optional()
      .meta({ description: BATCH_INTERVAL, examples: ['1s'] }),
  }).optional(),
  wait: flag.optional().meta({ description: 'Whether requests wait for the collector as they wait for the disk' }),
}).meta({ id: 'audit_deliver', description: 'The collector that is given a copy of the trail' });

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
  deliver: deliver.optional(),
}).meta({ id: 'audit', minProperties: 1, description: 'A trail of what was decided and done, which shows tampering' });

const AS_FORM = 'inference, model_access, data_deletion or denials_only';
export const auditedAs = z
  .enum(AUDITED_AS, { error: AS_FORM })
  .meta({ description: 'What the audit trail calls requests here; denials_only leaves out what is permitted' });

export type AuditEntry = z.output<typeof audit>;
export type DeliveryEntry = z.output<typeof deliver>;
