import { Readable } from 'node:stream';
import type { DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';
import { arrive, isOwnPath } from '../gate/admit.js';
import type { Decision } from '../gate/authorize.js';
import { answerPreflight, isPreflight } from '../gate/cors.js';
import { type HoldBody, decide } from '../gate/decide.js';
import type { Underway } from '../gate/underway.js';
import { type Verdict, differences, verdictOf } from '../gate/verdict.js';
import { type Message, type RawHead, readMessage } from '../http/message.js';
import type { Caller } from '../identity/caller.js';
import type { ShadowFindings } from '../observe/shadow-findings.js';
import type { HttpListener, Policy } from '../policy/policy.js';
import { type Borrowed, type Kept, ShadowMeans, Undecidable, noted } from './shadow-means.js';

/** Requests that wait to be decided a second time. */
const MOST_WAITING = 512;
/** Bodies of theirs that are kept meanwhile; the policy in force has read them anyway. */
const MOST_BODY_BYTES = 4 * 1024 ** 2;
/** Decisions that wait for a key, a password or a store. */
const MOST_UNDERWAY = 32;
const PATIENCE_MS = 2_000;
/** It decides for so long, and then lets others have three times as long. */
const SLICE_MS = 2;
const REST = 3;

/** What is known of a request before it is decided. */
interface Heard {
  readonly raw: RawHead;
  readonly caller: Caller;
  kept: Kept | null;
}

interface Waiting extends Heard {
  readonly exchange: Exchange;
  readonly second: HttpListener;
  readonly decision: Settled;
  readonly bodyBytes: number;
}

/** A decision without what it holds. Null: guardbee itself answers. */
type Settled = { readonly verdict: Verdict; readonly upstream: string | null } | null;

/**
 * A second policy that is tried: it decides the same requests, after the first has and off their way, and all that comes
 * of it is a number and a line of the log. No permit of it leaves this file.
 */
export class Shadow {
  readonly #listeners: ReadonlyMap<string, HttpListener>;
  readonly #means: ShadowMeans;
  readonly #findings: ShadowFindings;
  readonly #ticks: () => number;
  readonly #heard = new WeakMap<object, Heard>();
  #waiting: Waiting[] = [];
  #bodyBytes = 0;
  #underway = 0;
  #restsUntil = 0;
  /** Takes back what is to come next; null: nothing is. */
  #callOff: (() => void) | null = null;
  #stopped = false;

  constructor(policy: Policy, borrowed: Borrowed, findings: ShadowFindings) {
    this.#listeners = new Map(
      policy.listeners.flatMap((listener) => (listener.type === 'http' ? [[listener.name, listener]] : [])),
    );
    this.#means = new ShadowMeans(policy, borrowed);
    this.#findings = findings;
    this.#ticks = () => borrowed.ticks();
  }

  start(): void {
    this.#means.start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#callOff?.();
    this.#waiting = [];
    this.#findings.stop();
    await this.#means.stop();
  }

  /** Holds bodies for the policy in force, as `hold` does. */
  watching(hold: HoldBody): HoldBody {
    return noted(hold, (underway, kept) => {
      const heard = this.#heard.get(underway);
      if (heard !== undefined) heard.kept = kept;
    });
  }

  /** A request came in. */
  heard(exchange: Exchange, raw: RawHead, caller: Caller): void {
    this.#heard.set(exchange, { raw, caller, kept: null });
  }

  /**
   * The policy in force has decided it. @param decision a reason where the head could not be read; null where guardbee
   * itself answers
   */
  settled(exchange: Exchange, decision: Decision | DenialReason | null): void {
    const heard = this.#heard.get(exchange);
    if (heard === undefined || this.#stopped) return;
    // Whoever streams for hours has no use for it.
    this.#heard.delete(exchange);
    const { name } = exchange.listener;
    const second = this.#listeners.get(name);
    if (second === undefined) {
      this.#findings.undecided(name, 'listener_missing', exchange.requestId);
      return;
    }
    if (this.#waiting.length >= MOST_WAITING) {
      this.#findings.undecided(name, 'queue_full', exchange.requestId);
      return;
    }
    let { kept } = heard;
    let bodyBytes = kept?.body.ok === true ? kept.body.bytes.length : 0;
    if (this.#bodyBytes + bodyBytes > MOST_BODY_BYTES) {
      kept = null;
      bodyBytes = 0;
    }
    this.#waiting.push({ ...heard, kept, exchange, second, decision: lasting(decision), bodyBytes });
    this.#bodyBytes += bodyBytes;
    this.#workSoon();
  }

  #workSoon(): void {
    if (this.#callOff !== null || this.#stopped || this.#waiting.length === 0 || this.#underway >= MOST_UNDERWAY)
      return;
    const work = (): void => {
      this.#callOff = null;
      this.#work();
    };
    const restMs = this.#restsUntil - this.#ticks();
    if (restMs < 1) {
      const next = setImmediate(work);
      this.#callOff = () => {
        clearImmediate(next);
      };
      return;
    }
    const next = setTimeout(work, restMs);
    next.unref();
    this.#callOff = () => {
      clearTimeout(next);
    };
  }

  #work(): void {
    const began = this.#ticks();
    let now = began;
    let done = 0;
    while (done < this.#waiting.length && this.#underway < MOST_UNDERWAY && now - began < SLICE_MS) {
      const waiting = this.#waiting[done];
      done += 1;
      if (waiting !== undefined) this.#decide(waiting);
      now = this.#ticks();
    }
    this.#waiting.splice(0, done);
    this.#restsUntil = now + REST * (now - began);
    this.#workSoon();
  }

  #decide(waiting: Waiting): void {
    this.#bodyBytes -= waiting.bodyBytes;
    try {
      const first = firstVerdict(waiting);
      const second = this.#secondVerdict(waiting);
      if (!(second instanceof Promise)) {
        this.#compare(waiting, first, second);
        return;
      }
      this.#underway += 1;
      this.#patiently(second)
        .then((late) => {
          this.#compare(waiting, first, late);
        })
        .catch((error: unknown) => {
          this.#undecided(waiting, error);
        })
        .finally(() => {
          this.#underway -= 1;
          this.#workSoon();
        });
    } catch (error) {
      this.#undecided(waiting, error);
    }
  }

  #secondVerdict({ exchange, raw, caller, second, kept, decision: settled }: Waiting): Verdict | Promise<Verdict> {
    const { listener } = exchange;
    const alike =
      second.limits.headBytes === listener.limits.headBytes && second.limits.headFields === listener.limits.headFields;
    const read =
      alike && exchange.message !== null
        ? { ok: true as const, message: exchange.message }
        : readMessage(raw, second.limits);
    if (!read.ok) return denied(read.reason);
    const own = ownVerdict(second, read.message, caller);
    if (own !== null) return own;
    const underway = new Supposed(exchange);
    const means = this.#means.for({ listener, second, kept, upstream: settled?.upstream ?? null });
    const settle = (decision: Decision): Verdict => {
      if (!decision.allow) {
        underway.end();
        if (decision.reason === 'credential_unverifiable') throw new Undecidable('unverifiable');
        return verdictOf(decision);
      }
      decision.body?.release();
      // What it has taken of its limits it has for as long as the exchange lasts.
      exchange.whenFinished(() => {
        underway.end();
      });
      return verdictOf(decision);
    };
    try {
      const decision = decide(second, read.message, caller, exchange.startedAtMs, underway, means);
      if (!(decision instanceof Promise)) return settle(decision);
      return decision.then(settle).catch((error: unknown) => {
        underway.end();
        throw error;
      });
    } catch (error) {
      underway.end();
      throw error;
    }
  }

  async #patiently(verdict: Promise<Verdict>): Promise<Verdict> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        reject(new Undecidable('too_slow'));
      }, PATIENCE_MS);
      timer.unref();
    });
    try {
      return await Promise.race([verdict, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #compare({ exchange }: Waiting, first: Verdict, second: Verdict): void {
    const listener = exchange.listener.name;
    const where = differences(first, second);
    if (where.length === 0) this.#findings.same(listener);
    else this.#findings.differs({ listener, requestId: exchange.requestId, first, second, in: where });
  }

  #undecided({ exchange }: Waiting, error: unknown): void {
    const { name } = exchange.listener;
    if (error instanceof Undecidable) this.#findings.undecided(name, error.why, exchange.requestId);
    else this.#findings.broke(name, error, exchange.requestId);
  }
}

