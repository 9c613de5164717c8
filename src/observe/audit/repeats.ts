import type { Entry } from './record.js';

/** For so long one record stands for all that are alike. */
const WINDOW_MS = 10_000;
const MOST_KINDS = 1_000;

/**
 * What strangers can cause without ever asking anything (connections that are refused, handshakes that fail) is recorded
 * when it happens first, and then once in a while with its number: a trail must not be filled from outside.
 */
export class Repeats {
  readonly #record: (entry: Entry) => void;
  readonly #counts = new Map<string, { readonly entry: Entry; count: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor(record: (entry: Entry) => void) {
    this.#record = record;
    this.#timer = setInterval(() => {
      this.flush();
    }, WINDOW_MS);
    this.#timer.unref();
  }

  /** @param alike those with the same text stand for each other, whatever their addresses */
  add(alike: string, address: string, entry: Entry): void {
    const kind =
      this.#counts.has(`${alike} ${address}`) || this.#counts.size < MOST_KINDS ? `${alike} ${address}` : alike;
    const known = this.#counts.get(kind);
    if (known !== undefined) {
      known.count += 1;
      return;
    }
    this.#counts.set(kind, {
      entry: kind === alike ? { ...entry, client: undefined, peer: undefined } : entry,
      count: 0,
    });
    this.#record(entry);
  }

  /** Records the numbers, and begins anew. */
  flush(): void {
    for (const { entry, count } of this.#counts.values()) if (count > 0) this.#record({ ...entry, count });
    this.#counts.clear();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.flush();
  }
}
