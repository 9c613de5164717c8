/**
 * The owner's side: it accepts connections and hands each to the worker that has fewest, keeps for all of them what there
 * is once (limits, failures, revocations, who made what, the audit trail, the log), and begins another worker where one
 * dies (decision 28).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { CountRule, SlotRule } from '../policy/limit-rules.js';
import { type Log, standardOutput } from '../observe/log.js';
import type { Figures, Workers } from '../observe/metrics.js';
import type { Listener, Policy } from '../policy/policy.js';
import type { InheritedSockets } from '../server/inherited-sockets.js';
import type { ConnectionEvents } from '../server/connection-events.js';
import type { OpenListener } from '../server/listener.js';
import { ReloadError } from '../server/reloading.js';
import { FailureCounts } from '../server/slow-denials.js';
import type { Crew, Owned, PolicyReading } from '../server/together.js';
import { countRules } from '../state/limits.js';
import { codeOf } from '../state/state-directory.js';
import { StateError } from '../state/store.js';
import { Door, type Place } from './door.js';
import { Link, LinkError, type Listening } from './link.js';
import type { Known, Passed, Taken, ToOwner, ToWorker } from './protocol.js';

const ENTRY = fileURLToPath(new URL('../cli/guardbee.js', import.meta.url));

/** A worker that has not answered by then hangs, and is ended. */
const PATIENCE_MS = 10_000;
/** Reads a policy and all that it names. */
const POLICY_PATIENCE_MS = 60_000;
/** A scrape waits no longer for figures; what comes later counts all the same. */
const FIGURES_PATIENCE_MS = 2_000;
/** So often workers tell what they have counted, and show that they are there. */
const ROUND_MS = 1_000;
/** From being told to end to being ended. */
const END_PATIENCE_MS = 8_000;
/** Deaths within this time are what is looked at. */
const DEATHS_MS = 60_000;
const LONGEST_BACKOFF_MS = 5_000;
const AUDIT_LOOK_MS = 100;
/** Connections that wait for a worker while there is none. */
const MOST_HELD = 1024;

/** The workers cannot be begun. */
export class CrewError extends Error {
  override readonly name = 'CrewError';
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

interface Held {
  readonly door: Door;
  readonly nth: number;
  readonly place: Place;
  readonly socket: Socket;
}

/** What is open there, by the number that it was passed on with. */
interface Passing extends Pick<Held, 'door' | 'place'> {
  /** While it is here still: not null, and can be had by another worker. */
  unsent: Held | null;
}

export class Workforce implements Crew {
  /** Resolves to why, when workers die as fast as they are begun. */
  readonly broken: Promise<string>;
  readonly #wanted: number;
  readonly #log: Log;
  readonly #hands = new Set<Hand>();
  readonly #failures = new FailureCounts(() => performance.now());
  /** Of the policy in force, and of the one before: what is underway began under that. */
  #rules: ReadonlyMap<string, CountRule> = new Map();
  #rulesInForce: ReadonlyMap<string, CountRule> = new Map();
  #policy: PolicyReading;
  #owned: Owned | null = null;
  #deaths: number[] = [];
  #restarts = 0;
  #numbers = 0;
  #held: Held[] = [];
  #auditTrouble: string | null = null;
  #auditTimer: NodeJS.Timeout | null = null;
  #rounds: NodeJS.Timeout | null = null;
  readonly #pauses = new Set<NodeJS.Timeout>();
  /** While a policy is being gone over to nobody begins. */
  #reloading: Promise<void> | null = null;
  #draining = false;
  #stopping = false;
  #break: (why: string) => void = () => undefined;

  constructor(wanted: number, policy: PolicyReading, log: Log) {
    this.#wanted = wanted;
    this.#policy = policy;
    this.#log = log;
    this.broken = new Promise((resolve) => {
      this.#break = resolve;
    });
  }

