import * as path from 'node:path';
import type { Owners, Unnamed } from '../gate/owners.js';
import type { Identity } from '../identity/identity.js';
import type { OwnsSettings, Policy } from '../policy/policy.js';
import { Journal, parseLine } from './journal.js';
import type { Prepared } from './prepared.js';
import { ensureStateDirectory } from './state-directory.js';
import { StateError } from './store.js';

const FILE = 'ownership.ndjson';
/** The most entries of a policy with some upstreams, in the longest lines. */
const LARGEST_FILE = 512 * 1024 * 1024;
/** Lines that say nothing any more, before the file is written anew. */
const SLACK = 1000;
const RETRY_AFTER_MS = 1000;

export interface Entry {
  readonly authenticator: string;
  readonly name: string;
  readonly untilMs: number;
}

/** Whose a thing is. */
export interface Thing {
  readonly upstream: string;
  readonly id: string;
  readonly entry: Entry;
}

export interface OwnershipEvents {
  /** Epoch milliseconds. */
  now(): number;
  /** A thing was made, and nobody will know whose it is. */
  unnamed(route: string, why: Unnamed): void;
  /** It is known, but not beyond this process; or lines of the file could not be read. */
  notKept(message: string): void;
}

/** What was made behind one upstream. */
class Things {
  /** The oldest is the first. */
  readonly #byId = new Map<string, Entry>();
  /** The ids of each owner, the oldest first. */
  readonly #byOwner = new Map<string, Set<string>>();

  get size(): number {
    return this.#byId.size;
  }

  get all(): Iterable<[string, Entry]> {
    return this.#byId;
  }

  get(id: string): Entry | undefined {
    return this.#byId.get(id);
  }

  put(id: string, entry: Entry): void {
    this.#forget(id);
    this.#byId.set(id, entry);
    const owner = ownerOf(entry);
    const ids = this.#byOwner.get(owner);
    if (ids === undefined) this.#byOwner.set(owner, new Set([id]));
    else ids.add(id);
  }

  /** The oldest of whoever has most, so that nobody crowds out what others made; of several such, the oldest of all. */
  forgetOne(): void {
    let most: ReadonlySet<string> = new Set();
    for (const ids of this.#byOwner.values()) if (ids.size > most.size) most = ids;
    const [first] = this.#byId;
    const ofFirst = first === undefined ? undefined : this.#byOwner.get(ownerOf(first[1]));
    const [id] = ofFirst?.size === most.size ? ofFirst : most;
    if (id !== undefined) this.#forget(id);
  }

  #forget(id: string): void {
    const entry = this.#byId.get(id);
    if (entry === undefined) return;
    this.#byId.delete(id);
    const owner = ownerOf(entry);
    const ids = this.#byOwner.get(owner);
    ids?.delete(id);
    if (ids?.size === 0) this.#byOwner.delete(owner);
  }
}

/** The name of an authenticator has no blank. */
function ownerOf({ authenticator, name }: Entry): string {
  return `${authenticator} ${name}`;
}

/** Who made what, by upstream: in memory to be asked, and in a file so that a restart forgets nothing. */
export class Ownership implements Owners {
  readonly #events: OwnershipEvents;
  /** The most that is remembered of each upstream; others are none of this policy. */
  #most: ReadonlyMap<string, number>;
  readonly #entries = new Map<string, Things>();
  #compacting = false;
  /** Something is not in the file that should be. */
  #unkept = false;
  /** Epoch milliseconds; what failed is not tried again with every request. */
  #rewriteFromMs = 0;
  #journal: Journal | null = null;
  /** Told of what is remembered, before whoever made it is answered; null: nobody else need know. */
  spread: ((thing: Thing) => Promise<void>) | null = null;

