import { createHash } from 'node:crypto';
import type { DenialReason } from '../denial.js';
import type { Message } from '../http/message.js';
import { asksForEventStream } from '../http/accept.js';
import type { Authentication } from '../identity/authenticate.js';
import type { Identity } from '../identity/identity.js';
import { addressGroup } from '../net/address-group.js';
import type { CountRule, LimitDemand, SlotRule } from '../policy/limit-rules.js';
import type { Admission } from './admit.js';
import { type Particulars, type Refusal, refusal } from './authorize.js';
import type { Underway } from './underway.js';

/** What is left of a limit, after the request that asked was counted. */
export interface Balance {
  /** Whole requests. */
  readonly remaining: number;
  /** Until there is more, where nothing remains, else until all of it is there again. */
  readonly resetMs: number;
}

/** The answer to one request, of all limits that it was held against. */
export interface Count {
  /** The limit that says no, and longest; null: none does, and all have counted it. Where one does, none has. */
  readonly refusedBy: CountRule | null;
  /** Until it would say yes; null: it can't be asked, and the policy says to refuse then. */
  readonly waitMs: number | null;
  /** One for each rule, in turn; null where nothing is known of it. */
  readonly balances: readonly (Balance | null)[];
}

/** Who is counted, in the words of each rule. */
export interface Counted {
  /** Canonical form of an address, or the /64 of one. */
  readonly address: string;
  /** Null before anybody was asked. */
  readonly identity: string | null;
  readonly route: string;
}

/** Where requests are counted. Embedded counters answer at once; what is shared must be asked for. Never rejects. */
export interface Limiter {
  count(rules: readonly CountRule[], counted: Counted, nowMs: number): Count | Promise<Count>;
  /** Takes one of those that there are at once; false: none is left. Each one taken is given back. */
  take(rule: SlotRule, key: string): boolean | Promise<boolean>;
  giveBack(rule: SlotRule, key: string): void;
}

/** For questions that nobody asks in earnest: everything is within its limits. */
export const UNLIMITED: Limiter = {
  count: (rules) => ({ refusedBy: null, waitMs: null, balances: rules.map(() => null) }),
  take: () => true,
  giveBack: () => undefined,
};

/** What a request within its limits takes along. */
export interface Allowance {
  /** Fields that its answer gets, in place of the upstream's own of these names; null: nothing is counted here. */
  readonly fields: readonly string[] | null;
  /** Null: any number of streams may be open. */
  readonly stream: StreamSlot | null;
}

/** The right to one open stream, which ends with the exchange. */
export interface StreamSlot {
  /** The answer is a stream. False: it is one too many. */
  opens(): boolean | Promise<boolean>;
  /** The answer is none. */
  isNone(): void;
}

/** After the limits that are looked at before anybody is asked. */
export interface Early {
  readonly ok: true;
  readonly balances: readonly (Balance | null)[];
}

const LONGEST_NAME = 200;
const NOTHING_YET: Early = { ok: true, balances: [] };

/** Seconds after which there may be room again; nobody knows when others end. */
const ROOM_AFTER = '1';
const STREAM_AFTER = '5';

/** What is counted by address, before anybody is asked who they are: strangers too must not ask too often. */
export function limitBefore(
  admission: Admission,
  nowMs: number,
  limiter: Limiter,
): Early | Refusal | Promise<Early | Refusal> {
  const limits = admission.route.demands?.limits ?? null;
  if (limits === null || limits.beforeAsking.length === 0) return NOTHING_YET;
  const rules = limits.beforeAsking;
  const settle = (count: Count): Early | Refusal =>
    count.refusedBy === null
      ? { ok: true, balances: count.balances }
      : tooMuch(admission, null, limits, count.refusedBy, count, count.balances);
  const count = limiter.count(
    rules,
    { address: addressGroup(admission.client), identity: null, route: admission.route.name },
    nowMs,
  );
  return count instanceof Promise ? count.then(settle) : settle(count);
}

/** What is counted once it is known who asks, and that they may. */
export function limit(
  limits: LimitDemand,
  admission: Admission,
  authentication: Authentication | null,
  nowMs: number,
  early: Early,
  underway: Underway,
  limiter: Limiter,
): Allowance | Refusal | Promise<Allowance | Refusal> {
  const identity = authentication?.ok === true ? identityKey(authentication.identity) : null;
  // Where somebody was asked, addresses were counted before.
  const address = identity === null ? addressGroup(admission.client) : '';
  const no = (reason: DenialReason, after: string): Refusal =>
    refusal(admission, authentication, reason, { fields: ['retry-after', after], invalid: null });

  const { concurrent, streams, afterAsking: rules } = limits;
  const count = (stream: Stream | null): Allowance | Refusal | Promise<Allowance | Refusal> => {
    if (rules.length === 0) return { fields: fieldsOf(limits, early.balances), stream };
    const settle = (count: Count): Allowance | Refusal =>
      count.refusedBy === null
        ? { fields: fieldsOf(limits, [...early.balances, ...count.balances]), stream }
        : tooMuch(admission, authentication, limits, count.refusedBy, count, [...early.balances, ...count.balances]);
    const counted = limiter.count(rules, { address, identity, route: admission.route.name }, nowMs);
    return counted instanceof Promise ? counted.then(settle) : settle(counted);
  };
  const takeStream = (): Allowance | Refusal | Promise<Allowance | Refusal> => {
    if (streams === null) return count(null);
    const stream = new Stream(limiter, streams, keyOf(streams, address, identity), underway);
    // Taken before the upstream hears of it: two that come at once must not both be the last.
    return !announcesStream(admission.message)
      ? count(stream)
      : when(stream.opens(), (taken) => (taken ? count(stream) : no('streams_exceeded', STREAM_AFTER)));
  };
  if (concurrent === null) return takeStream();
  const key = keyOf(concurrent, address, identity);
  return when(limiter.take(concurrent, key), (taken) => {
    if (!taken) return no('concurrency_exceeded', ROOM_AFTER);
    underway.whenFinished(() => {
      limiter.giveBack(concurrent, key);
    });
    return takeStream();
  });
}