  get workers(): Workers {
    return { ready: this.#ready.length, wanted: this.#wanted, restarts: this.#restarts };
  }

  get #ready(): readonly Hand[] {
    return [...this.#hands].filter(({ ready }) => ready);
  }

  async start(owned: Owned, policy: Policy): Promise<void> {
    this.#owned = owned;
    this.#rules = countRules(policy);
    this.#rulesInForce = this.#rules;
    const { state, owners, audit } = owned;
    state.revocations.spread = async (revocation) => {
      await this.#tellAll((hand) => hand.link.ask('revoked', revocation, PATIENCE_MS));
    };
    owners.spread = async (thing) => {
      await this.#tellAll((hand) => hand.link.ask('made', thing, PATIENCE_MS));
    };
    if (audit !== null) {
      this.#auditTimer = setInterval(() => {
        this.#sayAuditTrouble(audit.evidence.trouble);
      }, AUDIT_LOOK_MS).unref();
      this.#auditTrouble = audit.evidence.trouble;
    }
    // One that hangs is found out though nobody asks it anything.
    this.#rounds = setInterval(() => {
      for (const hand of this.#ready) if (!hand.isAsked) void this.#gatherFrom(hand);
    }, ROUND_MS).unref();
    const begun = Array.from({ length: this.#wanted }, () => this.#begin());
    for (const taken of await Promise.all(begun)) {
      if (!taken.ok) throw new CrewError(taken.exitCode, `a worker could not be begun: ${taken.message}`);
    }
  }

  async open(listener: Listener, events: ConnectionEvents, inherited: InheritedSockets | null): Promise<OpenListener> {
    return await Door.open(listener, events, inherited, (door, nth, place, socket) => {
      this.#pass({ door, nth, place, socket });
    });
  }

  async prepare(
    policy: Policy,
    reading: PolicyReading,
  ): Promise<{ commit(): Promise<number>; abandon(): Promise<void> }> {
    let done = (): void => undefined;
    const over = new Promise<void>((resolve) => {
      done = resolve;
    });
    // Those that are being begun are waited for; others begin when this is over, with what is in force then.
    this.#reloading = over;
    await Promise.all([...this.#hands].map(({ begun }) => begun));
    const hands = this.#ready;
    const end = (): void => {
      if (this.#reloading === over) this.#reloading = null;
      done();
    };
    const abandon = async (): Promise<void> => {
      await this.#tell(hands, (hand) => hand.link.ask('abandon', null, PATIENCE_MS));
      end();
    };
    const answers = await this.#tell(hands, (hand) => hand.link.ask('prepare', reading, POLICY_PATIENCE_MS)).catch(
      (error: unknown) => {
        end();
        throw error;
      },
    );
    for (const taken of answers) {
      if (taken === null || taken.ok) continue;
      await abandon();
      const { exitCode, message } = taken;
      throw new ReloadError(exitCode, [
        { severity: 'error', code: 'worker_failed', file: policy.file, line: 0, column: 0, key: '', message },
      ]);
    }
    // What began under the policy before is counted by its rules.
    this.#rules = new Map([...countRules(policy), ...this.#rules]);
    return {
      commit: async () => {
        const rules = countRules(policy);
        this.#rules = new Map([...this.#rulesInForce, ...rules]);
        this.#rulesInForce = rules;
        this.#policy = reading;
        const known = this.#known();
        const told = this.#tell(hands, (hand) => hand.link.ask('commit', known, POLICY_PATIENCE_MS));
        end();
        let refused = 0;
        for (const count of await told) refused += count ?? 0;
        return refused;
      },
      abandon,
    };
  }

  async gather(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FIGURES_PATIENCE_MS).unref();
    });
    await Promise.race([Promise.all(this.#ready.map((hand) => this.#gatherFrom(hand))), late]);
    clearTimeout(timer);
  }

  drain(): void {
    this.#draining = true;
    for (const hand of this.#hands) hand.link.tell('drain', null);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const timer of [this.#auditTimer, this.#rounds]) if (timer !== null) clearInterval(timer);
    for (const pause of this.#pauses) clearTimeout(pause);
    for (const { socket } of this.#held.splice(0)) socket.destroy();
    await Promise.all([...this.#hands].map((hand) => hand.stop(hand.hangs ? 0 : END_PATIENCE_MS)));
  }

  async #gatherFrom(hand: Hand): Promise<void> {
    const figures = await hand.figures();
    if (figures !== null) this.#owned?.metrics.absorb(hand.number, figures);
  }

  #known(): Known {
    const owned = this.#owned;
    if (owned === null) throw new TypeError('nothing is known before the start');
    return { revocations: owned.state.revocations.embedded(Date.now()), things: owned.owners.things };
  }

  /** Begins one, and resolves when it serves or has said why it can't. */
  async #begin(): Promise<Taken> {
    let hand: Hand;
    try {
      hand = this.#spawn();
    } catch (error) {
      const why = error instanceof CrewError ? error.message : codeOf(error);
      return { ok: false, exitCode: 1, message: why };
    }
    this.#hands.add(hand);
    const { terminal, colours } = standardOutput();
    const taken = await hand.begin({
      policy: this.#policy,
      known: this.#known(),
      log: { terminal, colours },
      auditTrouble: this.#auditTrouble,
    });
    if (!taken.ok) {
      await hand.stop(0);
      return taken;
    }
    this.#log.info('worker.ready', `worker ${String(hand.number)} serves`, { 'process.pid': hand.pid });
    for (const held of this.#held.splice(0)) this.#pass(held);
    return taken;
  }

  /** @throws CrewError, or the system's error, where there can be no other process */
  #spawn(): Hand {
    return new Hand((this.#numbers += 1), {
      listening: (self) => this.#listening(self),
      died: (self, how) => {
        this.#died(self, how);
      },
      broke: (error) => {
        this.#log.error('worker.request_broke', 'what a worker asked for failed', this.#log.errorFields(error));
      },
    });
  }

  #died(hand: Hand, how: string): void {
    this.#hands.delete(hand);
    this.#owned?.metrics.forgetWorker(hand.number);
    const passed = [...hand.passed.values()];
    hand.passed.clear();
    for (const passing of passed) {
      const { door, place, unsent } = passing;
      passing.unsent = null;
      if (unsent === null) door.closed(place);
      else this.#pass(unsent);
    }
    for (const { rule, key, count } of hand.slots.values()) {
      for (let nth = 0; nth < count; nth += 1) this.#owned?.state.limits.giveBack(rule, key);
    }
    hand.slots.clear();
    if (this.#stopping || this.#draining || !hand.served) return;
    this.#lost(hand.number, how);
  }

  /** Begins another, at once or after a pause; or says that it makes no sense. */
  #lost(number: number, how: string): void {
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < DEATHS_MS), now];
    const deaths = this.#deaths.length;
    if (deaths > Math.max(5, 3 * this.#wanted)) {
      this.#break(`${String(deaths)} workers died within a minute, the last one ${how}`);
      return;
    }
    // One that was killed is replaced at once; those that die again and again are not begun in a loop.
    const pauseMs = deaths <= this.#wanted ? 0 : Math.min(LONGEST_BACKOFF_MS, 100 * 2 ** (deaths - this.#wanted));
    this.#log.error('worker.died', `worker ${String(number)} ${how}; another one is begun`, {
      'guardbee.pause_ms': pauseMs,
    });
    void this.#owned?.audit?.evidence.note('worker_died', { worker: number }, { result: 'failed' });
    const pause = setTimeout(() => {
      this.#pauses.delete(pause);
      void this.#replace();
    }, pauseMs);
    this.#pauses.add(pause);
  }

  async #replace(): Promise<void> {
    while (this.#reloading !== null) await this.#reloading;
    if (this.#isEnding()) return;
    this.#restarts += 1;
    const taken = await this.#begin();
    if (!taken.ok && !this.#isEnding()) this.#lost(this.#numbers, `could not be begun: ${taken.message}`);
  }

  #isEnding(): boolean {
    return this.#stopping || this.#draining;
  }

  #pass(held: Held): void {
    let least: Hand | null = null;
    for (const hand of this.#hands) {
      if (hand.ready && (least === null || isBefore(hand, least))) least = hand;
    }
    if (least !== null) {
      least.pass(held);
      return;
    }
    if (this.#held.length < MOST_HELD && !this.#isEnding()) {
      this.#held.push(held);
      return;
    }
    held.socket.destroy();
    held.door.closed(held.place);
  }

  /** To all, those included that are just beginning: what they are told comes after what they begin with. */
  async #tellAll<T>(tell: (hand: Hand) => Promise<T>): Promise<void> {
    await this.#tell([...this.#hands], tell);
  }

