/** The files of a trail: one after the other, named by their first record and their day. */
import { lstat, readdir, rename } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';

/** The socket that says whose the directory is. */
export const WRITER_SOCKET = 'writer.sock';

const SEGMENT = /^(\d{12})-(\d{4}-\d{2}-\d{2})\.ndjson$/;

export interface SegmentName {
  readonly file: string;
  /** Sequence number of its first record. */
  readonly first: number;
  /** `YYYY-MM-DD`, in UTC. */
  readonly day: string;
}

export function segmentName(first: number, day: string): string {
  return `${String(first).padStart(12, '0')}-${day}.ndjson`;
}

/** Null: this is no segment. */
export function parseSegmentName(file: string): SegmentName | null {
  const found = SEGMENT.exec(file);
  if (found === null) return null;
  return { file, first: Number(found[1]), day: found[2] ?? '' };
}

/** In their order. @throws StateError */
export async function listSegments(dir: string): Promise<SegmentName[]> {
  let files: string[];
  try {
    files = await readdir(dir);
  } catch (error) {
    throw new StateError(`the audit directory ${dir} cannot be read: ${why(error)}`);
  }
  const segments = files.flatMap((file) => parseSegmentName(file) ?? []);
  return segments.sort((a, b) => a.first - b.first);
}

const MOST_KEPT = 1000;

/**
 * Renames what has a segment's name and is none of ours, and says what it is called now. Whatever it is: nothing is
 * opened, nothing followed, nothing lost. @throws the system's error
 */
export async function moveAside(dir: string, file: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const kept = keptName(file, number);
    const taken = await lstat(path.join(dir, kept)).then(
      () => true,
      (error: unknown) => {
        if (codeOf(error) === 'ENOENT') return false;
        throw error;
      },
    );
    if (taken && number < MOST_KEPT) continue;
    await rename(path.join(dir, file), path.join(dir, kept));
    return kept;
  }
}

/** Whether that is where something went that had the segment's name, or was in it. */
export function isKeptOf(file: string, name: string): boolean {
  return name.startsWith(`${file}.torn`) && /^(?:-\d+)?$/.test(name.slice(file.length + '.torn'.length));
}

/** Where bytes go that are no records. @param number from 1 */
export function keptName(file: string, number: number): string {
  return number === 1 ? `${file}.torn` : `${file}.torn-${String(number)}`;
}
