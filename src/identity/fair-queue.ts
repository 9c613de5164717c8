/** Those who wait, by address and then by name. */
type Lanes<T> = Map<string, Map<string, T[]>>;

/**
 * A bounded queue that takes turns: among addresses, and among the names that one address claims. Whoever floods it
 * waits for itself; whoever comes once waits for one turn of the others.
 */
export class FairQueue<T> {
  readonly #lanes: Lanes<T> = new Map();
  readonly #capacity: number;
  #size = 0;

  /** @param capacity how many may wait at once */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Puts one at the end of its lane. When the queue is full, the longest lane loses its newest, which may be the one that
   * has just come: a flood pays for its own length. Returns the one that was lost, or null.
   */
  push(address: string, name: string, item: T): T | null {
    const names = getOrMake(this.#lanes, address, () => new Map<string, T[]>());
    getOrMake(names, name, () => []).push(item);
    this.#size += 1;
    return this.#size > this.#capacity ? this.#dropNewestOfLongest() : null;
  }

  /** The one whose turn it is. Its address and name then wait for all others'. */
  shift(): T | null {
    const [address] = this.#lanes.keys();
    const names = address === undefined ? undefined : this.#lanes.get(address);
    const [name] = names?.keys() ?? [];
    const items = name === undefined ? undefined : names?.get(name);
    const item = items?.shift();
    if (address === undefined || names === undefined || name === undefined || items === undefined || item === undefined)
      return null;
    this.#size -= 1;
    // To the end of the turn: maps keep the order of insertion.
    names.delete(name);
    if (items.length > 0) names.set(name, items);
    this.#lanes.delete(address);
    if (names.size > 0) this.#lanes.set(address, names);
    return item;
  }

  /** Takes out all. */
  drain(): T[] {
    const all = [...this.#lanes.values()].flatMap((names) => [...names.values()].flat());
    this.#lanes.clear();
    this.#size = 0;
    return all;
  }

  #dropNewestOfLongest(): T | null {
    let longest: { address: string; names: Map<string, T[]>; length: number } | null = null;
    for (const [address, names] of this.#lanes) {
      let length = 0;
      for (const items of names.values()) length += items.length;
      // The later one where two are equal: whoever came first stays.
      if (longest === null || length >= longest.length) longest = { address, names, length };
    }
    if (longest === null) return null;
    let lane: { name: string; items: T[] } | null = null;
    for (const [name, items] of longest.names) {
      if (lane === null || items.length >= lane.items.length) lane = { name, items };
    }
    const dropped = lane?.items.pop();
    if (lane === null || dropped === undefined) return null;
    this.#size -= 1;
    if (lane.items.length === 0) longest.names.delete(lane.name);
    if (longest.names.size === 0) this.#lanes.delete(longest.address);
    return dropped;
  }
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