  /** Null where the worker went before it answered. One that does not answer is ended. */
  async #tell<T>(hands: readonly Hand[], tell: (hand: Hand) => Promise<T>): Promise<(T | null)[]> {
    return await Promise.all(
      hands.map(async (hand) => {
        try {
          return await tell(hand);
        } catch (error) {
          if (!(error instanceof LinkError)) throw error;
          hand.kill();
          return null;
        }
      }),
    );
  }

  #sayAuditTrouble(trouble: string | null): void {
    if (trouble === this.#auditTrouble) return;
    this.#auditTrouble = trouble;
    for (const hand of this.#hands) hand.link.tell('audit', trouble);
  }

  #listening(hand: Hand): Listening<ToOwner> {
    const owned = this.#owned;
    if (owned === null) throw new TypeError('nobody is asked before the start');
    const { state, owners, audit, metrics } = owned;
    return {
      count: ({ rules: ids, counted, nowMs }) => {
        const rules = ids.map((id) => {
          const rule = this.#rules.get(id);
          if (rule === undefined) throw new TypeError('there is no such rule');
          return rule;
        });
        const told = (count: Awaited<ReturnType<typeof state.limits.count>>): ReturnType<ToOwner['count']> => ({
          ...count,
          refusedBy: count.refusedBy === null ? null : rules.indexOf(count.refusedBy),
        });
        const count = state.limits.count(rules, counted, nowMs);
        return count instanceof Promise ? count.then(told) : told(count);
      },
      take: ({ rule, key }) => {
        const taken = state.limits.take(rule, key);
        if (taken) hand.took(rule, key);
        return taken;
      },
      giveBack: ({ rule, key }) => {
        if (hand.gaveBack(rule, key)) state.limits.giveBack(rule, key);
        return null;
      },
      failed: ({ settings, address, claimed }) => this.#failures.count(settings, address, claimed),
      revoke: async (of) => {
        try {
          await state.revocations.revoke(of, Date.now());
          return null;
        } catch (error) {
          if (error instanceof StateError) return error.message;
          throw error;
        }
      },
      make: async ({ upstream, id, who, settings, route }) => {
        await owners.remember(upstream, id, who, settings, route);
        return null;
      },
      record: async (entry) => {
        if (audit === null) return false;
        const written = await audit.evidence.relay(entry, true);
        // Whoever is told that it could not be written has heard why, and so have the others.
        this.#sayAuditTrouble(audit.evidence.trouble);
        return written;
      },
      note: (entry) => {
        // Nobody waits for it.
        void audit?.evidence.relay(entry, false);
        return null;
      },
      closed: (number) => {
        const passing = hand.passed.get(number);
        hand.passed.delete(number);
        passing?.door.closed(passing.place);
        return null;
      },
      log: (lines) => {
        this.#log.passOn(lines);
        return null;
      },
      figures: (figures) => {
        metrics.absorb(hand.number, figures);
        return null;
      },
    };
  }
}

