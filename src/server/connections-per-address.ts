import type { Caller } from '../identity/caller.js';
import { addressGroup } from '../net/address-group.js';
import type { Listener } from '../policy/policy.js';

/** Nobody is counted: there is no limit, or not for this peer. */
const UNCOUNTED = '';

/**
 * Connections that are open at once from one address, counted at the socket, before TLS costs anything. Behind a proxy
 * all clients come from its address, so trusted ones are exempt. As many entries as there are addresses connected.
 */
export class ConnectionsPerAddress {
  /** Another one after a reload; what is open was counted all the same. */
  listener: Listener;
  readonly #open = new Map<string, number>();

  constructor(listener: Listener) {
    this.listener = listener;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Null: there are too many. What is returned is given back when the connection is closed. */
  take(peer: Pick<Caller, 'address' | 'text'>): string | null {
    const { limits } = this.listener;
    if (limits.connectionsPerAddress === null) return UNCOUNTED;
    if (this.listener.type !== 'redirect' && this.listener.trustedProxies.has(peer.address)) return UNCOUNTED;
    const place = addressGroup(peer.text);
    const open = this.#open.get(place) ?? 0;
    if (open >= limits.connectionsPerAddress) return null;
    this.#open.set(place, open + 1);
    return place;
  }

  giveBack(place: string): void {
    if (place === UNCOUNTED) return;
    const open = this.#open.get(place) ?? 0;
    if (open > 1) this.#open.set(place, open - 1);
    else this.#open.delete(place);
  }
}