  private constructor(policy: Policy, events: OwnershipEvents) {
    this.#events = events;
    this.#most = mostOf(policy);
    for (const upstream of this.#most.keys()) this.#entries.set(upstream, new Things());
  }

  /** Nothing is opened for a policy in which nothing is owned. @throws StateError */
  static async open(policy: Policy, events: OwnershipEvents): Promise<Ownership> {
    const made = new Ownership(policy, events);
    if (made.#most.size > 0) await made.#load(policy.stateDir);
    return made;
  }

  /**
   * Makes ready for another policy. What is known stays known, as far as there is room by it.
   *
   * @throws StateError
   */
  async prepare(policy: Policy): Promise<Prepared> {
    const loaded =
      this.#journal === null && mostOf(policy).size > 0 ? await Ownership.open(policy, this.#events) : null;
    return {
      commit: () => {
        this.#most = mostOf(policy);
        if (loaded !== null) {
          this.#journal = loaded.#journal;
          for (const [upstream, things] of loaded.#entries) this.#entries.set(upstream, things);
        }
        for (const [upstream, most] of this.#most) {
          let things = this.#entries.get(upstream);
          if (things === undefined) {
            things = new Things();
            this.#entries.set(upstream, things);
          }
          while (things.size > most) things.forgetOne();
        }
      },
      abandon: async () => {
        await loaded?.close();
      },
    };
  }

  /** What another process remembers, known here too; nothing is kept here. */
  static known(policy: Policy, events: OwnershipEvents, things: readonly Thing[]): Ownership {
    const made = new Ownership(policy, events);
    for (const thing of things) made.learn(thing);
    return made;
  }

  learn({ upstream, id, entry }: Thing): void {
    this.#put(upstream, id, entry);
  }

  /** The oldest first. */
  get things(): Thing[] {
    return [...this.#entries].flatMap(([upstream, things]) =>
      [...things.all].map(([id, entry]) => ({ upstream, id, entry })),
    );
  }

  get size(): number {
    return [...this.#entries.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Is it remembered who makes what behind this upstream. */
  keeps(upstream: string): boolean {
    return this.#most.has(upstream);
  }

  isOwner(upstream: string, id: string, identity: Identity, nowMs: number): boolean {
    const entry = this.#entries.get(upstream)?.get(id);
    return entry !== undefined && entry.untilMs > nowMs && isOf(entry, identity);
  }

  async remember(
    upstream: string,
    id: string,
    identity: Pick<Identity, 'authenticator' | 'name'>,
    settings: OwnsSettings,
    route: string,
  ): Promise<void> {
    const nowMs = this.#events.now();
    const known = this.#entries.get(upstream)?.get(id);
    // Whoever makes a service name somebody else's thing gets no hold of it.
    if (known !== undefined && known.untilMs > nowMs && !isOf(known, identity)) {
      this.#events.unnamed(route, 'of_another');
      return;
    }
    const { authenticator, name } = identity;
    const entry: Entry = { authenticator, name, untilMs: nowMs + settings.forMs };
    this.#put(upstream, id, entry);
    await this.spread?.({ upstream, id, entry });
    try {
      await this.#journal?.append(toLine(upstream, id, entry));
      if (!this.#isRewriteDue(nowMs)) return;
      await this.#compactOnce();
      this.#unkept = false;
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      this.#rewriteFromMs = nowMs + RETRY_AFTER_MS;
      // Said once, not by each of those that come while a disk is full.
      if (!this.#unkept)
        this.#events.notKept(`${error.message}; until it can, who owns what is known to this process alone`);
      this.#unkept = true;
    }
  }

  #isRewriteDue(nowMs: number): boolean {
    if (nowMs < this.#rewriteFromMs) return false;
    return this.#unkept || (this.#journal?.lines ?? 0) > 2 * this.size + SLACK;
  }

  unnamed(route: string, why: Unnamed): void {
    this.#events.unnamed(route, why);
  }

  async close(): Promise<void> {
    await this.#journal?.close();
    this.#journal = null;
  }

  #put(upstream: string, id: string, entry: Entry): void {
    const entries = this.#entries.get(upstream);
    const most = this.#most.get(upstream);
    if (entries === undefined || most === undefined) return;
    entries.put(id, entry);
    while (entries.size > most) entries.forgetOne();
  }

  async #load(dir: string): Promise<void> {
    await ensureStateDirectory(dir);
    const file = path.join(dir, FILE);
    const { journal, lines, torn } = await Journal.open(file, LARGEST_FILE, 'kernel');
    this.#journal = journal;
    const nowMs = this.#events.now();
    let broken = 0;
    for (const line of lines) {
      const read = fromLine(line);
      if (read === null) broken += 1;
      else if (read.entry.untilMs > nowMs) this.#put(read.upstream, read.id, read.entry);
    }
    // What is not known is nobody's, so that a lost line opens nothing.
    if (broken > 0)
      this.#events.notKept(`${String(broken)} lines of ${file} cannot be read; what they named is nobody's`);
    if (torn !== '')
      this.#events.notKept(`the last line of ${file} was being written when the process stopped; it is dropped`);
    if (broken > 0 || lines.length > 2 * this.size + SLACK) await this.#compact();
  }

  /** Many that come at once all see that it is due. */
  async #compactOnce(): Promise<void> {
    if (this.#compacting) return;
    this.#compacting = true;
    try {
      await this.#compact();
    } finally {
      this.#compacting = false;
    }
  }

  async #compact(): Promise<void> {
    const nowMs = this.#events.now();
    await this.#journal?.rewrite(() =>
      [...this.#entries].flatMap(([upstream, entries]) =>
        [...entries.all].flatMap(([id, entry]) => (entry.untilMs > nowMs ? [toLine(upstream, id, entry)] : [])),
      ),
    );
  }
}

function isOf(entry: Entry, { authenticator, name }: Pick<Identity, 'authenticator' | 'name'>): boolean {
  return entry.authenticator === authenticator && entry.name === name;
}

/** The most that is remembered of each upstream. */
function mostOf(policy: Policy): ReadonlyMap<string, number> {
  const most = new Map<string, number>();
  for (const { upstream, owns } of owningRoutes(policy)) {
    most.set(upstream, Math.max(most.get(upstream) ?? 0, owns.most));
  }
  return most;
}

function owningRoutes(policy: Policy): { readonly upstream: string; readonly owns: OwnsSettings }[] {
  return policy.listeners.flatMap((listener) =>
    listener.type !== 'http'
      ? []
      : listener.routes.routes.flatMap(({ upstream, owns }) =>
          owns === null || upstream === null ? [] : [{ upstream: upstream.name, owns }],
        ),
  );
}

function toLine(upstream: string, id: string, { authenticator, name, untilMs }: Entry): string {
  return JSON.stringify({ v: 1, upstream, id, by: [authenticator, name], until: untilMs });
}

function fromLine(text: string): { readonly upstream: string; readonly id: string; readonly entry: Entry } | null {
  const line = parseLine(text);
  if (line === null) return null;
  const { v, upstream, id, by, until } = line;
  if (v !== 1 || typeof upstream !== 'string' || typeof id !== 'string' || !Array.isArray(by)) return null;
  const [authenticator, name] = by as readonly unknown[];
  if (typeof authenticator !== 'string' || typeof name !== 'string' || typeof until !== 'number') return null;
  return { upstream, id, entry: { authenticator, name, untilMs: until } };
}