/** Those that hang come last: they answer again, or are ended. */
function isBefore(hand: Hand, other: Hand): boolean {
  return hand.hangs === other.hangs ? hand.passed.size < other.passed.size : other.hangs;
}

interface HandInit {
  listening(hand: Hand): Listening<ToOwner>;
  died(hand: Hand, how: string): void;
  broke(error: unknown): void;
}

/** One worker, as the owner has it. */
class Hand {
  readonly number: number;
  readonly link: Link<ToWorker, ToOwner>;
  /** It was ready once. */
  served = false;
  /** Connections that are open there. */
  readonly passed = new Map<number, Passing>();
  /** What it has taken of limits of how much at once. */
  readonly slots = new Map<string, { readonly rule: SlotRule; readonly key: string; count: number }>();
  /** Resolves when it serves, or can't. */
  begun: Promise<unknown> = Promise.resolve();
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;
  #alive = true;
  /** When it was asked for what it has not told yet; the first one first. */
  readonly #asked: number[] = [];
  #numbers = 0;

  constructor(number: number, init: HandInit) {
    this.number = number;
    // Its lines and all else that it has to say come through the pair of sockets; what Node says of its end, to stderr.
    this.#child = spawn(process.execPath, [...process.execArgv, ENTRY, 'worker'], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc', 'pipe'],
    });
    // Then it has no streams either; the system's error is told in a later turn.
    if (this.#child.pid === undefined) {
      this.#child.once('error', () => undefined);
      throw new CrewError(1, 'the system has no room for another process');
    }
    const died = (how: string): void => {
      if (!this.#alive) return;
      this.#alive = false;
      this.link.close();
      init.died(this, how);
    };
    this.link = new Link(this.#child.stdio[4] as Duplex, init.listening(this), {
      // It is of no use to anybody any more.
      closed: () => {
        this.kill();
      },
      late: () => {
        this.kill();
      },
      broke: (error) => {
        init.broke(error);
      },
    });
    this.#gone = new Promise((resolve) => {
      this.#child.on('error', () => {
        // Or it could not be ended just now: of its end `close` tells.
        if (this.served) return;
        died('could not be begun');
        resolve();
      });
      // Not `exit`: what it has written is read first.
      this.#child.once('close', (code, signal) => {
        died(signal === null ? `ended with code ${String(code)}` : `was ended by ${signal}`);
        resolve();
      });
    });
  }

  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  get ready(): boolean {
    return this.served && this.#alive;
  }

  async begin(with_: Parameters<ToWorker['start']>[0]): Promise<Taken> {
    const begun = this.link.ask('start', with_, POLICY_PATIENCE_MS).catch((error: unknown): Taken => {
      if (!(error instanceof LinkError)) throw error;
      return { ok: false, exitCode: 1, message: error.message };
    });
    this.begun = begun;
    const taken = await begun;
    if (taken.ok) this.served = true;
    return taken;
  }

  pass({ door, nth, place, socket }: Held): void {
    const number = (this.#numbers += 1);
    const passing: Passing = { door, place, unsent: { door, nth, place, socket } };
    this.passed.set(number, passing);
    const said: Passed = { number, door: door.name, nth };
    // Its server would ask the worker of it each time that somebody closes or counts; we are told ourselves.
    Reflect.set(socket, 'server', null);
    // Node sends one when the one before has come there, and when the worker goes forgets what waits for that, and what it
    // has sent: neither would ever be closed. So ours stays ours; what is on its way has the system's own reference.
    this.#child.send(said, socket, { keepOpen: true }, (error) => {
      // The worker went before, and another one has it.
      if (passing.unsent === null) return;
      passing.unsent = null;
      socket.destroy();
      if (error !== null && this.passed.delete(number)) door.closed(place);
    });
  }

  /** It has been asked for a while for what it can tell at once. */
  get hangs(): boolean {
    const [first] = this.#asked;
    return first !== undefined && performance.now() - first > FIGURES_PATIENCE_MS;
  }

  /** It has not answered yet. */
  get isAsked(): boolean {
    return this.#asked.length > 0;
  }

  /** What it has counted until now. Null: it is gone, or will be. */
  async figures(): Promise<Figures | null> {
    this.#asked.push(performance.now());
    try {
      return await this.link.ask('figures', null, PATIENCE_MS);
    } catch (error) {
      if (!(error instanceof LinkError)) throw error;
      return null;
    } finally {
      this.#asked.shift();
    }
  }

  took(rule: SlotRule, key: string): void {
    const name = `${rule.id}\n${key}`;
    const slot = this.slots.get(name);
    if (slot === undefined) this.slots.set(name, { rule, key, count: 1 });
    else slot.count += 1;
  }

  /** False: it has none. */
  gaveBack(rule: SlotRule, key: string): boolean {
    const name = `${rule.id}\n${key}`;
    const slot = this.slots.get(name);
    if (slot === undefined) return false;
    slot.count -= 1;
    if (slot.count === 0) this.slots.delete(name);
    return true;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Resolves when it is gone. */
  async stop(patienceMs: number): Promise<void> {
    this.link.tell('stop', null);
    const timer = setTimeout(() => {
      this.kill();
    }, patienceMs);
    await this.#gone;
    clearTimeout(timer);
  }
}
