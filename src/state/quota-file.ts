import * as path from 'node:path';
import type { WindowState } from './limit-counters.js';
import { parseLine } from './journal.js';
import { readStateFile, replaceStateFile } from './state-directory.js';
import { StateError, type Tell } from './store.js';

const FILE = 'quotas.ndjson';
const LARGEST_FILE = 256 * 1024 * 1024;
const LONGEST_KEY = 1024;
/** From a change to the write; with the write itself within the second that is promised. */
const WRITE_AFTER_MS = 400;
const RETRY_AFTER_MS = 1000;

/**
 * The quotas' counts on the disk: one JSON line for each quota, the whole file written anew, atomically, soon after a
 * change. What was counted in the last second before a crash is lost.
 */
export class QuotaFile {
  readonly #file: string;
  readonly #tell: Tell;
  readonly #gather: () => readonly WindowState[];
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> | null = null;
  #changed = false;
  #failing = false;
  #closed = false;

  /** @param gather the counts as they are */
  constructor(dir: string, tell: Tell, gather: () => readonly WindowState[]) {
    this.#file = path.join(dir, FILE);
    this.#tell = tell;
    this.#gather = gather;
  }

  /**
   * What was kept. A line that is none of ours is dropped, and that is said: its quota begins anew.
   * @throws StateError when the file can't be read
   */
  async read(): Promise<WindowState[]> {
    const bytes = await readStateFile(this.#file, LARGEST_FILE);
    if (bytes === null) return [];
    const kept: WindowState[] = [];
    let broken = 0;
    for (const line of bytes.toString('utf8').split('\n')) {
      if (line === '') continue;
      const state = fromLine(line);
      if (state === null) broken += 1;
      else kept.push(state);
    }
    if (broken > 0) {
      this.#tell({
        store: 'embedded',
        level: 'error',
        event: 'limits.quotas_damaged',
        message: `${String(broken)} ${broken === 1 ? 'line' : 'lines'} of ${this.#file} cannot be read; what they counted begins anew`,
      });
    }
    return kept;
  }

  /** Something was counted. Cheap: asked at every request. */
  changed(): void {
    this.#changed = true;
    if (this.#timer === null && this.#writing === null) this.#schedule(WRITE_AFTER_MS);
  }

  /** Writes what is not written yet, and nothing after that. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await this.#writing;
    if (this.#changed) await this.#write();
  }

  #schedule(afterMs: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#writing = this.#write().then((ok) => {
        this.#writing = null;
        if (this.#changed) this.#schedule(ok ? WRITE_AFTER_MS : RETRY_AFTER_MS);
      });
    }, afterMs);
    this.#timer.unref();
  }

  async #write(): Promise<boolean> {
    this.#changed = false;
    try {
      await replaceStateFile(
        this.#file,
        this.#gather()
          .map((state) => `${JSON.stringify({ v: 1, ...state })}\n`)
          .join(''),
      );
    } catch (error) {
      this.#changed = true;
      if (!this.#failing) {
        this.#failing = true;
        const why = error instanceof StateError ? error.message : 'unknown error';
        this.#tell({
          store: 'embedded',
          level: 'error',
          event: 'limits.quotas_unwritten',
          message: `quotas are counted, but would not survive a restart: ${why}`,
        });
      }
      return false;
    }
    if (this.#failing) {
      this.#failing = false;
      this.#tell({
        store: 'embedded',
        level: 'info',
        event: 'limits.quotas_written',
        message: 'quotas are kept in the state directory again',
      });
    }
    return true;
  }
}

function fromLine(text: string): WindowState | null {
  const line = parseLine(text);
  if (line === null) return null;
  const { v, id, perMs, startMs, counts } = line;
  if (v !== 1 || typeof id !== 'string' || !isWhole(perMs) || !isWhole(startMs) || !Array.isArray(counts)) return null;
  const read: [string, number][] = [];
  for (const entry of counts as readonly unknown[]) {
    if (!Array.isArray(entry)) return null;
    const [key, count] = entry as readonly unknown[];
    if (typeof key !== 'string' || key.length > LONGEST_KEY || !isWhole(count)) return null;
    read.push([key, count]);
  }
  return { id, perMs, startMs, counts: read };
}

function isWhole(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
