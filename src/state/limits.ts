import type { Balance, Count, Counted, Limiter } from '../gate/limit.js';
import type { CountRule, SlotRule } from '../policy/limit-rules.js';
import type { Policy } from '../policy/policy.js';
import { Buckets, Slots, Windows } from './limit-counters.js';
import type { RedisCounters } from './limit-redis.js';
import type { Prepared } from './prepared.js';
import { QuotaFile } from './quota-file.js';
import type { Tell } from './store.js';

/** Callers that one limit remembers, and all limits together: some 40 MB. */
const MOST_CALLERS = 65_536;
const MOST_CALLERS_IN_ALL = 262_144;
const LEAST_CALLERS = 1024;

/** Every rule of a policy that is counted, each once. */
export function countRules(policy: Policy): ReadonlyMap<string, CountRule> {
  const rules = new Map<string, CountRule>();
  for (const listener of policy.listeners) {
    if (listener.type !== 'http') continue;
    for (const { demands } of listener.routes.routes) {
      const limits = demands?.limits ?? null;
      if (limits === null) continue;
      for (const rule of [...limits.beforeAsking, ...limits.afterAsking]) rules.set(rule.id, rule);
    }
  }
  return rules;
}

/** A quota whose counts outlive the process in the state directory. */
function isKept(rule: CountRule): boolean {
  return rule.kind === 'quota' && !rule.shared;
}

/** Does the policy count something that must survive a restart. */
export function keepsQuotas(policy: Policy): boolean {
  return [...countRules(policy).values()].some(isKept);
}

/** How the limits are that are counted in Redis. */
export interface SharedLimitsStatus {
  readonly state: 'up' | 'away';
  /** Requests are refused meanwhile. */
  readonly refusing: boolean;
  /** One clause without full stop. */
  readonly detail: string;
}

/**
 * The counters of a policy: embedded ones in this process, shared ones in Redis, and what is done while that is away.
 * Embedded ones answer in the same turn.
 */
export class PolicyLimits implements Limiter {
  readonly #tables = new Map<string, Buckets | Windows>();
  readonly #slots = new Slots();
  #rules: ReadonlyMap<string, CountRule>;
  #most = LEAST_CALLERS;
  #refuses = false;
  #shared: RedisCounters | null = null;
  #file: QuotaFile | null = null;

  private constructor(rules: ReadonlyMap<string, CountRule>) {
    this.#rules = rules;
    this.#measure();
  }

  #measure(): void {
    const rules = [...this.#rules.values()];
    const share = Math.floor(MOST_CALLERS_IN_ALL / Math.max(1, rules.length));
    this.#most = Math.max(LEAST_CALLERS, Math.min(MOST_CALLERS, share));
    this.#refuses = rules.some((rule) => rule.shared && rule.onUnavailable === 'deny');
  }

  /** @throws StateError when the quotas that were kept can't be read */
  static async open(policy: Policy, tell: Tell): Promise<PolicyLimits> {
    const rules = countRules(policy);
    const limits = new PolicyLimits(rules);
    if (keepsQuotas(policy)) await limits.#keep(policy.stateDir, tell);
    limits.#shared = await openShared(policy, tell);
    return limits;
  }

