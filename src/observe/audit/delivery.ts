import { randomInt } from 'node:crypto';
import type { DeliverySettings } from '../../policy/policy.js';
import { StateError } from '../../state/store.js';
import { COLLECTOR_FAULTS, Collector, type CollectorFault } from './collector.js';
import { DeliveryCursor } from './delivery-cursor.js';
import { type Line, Undelivered, hashOf } from './undelivered.js';

/** `unread`: the fault is with the segments. */
export type DeliveryFault = CollectorFault | 'unread';
export const DELIVERY_FAULTS: readonly DeliveryFault[] = Object.freeze([
  // `Object.keys` forgets that it has no others.
  ...(Object.keys(COLLECTOR_FAULTS) as CollectorFault[]),
  'unread' as const,
]);

/** Why a collector is not given a record. `refused`: it did not want it, and took the ones around it. */
export const PASSED_OVER = ['removed', 'damaged', 'refused'] as const;

/** Records that the collector was not given. */
export interface Undeliverable {
  readonly from: number;
  readonly through: number;
  readonly reason: (typeof PASSED_OVER)[number];
}

export interface DeliveryNotices {
  /** Said at first, when the fault is another, and every ten minutes. @param behind how many records wait */
  failing(fault: DeliveryFault, behind: number): void;
  recovered(): void;
  undeliverable(records: Undeliverable): void;
  /** Everything is delivered again, for what was delivered is not known, or not what is here. */
  again(why: 'cursor_unreadable' | 'another_chain' | 'another_record'): void;
  /** What was delivered cannot be written down. */
  unkept(message: string): void;
}

export interface DeliveryTimings {
  /** From the look-up of the name to the end of the answer. */
  readonly requestMs: number;
  /** The first pause after a failure; each further one is twice as long. */
  readonly pauseMs: number;
  /** The first pause where somebody must mend something. */
  readonly mendMs: number;
  readonly longestMs: number;
  /** How long whoever waits for the collector is made to wait. */
  readonly patienceMs: number;
  /** At the end. */
  readonly lastMs: number;
  readonly sayAgainMs: number;
}

const TIMINGS: DeliveryTimings = {
  requestMs: 30_000,
  pauseMs: 1_000,
  mendMs: 60_000,
  longestMs: 300_000,
  patienceMs: 5_000,
  lastMs: 2_000,
  sayAgainMs: 600_000,
};
/** Where requests wait, each pause is an outage. */
const WAITED_FOR: Partial<DeliveryTimings> = { requestMs: 10_000, mendMs: 5_000, longestMs: 10_000 };

/** So many records in a row that are refused one by one say that it is not the records. */
const MOST_REFUSED = 8;
/** After so many batches a collector that wanted smaller ones is tried with larger ones. */
const TRY_LARGER_AFTER = 64;

export interface DeliveryInit {
  readonly settings: DeliverySettings;
  /** Of the segments. */
  readonly dir: string;
  readonly stateDir: string;
  readonly chain: string;
  /** The last record that is on the disk; asked again and again. */
  readonly synced: () => number;
  readonly notices: DeliveryNotices;
  readonly timings?: Partial<DeliveryTimings>;
}

export interface DeliveryFigures {
  /** Taken by the collector since the start. */
  readonly delivered: number;
  readonly behindRecords: number;
  readonly behindBytes: number;
  /** Since the start, by fault. */
  readonly failures: ReadonlyMap<DeliveryFault, number>;
  /** Since the start, by reason. */
  readonly undeliverable: ReadonlyMap<Undeliverable['reason'], number>;
}

interface Waiter {
  readonly seq: number;
  readonly resolve: (taken: boolean) => void;
}

/**
 * Gives a trail to a collector, from its segments, in order, one batch at a time: a batch is sent until it is taken, so
 * that a collector, a network or a guardbee that dies costs repetitions and no record. What was taken is written down
 * after each batch.
 */
