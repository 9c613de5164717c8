import { DENIALS } from '../denial.js';
import type { Clock, Exchange } from '../exchange.js';
import type { Refusal } from '../gate/authorize.js';
import { Failures, capOf, delayOf } from '../identity/throttle.js';
import { addressGroup } from '../net/address-group.js';
import type { ThrottleSettings } from '../policy/policy.js';

/** Answers that may be held at once, in all and for one address: each holds a connection or stream. */
const MOST_HELD = 1_000;
const MOST_HELD_FOR_ONE = 32;

/** What is asked of a refusal; the login page has its own. */
export type Refused = Pick<Refusal, 'reason' | 'client' | 'attempt'>;

export interface SlowDenialsInit {
  readonly clock: Clock;
  /** Told of each answer that is held. */
  delayed(listener: string): void;
  /** Where failures are counted; here when left out. */
  readonly failures?: CountsFailures;
}

/** Counts failures, and says how long the answer to the one that it has counted waits, in milliseconds. */
export interface CountsFailures {
  /** @param address of a listener @param claimed null: no name was */
  count(settings: ThrottleSettings, address: string, claimed: string | null): number | Promise<number>;
}

export class FailureCounts implements CountsFailures {
  readonly #ticks: () => number;
  readonly #addresses = new Failures();
  readonly #names = new Failures();

  constructor(ticks: () => number) {
    this.#ticks = ticks;
  }

  count(settings: ThrottleSettings, address: string, claimed: string | null): number {
    const nowMs = this.#ticks();
    const cap = capOf(settings);
    const byAddress = this.#addresses.add(address, cap, nowMs);
    const byName = claimed === null ? 0 : this.#names.add(claimed, cap, nowMs);
    return delayOf(settings, Math.max(byAddress, byName));
  }
}

/**
 * Answers to bad credentials come late once there are many, by address and by the name that was claimed. Nothing is
 * ever locked: a credential that proves itself does not come here, whoever else failed from the same place.
 */
export class SlowDenials {
  readonly #failures: CountsFailures;
  readonly #delayed: (listener: string) => void;
  /** Answers that are held, and the address each is held for. */
  readonly #held = new Map<() => void, string>();
  readonly #heldFor = new Map<string, number>();
  #released = false;

  constructor(init: SlowDenialsInit) {
    this.#failures = init.failures ?? new FailureCounts(() => init.clock.ticks());
    this.#delayed = (listener) => {
      init.delayed(listener);
    };
  }

  /** How many answers are held at present. */
  get held(): number {
    return this.#held.size;
  }

  /** Calls `send`, now or later; not at all when the client goes first, which then is recorded as what it was. */
  answer(exchange: Exchange, refusal: Refused, send: () => void): void {
    const { throttle, name: listener } = exchange.listener;
    const { attempt } = refusal;
    if (throttle === null || attempt === null || DENIALS[refusal.reason].status !== 401) {
      send();
      return;
    }
    const address = addressGroup(refusal.client ?? exchange.peer);
    const delayMs = this.#failures.count(throttle, `${listener} ${address}`, attempt.claimed);
    if (delayMs instanceof Promise) this.#answerLate(exchange, refusal, address, delayMs, send);
    else this.#answerAfter(exchange, refusal, address, delayMs, send);
  }

  /** Another process counts them. */
  #answerLate(exchange: Exchange, refusal: Refused, address: string, counted: Promise<number>, send: () => void): void {
    let gone = false;
    exchange.answer.onClose = () => {
      gone = true;
      exchange.denied(refusal.reason, () => undefined);
    };
    void counted.then((delayMs) => {
      if (gone || exchange.finished) return;
      exchange.answer.onClose = null;
      this.#answerAfter(exchange, refusal, address, delayMs, send);
    });
  }

  #answerAfter(exchange: Exchange, refusal: Refused, address: string, delayMs: number, send: () => void): void {
    const { name: listener } = exchange.listener;
    if (delayMs === 0 || this.#released) {
      send();
      return;
    }
    const heldForOne = this.#heldFor.get(address) ?? 0;
    if (this.#held.size >= MOST_HELD || heldForOne >= MOST_HELD_FOR_ONE) {
      // Whoever asks this often at once is not slowed by waiting, but a new connection costs it something.
      exchange.answer.closeAfterwards();
      send();
      return;
    }
    this.#delayed(listener);
    this.#hold(exchange, refusal, address, delayMs, send);
  }

  /** Sends what is held at once, and holds nothing more: the process is on its way out. */
  release(): void {
    this.#released = true;
    for (const sendNow of [...this.#held.keys()]) sendNow();
  }

  #hold(exchange: Exchange, refusal: Refused, address: string, delayMs: number, send: () => void): void {
    const forget = (): void => {
      clearTimeout(timer);
      this.#held.delete(sendNow);
      const others = (this.#heldFor.get(address) ?? 1) - 1;
      if (others === 0) this.#heldFor.delete(address);
      else this.#heldFor.set(address, others);
    };
    const sendNow = (): void => {
      forget();
      exchange.answer.onClose = null;
      send();
    };
    const timer = setTimeout(sendNow, delayMs);
    this.#held.set(sendNow, address);
    this.#heldFor.set(address, (this.#heldFor.get(address) ?? 0) + 1);
    exchange.answer.onClose = () => {
      forget();
      // Whoever leaves before the answer has failed all the same, and the log must say so.
      exchange.denied(refusal.reason, () => undefined);
    };
  }
}
