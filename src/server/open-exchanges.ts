import type { DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';
import type { Permit } from '../gate/authorize.js';
import type { Again } from '../gate/decide-again.js';
import type { Caller } from '../identity/caller.js';
import type { Identity } from '../identity/identity.js';
import type { HttpListener } from '../policy/policy.js';

/** Together with the half second for which a store's word may be old, within the second that is promised. */
const SWEEP_MS = 400;
/** Decided again in one turn of the loop; each costs what deciding a request does. */
const AT_ONCE = 200;

/** Instead of a place in the list. */
const GONE = -1;

/** What was permitted, and whose it is now. */
interface Open {
  readonly exchange: Exchange;
  /** Where it stands in the list. */
  at: number;
  /** It can end by itself. */
  watched: boolean;
  readonly permit: Permit;
  readonly caller: Caller;
  listener: HttpListener;
  identity: Identity | null;
}

/** A policy that came later decides what is underway. */
export interface LaterPolicy {
  decide(permit: Permit, caller: Caller, nowMs: number): Again | Promise<Again>;
  /** How long requests go on that it would refuse, and that are no streams. */
  readonly graceMs: number;
  /** Deciding broke: a bug of ours. */
  broke(error: unknown, exchange: Exchange): void;
}

/**
 * Exchanges that are underway. Those of identities that can end are asked about again every SWEEP_MS, and cut when their
 * credential is void; without any there is no timer. When a policy is exchanged, all are decided again: streams that it
 * refuses are cut at once, other requests when they have had `graceMs` to come to their end.
 */
export class OpenExchanges {
  readonly #ended: (identity: Identity, nowMs: number) => DenialReason | null;
  /**
   * A plain list, whose last fills the gap where one leaves. A Map that each request enters and leaves is made anew every
   * some dozens of them, and the tables it leaves behind point to what they held and to each other: once one of them is in
   * the old space, every request follows it there.
   */
  readonly #all: Open[] = [];
  /** How many of them can end by themselves. */
  #watched = 0;
  /** Refused since a policy was exchanged, and not cut yet; by when they are, in monotonic milliseconds. */
  readonly #leaving = new Map<Open, number>();
  #later: LaterPolicy | null = null;
  #generation = 0;
  #timer: NodeJS.Timeout | null = null;

  /** @param ended as `Provers.ended` */
  constructor(ended: (identity: Identity, nowMs: number) => DenialReason | null) {
    this.#ended = ended;
  }

  get size(): number {
    return this.#watched;
  }

  /** To be given with `add`: by the policy of which generation it was decided. */
  get generation(): number {
    return this.#generation;
  }

  /** Why the identity is void by now; null: it is not. */
  endedBy(identity: Identity, nowMs: number): DenialReason | null {
    return this.#ended(identity, nowMs);
  }

  /** Watches an exchange that was permitted, until it ends. */
  add(exchange: Exchange, permit: Permit, caller: Caller, generation: number): void {
    const open: Open = {
      exchange,
      at: this.#all.length,
      watched: false,
      permit,
      caller,
      listener: exchange.listener,
      identity: permit.identity,
    };
    this.#all.push(open);
    exchange.whenFinished(() => {
      this.#leave(open);
    });
    this.#watch(open);
    // It waited for a password or a body while the policy was exchanged.
    if (generation !== this.#generation && this.#later !== null) void this.#decideAgain([open], this.#later);
  }

  /** Another policy is in force. Resolves, when all were decided again, to how many of them it refuses. */
  async policyExchanged(later: LaterPolicy): Promise<number> {
    this.#later = later;
    this.#generation += 1;
    this.#leaving.clear();
    return await this.#decideAgain([...this.#all], later);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    for (const open of this.#all) open.at = GONE;
    this.#all.length = 0;
    this.#watched = 0;
    this.#leaving.clear();
  }

  /** Ends everything: there is no more time. */
  cutAll(reason: FailureReason): void {
    for (const { exchange } of [...this.#all]) exchange.cut(reason);
  }

  #leave(open: Open): void {
    const { at } = open;
    if (at === GONE) return;
    open.at = GONE;
    const last = this.#all.pop();
    if (last !== undefined && last !== open) {
      this.#all[at] = last;
      last.at = at;
    }
    if (open.watched) this.#watched -= 1;
    if (this.#leaving.size > 0) this.#leaving.delete(open);
  }

  async #decideAgain(all: readonly Open[], later: LaterPolicy): Promise<number> {
    let refused = 0;
    for (let i = 0; i < all.length; i += AT_ONCE) {
      // Others want to be served, too.
      if (i > 0) await new Promise((resolve) => setImmediate(resolve));
      const settled = all.slice(i, i + AT_ONCE).map(async (open) => {
        if (open.at === GONE) return;
        try {
          const said = await later.decide(open.permit, open.caller, Date.now());
          // Yet another one has come, which decides all of them.
          if (this.#later !== later) return;
          if (!said.allow) refused += 1;
          this.#settle(open, said, later);
        } catch (error) {
          later.broke(error, open.exchange);
          open.exchange.cut('sidecar_error');
        }
      });
      await Promise.all(settled);
    }
    return refused;
  }

  #settle(open: Open, said: Again, later: LaterPolicy): void {
    const { exchange } = open;
    if (open.at === GONE || exchange.finished) return;
    if (said.allow) {
      open.listener = said.listener;
      open.identity = said.identity;
      this.#watch(open);
      return;
    }
    const reason = isAboutWho(said.reason) ? 'credential_ended' : 'access_withdrawn';
    if (exchange.stream !== 'none') {
      exchange.cut(reason);
      return;
    }
    this.#leaving.set(open, performance.now() + later.graceMs);
    this.#startTimer();
  }

  #watch(open: Open): void {
    const { identity } = open;
    const ends =
      identity !== null && (identity.revocables.length > 0 || identity.expiresAtMs !== Number.POSITIVE_INFINITY);
    if (open.watched !== ends) {
      open.watched = ends;
      this.#watched += ends ? 1 : -1;
    }
    if (ends) this.#startTimer();
  }

  #startTimer(): void {
    if (this.#timer !== null) return;
    this.#timer = setInterval(() => {
      this.#sweep(Date.now());
    }, SWEEP_MS);
    this.#timer.unref();
  }

  #sweep(nowMs: number): void {
    // One identity may have many streams, and a cut one leaves the list.
    for (const open of this.#watched === 0 ? [] : [...this.#all]) {
      if (!open.watched || open.identity === null) continue;
      const reason = this.#ended(open.identity, nowMs);
      if (reason === null) continue;
      if (reason === 'credential_expired' && !open.listener.streamsEndAtExpiry) continue;
      open.exchange.cut('credential_ended');
    }
    const ticks = performance.now();
    for (const [{ exchange }, untilTicks] of [...this.#leaving]) {
      // What has become a stream since is one.
      if (exchange.stream !== 'none' || ticks >= untilTicks) exchange.cut('access_withdrawn');
    }
    if (this.#watched + this.#leaving.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** The credential is no longer good, rather than what it may be used for. */
function isAboutWho(reason: DenialReason): boolean {
  return reason.startsWith('credential_');
}
