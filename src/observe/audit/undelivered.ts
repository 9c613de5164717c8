import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { LONGEST_RECORD } from './record.js';
import { type SegmentName, listSegments } from './segments.js';

/** Where in the segments the next record stands. */
export interface Place {
  readonly segment: string;
  readonly offset: number;
}

/** A record as it stands in its segment. */
export interface Line {
  readonly seq: number;
  /** With its end. */
  readonly bytes: Buffer;
  /** Where the next one begins. */
  readonly after: Place;
}

/** Up to where records were given away. */
export interface Delivered {
  readonly chain: string;
  readonly seq: number;
  readonly hash: string;
  /** After that record. */
  readonly at: Place;
}

/** Records that are not in the segments any more, or cannot be read there. */
export interface Gap {
  readonly from: number;
  readonly through: number;
  readonly reason: 'removed' | 'damaged';
}

export interface Limits {
  readonly records: number;
  /** More than the longest record. */
  readonly bytes: number;
}

const CHUNK = 256 * 1024;
const LINE_END = 0x0a;

/**
 * Reads the records of a trail after a certain one, from the segments: they are where records wait until a collector has
 * taken them. Holds nothing back between two calls, as what is after the last synced record may still be taken back.
 */
export class Undelivered {
  readonly #dir: string;
  /** A byte more, for the one before. */
  readonly #buffer = Buffer.allocUnsafe(1 + CHUNK);
  #handle: FileHandle | null = null;
  #segment: SegmentName | null = null;
  #offset = 0;
  /** Sequence number of the record that is to come. */
  #next = 1;
  /** Bytes of a line that is too long are being passed over. */
  #skipping = false;
  /** The segment is read from its beginning again, up to the record that comes next. */
  #searching = false;
  /** The record that was looked for in that way last. */
  #searched = 0;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** The record that comes next. */
  get next(): number {
    return this.#next;
  }

