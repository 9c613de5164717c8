/**
 * Remembers what was computed of the texts that come again and again (user agents, hosts, paths). Two generations: when
 * the young one is full it becomes the old one and the old one is forgotten, so that a look-up costs one or two hash
 * probes and no list is kept in order.
 */
export class BoundedCache {
  readonly #size: number;
  readonly #compute: (text: string) => string;
  #young = new Map<string, string>();
  #old = new Map<string, string>();

  /** @param size entries in one generation; twice as many are held at most. */
  constructor(size: number, compute: (text: string) => string) {
    this.#size = size;
    this.#compute = compute;
  }

  get(text: string): string {
    const young = this.#young.get(text);
    if (young !== undefined) return young;
    const value = this.#old.get(text) ?? this.#compute(text);
    // What held a secret is not kept: a copy in memory is a copy too many.
    if (value.includes('[redacted')) return value;
    if (this.#young.size >= this.#size) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(text, value);
    return value;
  }

  clear(): void {
    this.#young = new Map();
    this.#old = new Map();
  }
}
