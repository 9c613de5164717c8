/** When a certificate is renewed, and when a failed attempt is made again. Computes alone. */

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/** Of its life a certificate has passed when it is renewed: two thirds at the latest, and a twentieth before that at most. */
const LATEST = 2 / 3;
const SPREAD = 1 / 20;

interface Life {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/**
 * The moment to renew, in epoch milliseconds. Where in the span it lies is of the certificate: many sidecars that got
 * theirs together do not come back together, and a restart moves nothing.
 *
 * @param fingerprint hexadecimal, in any form
 */
export function renewalTime({ notBeforeMs, notAfterMs }: Life, fingerprint: string): number {
  const place = Number.parseInt(fingerprint.replace(/[^0-9A-Fa-f]/g, '').slice(0, 8) || '0', 16) / 0x1_0000_0000;
  return Math.floor(notBeforeMs + (notAfterMs - notBeforeMs) * (LATEST - SPREAD * place));
}

/** After a certificate was issued, so long nothing is asked for its host: not even where a wrong clock calls it old. */
export function quietAfterSuccess({ notBeforeMs, notAfterMs }: Life): number {
  return Math.min(HOUR_MS, Math.max(5_000, (notAfterMs - notBeforeMs) / 6));
}

/** Four times within the first hour, as public authorities count five failures an hour (Let's Encrypt), then ever less. */
const RETRIES_MS = [MINUTE_MS, 4 * MINUTE_MS, 16 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS] as const;
const LONGEST_RETRY_MS = 6 * HOUR_MS;

/**
 * @param failures in a row, 1 at least
 * @param life of the certificate that serves meanwhile, whose last third must have room for some attempts; null: there is none
 * @param random from 0 to 1
 */
export function retryDelay(failures: number, life: Life | null, random: number): number {
  const base = RETRIES_MS[failures - 1] ?? LONGEST_RETRY_MS;
  const most = life === null ? base : Math.max(5_000, (life.notAfterMs - life.notBeforeMs) / 12);
  return Math.floor(Math.min(base, most) * (1 + random / 4));
}

/** Days for which no authority is believed that it wants to be left alone. */
const LONGEST_LIMIT_MS = 7 * 24 * HOUR_MS;

/** Until when a rate limit is heeded, in epoch milliseconds. Null: it is over, or says something absurd. */
export function heededUntil(notBeforeMs: number | null, nowMs: number): number | null {
  if (notBeforeMs === null || notBeforeMs <= nowMs || notBeforeMs > nowMs + LONGEST_LIMIT_MS) return null;
  return notBeforeMs;
}

/** Until when this authority is left alone, in epoch milliseconds: what another one wants is nothing to it. Null: it may be asked. */
export function limitInForce(
  { notBeforeMs, limitedBy }: { readonly notBeforeMs: number | null; readonly limitedBy: string | null },
  directory: string | undefined,
  nowMs: number,
): number | null {
  return limitedBy === directory ? heededUntil(notBeforeMs, nowMs) : null;
}

export function limitUntil(retryAfterMs: number | null, nowMs: number): number {
  return nowMs + Math.min(Math.max(retryAfterMs ?? HOUR_MS, MINUTE_MS), LONGEST_LIMIT_MS);
}

/** With so little of its life left, a certificate that is not renewed is something to get up for. */
export function isUrgent({ notBeforeMs, notAfterMs }: Life, nowMs: number): boolean {
  return notAfterMs - nowMs < Math.min(7 * 24 * HOUR_MS, (notAfterMs - notBeforeMs) / 6);
}
