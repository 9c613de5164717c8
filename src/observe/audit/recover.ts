import { createHash } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, syncDirectory, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { type AuditRecord, readRecord } from './record.js';
import { type SegmentName, listSegments } from './segments.js';

/** Where a chain was left. */
export interface Found {
  /** The last record that is good. */
  readonly last: AuditRecord;
  readonly segment: SegmentName;
  /** Length of the segment up to the end of that record. */
  readonly bytes: number;
  /** What followed, each in a file of its own now. */
  readonly torn: readonly Torn[];
}

/** Bytes after the last good record: a line that was being written, or what a dying disk made of some. */
export interface Torn {
  /** Name of the file that they are kept in. */
  readonly kept: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** A good record is found in so many bytes, or the file is not what we wrote. */
const TAIL = 1024 * 1024;

/**
 * Finds the end of the chain, and leaves a file there that a record can follow. What stands after the last good record is
 * kept beside it: it is evidence too. Null: there is no chain. @throws StateError
 */
export async function recover(dir: string): Promise<Found | null> {
  const segments = await listSegments(dir);
  const torn: Torn[] = [];
  for (const segment of segments.reverse()) {
    const end = await endOf(dir, segment);
    if (end.after > 0) torn.push(await setAside(dir, segment, end.length, end.after));
    if (end.last !== null) return { last: end.last, segment, bytes: end.length, torn };
    // Nothing is left in it, and the next segment may want its name.
    await unlink(path.join(dir, segment.file)).catch((error: unknown) => {
      throw new StateError(`the empty ${path.join(dir, segment.file)} cannot be removed: ${why(error)}`);
    });
  }
  if (torn.length > 0) {
    throw new StateError(
      `no segment of the audit trail in ${dir} ends with a good record; move them away, and a new chain begins`,
    );
  }
  return null;
}

interface End {
  readonly last: AuditRecord | null;
  /** Bytes that are good lines, as far as the tail tells. */
  readonly length: number;
  /** Bytes after them. */
  readonly after: number;
}

async function endOf(dir: string, { file }: SegmentName): Promise<End> {
  const name = path.join(dir, file);
  let handle: FileHandle | null = null;
  try {
    handle = await open(name, 'r');
    const { size } = await handle.stat();
    const from = Math.max(0, size - TAIL);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from);
    const tail = buffer.subarray(0, bytesRead);
    for (let end = tail.lastIndexOf(0x0a); end >= 0;) {
      const start = end === 0 ? 0 : tail.lastIndexOf(0x0a, end - 1) + 1;
      const read = readRecord(tail.subarray(start, end));
      if (read.ok) return { last: read.record, length: from + end + 1, after: size - (from + end + 1) };
      end = start - 1;
    }
    if (from > 0) {
      throw new StateError(
        `${name} ends with ${TAIL / 1024 / 1024} MiB that are no records; move it away, and verify what is left`,
      );
    }
    return { last: null, length: 0, after: size };
  } catch (error) {
    throw error instanceof StateError ? error : new StateError(`${name} cannot be read: ${why(error)}`);
  } finally {
    await handle?.close();
  }
}

/** Kept and on the disk before the segment is cut. */
async function setAside(dir: string, { file }: SegmentName, length: number, after: number): Promise<Torn> {
  const name = path.join(dir, file);
  const bytes = Buffer.alloc(after);
  try {
    const handle = await open(name, 'r+');
    try {
      await handle.read(bytes, 0, after, length);
      const kept = await keep(dir, `${file}.torn`, bytes);
      await handle.truncate(length);
      await handle.datasync();
      await syncDirectory(dir);
      return { kept, bytes: after, sha256: createHash('sha256').update(bytes).digest('hex') };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new StateError(`the torn end of ${name} cannot be set aside: ${why(error)}`);
  }
}

async function keep(dir: string, wanted: string, bytes: Buffer): Promise<string> {
  for (let number = 1; ; number += 1) {
    const kept = number === 1 ? wanted : `${wanted}-${String(number)}`;
    try {
      const handle = await open(path.join(dir, kept), 'wx', 0o600);
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      return kept;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || number === 1000) throw error;
    }
  }
}
