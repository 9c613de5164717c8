import { DATE_FORM, parseDate } from '../policy/date.js';
import { EXIT, Ending } from './exit-code.js';

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

export interface Moment {
  /** Epoch milliseconds. */
  readonly ms: number;
  /** RFC 3339, in whole seconds. */
  readonly text: string;
}

/** An option that is a date, or how long from now. */
export function readMoment(flag: string, text: string, nowMs: number): Moment {
  const span = spanOf(text);
  const date = span === null ? parseDate(text) : null;
  if (date?.ok === false) {
    throw new Ending(EXIT.usage, `${flag}: allowed is ${DATE_FORM}, or how long from now (90d, 12h, 30m)`);
  }
  const ms = date === null ? nowMs + (span ?? 0) : date.value;
  return { ms, text: formatMoment(ms) };
}

/** An option that is a date, or how long ago; epoch milliseconds. */
export function readPast(flag: string, text: string, nowMs: number): number {
  const span = spanOf(text);
  if (span !== null) return nowMs - span;
  const date = parseDate(text);
  if (!date.ok) throw new Ending(EXIT.usage, `${flag}: allowed is ${DATE_FORM}, or how long ago (90d, 12h, 30m)`);
  return date.value;
}

/** An option that is how long something lasts; milliseconds. */
export function readSpan(flag: string, text: string): number {
  const span = text === '0' ? 0 : spanOf(text);
  if (span === null) throw new Ending(EXIT.usage, `${flag}: allowed is how long, such as 24h, 30m, 7d, or 0`);
  return span;
}

function spanOf(text: string): number | null {
  const found = /^(\d{1,5})([mhd])$/.exec(text);
  const unit = UNITS[found?.[2] ?? ''];
  return found === null || unit === undefined ? null : Number(found[1]) * unit;
}

/** RFC 3339, the part of a second left out. */
export function formatMoment(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
