import { Worker } from 'node:worker_threads';
import type { PasswordQuestion } from '../identity/basic.js';
import { FairQueue } from '../identity/fair-queue.js';

/** Questions that may wait; more is more than a minute's work at any cost that is worth having. */
export const MOST_WAITING = 256;
/** bcrypt at cost 15 takes seconds; a thread that takes this long will never answer. */
const LONGEST_MS = 60_000;

interface Waiting {
  readonly question: PasswordQuestion;
  readonly answer: (matches: boolean | null) => void;
}

export interface PasswordThreadEvents {
  /** The thread died, or did not answer; the next question gets a new one. */
  died(error: unknown): void;
}

/**
 * Asks bcrypt on a thread of its own, one question at a time. The thread starts with the first question, is replaced
 * when it dies, and keeps the process alive only while somebody waits.
 */
export class PasswordThread {
  readonly #queue = new FairQueue<Waiting>(MOST_WAITING);
  readonly #events: PasswordThreadEvents;
  #worker: Worker | null = null;
  #current: Waiting | null = null;
  #late: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(events: PasswordThreadEvents) {
    this.#events = events;
  }

  /** Null where it cannot be found out: too many are waiting, the thread died over it, or all is ending. */
  readonly check = (question: PasswordQuestion): Promise<boolean | null> => {
    if (this.#stopped) return Promise.resolve(null);
    return new Promise((answer) => {
      this.#queue.push(question.address, question.name, { question, answer })?.answer(null);
      this.#next();
    });
  };

  /** Ends the thread; whoever waits is told that nothing was found out. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const worker = this.#worker;
    this.#worker = null;
    this.#settle(null);
    for (const waiting of this.#queue.drain()) waiting.answer(null);
    await worker?.terminate();
  }

  #next(): void {
    if (this.#current !== null || this.#stopped) return;
    const next = this.#queue.shift();
    if (next === null) return;
    this.#current = next;
    const worker = this.#worker ?? this.#start();
    worker.ref();
    this.#late = setTimeout(() => {
      this.#lost(worker, new Error('no answer in time'));
    }, LONGEST_MS);
    const { password, hash } = next.question;
    worker.postMessage({ password, hash });
  }

  #start(): Worker {
    // Nothing of the process is its business: no environment, no options, a small heap.
    const worker = new Worker(new URL('./password-worker.js', import.meta.url), {
      env: {},
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 16 },
    });
    this.#worker = worker;
    worker.on('message', (matches: unknown) => {
      if (worker !== this.#worker) return;
      this.#settle(matches === true);
      this.#next();
    });
    worker.on('error', (error) => {
      this.#lost(worker, error);
    });
    worker.on('exit', (code) => {
      this.#lost(worker, new Error(`the thread ended with code ${String(code)}`));
    });
    return worker;
  }

  /** One question is lost with each thread, so a thread that never lives is not started for ever. */
  #lost(worker: Worker, error: unknown): void {
    if (worker !== this.#worker) return;
    this.#worker = null;
    void worker.terminate();
    this.#events.died(error);
    this.#settle(null);
    this.#next();
  }

  #settle(matches: boolean | null): void {
    clearTimeout(this.#late);
    // Idle, it keeps nobody alive.
    this.#worker?.unref();
    const current = this.#current;
    this.#current = null;
    current?.answer(matches);
  }
}
