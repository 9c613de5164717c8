/** Which segments are older than they are to be kept, and how they go: so that the chain stays whole, and can say why. */
import { constants } from 'node:fs';
import { readdir, unlink } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, syncDirectory, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { type AuditRecord, LONGEST_RECORD, readRecord } from './record.js';
import { openSegment } from './recover.js';
import { type SegmentName, isKeptOf, listSegments } from './segments.js';

const DAY_MS = 86_400_000;
/** How long the clock has gone as it should before anything is removed on its word. */
export const CLOCK_PROVES_ITSELF_MS = 3_600_000;
/** By so much it may be corrected in that time. */
const CORRECTED_MS = 60_000;
/** Days without a record after which it may be the clock that has jumped, and for how long nothing is removed then. */
const JUMP_MS = 7 * DAY_MS;

/** Whether the clock on the wall has gone as the monotonic one has, for long enough. */
export class ClockWatch {
  readonly #now: () => number;
  readonly #ticks: () => number;
  #sinceTicks: number;
  #offset: number;

  constructor(now: () => number, ticks: () => number) {
    this.#now = now;
    this.#ticks = ticks;
    this.#sinceTicks = ticks();
    this.#offset = now() - this.#sinceTicks;
  }

  get isSteady(): boolean {
    const ticks = this.#ticks();
    const offset = this.#now() - ticks;
    if (Math.abs(offset - this.#offset) > CORRECTED_MS) {
      this.#offset = offset;
      this.#sinceTicks = ticks;
    }
    return ticks - this.#sinceTicks >= CLOCK_PROVES_ITSELF_MS;
  }
}

/**
 * Whether days were left out a short while ago: the machine was off, or its clock has jumped ahead. Which of the two it
 * was is known when nobody has set it right for a week.
 */
export function hasJumped(segments: readonly SegmentName[], nowMs: number): boolean {
  // What is written next belongs to this day.
  const began = [...segments.map(({ day }) => Date.parse(day)), nowMs];
  return began.some((beganMs, index) => {
    const before = began[index - 1];
    return before !== undefined && beganMs - before > JUMP_MS && Math.abs(nowMs - beganMs) < JUMP_MS;
  });
}

/** Segments that are to go, all from the first one on. */
export interface Expired {
  readonly segments: readonly SegmentName[];
  /** The last record in them. */
  readonly last: AuditRecord;
}

/** Null: none is old enough. @throws StateError */
export async function findExpired(dir: string, keepMs: number, nowMs: number): Promise<Expired | null> {
  const all = await listSegments(dir);
  if (hasJumped(all, nowMs)) return null;
  const segments: SegmentName[] = [];
  let last: AuditRecord | null = null;
  for (const [index, segment] of all.entries()) {
    const next = all[index + 1];
    // The one that is written stays, however old it is.
    if (next === undefined) break;
    // Segments are named by their first day: no need to look into those that began late enough.
    if (nowMs - Date.parse(segment.day) < keepMs) break;
    const record = await lastRecord(dir, segment);
    // What does not fit is for somebody to look at, and not to be removed.
    if (record?.seq !== next.first - 1 || nowMs - Date.parse(record.time) < keepMs) break;
    segments.push(segment);
    last = record;
  }
  return last === null ? null : { segments, last };
}

/** The oldest first, so that what is left is whole whenever it ends. @throws StateError */
export async function removeSegments(dir: string, segments: readonly SegmentName[]): Promise<void> {
  try {
    const files = await readdir(dir);
    for (const { file } of segments) {
      for (const kept of files.filter((name) => isKeptOf(file, name))) await unlink(path.join(dir, kept));
      await unlink(path.join(dir, file)).catch((error: unknown) => {
        if (codeOf(error) !== 'ENOENT') throw error;
      });
    }
    await syncDirectory(dir);
  } catch (error) {
    throw new StateError(`old segments in ${dir} cannot be removed: ${why(error)}`);
  }
}

/** Null: it does not end with a record. */
async function lastRecord(dir: string, { file }: SegmentName): Promise<AuditRecord | null> {
  const name = path.join(dir, file);
  try {
    const handle = await openSegment(name, constants.O_RDONLY);
    try {
      const { size } = await handle.stat();
      const length = Math.min(size, LONGEST_RECORD + 1);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
      const tail = buffer.subarray(0, bytesRead);
      if (tail.at(-1) !== 0x0a) return null;
      const read = readRecord(tail.subarray(tail.lastIndexOf(0x0a, tail.length - 2) + 1, -1));
      return read.ok ? read.record : null;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw error instanceof StateError ? error : new StateError(`${name} cannot be read: ${why(error)}`);
  }
}
