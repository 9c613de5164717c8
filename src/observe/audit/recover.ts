import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, syncDirectory, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { type AuditRecord, readRecord } from './record.js';
import { type SegmentName, keptName, listSegments } from './segments.js';

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

/** The part of a head that says how far a chain once was. */
export interface Signed {
  readonly chain: string;
  readonly seq: number;
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
 * kept beside it: it is evidence too. Null: there is no chain.
 *
 * A disk that lost its power may have kept the end of a batch and not what was before it, so every record after
 * `signed` has to follow the one before it. What does not fit further back is no torn end: it stays as it is, for
 * `audit verify` to find.
 * @param signed the last record that was signed, so that everything up to it was on the disk; null: none is known
 * @throws StateError
 */
export async function recover(dir: string, signed: Signed | null): Promise<Found | null> {
  const segments = await listSegments(dir);
  const torn: Torn[] = [];
  for (const segment of segments.reverse()) {
    const end = await endOf(dir, segment, signed);
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

async function endOf(dir: string, { file }: SegmentName, signed: Signed | null): Promise<End> {
  const name = path.join(dir, file);
  let handle: FileHandle | null = null;
  try {
    handle = await openSegment(name, constants.O_RDONLY);
    const { size } = await handle.stat();
    const from = Math.max(0, size - TAIL);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from);
    const found = lastGood(buffer.subarray(0, bytesRead), from === 0, signed);
    if (found !== null) {
      return { last: found.record, length: from + found.end, after: size - (from + found.end) };
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

/** Never what a link leads to, and a FIFO does not hang us. @throws StateError; the system's error */
export async function openSegment(name: string, flags: number): Promise<FileHandle> {
  const handle = await open(name, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new StateError(`${name} is not a file; move it away`);
}

interface Good {
  readonly record: AuditRecord;
  /** Where its line is over. */
  readonly end: number;
}

/**
 * The last good record that nothing is missing before, as far back as `signed`.
 * @param whole the tail is all of the segment
 */
function lastGood(tail: Buffer, whole: boolean, signed: Signed | null): Good | null {
  let newest: Good | null = null;
  let last: Good | null = null;
  let follower: AuditRecord | null = null;
  // The one before it is looked at too, so that it is known to stand where it belongs.
  let before = 2;
  let sure = 0;
  for (const { bytes, end } of linesFromTheEnd(tail, whole)) {
    const read = readRecord(bytes);
    const record: AuditRecord | null = read.ok ? read.record : null;
    if (record === null) {
      // The one after it follows nothing.
      if (follower !== null) last = null;
    } else {
      if (newest === null) {
        newest = { record, end };
        if (record.chain === signed?.chain) sure = signed.seq;
        before = Math.max(before, sure);
      }
      if (follower?.prev !== record.hash) last = { record, end };
      // What was signed is not cut off, whatever became of it.
      if (record.seq < before) return last !== null && last.record.seq >= sure ? last : newest;
    }
    follower = record;
  }
  return last ?? (whole ? null : newest);
}

/** @param whole false: what stands before the first line end is the end of a line */
function* linesFromTheEnd(
  tail: Buffer,
  whole: boolean,
): Generator<{ readonly bytes: Buffer; readonly end: number }, void, void> {
  for (let end = tail.lastIndexOf(0x0a); end >= 0;) {
    const start = end === 0 ? 0 : tail.lastIndexOf(0x0a, end - 1) + 1;
    if (start === 0 && !whole) return;
    yield { bytes: tail.subarray(start, end), end: end + 1 };
    end = start - 1;
  }
}

/** Kept and on the disk before the segment is cut. */
async function setAside(dir: string, { file }: SegmentName, length: number, after: number): Promise<Torn> {
  const name = path.join(dir, file);
  const bytes = Buffer.alloc(after);
  try {
    const handle = await openSegment(name, constants.O_RDWR);
    try {
      await handle.read(bytes, 0, after, length);
      const kept = await keep(dir, file, bytes);
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

async function keep(dir: string, file: string, bytes: Buffer): Promise<string> {
  for (let number = 1; ; number += 1) {
    const kept = keptName(file, number);
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
