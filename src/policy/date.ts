import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const DATE_FORM = 'a date such as 2027-01-01 (midnight UTC) or 2027-01-01T08:00:00Z';

/** RFC 3339 §5.6, its full-date alone included. */
const FORM =
  /^(\d{4})-(\d{2})-(\d{2})(?:[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d{2}):(\d{2})))?$/;

/** Reads a date or an RFC 3339 time; epoch milliseconds. A date alone is its first instant in UTC. */
export function parseDate(text: string): Parsed<number> {
  const found = FORM.exec(text);
  if (found === null) return refused(`allowed is ${DATE_FORM}`, respell(text));
  const part = (index: number): number => Number(found[index] ?? '0');
  const [year, month, day, hour, minute, second] = [part(1), part(2), part(3), part(4), part(5), part(6)];
  if (hour > 23 || minute > 59 || second > 59 || part(10) > 23 || part(11) > 59) {
    return refused('there is no such time of day');
  }
  // Date.UTC reads years below 100 as 19xx.
  if (year < 1970) return refused('the year is 1970 at least');
  const ms = Date.UTC(year, month - 1, day, hour, minute, second);
  const back = new Date(ms);
  // Date.UTC counts on: 30 February becomes 2 March.
  if (back.getUTCMonth() !== month - 1 || back.getUTCDate() !== day) {
    return refused('there is no such day in the calendar');
  }
  const offsetMs = (part(10) * 60 + part(11)) * 60_000 * (found[9] === '-' ? -1 : 1);
  return parsed(ms + Math.floor(Number(`0.${found[7] ?? '0'}`) * 1000) - offsetMs);
}

function respell(text: string): string | undefined {
  const slashes = /^(\d{4})[/.](\d{1,2})[/.](\d{1,2})$/.exec(text);
  if (slashes !== null) return `write ${slashes[1]}-${pad(slashes[2])}-${pad(slashes[3])}`;
  const short = /^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(text);
  if (short !== null) return `write ${short[1]}-${pad(short[2])}-${pad(short[3])}`;
  const german = /^(\d{1,2})\.(\d{1,2})\.(\d{4})$/.exec(text);
  if (german !== null) return `write ${german[3]}-${pad(german[2])}-${pad(german[1])}`;
  const noZone = /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2})(:\d{2})?$/.exec(text);
  if (noZone !== null) return `say the time zone too: ${noZone[1]}T${noZone[2]}${noZone[3] ?? ':00'}Z`;
  return undefined;
}

function pad(number: string | undefined): string {
  return (number ?? '').padStart(2, '0');
}
