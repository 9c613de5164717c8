import type { ThrottleSettings } from '../policy/policy.js';

/** A failure is forgiven for each of these that passes. */
const FORGIVEN_EACH_MS = 60_000;
/** Addresses, and names, that are remembered at once. */
const MOST_REMEMBERED = 16_384;

/**
 * How often someone has failed lately. Whoever failed longest ago is forgotten first, so that a flood from many places
 * fills no memory. Knows no clock: `nowMs` may be any that does not stand still.
 */
export class Failures {
  readonly #byKey = new Map<string, { count: number; atMs: number }>();
  readonly #most: number;

  constructor(most = MOST_REMEMBERED) {
    this.#most = most;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Counts one more, up to `cap`, and says how many there are now. */
  add(key: string, cap: number, nowMs: number): number {
    const known = this.#byKey.get(key);
    const left = known === undefined ? 0 : remaining(known, nowMs);
    const count = Math.min(cap, left + 1);
    this.#byKey.delete(key);
    this.#byKey.set(key, { count, atMs: nowMs });
    if (this.#byKey.size > this.#most) {
      const [oldest] = this.#byKey.keys();
      if (oldest !== undefined) this.#byKey.delete(oldest);
    }
    return count;
  }
}

function remaining({ count, atMs }: { readonly count: number; readonly atMs: number }, nowMs: number): number {
  return Math.max(0, count - Math.max(0, nowMs - atMs) / FORGIVEN_EACH_MS);
}

/** The wait before the answer to the failure of this number, in milliseconds: none at first, then twice as long each time. */
export function delayOf(settings: ThrottleSettings, failures: number): number {
  // Some part of the last one may have been forgiven meanwhile.
  const beyond = Math.round(failures - settings.after);
  if (beyond < 1) return 0;
  return Math.min(settings.mostMs, settings.delayMs * 2 ** Math.min(30, beyond - 1));
}

/** Beyond this, one more failure changes nothing; whoever stops is back at no delay after as many minutes. */
export function capOf(settings: ThrottleSettings): number {
  return settings.after + 1 + Math.ceil(Math.log2(Math.max(1, settings.mostMs / settings.delayMs)));
}
