import type { DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';
import type { Identity } from '../identity/identity.js';

/** Together with the half second for which a store's word may be old, within the second that is promised. */
const SWEEP_MS = 400;

/**
 * Exchanges that are underway, of identities that can end while they are: each is asked about again every SWEEP_MS, and
 * cut when its credential is void. Others cost nothing, and without any there is no timer.
 */
export class OpenExchanges {
  readonly #ended: (identity: Identity, nowMs: number) => DenialReason | null;
  readonly #open = new Map<Exchange, Identity>();
  #timer: NodeJS.Timeout | null = null;

  /** @param ended as `Provers.ended` */
  constructor(ended: (identity: Identity, nowMs: number) => DenialReason | null) {
    this.#ended = ended;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Why the identity is void by now; null: it is not. */
  endedBy(identity: Identity, nowMs: number): DenialReason | null {
    return this.#ended(identity, nowMs);
  }

  /** Watches an exchange that was permitted, until it ends. */
  add(exchange: Exchange, identity: Identity): void {
    if (identity.revocables.length === 0 && identity.expiresAtMs === Number.POSITIVE_INFINITY) return;
    this.#open.set(exchange, identity);
    exchange.whenFinished(() => {
      this.#open.delete(exchange);
    });
    if (this.#timer !== null) return;
    this.#timer = setInterval(() => {
      this.#sweep(Date.now());
    }, SWEEP_MS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#open.clear();
  }

  #sweep(nowMs: number): void {
    // One identity may have many streams, and a cut one leaves the map.
    for (const [exchange, identity] of [...this.#open]) {
      const reason = this.#ended(identity, nowMs);
      if (reason === null) continue;
      if (reason === 'credential_expired' && !exchange.listener.streamsEndAtExpiry) continue;
      exchange.cut('credential_ended');
    }
    if (this.#open.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}
