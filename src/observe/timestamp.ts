let second = Number.NaN;
let prefix = '';

/** RFC 3339, UTC, with milliseconds. Most lines share their second with the one before. */
export function timestamp(epochMs: number): string {
  const whole = Math.floor(epochMs);
  const now = Math.floor(whole / 1000);
  if (now !== second) {
    const date = new Date(now * 1000);
    // A clock that is out of range must not stop the log.
    prefix = Number.isNaN(date.getTime()) ? '1970-01-01T00:00:00.' : date.toISOString().slice(0, 20);
    second = now;
  }
  const ms = whole - now * 1000;
  return `${prefix}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${Number.isNaN(ms) ? '000' : String(ms)}Z`;
}

const DAY_MS = 86_400_000;
let day = Number.NaN;
let dayName = '';

/** The date of that, in UTC. */
export function utcDate(epochMs: number): string {
  const now = Math.floor(epochMs / DAY_MS);
  if (now !== day) {
    dayName = timestamp(epochMs).slice(0, 10);
    day = now;
  }
  return dayName;
}
