import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const DURATION_FORM = 'a duration such as 500ms, 15s, 5m, 24h or 7d';

const UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** Spellings that people write for our units. */
const OTHER_UNITS: ReadonlyMap<string, string> = new Map([
  ['msec', 'ms'],
  ['millis', 'ms'],
  ['milliseconds', 'ms'],
  ['sec', 's'],
  ['secs', 's'],
  ['second', 's'],
  ['seconds', 's'],
  ['min', 'm'],
  ['mins', 'm'],
  ['minute', 'm'],
  ['minutes', 'm'],
  ['hr', 'h'],
  ['hrs', 'h'],
  ['hour', 'h'],
  ['hours', 'h'],
  ['day', 'd'],
  ['days', 'd'],
]);

/** A Node timer set for longer fires at once: https://nodejs.org/api/timers.html#settimeoutcallback-delay-args */
const LONGEST_MS = 2 ** 31 - 1;

/** Reads a duration of more than nothing; milliseconds. @param mostMs the longest, for what no timer waits for */
export function parseDuration(text: string, mostMs = LONGEST_MS): Parsed<number> {
  const found = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text);
  if (found === null) return refused(`allowed is ${DURATION_FORM}`, respell(text));
  const ms = Number(found[1]) * (UNITS.get(found[2] ?? '') ?? NaN);
  if (ms === 0) return refused('a duration is more than nothing');
  if (ms > mostMs) return refused(`the longest duration is ${Math.floor(mostMs / 86_400_000)}d`);
  return parsed(ms);
}

function respell(text: string): string | undefined {
  if (/^\d{1,9}$/.test(text)) return `write the unit too: ${text}s`;
  const one = /^(\d{1,9})(\.\d{1,3})?\s*([A-Za-z]+)$/.exec(text.trim());
  if (one !== null) {
    const word = (one[3] ?? '').toLowerCase();
    const unit = UNITS.has(word) ? word : OTHER_UNITS.get(word);
    if (unit === undefined) return undefined;
    if (one[2] === undefined) return `write ${one[1]}${unit}`;
    const ms = Number(`${one[1]}${one[2]}`) * (UNITS.get(unit) ?? NaN);
    return Number.isInteger(ms) ? `write ${shortest(ms)}` : undefined;
  }
  // 1m30s, as Go writes it.
  if (!/^(?:\d{1,6}(?:ms|s|m|h|d)){2,5}$/.test(text)) return undefined;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|s|m|h|d)/g))
    sum += Number(count) * (UNITS.get(unit ?? '') ?? 0);
  return `write ${shortest(sum)}`;
}

function shortest(ms: number): string {
  let text = `${ms}ms`;
  for (const [unit, size] of UNITS) if (ms > 0 && ms % size === 0) text = `${ms / size}${unit}`;
  return text;
}