  /**
   * Makes ready to count by another policy. Whoever has used something up of a rule that is there under the same id has
   * used it up under that policy too; what is open keeps its slots.
   *
   * @throws StateError when quotas that were kept can't be read
   */
  async prepare(policy: Policy, tell: Tell): Promise<Prepared> {
    const rules = countRules(policy);
    if (this.#file === null && keepsQuotas(policy)) await this.#keep(policy.stateDir, tell);
    const opened = this.#shared === null ? await openShared(policy, tell) : null;
    return {
      commit: () => {
        this.#rules = rules;
        this.#measure();
        for (const id of this.#tables.keys()) if (!rules.has(id)) this.#tables.delete(id);
        this.#file?.changed();
        this.#shared ??= opened;
        if (needsShared(policy)) return;
        this.#shared?.close();
        this.#shared = null;
      },
      abandon: () => {
        opened?.close();
        return Promise.resolve();
      },
    };
  }

  /** Counters that begin at nothing, keep nothing and ask nobody: for requests that are only supposed. */
  static supposed(policy: Policy): Limiter {
    const limits = new PolicyLimits(countRules(policy));
    return {
      count: (rules, counted, nowMs) => limits.#countHere(rules, counted, nowMs),
      take: (rule, key) => limits.take(rule, key),
      giveBack: (rule, key) => {
        limits.giveBack(rule, key);
      },
    };
  }

  /** Null where nothing is shared. */
  get shared(): SharedLimitsStatus | null {
    if (this.#shared === null) return null;
    const { up, detail } = this.#shared;
    return { state: up ? 'up' : 'away', refusing: !up && this.#refuses, detail };
  }

  /** Slots that are taken at present. */
  get taken(): number {
    return this.#slots.size;
  }

  count(rules: readonly CountRule[], counted: Counted, nowMs: number): Count | Promise<Count> {
    for (const rule of rules) if (rule.shared) return this.#countSome(rules, counted, nowMs);
    return this.#countHere(rules, counted, nowMs);
  }

  take(rule: SlotRule, key: string): boolean {
    return this.#slots.take(rule.id, rule.most, key);
  }

  giveBack(rule: SlotRule, key: string): void {
    this.#slots.giveBack(rule.id, key);
  }

  async close(): Promise<void> {
    this.#shared?.close();
    await this.#file?.close();
  }

  /** Takes up what was kept, of whatever rule: which of them there are says the policy in force. */
  async #keep(dir: string, tell: Tell): Promise<void> {
    const file = new QuotaFile(dir, tell, () =>
      [...this.#rules.values()].filter(isKept).flatMap((rule) => {
        const table = this.#tables.get(rule.id);
        return table instanceof Windows ? [table.state(rule.id)] : [];
      }),
    );
    for (const state of await file.read()) {
      const table = new Windows(this.#most);
      table.restore(state);
      if (!this.#tables.has(state.id)) this.#tables.set(state.id, table);
    }
    this.#file = file;
  }

  /** All in this process: where one refuses, none counts it. */
  #countHere(rules: readonly CountRule[], counted: Counted, nowMs: number): Count {
    let refusedBy: CountRule | null = null;
    let waitMs = 0;
    for (const rule of rules) {
      const wait = this.#tableOf(rule).waitMs(rule, keyOf(rule, counted), nowMs);
      if (wait <= waitMs) continue;
      refusedBy = rule;
      waitMs = wait;
    }
    const balances: Balance[] = [];
    for (const rule of rules) {
      const table = this.#tableOf(rule);
      const key = keyOf(rule, counted);
      if (refusedBy === null) {
        table.take(rule, key, nowMs);
        if (isKept(rule)) this.#file?.changed();
      }
      balances.push(table.balance(rule, key, nowMs));
    }
    return { refusedBy, waitMs, balances };
  }

  /** Some in Redis. Ours are counted first, and given back where Redis refuses: nothing can come in between. */
  #countSome(rules: readonly CountRule[], counted: Counted, nowMs: number): Count | Promise<Count> {
    const shared = this.#shared;
    if (shared?.up !== true) return this.#countWithout(rules, counted, nowMs);
    const here = rules.filter((rule) => !rule.shared);
    const there = rules.filter((rule) => rule.shared);
    const ours = this.#countHere(here, counted, nowMs);
    if (ours.refusedBy !== null) return { ...ours, balances: inTurn(rules, [here, ours.balances]) };
    const keys = there.map((rule) => keyOf(rule, counted));
    return shared.count(there, keys).then((answer) => {
      if (answer === null) {
        this.#giveBackAll(here, counted);
        return this.#countWithout(rules, counted, nowMs);
      }
      const waitMs = Math.max(...answer.waitsMs);
      const refusedBy = waitMs > 0 ? (there[answer.waitsMs.indexOf(waitMs)] ?? null) : null;
      if (refusedBy !== null) this.#giveBackAll(here, counted);
      return { refusedBy, waitMs, balances: inTurn(rules, [here, ours.balances], [there, answer.balances]) };
    });
  }

  /** Redis is away: each limit by its own rule. */
  #countWithout(rules: readonly CountRule[], counted: Counted, nowMs: number): Count {
    const refusing = rules.find((rule) => rule.shared && rule.onUnavailable === 'deny');
    if (refusing !== undefined) return { refusedBy: refusing, waitMs: null, balances: rules.map(() => null) };
    const here = rules.filter((rule) => !rule.shared || rule.onUnavailable === 'local');
    const count = this.#countHere(here, counted, nowMs);
    return { ...count, balances: inTurn(rules, [here, count.balances]) };
  }

  #giveBackAll(rules: readonly CountRule[], counted: Counted): void {
    for (const rule of rules) this.#tableOf(rule).giveBack(rule, keyOf(rule, counted));
  }

  #tableOf(rule: CountRule): Buckets | Windows {
    let table = this.#tables.get(rule.id);
    if (table === undefined) {
      table = rule.kind === 'rate' ? new Buckets(this.#most) : new Windows(this.#most);
      this.#tables.set(rule.id, table);
    }
    return table;
  }
}

function needsShared(policy: Policy): boolean {
  return policy.redis !== null && [...countRules(policy).values()].some((rule) => rule.shared);
}

async function openShared(policy: Policy, tell: Tell): Promise<RedisCounters | null> {
  if (policy.redis === null || !needsShared(policy)) return null;
  // Its client is loaded where there is something to share.
  const { RedisCounters } = await import('./limit-redis.js');
  return await RedisCounters.open(policy.redis, tell);
}

function keyOf(rule: CountRule, counted: Counted): string {
  switch (rule.by) {
    case 'address':
      return counted.address;
    case 'route':
      return counted.route;
    case 'identity':
      if (counted.identity === null) throw new TypeError('nobody was asked who is counted here');
      return counted.identity;
  }
}

type Told = readonly [rules: readonly CountRule[], balances: readonly (Balance | null)[]];

/** What was found of some rules, in the order of all. */
function inTurn(rules: readonly CountRule[], ...told: readonly Told[]): (Balance | null)[] {
  return rules.map((rule) => {
    for (const [some, balances] of told) {
      const index = some.indexOf(rule);
      if (index >= 0) return balances[index] ?? null;
    }
    return null;
  });
}