export class Delivery {
  readonly #init: DeliveryInit;
  readonly #settings: DeliverySettings;
  readonly #timings: DeliveryTimings;
  #collector: Collector;
  /** Has a batch underway. */
  #sending: Collector | null = null;
  readonly #cursor: DeliveryCursor;
  readonly #source: Undelivered;
  /** False until it is known where to go on. */
  #begun = false;
  /** Read and not taken yet, in order. */
  #window: Line[] = [];
  /** Refused one by one, from the oldest record that is not taken. */
  #refused: Line[] = [];
  #taken = 0;
  #behindBytes = 0;
  /** There was more to read than was read. */
  #more = false;
  #mostRecords: number;
  #ceiling: number;
  #batches = 0;
  #urgent = 0;
  #running: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #wake: (() => void) | null = null;
  #closing = false;
  #stopped = false;
  /** Since the last batch that was taken. */
  #failuresInARow = 0;
  #fault: DeliveryFault | null = null;
  #said: { readonly fault: DeliveryFault; readonly at: number } | null = null;
  #delivered = 0;
  readonly #failures = new Map<DeliveryFault, number>();
  readonly #undeliverable = new Map<Undeliverable['reason'], number>();
  #waiters: Waiter[] = [];
  #patience: NodeJS.Timeout | null = null;
  #impatient = false;

