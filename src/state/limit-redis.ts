import { createHash } from 'node:crypto';
import type { Balance } from '../gate/limit.js';
import type { CountRule } from '../policy/limit-rules.js';
import type { RedisSettings } from '../policy/policy.js';
import { RedisError, RedisLink } from './redis-link.js';
import type { Tell } from './store.js';

/** What Redis said of each rule, in turn. */
export interface SharedCount {
  readonly waitsMs: readonly number[];
  readonly balances: readonly Balance[];
}

/**
 * All limits of one request at once: where one refuses, none counts it. The time is Redis's own, so that the clocks of
 * several sidecars don't matter. KEYS: one for each; ARGV: kind, requests, per in microseconds, burst, for each.
 * Returns wait, remaining and reset for each, in milliseconds. Rates are token buckets, as `Buckets` has them; quotas
 * windows, as `Windows`.
 */
const SCRIPT = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local first = 345600000000
local refused = false
local held = {}
for i = 1, #KEYS do
  local kind = ARGV[i * 4 - 3]
  local requests, per, burst = tonumber(ARGV[i * 4 - 2]), tonumber(ARGV[i * 4 - 1]), tonumber(ARGV[i * 4])
  local found = redis.pcall('HMGET', KEYS[i], 'n', 'at')
  if found.err then return { err = 'WRONGTYPE a key of the limits holds something else' } end
  local n, at = tonumber(found[1] or ''), tonumber(found[2] or '')
  if n ~= n then n = nil end
  local wait = 0
  if kind == 'r' then
    if not n or not at then n = burst else
      if now > at then n = n + (now - at) * requests / per end
      if n > burst then n = burst end
    end
    -- As in Buckets: time goes forward, but for a clock that was really set back.
    if not at or now > at or at - now > 60000000 then at = now end
    if n < 1 - 0.000001 then wait = (1 - n) * per / requests end
  else
    local start = first + math.floor((now - first) / per) * per
    if not n or at ~= start then n = 0 end
    at = start
    if n >= requests then wait = start + per - now end
  end
  if wait > 0 then refused = true end
  held[i] = { kind, requests, per, burst, n, at, wait }