function lasting(decision: Decision | DenialReason | null): Settled {
  if (decision === null) return null;
  if (typeof decision === 'string') return { verdict: denied(decision), upstream: null };
  return { verdict: verdictOf(decision), upstream: decision.route?.upstream?.name ?? null };
}

function firstVerdict({ exchange, caller, decision }: Waiting): Verdict {
  if (decision !== null) return decision.verdict;
  const own = exchange.message === null ? null : ownVerdict(exchange.listener, exchange.message, caller);
  if (own === null) throw new TypeError('guardbee answers by itself only what is its own');
  return own;
}

function denied(reason: DenialReason): Verdict {
  return { said: 'denied', route: null, reason };
}

/** What guardbee answers itself, before any route is looked for; null: the gate decides. */
function ownVerdict(listener: HttpListener, message: Message, caller: Caller): Verdict | null {
  if (isOwnPath(listener, message)) return { said: 'answered', by: 'session_page' };
  if (listener.cors === null || !isPreflight(listener, message)) return null;
  const arrival = arrive(listener, message, caller);
  if (!arrival.arrived) return denied(arrival.reason);
  return answerPreflight(listener.cors, message) === null
    ? denied('cors_refused')
    : { said: 'answered', by: 'preflight' };
}

const NO_BODY = { body: Readable.from([]), sendContinue: () => undefined };

/** Stands for an exchange: nothing of it is read, and no time is kept. */
class Supposed implements Underway {
  bytesIn: number;
  readonly answer = NO_BODY;
  readonly #afterwards: (() => void)[] = [];
  #ended = false;

  constructor({ bytesIn }: Exchange) {
    this.bytesIn = bytesIn;
  }

  whenFinished(call: () => void): void {
    if (this.#ended) call();
    else this.#afterwards.push(call);
  }

  endBy(): void {
    // The exchange keeps the time of the policy in force.
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const call of this.#afterwards) call();
  }
}
