import type { Balance } from '../gate/limit.js';
import type { CountRule } from '../policy/limit-rules.js';

/** Callers that are looked at when room is needed for another one. */
const LOOKED_AT = 16;
/** Far less than a request, and far more than sums of fractions are off by. */
const NOTHING = 1e-6;
const SET_BACK_MS = 60_000;

interface Bucket {
  tokens: number;
  atMs: number;
}

/**
 * Token buckets of one rate, by caller. What is not there is full; so full ones are forgotten first, and where none is
 * full, the fullest of a few: whoever is at their limit stays there, however many strangers come.
 */
export class Buckets {
  readonly #byKey = new Map<string, Bucket>();
  readonly #most: number;
  /** Goes round all callers, a few at a time. */
  #hand: Iterator<[string, Bucket]>;

  constructor(most: number) {
    this.#most = most;
    this.#hand = this.#byKey.entries();
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Until there is a token: 0 where there is one. */
  waitMs(rule: CountRule, key: string, nowMs: number): number {
    const bucket = this.#byKey.get(key);
    if (bucket === undefined) return 0;
    refill(bucket, rule, nowMs);
    return bucket.tokens >= 1 - NOTHING ? 0 : ((1 - bucket.tokens) * rule.perMs) / rule.requests;
  }

  /** Takes a token, which is there. */
  take(rule: CountRule, key: string, nowMs: number): void {
    const bucket = this.#byKey.get(key);
    if (bucket !== undefined) {
      refill(bucket, rule, nowMs);
      bucket.tokens -= 1;
      return;
    }
    if (this.#byKey.size >= this.#most) this.#makeRoom(rule, nowMs);
    this.#byKey.set(key, { tokens: rule.burst - 1, atMs: nowMs });
  }

  /** One that was taken for a request that another limit refused. */
  giveBack(rule: CountRule, key: string): void {
    const bucket = this.#byKey.get(key);
    if (bucket !== undefined) bucket.tokens = Math.min(rule.burst, bucket.tokens + 1);
  }

  balance(rule: CountRule, key: string, nowMs: number): Balance {
    const bucket = this.#byKey.get(key);
    if (bucket === undefined) return { remaining: rule.burst, resetMs: 0 };
    refill(bucket, rule, nowMs);
    const remaining = Math.max(0, Math.floor(bucket.tokens + NOTHING));
    const missing = remaining === 0 ? 1 - bucket.tokens : rule.burst - bucket.tokens;
    return { remaining, resetMs: (missing * rule.perMs) / rule.requests };
  }

  #makeRoom(rule: CountRule, nowMs: number): void {
    let fullest: string | null = null;
    let most = -Infinity;
    for (let i = 0; i < LOOKED_AT; i++) {
      let next = this.#hand.next();
      if (next.done === true) {
        this.#hand = this.#byKey.entries();
        next = this.#hand.next();
        if (next.done === true) return;
      }
      const [key, bucket] = next.value;
      refill(bucket, rule, nowMs);
      if (bucket.tokens >= rule.burst - NOTHING) {
        this.#byKey.delete(key);
        fullest = null;
        most = Infinity;
      } else if (bucket.tokens > most) {
        fullest = key;
        most = bucket.tokens;
      }
    }
    if (fullest !== null) this.#byKey.delete(fullest);
  }
}

/**
 * Requests do not come in the order of their times: one may have waited for its password to be checked. So time goes
 * forward only, but for a clock that was really set back, which must not stop it for as long.
 */
function refill(bucket: Bucket, rule: CountRule, nowMs: number): void {
  const passed = nowMs - bucket.atMs;
  if (passed > 0) {
    bucket.atMs = nowMs;
    bucket.tokens += (passed * rule.requests) / rule.perMs;
  } else if (passed < -SET_BACK_MS) {
    bucket.atMs = nowMs;
  }
  // Also where the policy has made it smaller.
  if (bucket.tokens > rule.burst) bucket.tokens = rule.burst;
}

/** A Monday: weeks begin where most people think they do; hours and days begin there anyway. */
const FIRST_WINDOW_MS = Date.UTC(1970, 0, 5);

/** When the window began that this moment is in, epoch milliseconds. */
export function windowOf(perMs: number, nowMs: number): number {
  return FIRST_WINDOW_MS + Math.floor((nowMs - FIRST_WINDOW_MS) / perMs) * perMs;
}

/** What a quota's windows have counted, as the state directory keeps it. */
export interface WindowState {
  readonly id: string;
  readonly perMs: number;
  readonly startMs: number;
  readonly counts: readonly (readonly [string, number])[];
}

/**
 * Requests of one quota in the window that is now, by caller. With a new window all of them are forgotten. Where there
 * are too many callers, the one of a few is forgotten that has used least.
 */
export class Windows {
  readonly #counts = new Map<string, number>();
  readonly #most: number;
  #startMs = 0;
  #perMs = 0;
  #hand: Iterator<[string, number]>;