end
local answer = {}
for i = 1, #KEYS do
  local kind, requests, per, burst, n, at, wait = unpack(held[i])
  local remaining, reset
  if kind == 'r' then
    if not refused then
      n = n - 1
      redis.call('HSET', KEYS[i], 'n', string.format('%.17g', n), 'at', string.format('%.0f', at))
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.ceil((burst - n) * per / requests / 1000) + 1000))
    end
    remaining = math.max(0, math.floor(n + 0.000001))
    if remaining == 0 then reset = (1 - n) * per / requests else reset = (burst - n) * per / requests end
  else
    if not refused then
      n = n + 1
      redis.call('HSET', KEYS[i], 'n', string.format('%.0f', n), 'at', string.format('%.0f', at))
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.ceil((at + per - now) / 1000) + 1000))
    end
    remaining = math.max(0, requests - n)
    reset = at + per - now
  end
  answer[#answer + 1] = math.ceil(wait / 1000)
  answer[#answer + 1] = remaining
  answer[#answer + 1] = math.ceil(reset / 1000)
end
return answer
`;
const SHA1 = createHash('sha1').update(SCRIPT).digest('hex');

/** Replies that are about one key, not about the server. */
const OF_A_KEY: ReadonlySet<string> = new Set(['WRONGTYPE']);

/** An answer that is not the script's. */
class Nonsense extends Error {
  override readonly message = 'its answer makes no sense';
}

/** Limits that several sidecars count together in Redis or Valkey. */
export class RedisCounters {
  readonly #prefix: string;
  readonly #link: RedisLink;
  readonly #tell: Tell;
  #up = false;
  #detail = 'connecting';
  #told: 'up' | 'away' | null = null;
  #toldKey = false;
  #settled: (() => void) | null = null;

  private constructor(settings: RedisSettings, tell: Tell) {
    this.#prefix = `${settings.prefix}limit:`;
    this.#tell = tell;
    this.#link = new RedisLink(settings, {
      ready: () => {
        void this.#probe();
      },
      down: (why) => {
        this.#fell(why);
      },
    });
  }

  /** Waits for the server, but not for long: one that is away at the start is no different from one that goes later. */
  static async open(settings: RedisSettings, tell: Tell, patienceMs = 1500): Promise<RedisCounters> {
    const counters = new RedisCounters(settings, tell);
    const settled = new Promise<void>((resolve) => {
      counters.#settled = resolve;
    });
    counters.#link.start();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patienceMs);
    });
    await Promise.race([settled, late]);
    clearTimeout(timer);
    return counters;
  }

  /** It counts. False: nothing is gained by asking. */
  get up(): boolean {
    return this.#up;
  }

  /** One clause without full stop; holds no secret. */
  get detail(): string {
    return this.#detail;
  }

  /** Null: there is no answer, and perhaps nothing was counted. Never rejects. */
  async count(rules: readonly CountRule[], keys: readonly string[]): Promise<SharedCount | null> {
    try {
      const names = rules.map((rule, index) => this.#keyOf(rule.id, keys[index] ?? ''));
      const settings = rules.flatMap((rule) => [
        rule.kind === 'rate' ? 'r' : 'q',
        String(rule.requests),
        String(rule.perMs * 1000),
        String(rule.burst),
      ]);
      return read(await this.#run(names, settings), rules.length);
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  close(): void {
    this.#up = false;
    this.#link.close();
    this.#settled?.();
  }

  /** Who is counted is not for others to read; and keys are of one length, however long names are. */
  #keyOf(id: string, key: string): string {
    return `${this.#prefix}${id}:${createHash('sha256').update(key).digest('base64url').slice(0, 22)}`;
  }

  async #run(keys: readonly string[], settings: readonly string[]): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...settings];
    try {
      return await this.#link.send(['EVALSHA', SHA1, ...rest]);
    } catch (error) {
      // A server that was restarted, or was told SCRIPT FLUSH, has forgotten it.
      if (!(error instanceof RedisError) || error.reply !== 'NOSCRIPT') throw error;
      return await this.#link.send(['EVAL', SCRIPT, ...rest]);
    }
  }

  /** A server that answers may still be one that can't be written to: that is found out before anybody relies on it. */
  async #probe(): Promise<void> {
    try {
      read(await this.#run([`${this.#prefix}probe`], ['r', '1000', '1000000', '1000']), 1);
    } catch (error) {
      const why = wordsFor(error);
      this.#fell(why);
      this.#link.giveUp(why);
      return;
    }
    this.#link.settled();
    this.#up = true;
    this.#detail = 'counted in Redis';
    this.#settled?.();
    const before = this.#told;
    this.#told = 'up';
    if (before === 'up') return;
    this.#tell({
      store: 'shared',
      level: 'info',
      event: 'limits.shared_up',
      message: before === null ? 'shared limits are counted in Redis' : 'shared limits are counted in Redis again',
    });
  }

  #failed(error: unknown): void {
    if (!(error instanceof RedisError)) {
      const why = wordsFor(error);
      this.#fell(why);
      this.#link.giveUp(why);
      return;
    }
    if (error.reply === null) return;
    if (OF_A_KEY.has(error.reply)) {
      if (this.#toldKey) return;
      this.#toldKey = true;
      this.#tell({
        store: 'shared',
        level: 'error',
        event: 'limits.shared_key',
        message: `a key of the shared limits holds something else: another program writes below ${this.#prefix}`,
      });
      return;
    }
    this.#fell(error.message);
    this.#link.giveUp(error.message);
  }

  #fell(why: string): void {
    this.#up = false;
    this.#detail = `Redis is away: ${why}`;
    this.#settled?.();
    if (this.#told === 'away') return;
    this.#told = 'away';
    this.#tell({
      store: 'shared',
      level: 'warn',
      event: 'limits.shared_away',
      message: `shared limits cannot be counted in Redis: ${why}; until it is back, each goes by its on_unavailable`,
    });
  }
}

function read(answer: unknown, count: number): SharedCount {
  // `Number` would make nothing of null, and that is a limit that never says no.
  if (!Array.isArray(answer) || answer.length !== count * 3) throw new Nonsense();
  const numbers: number[] = [];
  for (const one of answer as readonly unknown[]) {
    if (typeof one !== 'number' || !Number.isSafeInteger(one) || one < 0) throw new Nonsense();
    numbers.push(one);
  }
  const waitsMs: number[] = [];
  const balances: Balance[] = [];
  for (let i = 0; i < numbers.length; i += 3) {
    waitsMs.push(numbers[i] ?? 0);
    balances.push({ remaining: numbers[i + 1] ?? 0, resetMs: numbers[i + 2] ?? 0 });
  }
  return { waitsMs, balances };
}

function wordsFor(error: unknown): string {
  return error instanceof RedisError || error instanceof Nonsense ? error.message : 'unknown error';
}