/** Goes on in the same turn where the answer is known. */
function when<T>(taken: boolean | Promise<boolean>, then: (taken: boolean) => T | Promise<T>): T | Promise<T> {
  return taken instanceof Promise ? taken.then(then) : then(taken);
}

export function isRefusal(answer: Allowance | Early | Refusal): answer is Refusal {
  return 'allow' in answer;
}

/** A refusal of an answer that turned out to be a stream. */
export const TOO_MANY_STREAMS: Particulars = Object.freeze({
  fields: Object.freeze(['retry-after', STREAM_AFTER]),
  invalid: null,
});

/** One text for one identity. Names are unique within their authenticator alone: a JWT's subject is never a static token's namesake. */
export function identityKey({ authenticator, name }: Identity): string {
  // The name of an authenticator has no blank. A name may be as long as a token, and there may be many.
  return name.length <= LONGEST_NAME && !name.startsWith('sha256 ')
    ? `${authenticator} ${name}`
    : `${authenticator} sha256 ${createHash('sha256').update(name).digest('hex')}`;
}

function keyOf(rule: SlotRule, address: string, identity: string | null): string {
  return rule.by === 'identity' && identity !== null ? identity : address;
}

/** It will be a stream if it succeeds, or asks for one. */
function announcesStream(message: Message): boolean {
  return message.webSocket !== null || asksForEventStream(message.accept);
}

class Stream implements StreamSlot {
  readonly #limiter: Limiter;
  readonly #rule: SlotRule;
  readonly #key: string;
  readonly #underway: Underway;
  #taken: boolean | Promise<boolean> = false;
  #watched = false;

  constructor(limiter: Limiter, rule: SlotRule, key: string, underway: Underway) {
    this.#limiter = limiter;
    this.#rule = rule;
    this.#key = key;
    this.#underway = underway;
  }

  opens(): boolean | Promise<boolean> {
    if (this.#taken !== false) return this.#taken;
    this.#taken = this.#limiter.take(this.#rule, this.#key);
    if (this.#taken !== false && !this.#watched) {
      this.#watched = true;
      this.#underway.whenFinished(() => {
        this.isNone();
      });
    }
    return this.#taken;
  }

  isNone(): void {
    const taken = this.#taken;
    this.#taken = false;
    const giveBack = (isTaken: boolean): void => {
      if (isTaken) this.#limiter.giveBack(this.#rule, this.#key);
    };
    // Whoever goes before it is known gives it back when it is.
    if (taken instanceof Promise) void taken.then(giveBack);
    else giveBack(taken);
  }
}

function tooMuch(
  admission: Admission,
  authentication: Authentication | null,
  limits: LimitDemand,
  rule: CountRule,
  { waitMs }: Count,
  balances: readonly (Balance | null)[],
): Refusal {
  if (waitMs === null) return refusal(admission, authentication, 'limits_unavailable');
  return refusal(admission, authentication, rule.kind === 'rate' ? 'rate_exceeded' : 'quota_exceeded', {
    fields: ['retry-after', String(wholeSeconds(waitMs)), ...(fieldsOf(limits, balances) ?? [])],
    invalid: null,
  });
}

/** draft-ietf-httpapi-ratelimit-headers-10 §4. A limit of which nothing is known is left out. */
function fieldsOf(
  { beforeAsking, afterAsking, policyField }: LimitDemand,
  balances: readonly (Balance | null)[],
): string[] | null {
  if (policyField === null) return null;
  let value = '';
  for (let i = 0; i < balances.length; i++) {
    const balance = balances[i] ?? null;
    const rule = i < beforeAsking.length ? beforeAsking[i] : afterAsking[i - beforeAsking.length];
    if (balance === null || rule === undefined) continue;
    const member = `"${rule.name}";r=${String(balance.remaining)};t=${String(wholeSeconds(balance.resetMs))}`;
    value = value === '' ? member : `${value}, ${member}`;
  }
  return value === '' ? ['ratelimit-policy', policyField] : ['ratelimit-policy', policyField, 'ratelimit', value];
}

/** RFC 9110 §10.2.3: whoever comes back then must not come too early. */
function wholeSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000 - 1e-9));
}
