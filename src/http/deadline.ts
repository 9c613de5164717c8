import { withoutWhitespace } from './fields.js';

/** When an answer is of no use any more, epoch milliseconds; `malformed` where nobody can say. */
export type Deadline = number | 'malformed';

/** 64 bits are what rbee reads. */
const EPOCH_MS = /^[0-9]{1,20}$/;
/** RFC 3339 §5.6. */
const DATE_TIME = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/;

/** Reads X-Deadline: decimal milliseconds since the epoch, or RFC 3339. Parts of a millisecond are cut off. */
export function readDeadline(field: string): Deadline {
  const text = withoutWhitespace(field);
  if (EPOCH_MS.test(text)) return Number(text);
  const found = DATE_TIME.exec(text);
  if (found === null) return 'malformed';
  const part = (index: number): number => Number(found[index] ?? '0');
  const [year, month, day, hour, minute, second] = [part(1), part(2), part(3), part(4), part(5), part(6)];
  // 23:59:60 is a leap second, and the next one to a clock that has none.
  if (hour > 23 || minute > 59 || second > 60 || part(9) > 23 || part(10) > 59) return 'malformed';
  // Date.UTC reads years below 100 as 19xx.
  if (year < 100) return 'malformed';
  const midnight = new Date(Date.UTC(year, month - 1, day));
  // Date.UTC counts on: 30 February becomes 2 March.
  if (midnight.getUTCMonth() !== month - 1 || midnight.getUTCDate() !== day) return 'malformed';
  const offsetMs = (part(9) * 60 + part(10)) * 60_000 * (found[8] === '-' ? -1 : 1);
  const ms = midnight.getTime() + ((hour * 60 + minute) * 60 + second) * 1_000;
  return ms + Number((found[7] ?? '').padEnd(3, '0').slice(0, 3)) - offsetMs;
}
