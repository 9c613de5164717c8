import type { Revocable } from '../identity/identity.js';
import type { Revocations, Standing } from '../identity/revocation.js';
import type { Policy, RevocationSettings } from '../policy/policy.js';
import type { Prepared } from './prepared.js';
import { revocationTargets } from './revocation-targets.js';
import { FileRevocations, MOST_REVOCATIONS } from './revocation-file.js';
import {
  type Revocation,
  type RevocationStore,
  StateError,
  type StoreStatus,
  type Tell,
  revocationOf,
} from './store.js';

export type StoreName = RevocationSettings['store'];

/** Which stores a policy asks for. */
export function storesNeeded(policy: Policy): ReadonlySet<StoreName> {
  const needed = new Set<StoreName>();
  for (const { settings } of revocationTargets(policy)) needed.add(settings.store);
  return needed;
}

/**
 * All revocations of a policy: each credential is asked about where its authenticator says that its revocations are
 * kept. A store that is not there answers `unknown`.
 */
export class PolicyRevocations implements Revocations {
  readonly #stores: Map<StoreName, RevocationStore>;
  /** Told of what the embedded store has taken up, before whoever asked for it is answered; null: nobody else need know. */
  spread: ((revocation: Revocation) => Promise<void>) | null = null;

  constructor(stores: ReadonlyMap<StoreName, RevocationStore>) {
    this.#stores = new Map(stores);
  }

  /**
   * Opens the stores that the policy asks for. @param which those alone; what the policy asks for when left out
   * @throws StateError when the embedded store can't be read or written
   */
  static async open(
    policy: Policy,
    nowMs: number,
    tell: Tell,
    which: ReadonlySet<StoreName> = storesNeeded(policy),
  ): Promise<PolicyRevocations> {
    return new PolicyRevocations(await PolicyRevocations.#openStores(policy, nowMs, tell, which));
  }

  static async #openStores(
    policy: Policy,
    nowMs: number,
    tell: Tell,
    which: ReadonlySet<StoreName>,
  ): Promise<ReadonlyMap<StoreName, RevocationStore>> {
    const stores = new Map<StoreName, RevocationStore>();
    try {
      if (which.has('embedded')) stores.set('embedded', await FileRevocations.open(policy.stateDir, nowMs, tell));
      if (which.has('shared') && policy.redis !== null) {
        // Its client is loaded where there is something to share: elsewhere it would cost every start some megabytes.
        const { RedisRevocations } = await import('./revocation-redis.js');
        stores.set('shared', await RedisRevocations.open(policy.redis, policy.stateDir, tell));
      }
    } catch (error) {
      for (const store of stores.values()) await store.close();
      throw error;
    }
    return stores;
  }

  /**
   * Makes ready for another policy: opens what that asks for besides, and lets go of what it needs no longer.
   *
   * @throws StateError when the embedded store can't be read or written
   */
  async prepare(policy: Policy, nowMs: number, tell: Tell): Promise<Prepared> {
    const needed = storesNeeded(policy);
    const missing = new Set([...needed].filter((name) => !this.#stores.has(name)));
    const opened = await PolicyRevocations.#openStores(policy, nowMs, tell, missing);
    return {
      commit: () => {
        for (const [name, store] of opened) this.#stores.set(name, store);
        for (const [name, store] of this.#stores) {
          if (needed.has(name)) continue;
          this.#stores.delete(name);
          void store.close();
        }
      },
      abandon: async () => {
        for (const store of opened.values()) await store.close();
      },
    };
  }

  standing(of: Revocable, nowMs: number): Standing | Promise<Standing> {
    return this.#stores.get(of.settings.store)?.standing(of, nowMs) ?? 'unknown';
  }

  known(of: Revocable, nowMs: number): Standing {
    return this.#stores.get(of.settings.store)?.known(of, nowMs) ?? 'unknown';
  }

  async revoke(of: Revocable, nowMs: number): Promise<void> {
    await this.put(revocationOf(of), of.settings, nowMs);
  }

  /** @throws StateError */
  async put(revocation: Revocation, settings: RevocationSettings, nowMs: number): Promise<void> {
    try {
      await this.#store(settings.store).put(revocation, settings, nowMs);
    } finally {
      // Also where the disk has not taken it: it holds for as long as this process lives.
      if (settings.store === 'embedded') await this.spread?.(revocation);
    }
  }

  /** What the embedded store holds, for others to hold too; null where the policy needs none. */
  embedded(nowMs: number): { readonly entries: readonly Revocation[]; readonly lost: boolean } | null {
    const store = this.#stores.get('embedded');
    if (store === undefined) return null;
    return { entries: store.list(nowMs, MOST_REVOCATIONS).entries, lost: store.status.lost };
  }

  get stores(): ReadonlyMap<StoreName, RevocationStore> {
    return this.#stores;
  }

  get status(): ReadonlyMap<StoreName, StoreStatus> {
    return new Map([...this.#stores].map(([name, store]) => [name, store.status]));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#stores.values()].map((store) => store.close()));
  }

  #store(name: StoreName): RevocationStore {
    const store = this.#stores.get(name);
    if (store === undefined) throw new StateError(`this policy has no ${name} store of revocations`);
    return store;
  }
}
