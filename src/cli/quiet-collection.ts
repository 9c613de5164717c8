/** Memory that a busy time has left behind goes back to the system in the quiet after it (decision 33). */
import module from 'node:module';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const LOOK_EVERY_MS = 5_000;
/** Share of the time since the last look: below it nobody notices a pause. */
const QUIET = 0.05;
/** What the heap has to have grown by since the last collection, or to hold unused after it, to be worth another. */
const WORTH_BYTES = 8_000_000;
/** Of more than this a collection takes longer than a stream should have to wait. */
const MOST_USED_BYTES = 192 * 1024 * 1024;
/** The first one after a busy time may find too much happening still to make the heap smaller (Node 20). */
const COLLECTIONS = 2;
/** A collection may take a thousandth of the time at most. */
const REST_PER_PAUSE = 1_000;

/** What a collection is decided by, and the collection itself. */
export interface Heap {
  /** @returns what the heap has taken from the system, and what of it is in use or not yet known to be free; bytes */
  size(): { readonly taken: number; readonly used: number };
  /** @returns the share of the time since it was last asked in which the process had something to do: 0 to 1 */
  busy(): number;
  /** Collects all that nobody holds, at once. @param code also what was compiled: whatever is called again is compiled again */
  collect(code: boolean): void;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
}

/**
 * V8 collects when memory is asked for. Whoever stops asking keeps what he has: a guardbee that was busy once stayed at its
 * peak for good, and an idle one at what its start took.
 */
export class QuietCollection {
  readonly #heap: Heap;
  /** The least that the heap has had since the last collection: what is swept is given back later. Nothing was, so far. */
  #least = 0;
  #left = 0;
  #restUntil = 0;
  /** Most of what is compiled before the first quiet has only the start called. Later it is what requests call. */
  #started = false;

  constructor(heap: Heap) {
    this.#heap = heap;
  }

  /** To be called again and again: what is quiet is what was quiet since the last time. */
  look(): void {
    const heap = this.#heap;
    const busy = heap.busy();
    const { taken, used } = heap.size();
    this.#least = Math.min(this.#least, taken);
    if (taken - this.#least >= WORTH_BYTES) this.#left = COLLECTIONS;
    const began = heap.now();
    if (this.#left === 0 || used > MOST_USED_BYTES || busy > QUIET || began < this.#restUntil) return;
    // After a collection what is not used is known: where there is little of it, it has done all there is to do.
    if (this.#left < COLLECTIONS && taken - used < WORTH_BYTES) {
      this.#left = 0;
      return;
    }
    heap.collect(!this.#started);
    this.#started = true;
    this.#left -= 1;
    const ended = heap.now();
    this.#restUntil = ended + (ended - began) * REST_PER_PAUSE;
    this.#least = heap.size().taken;
    // The collection itself is no work of this process's.
    heap.busy();
  }
}

/**
 * From now on, for as long as the process has something else to live for.
 *
 * @returns ends it
 */
export function collectWhenQuiet(): () => void {
  let last = performance.eventLoopUtilization();
  const collection = new QuietCollection({
    size: () => {
      const { total_heap_size: taken, used_heap_size: used } = getHeapStatistics();
      return { taken, used };
    },
    busy: () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, last);
      last = now;
      return utilization;
    },
    collect,
    now: () => performance.now(),
  });
  const looking = setInterval(() => {
    collection.look();
  }, LOOK_EVERY_MS).unref();
  return () => {
    clearInterval(looking);
  };
}

/**
 * Also what V8 keeps for the next time somebody asks for memory, in two collections. Node 20 takes any options of `gc` to mean the
 * young alone.
 */
const EVERYTHING =
  Number.parseInt(process.versions.node) < 22 ? '' : `{ type: 'major', execution: 'sync', flavor: 'last-resort' }`;

/**
 * By V8's own `gc`. It is a global of contexts that are made while the flag is set: of one that goes with its collection, and of no
 * other. The inspector has one as well, but a session that was once open keeps the process from ending.
 */
function collect(code: boolean): void {
  // What Node keeps for the next start it takes from what is compiled when it is asked to, which would else be at the end.
  if (code) keepCompiled();
  const flags = code ? ['expose-gc', 'stress-flush-code'] : ['expose-gc'];
  for (const flag of flags) setFlagsFromString(`--${flag}`);
  try {
    runInNewContext(`globalThis.gc?.(${code ? EVERYTHING : ''})`);
  } finally {
    for (const flag of flags) setFlagsFromString(`--no-${flag}`);
  }
}

/** Node 22.10 and newer; does nothing where nothing is kept (decision 23). */
function keepCompiled(): void {
  const { flushCompileCache } = module as { readonly flushCompileCache?: () => void };
  flushCompileCache?.();
}