  constructor(most: number) {
    this.#most = most;
    this.#hand = this.#counts.entries();
  }

  get size(): number {
    return this.#counts.size;
  }

  waitMs(rule: CountRule, key: string, nowMs: number): number {
    this.#turn(rule, nowMs);
    return (this.#counts.get(key) ?? 0) < rule.requests ? 0 : this.#leftMs(nowMs);
  }

  take(rule: CountRule, key: string, nowMs: number): void {
    this.#turn(rule, nowMs);
    const count = this.#counts.get(key);
    if (count === undefined && this.#counts.size >= this.#most) this.#makeRoom();
    this.#counts.set(key, (count ?? 0) + 1);
  }

  giveBack(_rule: CountRule, key: string): void {
    const count = this.#counts.get(key);
    if (count === undefined) return;
    if (count <= 1) this.#counts.delete(key);
    else this.#counts.set(key, count - 1);
  }

  balance(rule: CountRule, key: string, nowMs: number): Balance {
    this.#turn(rule, nowMs);
    return { remaining: Math.max(0, rule.requests - (this.#counts.get(key) ?? 0)), resetMs: this.#leftMs(nowMs) };
  }

  state(id: string): WindowState {
    return { id, perMs: this.#perMs, startMs: this.#startMs, counts: [...this.#counts] };
  }

  /** What was kept; a window that is over, or of another length, is dropped when the next request comes. */
  restore({ perMs, startMs, counts }: WindowState): void {
    this.#perMs = perMs;
    this.#startMs = startMs;
    this.#counts.clear();
    for (const [key, count] of counts) {
      if (this.#counts.size >= this.#most) break;
      this.#counts.set(key, count);
    }
  }

  #turn(rule: CountRule, nowMs: number): void {
    const startMs = windowOf(rule.perMs, nowMs);
    if (startMs === this.#startMs && rule.perMs === this.#perMs) return;
    // A clock that is set back a little around the turn of a window must not give the last one's requests again; but one
    // that was years ahead must not hold the counts for years.
    if (rule.perMs === this.#perMs && startMs === this.#startMs - rule.perMs) return;
    this.#startMs = startMs;
    this.#perMs = rule.perMs;
    this.#counts.clear();
  }

  #leftMs(nowMs: number): number {
    return this.#startMs + this.#perMs - nowMs;
  }

  #makeRoom(): void {
    let least: string | null = null;
    let used = Infinity;
    for (let i = 0; i < LOOKED_AT; i++) {
      let next = this.#hand.next();
      if (next.done === true) {
        this.#hand = this.#counts.entries();
        next = this.#hand.next();
        if (next.done === true) return;
      }
      const [key, count] = next.value;
      if (count < used) {
        least = key;
        used = count;
      }
    }
    if (least !== null) this.#counts.delete(least);
  }
}

/** How many of something each caller has at once. As many entries as there are callers with something open. */
export class Slots {
  readonly #byRule = new Map<string, Map<string, number>>();

  take(id: string, most: number, key: string): boolean {
    let taken = this.#byRule.get(id);
    if (taken === undefined) {
      taken = new Map();
      this.#byRule.set(id, taken);
    }
    const count = taken.get(key) ?? 0;
    if (count >= most) return false;
    taken.set(key, count + 1);
    return true;
  }

  giveBack(id: string, key: string): void {
    const taken = this.#byRule.get(id);
    const count = taken?.get(key);
    if (taken === undefined || count === undefined) throw new TypeError('given back more than was taken');
    if (count === 1) taken.delete(key);
    else taken.set(key, count - 1);
  }

  /** What is taken at present, in all. */
  get size(): number {
    let sum = 0;
    for (const taken of this.#byRule.values()) for (const count of taken.values()) sum += count;
    return sum;
  }
}