  constructor(init: DeliveryInit) {
    const { settings } = init;
    this.#init = init;
    this.#settings = settings;
    this.#timings = { ...TIMINGS, ...(settings.wait ? WAITED_FOR : {}), ...init.timings };
    this.#collector = new Collector(settings, this.#timings.requestMs);
    this.#cursor = new DeliveryCursor(init.stateDir, (message) => {
      init.notices.unkept(message);
    });
    this.#source = new Undelivered(init.dir);
    this.#mostRecords = settings.batchRecords;
    this.#ceiling = settings.batchRecords;
  }

  /** Begins where it was left. Nothing waits for it. */
  start(): void {
    this.#go();
  }

  /** More is on the disk. */
  synced(bytes: number): void {
    this.#behindBytes += bytes;
    this.#schedule();
  }

  /** The collector has everything up to this record, or never will: what retention may ask. */
  deliveredThrough(): number {
    return this.#taken;
  }

  /** Shows and believes what these settings say from the next batch on; all else of them is as it was. */
  exchangeCredentials(settings: DeliverySettings): void {
    if (this.#stopped) return;
    const old = this.#collector;
    this.#collector = new Collector(settings, this.#timings.requestMs);
    if (old !== this.#sending) old.close();
    // What was not taken may be now.
    this.#failuresInARow = 0;
    this.#wake?.();
  }

  /** Records that the collector has not. */
  get behind(): number {
    return Math.max(0, this.#init.synced() - this.#taken);
  }

  /** Why nothing is taken at present; null: it is, as far as is known. */
  get fault(): DeliveryFault | null {
    return this.#fault;
  }

  /** Somebody waited for the collector in vain, and nothing was taken since. */
  get impatient(): boolean {
    return this.#impatient;
  }

  get figures(): DeliveryFigures {
    return {
      delivered: this.#delivered,
      behindRecords: this.behind,
      behindBytes: this.#behindBytes,
      failures: this.#failures,
      undeliverable: this.#undeliverable,
    };
  }

  /** Somebody is going to wait for it: no batch waits to become full. */
  hurry(seq: number): void {
    this.#urgent = Math.max(this.#urgent, seq);
    this.#schedule();
  }

  /** Whether the collector has that record, at once or when that is known. False: it has not, and may have later. */
  acknowledged(seq: number): boolean | Promise<boolean> {
    if (seq <= this.#taken) return true;
    if (this.#impatient || this.#stopped) return false;
    this.hurry(seq);
    return new Promise((resolve) => {
      this.#waiters.push({ seq, resolve });
      this.#bePatient();
    });
  }

  /** One more attempt, for a short time. Resolves to how many records the collector has not. */
  async close(): Promise<number> {
    this.#closing = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const deadline = setTimeout(() => {
      this.#stopped = true;
      this.#sending?.close();
      this.#collector.close();
    }, this.#timings.lastMs);
    this.#wake?.();
    await this.#running;
    if (this.behind > 0 && this.#fault === null) {
      this.#go();
      await this.#running;
    }
    clearTimeout(deadline);
    this.#stopped = true;
    this.#collector.close();
    this.#giveUpWaiting();
    await this.#source.close();
    await this.#cursor.kept();
    return this.behind;
  }

  #schedule(): void {
    if (this.#running !== null || this.#closing || this.behind === 0) return;
    if (this.#isDue()) {
      this.#go();
      return;
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#go();
    }, this.#settings.batchMs);
  }

  /** Whether a batch need not wait for more. */
  #isDue(): boolean {
    return (
      this.#window.length > 0 ||
      this.#more ||
      this.#urgent > this.#taken ||
      this.behind >= this.#settings.batchRecords ||
      this.#behindBytes >= this.#settings.batchBytes
    );
  }

  #go(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      this.#schedule();
    });
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const pauseMs = await this.#step();
      if (pauseMs > 0) {
        if (this.#closing) return;
        await this.#pause(pauseMs);
        continue;
      }
      if (this.behind === 0 || !(this.#closing || this.#isDue())) return;
    }
  }

  /** One batch. Resolves to how long to wait before the next, milliseconds. */
  async #step(): Promise<number> {
    try {
      if (!this.#begun) await this.#begin();
      if (this.#window.length === 0) await this.#fill();
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      return this.#failed('unread', null);
    }
    if (this.#window.length === 0) {
      if (this.#refused.length > 0) return this.#itIsNotTheRecords();
      // What is on the disk, and in no segment, was taken away.
      return this.behind > 0 ? this.#failed('unread', null) : 0;
    }
    const lines = this.#window.slice(0, this.#mostRecords);
    const [first] = lines;
    const last = lines.at(-1);
    if (first === undefined || last === undefined) return 0;
    const hash = hashOf(last.bytes);
    const collector = this.#collector;
    this.#sending = collector;
    const answer = await collector.send({
      body: Buffer.concat(lines.map(({ bytes }) => bytes)),
      chain: this.#init.chain,
      first: first.seq,
      last: last.seq,
      hash,
    });
    this.#sending = null;
    const exchanged = collector !== this.#collector;
    if (exchanged) collector.close();
    if (answer.ok) {
      this.#took(lines, last, hash);
      return 0;
    }
    // What was said to the credentials of before is not asked of.
    if (this.#stopped || exchanged) return 0;
    if (COLLECTOR_FAULTS[answer.fault].retry !== 'smaller') return this.#failed(answer.fault, answer.retryAfterMs);
    if (lines.length > 1) {
      this.#mostRecords = Math.ceil(lines.length / 2);
      if (answer.fault === 'too_large') {
        this.#ceiling = this.#mostRecords;
        this.#batches = 0;
      }
      return 0;
    }
    return this.#refusedOne();
  }

  /** Finds where it was left. @throws StateError */
  async #begin(): Promise<void> {
    const { chain, notices } = this.#init;
    const last = await this.#cursor.read();
    const why =
      last === 'unreadable'
        ? 'cursor_unreadable'
        : last !== null && last.chain !== chain
          ? 'another_chain'
          : last !== null && !(await this.#source.continue(last))
            ? 'another_record'
            : null;
    if (why !== null) notices.again(why);
    if (last === null || why !== null) await this.#source.begin();
    this.#taken = this.#source.next - 1;
    this.#behindBytes = await this.#source.bytesLeft();
    this.#begun = true;
  }

  async #fill(): Promise<void> {
    const through = this.#init.synced();
    const { batchRecords, batchBytes } = this.#settings;
    const { lines, gaps } = await this.#source.read(through, { records: batchRecords, bytes: batchBytes });
    for (const gap of gaps) this.#isUndeliverable(gap);
    this.#window = lines;
    this.#more = lines.length > 0 && this.#source.next <= through;
    // Nothing but what is gone.
    if (lines.length === 0 && this.#refused.length === 0) this.#taken = this.#source.next - 1;
  }

  #took(lines: readonly Line[], last: Line, hash: string): void {
    this.#window.splice(0, lines.length);
    for (const { seq } of this.#refused) this.#isUndeliverable({ from: seq, through: seq, reason: 'refused' });
    const passed = [...this.#refused, ...lines].reduce((sum, { bytes }) => sum + bytes.length, 0);
    const refused = new Set(this.#refused.map(({ seq }) => seq));
    this.#refused = [];
    this.#delivered += lines.length;
    this.#taken = last.seq;
    this.#behindBytes = this.behind === 0 ? 0 : Math.max(0, this.#behindBytes - passed);
    this.#cursor.keep({ chain: this.#init.chain, seq: last.seq, hash, at: last.after });
    this.#batches += 1;
    if (this.#batches % TRY_LARGER_AFTER === 0) {
      this.#ceiling = Math.min(this.#settings.batchRecords, this.#ceiling * 2);
    }
    this.#mostRecords = Math.min(this.#ceiling, this.#mostRecords * 2);
    this.#failuresInARow = 0;
    this.#fault = null;
    this.#impatient = false;
    if (this.#said !== null) {
      this.#said = null;
      this.#init.notices.recovered();
    }
    this.#tellWaiters(refused);
  }

  /** A record by itself is not wanted. Whether that is because of the record, the next one tells. */
  #refusedOne(): number {
    this.#refused.push(...this.#window.splice(0, 1));
    return this.#refused.length < MOST_REFUSED ? 0 : this.#itIsNotTheRecords();
  }

  #itIsNotTheRecords(): number {
    this.#window.unshift(...this.#refused);
    this.#refused = [];
    return this.#failed('rejected', null);
  }

  #isUndeliverable(records: Undeliverable): void {
    const { from, through, reason } = records;
    this.#undeliverable.set(reason, (this.#undeliverable.get(reason) ?? 0) + through - from + 1);
    this.#init.notices.undeliverable(records);
  }

  #failed(fault: DeliveryFault, retryAfterMs: number | null): number {
    this.#fault = fault;
    this.#failures.set(fault, (this.#failures.get(fault) ?? 0) + 1);
    const { pauseMs, mendMs, longestMs, sayAgainMs } = this.#timings;
    const now = performance.now();
    if (this.#said?.fault !== fault || now - this.#said.at >= sayAgainMs) {
      this.#said = { fault, at: now };
      this.#init.notices.failing(fault, this.behind);
    }
    if (retryAfterMs !== null) return Math.min(longestMs, Math.max(pauseMs, retryAfterMs));
    const soon = fault !== 'unread' && COLLECTOR_FAULTS[fault].retry === 'soon';
    const longest = Math.min(longestMs, (soon ? pauseMs : mendMs) * 2 ** Math.min(16, this.#failuresInARow));
    this.#failuresInARow += 1;
    // Many guardbees of one collector do not come back at the same moment.
    return Math.ceil((longest * (500 + randomInt(501))) / 1000);
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#closing) this.#wake();
    });
    this.#wake = null;
  }

  /** Those whose record is taken; @param refused records that are passed, and were not taken */
  #tellWaiters(refused: ReadonlySet<number>): void {
    const still: Waiter[] = [];
    for (const waiter of this.#waiters) {
      if (waiter.seq <= this.#taken) waiter.resolve(!refused.has(waiter.seq));
      else still.push(waiter);
    }
    this.#waiters = still;
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
    if (still.length > 0) this.#bePatient();
  }

  #bePatient(): void {
    this.#patience ??= setTimeout(() => {
      this.#patience = null;
      if (this.#waiters.length === 0) return;
      this.#impatient = true;
      this.#giveUpWaiting();
    }, this.#timings.patienceMs);
  }

  #giveUpWaiting(): void {
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.resolve(false);
  }
}
