/** A worker's side of what the owner keeps: asked over the link, or known here because the owner tells each change. */
import type { Count, Counted, Limiter } from '../gate/limit.js';
import type { Revocable } from '../identity/identity.js';
import type { Revocations, Standing } from '../identity/revocation.js';
import type { AuditFigures } from '../observe/audit/audit-metrics.js';
import { Evidence, type Recording } from '../observe/audit/evidence.js';
import type { Entry } from '../observe/audit/record.js';
import { DurationSeries } from '../observe/duration-histogram.js';
import type { Redactor } from '../observe/redact.js';
import type { CountRule, SlotRule } from '../policy/limit-rules.js';
import type { Policy, ThrottleSettings } from '../policy/policy.js';
import type { ConnectionEvents } from '../server/connection-events.js';
import { type FedListener, feedListener } from '../server/listener.js';
import type { CountsFailures } from '../server/slow-denials.js';
import type { Kept, Served } from '../server/together.js';
import { Ownership, type OwnershipEvents } from '../state/ownership.js';
import type { Prepared } from '../state/prepared.js';
import { RevocationMemory } from '../state/revocation-memory.js';
import { type Revocation, StateError } from '../state/store.js';
import { type Link, LinkError } from './link.js';
import { type Known, type ToOwner, type ToWorker, doorOf } from './protocol.js';

export type ToTheOwner = Link<ToOwner, ToWorker>;

/** The owner answers within a turn of its loop; or it hangs, and then nothing goes on. */
const PATIENCE_MS = 10_000;
/** Until a write is on the disk, or a collector has it; the owner gives up before. */
const DISK_PATIENCE_MS = 60_000;
/** What the answer to a bad credential waits when nobody can say. */
const UNKNOWN_DELAY_MS = 1_000;

/** Rejections of the link are answers too; all others are bugs of ours. */
function otherwise<T>(answer: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof LinkError) return answer;
    throw error;
  };
}

class RemoteLimits implements Limiter {
  readonly shared = null;
  readonly #link: ToTheOwner;

  constructor(link: ToTheOwner) {
    this.#link = link;
  }

  async count(rules: readonly CountRule[], counted: Counted, nowMs: number): Promise<Count> {
    const [first] = rules;
    if (first === undefined) return { refusedBy: null, waitMs: null, balances: [] };
    const answer = await this.#link
      .ask('count', { rules: rules.map(({ id }) => id), counted, nowMs }, PATIENCE_MS)
      .catch(otherwise(null));
    // What cannot be counted is not let through.
    if (answer === null) return { refusedBy: first, waitMs: null, balances: rules.map(() => null) };
    return { ...answer, refusedBy: answer.refusedBy === null ? null : (rules[answer.refusedBy] ?? first) };
  }

  async take(rule: SlotRule, key: string): Promise<boolean> {
    const taken = this.#link.ask('take', { rule, key }, Infinity).catch(otherwise(false));
    let late = false;
    let timer: NodeJS.Timeout | null = null;
    const patience = new Promise<false>((resolve) => {
      timer = setTimeout(() => {
        late = true;
        resolve(false);
      }, PATIENCE_MS);
    });
    // What comes too late to be used is the owner's again.
    void taken.then((isTaken) => {
      if (timer !== null) clearTimeout(timer);
      if (isTaken && late) this.giveBack(rule, key);
    });
    return await Promise.race([taken, patience]);
  }

  giveBack(rule: SlotRule, key: string): void {
    this.#link.tell('giveBack', { rule, key });
  }
}

/** All that the embedded store of the owner holds. */
class KnownRevocations implements Revocations {
  readonly status = new Map();
  readonly #link: ToTheOwner;
  readonly #memory = new RevocationMemory();
  #lost = true;

  constructor(link: ToTheOwner) {
    this.#link = link;
  }

  /** What the owner holds: nothing is ever taken back. Null: the policy needs no store. */
  take(known: Known['revocations']): void {
    this.#lost = known?.lost ?? false;
    for (const revocation of known?.entries ?? []) this.#memory.add(revocation);
    this.#memory.forgetEnded(Date.now());
  }

  /** @param revocation null: what was lost stays lost */
  add(revocation: Revocation | null): void {
    if (revocation === null) this.#lost = false;
    else this.#memory.add(revocation);
  }

  standing(of: Revocable, nowMs: number): Standing {
    if (this.#memory.has(of, nowMs)) return 'revoked';
    return this.#lost ? 'unknown' : 'good';
  }

  known(of: Revocable, nowMs: number): Standing {
    return this.standing(of, nowMs);
  }

  async revoke(of: Revocable): Promise<void> {
    const unkept = await this.#link.ask('revoke', of, DISK_PATIENCE_MS).catch(otherwise('the owner does not answer'));
    if (unkept !== null) throw new StateError(unkept);
  }
}

/** Who made what, as the owner tells it. */
class KnownOwners implements NonNullable<Kept['owners']> {
  readonly #link: ToTheOwner;
  readonly #events: OwnershipEvents;
  #known: Ownership;

  constructor(link: ToTheOwner, policy: Policy, events: OwnershipEvents, things: Known['things']) {
    this.#link = link;
    this.#events = events;
    this.#known = Ownership.known(policy, events, things);
  }

  /** Another policy is in force. */
  take(policy: Policy, things: Known['things']): void {
    this.#known = Ownership.known(policy, this.#events, things);
  }

  learn(...[thing]: Parameters<Ownership['learn']>): void {
    this.#known.learn(thing);
  }