  /** From the oldest record that there is. @throws StateError */
  async begin(): Promise<void> {
    await this.close();
    this.#next = 1;
    const [first] = await listSegments(this.#dir);
    // Nobody was promised what was removed before.
    if (first !== undefined) this.#next = first.first;
  }

  /**
   * From the record after that one on. False: it is not where its number says, or is another than was delivered.
   * @throws StateError
   */
  async continue(last: Delivered): Promise<boolean> {
    await this.close();
    const segments = await listSegments(this.#dir);
    const hinted = segments.find(({ file }) => file === last.at.segment);
    if (hinted !== undefined && (await this.#isAt(last))) {
      this.#segment = hinted;
      this.#offset = last.at.offset;
      this.#next = last.seq + 1;
      return true;
    }
    const [oldest] = segments;
    const segment = segments.filter(({ first }) => first <= last.seq).at(-1);
    if (segment === undefined) {
      // It was removed since; what comes after it is there, or missing.
      this.#next = last.seq + 1;
      return oldest !== undefined;
    }
    this.#segment = segment;
    this.#next = segment.first;
    while (this.#next <= last.seq) {
      const { lines } = await this.#read(last.seq, { records: 10_000, bytes: 4 * CHUNK }, false);
      const found = lines.at(-1);
      if (found === undefined) return false;
      if (found.seq === last.seq) return hashOf(found.bytes) === last.hash;
    }
    return false;
  }

  /** How many bytes there are from here on. @throws StateError */
  async bytesLeft(): Promise<number> {
    const segments = await listSegments(this.#dir);
    const here = this.#segment;
    let bytes = 0;
    for (const { file, first } of segments) {
      if (here !== null && first < here.first) continue;
      const size = await stat(path.join(this.#dir, file)).then((found) => found.size, gone);
      bytes += here?.file === file ? Math.max(0, size - this.#offset) : size;
    }
    return bytes;
  }

  /**
   * The next records, in their order, at least one where there is one.
   * @param through the last that may be read
   * @throws StateError
   */
  async read(through: number, limits: Limits): Promise<{ readonly lines: Line[]; readonly gaps: Gap[] }> {
    return await this.#read(through, limits, true);
  }

  async close(): Promise<void> {
    await this.#leave();
    this.#segment = null;
    this.#offset = 0;
    this.#skipping = false;
    this.#searching = false;
  }

  async #read(through: number, limits: Limits, on: boolean): Promise<{ readonly lines: Line[]; readonly gaps: Gap[] }> {
    const lines: Line[] = [];
    const gaps: Gap[] = [];
    let room = limits.bytes;
    let hasSearched = false;
    while (this.#next <= through && lines.length < limits.records) {
      if (lines.length > 0 && room < LONGEST_RECORD) break;
      const handle = await this.#open();
      const piece = handle === null ? null : await this.#piece(handle, Math.min(CHUNK, Math.max(room, LONGEST_RECORD)));
      const found = piece === null ? 'none' : this.#take(piece, through, limits.records, lines, gaps);
      if (found === 'cut') {
        this.#search();
        continue;
      }
      if (found === 'none') {
        if (!on) break;
        if (await this.#isReplaced()) continue;
        if (await this.#advance(gaps, hasSearched)) hasSearched = false;
        else if (hasSearched) break;
        else {
          // Somebody cut the segment, and what was written since stands before the place where we are.
          hasSearched = true;
          this.#search();
        }
      }
      room = limits.bytes - lines.reduce((sum, { bytes }) => sum + bytes.length, 0);
    }
    return { lines, gaps };
  }

  #search(): void {
    this.#searching = true;
    this.#searched = this.#next;
    this.#skipping = false;
    this.#offset = 0;
  }

  /** Nothing was written there, so there is nothing that closing could fail to keep. */
  async #leave(): Promise<void> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close().catch(() => undefined);
  }

  /** Null: it is gone, or there was none yet. */
  async #open(): Promise<FileHandle | null> {
    if (this.#handle !== null || this.#segment === null) return this.#handle;
    const name = path.join(this.#dir, this.#segment.file);
    try {
      // A FIFO in its place does not hang us.
      this.#handle = await open(name, constants.O_RDONLY | constants.O_NONBLOCK);
      if (!(await this.#handle.stat()).isFile()) throw new StateError(`${name} is not a file`);
    } catch (error) {
      if (error instanceof StateError) throw error;
      if (codeOf(error) !== 'ENOENT') throw new StateError(`${name} cannot be read: ${why(error)}`);
    }
    return this.#handle;
  }

  /** From the byte before the place where we are. */
  async #piece(handle: FileHandle, length: number): Promise<Buffer> {
    const before = Math.min(1, this.#offset);
    try {
      const { bytesRead } = await handle.read(this.#buffer, 0, before + length, this.#offset - before);
      return this.#buffer.subarray(0, bytesRead);
    } catch (error) {
      throw new StateError(`a segment in ${this.#dir} cannot be read: ${why(error)}`);
    }
  }

  /**
   * Takes the whole lines of a piece. `none`: the file goes no further. `cut`: somebody cut it, and what was written
   * since reaches beyond the place where we are, or a record is missing that may stand before it.
   */
  #take(piece: Buffer, through: number, most: number, lines: Line[], gaps: Gap[]): 'taken' | 'none' | 'cut' {
    const segment = this.#segment;
    const first = Math.min(1, this.#offset);
    if (segment === null || piece.length <= first) return 'none';
    if (first === 1 && !this.#skipping && piece[0] !== LINE_END) return 'cut';
    let start = first;
    while (this.#next <= through && lines.length < most) {
      const end = piece.indexOf(LINE_END, start);
      if (end === -1) break;
      const line = piece.subarray(start, end + 1);
      const offset = this.#offset - first + end + 1;
      start = end + 1;
      if (this.#searching && !this.#skipping) {
        // What a cut has left of a line is no number either.
        if (!(writtenIn(line) >= this.#next)) continue;
        this.#searching = false;
      }
      if (this.#skipping || line.length > LONGEST_RECORD) {
        this.#skipping = false;
        gaps.push({ from: this.#next, through: this.#next, reason: 'damaged' });
        this.#next += 1;
        continue;
      }
      const seq = this.#numberOf(line, through);
      if (seq > this.#next && this.#searched !== this.#next) return 'cut';
      if (seq > this.#next) gaps.push({ from: this.#next, through: seq - 1, reason: 'removed' });
      lines.push({ seq, bytes: Buffer.from(line), after: { segment: segment.file, offset } });
      this.#next = seq + 1;
    }
    // Longer than any record, and no end of it in sight.
    if (start === first && piece.length - first >= LONGEST_RECORD) {
      this.#skipping = true;
      start = piece.length;
    }
    this.#offset += start - first;
    return start > first ? 'taken' : 'none';
  }

  /** What it says itself, unless that cannot be: then what stands at its place. */
  #numberOf(line: Buffer, through: number): number {
    const seq = writtenIn(line);
    return seq > this.#next && seq <= through ? seq : this.#next;
  }

  /** Another file has the name of the segment now, with the same beginning: the writer puts back what was taken away. */
  async #isReplaced(): Promise<boolean> {
    if (this.#handle === null || this.#segment === null) return false;
    const name = path.join(this.#dir, this.#segment.file);
    const [now, before] = await Promise.all([
      stat(name).catch(() => null),
      this.#handle.stat().catch((error: unknown) => {
        throw new StateError(`${name} cannot be read: ${why(error)}`);
      }),
    ]);
    if (now === null || (now.ino === before.ino && now.dev === before.dev)) return false;
    await this.#leave();
    return true;
  }

  /** On to the segment after this one. @param far also where records are missing before it. False: there is none. */
  async #advance(gaps: Gap[], far: boolean): Promise<boolean> {
    const { first: here } = this.#segment ?? { first: 0 };
    const segments = await listSegments(this.#dir);
    const segment =
      this.#segment === null
        ? (segments.filter(({ first }) => first <= this.#next).at(-1) ?? segments[0])
        : segments.find(({ first }) => first > here);
    if (segment === undefined || (this.#segment !== null && segment.first > this.#next && !far)) return false;
    await this.close();
    this.#segment = segment;
    if (segment.first > this.#next) gaps.push({ from: this.#next, through: segment.first - 1, reason: 'removed' });
    this.#next = Math.max(this.#next, segment.first);
    return true;
  }

  /** Whether the bytes before a place are that record. */
  async #isAt({ seq, hash, at }: Delivered): Promise<boolean> {
    const handle = await open(path.join(this.#dir, at.segment), constants.O_RDONLY | constants.O_NONBLOCK).catch(
      () => null,
    );
    if (handle === null) return false;
    try {
      const from = Math.max(0, at.offset - LONGEST_RECORD);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(at.offset - from), 0, at.offset - from, from);
      if (bytesRead !== at.offset - from || buffer.at(-1) !== LINE_END) return false;
      const line = buffer.subarray(buffer.lastIndexOf(LINE_END, buffer.length - 2) + 1);
      return hashOf(line) === hash && line.includes(`,"seq":${String(seq)},`);
    } catch {
      return false;
    } finally {
      await handle.close();
    }
  }
}

// A quotation mark within a text is escaped, so these are members; and `detail`, which may have such too, stands before
// them in the order of names.
const SEQ = Buffer.from(',"seq":');
const HASH = Buffer.from(',"hash":"');

/** The number that a line says it has; NaN: none. */
function writtenIn(line: Buffer): number {
  const written = /^\d{1,16}/.exec(line.subarray(afterLast(line, SEQ)).toString('latin1', 0, 16))?.[0];
  return written === undefined ? Number.NaN : Number(written);
}

function afterLast(line: Buffer, mark: Buffer): number {
  const at = line.lastIndexOf(mark);
  return at === -1 ? line.length : at + mark.length;
}

/** Of a record, its own; empty for what is none. */
export function hashOf(line: Buffer): string {
  const at = afterLast(line, HASH);
  return /^[0-9a-f]{64}/.exec(line.toString('latin1', at, at + 64))?.[0] ?? '';
}

function gone(): number {
  return 0;
}
