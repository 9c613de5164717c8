import * as path from 'node:path';
import { readStateFile, replaceStateFile } from '../../state/state-directory.js';
import { KEY_FOLDER } from './signing-key.js';
import type { Delivered } from './undelivered.js';

const CURSOR_FILE = 'delivered.json';

/** What a collector has taken, in a file that outlives us: `<state.dir>/audit/delivered.json`. */
export class DeliveryCursor {
  readonly #file: string;
  readonly #failed: (message: string) => void;
  #latest: Delivered | null = null;
  #keeping: Promise<void> = Promise.resolve();

  /** @param failed told why it could not be written: then what was delivered since is delivered again after a start */
  constructor(stateDir: string, failed: (message: string) => void) {
    this.#file = path.join(stateDir, KEY_FOLDER, CURSOR_FILE);
    this.#failed = failed;
  }

  /** Null: nothing was delivered, or nobody can tell any more. @throws StateError */
  async read(): Promise<Delivered | 'unreadable' | null> {
    const bytes = await readStateFile(this.#file, 4096);
    return bytes === null ? null : (parse(bytes) ?? 'unreadable');
  }

  /** The last of several counts. */
  keep(delivered: Delivered): void {
    this.#latest = delivered;
    this.#keeping = this.#keeping.then(async () => {
      if (this.#latest !== delivered) return;
      try {
        await replaceStateFile(this.#file, `${JSON.stringify(delivered)}\n`);
      } catch (error) {
        this.#failed(error instanceof Error ? error.message : 'unknown');
      }
    });
  }

  /** Resolves when it is written. */
  async kept(): Promise<void> {
    await this.#keeping;
  }
}

function parse(bytes: Buffer): Delivered | null {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    return null;
  }
  const { chain, seq, hash, at } = (value ?? {}) as Partial<Record<keyof Delivered, unknown>>;
  const { segment, offset } = (at ?? {}) as Partial<Record<keyof Delivered['at'], unknown>>;
  if (typeof chain !== 'string' || typeof hash !== 'string' || typeof segment !== 'string') return null;
  if (!isCount(seq) || !isCount(offset)) return null;
  // A name in the directory of the segments, and nowhere else.
  return path.basename(segment) === segment ? { chain, seq, hash, at: { segment, offset } } : null;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