  keeps(upstream: string): boolean {
    return this.#known.keeps(upstream);
  }

  isOwner(...asked: Parameters<Ownership['isOwner']>): boolean {
    return this.#known.isOwner(...asked);
  }

  async remember(...[upstream, id, identity, settings, route]: Parameters<Ownership['remember']>): Promise<void> {
    const { authenticator, name } = identity;
    const said = { upstream, id, who: { authenticator, name }, settings, route };
    // Nobody's then, which opens nothing.
    await this.#link.ask('make', said, DISK_PATIENCE_MS).catch(otherwise(null));
  }

  unnamed(...said: Parameters<Ownership['unnamed']>): void {
    this.#known.unnamed(...said);
  }

  prepare(): Promise<Prepared> {
    return Promise.resolve({ commit: () => undefined, abandon: () => Promise.resolve() });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** The trail is the owner's: the order of its chain is the order in which records come there. */
class RemoteTrail implements Recording {
  ownTrouble: string | null;
  readonly #link: ToTheOwner;
  readonly #underway = new Map<number, Promise<boolean>>();
  #numbers = 0;

  constructor(link: ToTheOwner, trouble: string | null) {
    this.#link = link;
    this.ownTrouble = trouble;
  }

  get trouble(): string | null {
    return this.ownTrouble ?? (this.#link.congested ? 'slow' : null);
  }

  add(entry: Entry, urgent = false): number | null {
    if (!urgent && this.#link.congested) return null;
    const number = (this.#numbers += 1);
    if (urgent) this.#underway.set(number, this.#link.ask('record', entry, DISK_PATIENCE_MS).catch(otherwise(false)));
    else this.#link.tell('note', entry);
    return number;
  }

  async durable(number: number | null): Promise<boolean> {
    const written = number === null ? undefined : this.#underway.get(number);
    if (number === null || written === undefined) return false;
    this.#underway.delete(number);
    return await written;
  }
}

export interface ServedInit {
  readonly policy: Policy;
  readonly known: Known;
  readonly auditTrouble: string | null;
  readonly redactor: Redactor;
  readonly ownership: OwnershipEvents;
}

/** Everything that the owner does for this process. */
export class ServedByOwner implements Served {
  readonly state: Served['state'];
  readonly owners: KnownOwners;
  readonly audit: Served['audit'];
  readonly failures: CountsFailures;
  readonly #revocations: KnownRevocations;
  readonly #trail: RemoteTrail | null;
  /** By the names of their doors. */
  readonly #listeners = new Map<string, FedListener>();

  constructor(link: ToTheOwner, { policy, known, auditTrouble, redactor, ownership }: ServedInit) {
    const revocations = new KnownRevocations(link);
    revocations.take(known.revocations);
    this.#revocations = revocations;
    const limits = new RemoteLimits(link);
    this.state = {
      revocations,
      limits,
      // What the owner has made ready is told with the word to go over.
      prepare: () => Promise.resolve({ commit: () => undefined, abandon: () => Promise.resolve() }),
      readiness: () => [],
      close: () => Promise.resolve(),
    };
    this.owners = new KnownOwners(link, policy, ownership, known.things);
    this.failures = {
      count: async (settings: ThrottleSettings, address: string, claimed: string | null) =>
        await link.ask('failed', { settings, address, claimed }, PATIENCE_MS).catch(otherwise(UNKNOWN_DELAY_MS)),
    };
    this.#trail = policy.audit === null ? null : new RemoteTrail(link, auditTrouble);
    this.audit =
      this.#trail === null || policy.audit === null
        ? null
        : auditOf(new Evidence(this.#trail, redactor, policy.audit.onFailure));
  }

  /** What comes with the word to go over to another policy. */
  take(policy: Policy, known: Known): void {
    this.#revocations.take(known.revocations);
    this.owners.take(policy, known.things);
  }

  revoked(revocation: Revocation | null): void {
    this.#revocations.add(revocation);
  }

  set auditTrouble(trouble: string | null) {
    if (this.#trail !== null) this.#trail.ownTrouble = trouble;
  }

  open(...[listener, tls, around, events]: Parameters<typeof feedListener>): FedListener {
    const door = doorOf(listener);
    const fed = feedListener(listener, tls, around, withoutCounts(events));
    this.#listeners.set(door, fed);
    const forget = (): void => {
      if (this.#listeners.get(door) === fed) this.#listeners.delete(door);
    };
    void fed.ended.then(forget);
    return fed;
  }

  /** Null: there is no such listener any more. */
  listenerAt(door: string): FedListener | null {
    return this.#listeners.get(door) ?? null;
  }
}

/** The owner has counted a connection when it comes here. */
function withoutCounts(events: ConnectionEvents): ConnectionEvents {
  return { ...events, opened: () => undefined, closed: () => undefined };
}

function auditOf(evidence: Evidence): NonNullable<Served['audit']> {
  const figures: AuditFigures = {
    up: true,
    sequence: 0,
    waiting: 0,
    lost: 0,
    checkpointAt: null,
    records: new Map(),
    syncs: new DurationSeries(),
    delivery: null,
  };
  return {
    evidence,
    // The owner's are the ones that are shown.
    figures,
    policyExchanged: () => undefined,
    exchangeCredentials: () => undefined,
    readiness: () => {
      throw new TypeError('a worker shows no readiness');
    },
    close: () => {
      evidence.stop();
      return Promise.resolve();
    },
  };
}
