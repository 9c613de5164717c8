/**
 * What came of asking a second policy, as numbers and as lines of the log. Nothing here grows with requests: a kind of
 * difference is made of names and words of the two policies.
 */
import { type Difference, type Verdict, routeIn, wordFor } from '../gate/verdict.js';
import type { Log } from './log.js';
import { constant } from './redact.js';

export const SHADOW_OUTCOMES = ['same', 'differs', 'undecided'] as const;
export type ShadowOutcome = (typeof SHADOW_OUTCOMES)[number];

/** Why nothing is known of what the second policy would have said. */
export type Undecided =
  /** It has no http listener of that name. */
  | 'listener_missing'
  /** More came than there was time for. */
  | 'queue_full'
  /** It judges a body that the policy in force lets through unread. */
  | 'body_not_held'
  /** Another authority judges client certificates, or nobody has asked for one. */
  | 'certificate_unjudged'
  /** It seals sessions with a key that is not made yet. */
  | 'session_key_unknown'
  /** Only who made a thing may use it, and the policy in force does not remember who did. */
  | 'owners_unknown'
  /** Keys, revocations or a password could not be looked at. */
  | 'unverifiable'
  /** It took longer than it may. */
  | 'too_slow'
  /** A bug of ours. */
  | 'error';

export interface ShadowDifference {
  readonly listener: string;
  readonly requestId: string;
  readonly first: Verdict;
  readonly second: Verdict;
  readonly in: readonly Difference[];
}

/** Kinds that are told apart. */
const MOST_KINDS = 1000;
const PERIOD_MS = 60_000;
/** Lines for kinds that were told before, in one period. */
const MOST_AGAIN = 10;

type Counts = Record<ShadowOutcome, number>;

export class ShadowFindings {
  readonly #log: Pick<Log, 'info' | 'warn' | 'error' | 'errorFields'>;
  readonly #counts = new Map<string, Counts>();
  readonly #told = new Set<string>();
  #again = 0;
  #leftOut = 0;
  #period: NodeJS.Timeout | null = null;

  /** @param listeners names, of the policy in force */
  constructor(log: Pick<Log, 'info' | 'warn' | 'error' | 'errorFields'>, listeners: Iterable<string>) {
    this.#log = log;
    for (const name of listeners) this.#counts.set(name, { same: 0, differs: 0, undecided: 0 });
  }

  /** By listener. */
  get counts(): ReadonlyMap<string, Readonly<Counts>> {
    return this.#counts;
  }

  same(listener: string): void {
    this.#count(listener, 'same');
  }

  /** The first of each kind is told at once, and so are a few of the others; how many are not is told each minute. */
  differs({ listener, requestId, first, second, in: where }: ShadowDifference): void {
    this.#count(listener, 'differs');
    const words = [wordFor(first), wordFor(second)] as const;
    const routes = [routeIn(first) ?? '-', routeIn(second) ?? '-'] as const;
    if (!this.#isNew([listener, ...routes, ...words, ...where].join('\n'))) {
      this.#again += 1;
      if (this.#again > MOST_AGAIN) this.#leftOut += 1;
      this.#endPeriodLater();
      if (this.#again > MOST_AGAIN) return;
    }
    const others = where.filter((one) => one === 'upstream' || one === 'who');
    const said = words[0] === words[1] ? `${words[0]}, but another ${others.join(' and ')}` : words.join(' -> ');
    this.#log.warn('shadow.differs', `the shadow policy decides otherwise: ${said}`, {
      'guardbee.request_id': constant(requestId),
      'guardbee.listener': constant(listener),
      'guardbee.route': constant(routes[0]),
      'guardbee.verdict': constant(words[0]),
      'guardbee.shadow.route': constant(routes[1]),
      'guardbee.shadow.verdict': constant(words[1]),
      'guardbee.shadow.differs_in': constant(where.join(' ')),
    });
  }

  /** Told once for each listener and reason. */
  undecided(listener: string, why: Exclude<Undecided, 'error'>, requestId: string): void {
    this.#count(listener, 'undecided');
    if (!this.#isNew(['undecided', listener, why].join('\n'))) return;
    this.#log.info('shadow.undecided', `what the shadow policy says of some requests is not known: ${why}`, {
      'guardbee.request_id': constant(requestId),
      'guardbee.listener': constant(listener),
      'guardbee.reason': constant(why),
    });
  }

  /** Told once for each listener. */
  broke(listener: string, error: unknown, requestId: string): void {
    this.#count(listener, 'undecided');
    if (!this.#isNew(['error', listener].join('\n'))) return;
    this.#log.error('shadow.broke', 'the shadow policy could not decide; the request is not concerned', {
      'guardbee.request_id': constant(requestId),
      'guardbee.listener': constant(listener),
      ...this.#log.errorFields(error),
    });
  }

  /** Tells what was left out so far. */
  stop(): void {
    if (this.#period !== null) clearTimeout(this.#period);
    this.#endPeriod();
  }

  #count(listener: string, outcome: ShadowOutcome): void {
    const counts = this.#counts.get(listener);
    if (counts !== undefined) counts[outcome] += 1;
  }

  #isNew(kind: string): boolean {
    if (this.#told.has(kind) || this.#told.size >= MOST_KINDS) return false;
    this.#told.add(kind);
    return true;
  }

  #endPeriodLater(): void {
    if (this.#period !== null) return;
    this.#period = setTimeout(() => {
      this.#endPeriod();
    }, PERIOD_MS);
    this.#period.unref();
  }

  #endPeriod(): void {
    this.#period = null;
    this.#again = 0;
    if (this.#leftOut === 0) return;
    this.#log.warn('shadow.left_out', `${String(this.#leftOut)} more decisions of the shadow policy differed`, {
      'guardbee.shadow.left_out': this.#leftOut,
    });
    this.#leftOut = 0;
  }
}
