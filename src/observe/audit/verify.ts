/** Reads an audit trail from its first record to its last, and says what does not fit. */
import type { KeyObject } from 'node:crypto';
import { type Dirent, existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { isHeld } from '../../state/held-socket.js';
import { why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import {
  ChainCheck,
  type Finding,
  type NoteKind,
  type ProblemKind,
  type Reading,
  type SeenHead,
  type Signed,
  readingOf,
} from './chain-check.js';
import { LineFile } from './line-file.js';
import type { AuditRecord } from './record.js';
import { WRITER_SOCKET, listSegments, parseSegmentName } from './segments.js';
import { PUBLIC_KEY_FILE } from './signing-key.js';

/** A directory with all that there is, or files of it that were copied elsewhere. */
export type Trail =
  { readonly kind: 'dir'; readonly dir: string } | { readonly kind: 'files'; readonly files: readonly string[] };

export interface VerifyOptions {
  /** By the id that checkpoints call them. Null: signatures are not checked. */
  readonly keys: ReadonlyMap<string, KeyObject> | null;
  readonly heads?: readonly SeenHead[];
  /** After how many records guardbee signs. */
  readonly checkpointRecords?: number;
  /** Each record of the chain that is one by itself, in the order of the lines. */
  readonly onRecord?: (record: AuditRecord) => void;
  /** After each piece that was read. */
  readonly pause?: (bytesRead: number, bytesTotal: number) => Promise<void> | void;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly chain: string | null;
  readonly segments: number;
  readonly records: number;
  readonly bytes: number;
  readonly first: { readonly seq: number; readonly time: string } | null;
  readonly last: { readonly seq: number; readonly time: string; readonly hash: string } | null;
  /** The last checkpoint whose signature was found good (or was not checked). */
  readonly signed: Signed | null;
  readonly unsigned: number;
  /** Whether somebody writes it just now. */
  readonly live: boolean;
  readonly problems: readonly Finding<ProblemKind>[];
  readonly problemCount: number;
  readonly notes: readonly Finding<NoteKind>[];
}

/** The most that a policy may ask for. */
const MOST_CHECKPOINT_RECORDS = 1_000_000;
const MOST_BEGINNINGS = 5;

/** @throws StateError where something cannot be read, or there is nothing */
export async function verifyTrail(trail: Trail, options: VerifyOptions): Promise<VerifyReport> {
  for (let attempt = 1; ; attempt += 1) {
    const report = await verifyOnce(trail, options);
    if (report !== null) return report;
    if (options.onRecord !== undefined || attempt === MOST_BEGINNINGS) {
      throw new StateError('segments are being removed while they are read; try again');
    }
  }
}

interface SegmentFile {
  readonly path: string;
  readonly reading: Reading;
}

/** Null: a segment was removed meanwhile. */
async function verifyOnce(trail: Trail, options: VerifyOptions): Promise<VerifyReport | null> {
  const { onRecord } = options;
  const check = new ChainCheck({
    keys: options.keys,
    heads: options.heads ?? [],
    whole: trail.kind === 'dir',
    // What waits in memory while a checkpoint is written comes after it.
    mostUnsigned: 2 * (options.checkpointRecords ?? MOST_CHECKPOINT_RECORDS) + 10_000,
  });
  if (trail.kind === 'dir') await lookForStrangers(trail.dir, check);
  const files = await segmentsOf(trail);
  if (files.length === 0 && (options.heads ?? []).length === 0) {
    throw new StateError(`there is no segment of an audit trail in ${trail.kind === 'dir' ? trail.dir : 'that'}`);
  }
  const total = await sizeOf(files);
  let bytes = 0;
  let live = false;
  for (let index = 0; index < files.length; index += 1) {
    const segment = files[index];
    if (segment === undefined) break;
    const file = await LineFile.open(segment.path);
    if (file === null) {
      if (trail.kind === 'dir' && !existsSync(segment.path)) return null;
      throw new StateError(`${segment.path} cannot be read: ENOENT`);
    }
    try {
      check.beginSegment(segment.reading);
      const visit = (line: Buffer | null, number: number): void => {
        // What the check has taken is a record, and need not be looked at again.
        if (check.take(line, number) && line !== null) onRecord?.(JSON.parse(line.toString('utf8')) as AuditRecord);
      };
      const read = async (): Promise<void> => {
        await file.read(visit, () => options.pause?.(bytes + file.position, total));
      };
      await read();
      let isNewest = index === files.length - 1;
      if (isNewest && trail.kind === 'dir') {
        const since = await segmentsAfter(trail.dir, segment);
        if (since.length === 0) {
          live = await isWritten(trail.dir);
        } else {
          files.push(...since);
          isNewest = false;
        }
        // Whatever the writer added before it left this segment, or ended.
        await read();
      }
      if (file.isTorn) {
        if (isNewest && live) {
          check.notes.add(
            'being_written',
            'the last line is just being written',
            segment.reading.label,
            file.lines + 1,
          );
        } else {
          check.torn(file.lines + 1, isNewest);
        }
      } else if (file.lines === 0 && !(isNewest && live)) {
        check.problems.add('segment_empty', 'the segment is empty', segment.reading.label);
      }
      bytes += file.position;
    } finally {
      await file.close();
    }
  }
  check.finish(live);
  const { last } = check;
  return {
    ok: check.problems.total === 0,
    chain: check.chain,
    segments: files.length,
    records: check.records,
    bytes,
    first: check.first === null ? null : { seq: check.first.seq, time: check.first.time },
    last: last === null ? null : { seq: last.seq, time: last.time, hash: last.hash },
    signed: check.signed,
    unsigned: check.unsigned,
    live,
    problems: check.problems.list,
    problemCount: check.problems.total,
    notes: check.notes.list,
  };
}

async function segmentsOf(trail: Trail): Promise<SegmentFile[]> {
  if (trail.kind === 'dir') {
    return (await listSegments(trail.dir)).map(({ file }) => inDirectory(trail.dir, file));
  }
  const files = trail.files.map((file) => ({ path: file, reading: readingOf(file, path.basename(file)) }));
  // Copies keep their names, and a shell puts *.ndjson in an order of its own.
  if (files.some(({ reading }) => reading.name === null)) return files;
  return files.sort((a, b) => (a.reading.name?.first ?? 0) - (b.reading.name?.first ?? 0));
}

function inDirectory(dir: string, file: string): SegmentFile {
  return { path: path.join(dir, file), reading: readingOf(file, file) };
}

async function segmentsAfter(dir: string, { reading }: SegmentFile): Promise<SegmentFile[]> {
  const after = reading.name?.first ?? 0;
  return (await listSegments(dir)).filter(({ first }) => first > after).map(({ file }) => inDirectory(dir, file));
}

async function sizeOf(files: readonly SegmentFile[]): Promise<number> {
  let total = 0;
  for (const file of files) total += (await stat(file.path).catch(() => null))?.size ?? 0;
  return total;
}

/** What else guardbee leaves in the directory; the second names are those of moments. */
const KNOWN = [
  /^\d{12}-\d{4}-\d{2}-\d{2}\.ndjson\.torn(?:-\d+)?$/,
  new RegExp(String.raw`^${PUBLIC_KEY_FILE.replaceAll('.', String.raw`\.`)}(?:\.[0-9a-f]{12}\.tmp)?$`),
  new RegExp(String.raw`^${WRITER_SOCKET.replaceAll('.', String.raw`\.`)}(?:\.[0-9a-f]{12})?$`),
  // Of the file system itself.
  /^lost\+found$/,
];

async function lookForStrangers(dir: string, check: ChainCheck): Promise<void> {
  let entries: Dirent[];
  try {
    entries = await readdir(dir, { withFileTypes: true });
  } catch (error) {
    throw new StateError(`the audit directory ${dir} cannot be read: ${why(error)}`);
  }
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (parseSegmentName(entry.name) === null) {
      if (KNOWN.some((name) => name.test(entry.name))) continue;
      check.problems.add('stranger', 'no segment, and nothing that guardbee has put there', entry.name);
    } else if (!entry.isFile()) {
      check.problems.add('stranger', 'named as a segment, and no file', entry.name);
    }
  }
}

async function isWritten(dir: string): Promise<boolean> {
  try {
    return await isHeld(dir, WRITER_SOCKET);
  } catch {
    // Whoever may not ask gets the answer that hides nothing.
    return false;
  }
}
