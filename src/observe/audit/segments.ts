/** The files of a trail: one after the other, named by their first record and their day. */
import { readdir } from 'node:fs/promises';
import { why } from '../../state/state-directory.js';
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
