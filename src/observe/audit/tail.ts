/** The end of a trail, and what is added to it. */
import { StateError } from '../../state/store.js';
import * as path from 'node:path';
import { LineFile } from './line-file.js';
import { LONGEST_RECORD } from './record.js';
import { type SegmentName, listSegments } from './segments.js';

/** Gets each line without its end, good until the call returns; null: longer than any record. */
export type TailVisitor = (line: Buffer | null) => void;

const LOOK_EVERY_MS = 200;

export class TrailTail {
  readonly #dir: string;
  /** The newest segment, read up to its end. */
  #newest: { readonly name: SegmentName; readonly file: LineFile } | null = null;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** The last lines that are wanted, oldest first. @throws StateError */
  async last(most: number, wanted: (line: Buffer) => boolean, areAllWanted: boolean): Promise<Buffer[]> {
    let kept: Buffer[] = [];
    const segments = await listSegments(this.#dir);
    for (const name of segments.reverse()) {
      const missing = most - kept.length;
      if (missing === 0 && this.#newest !== null) break;
      // Where every line is wanted, the last of them are within so many bytes.
      const file = await LineFile.open(
        path.join(this.#dir, name.file),
        areAllWanted ? (missing + 1) * LONGEST_RECORD : Infinity,
      );
      // It was removed meanwhile, and all before it.
      if (file === null) break;
      const ring: Buffer[] = [];
      await file.read((line) => {
        if (missing === 0 || line === null || !wanted(line)) return;
        ring.push(Buffer.from(line));
        if (ring.length > 2 * missing) ring.splice(0, ring.length - missing);
      });
      kept = [...ring.slice(-missing), ...kept];
      if (this.#newest === null) this.#newest = { name, file };
      else await file.close();
    }
    return missingNone(kept, most);
  }

  /** Reads on until the signal. @throws StateError */
  async follow(visit: TailVisitor, signal: AbortSignal, pause: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      const after = this.#newest?.name.first ?? 0;
      const next = (await listSegments(this.#dir)).find(({ first }) => first > after);
      await this.#newest?.file.followCut();
      // Whatever was added to this segment before the next one was there.
      await this.#newest?.file.read(visit, pause);
      await pause();
      if (next === undefined) {
        await idle(signal);
        continue;
      }
      const file = await LineFile.open(path.join(this.#dir, next.file));
      if (file === null) continue;
      await this.#newest?.file.close();
      this.#newest = { name: next, file };
    }
  }

  async close(): Promise<void> {
    await this.#newest?.file.close();
    this.#newest = null;
  }
}

function missingNone(lines: Buffer[], most: number): Buffer[] {
  return most === 0 ? [] : lines.slice(-most);
}

async function idle(signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, LOOK_EVERY_MS);
    signal.addEventListener('abort', end);
  });
}

/** @throws StateError where there is no trail */
export async function mustHaveSegments(dir: string): Promise<void> {
  if ((await listSegments(dir)).length === 0) throw new StateError(`there is no segment of an audit trail in ${dir}`);
}
