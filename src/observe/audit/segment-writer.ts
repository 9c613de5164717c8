import { type FileHandle, open, statfs } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, syncDirectory } from '../../state/state-directory.js';

/** A finished line, to be written after the one before it. */
export interface Line {
  readonly text: string;
  readonly seq: number;
  /** Name of the segment that it opens; null: it goes where the one before went. */
  readonly opens: string | null;
}

export interface WriterNotices {
  /** Every line up to this one is on the disk, and how long the last of them took. */
  synced(seq: number, seconds: number): void;
  /** Lines cannot be written, or less is free than is to be. @param code that of the system, or one of `TROUBLES` */
  failing(code: string): void;
  /** They can again. */
  recovered(): void;
}

interface Waiter {
  readonly seq: number;
  readonly resolve: (written: boolean) => void;
}

export interface WriterSettings {
  readonly dir: string;
  readonly minFreeBytes: number;
  /** How long whoever waits for a line that must be on the disk is made to wait. */
  readonly patienceMs?: number;
}

/** The disk does not answer; less is free than the policy wants. */
export const TROUBLES = ['slow', 'low_space'] as const;

/** Lines that nobody waits for are written together, so late at most; writing them takes its time too. */
const LATEST_MS = 50;
/** Written at once. */
const MOST_AT_ONCE = 1024 * 1024;
/** How many lines wait in memory while the disk does not take them. */
const MOST_WAITING = 10_000;
const MOST_WAITING_BYTES = 8 * 1024 * 1024;
const SHORTEST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const LOOK_EVERY_MS = 1_000;

/**
 * Writes lines to segments, in order, in batches: one write and one fdatasync(2) for all that wait. A batch that fails is
 * taken back from the file and kept; after an fdatasync that failed nothing is believed to be on the disk that was not
 * before (the kernel drops such pages: https://wiki.postgresql.org/wiki/Fsync_Errors).
 */
export class SegmentWriter {
  readonly #settings: WriterSettings;
  readonly #notices: WriterNotices;
  /** Lines that are not on the disk yet. */
  #lines: Line[] = [];
  #bytes = 0;
  #handle: FileHandle | null = null;
  #file: string | null;
  /** Bytes of the segment that are on the disk. */
  #length: number;
  /** There may be more in the file than that. */
  #dirty = false;
  #synced: number;
  #urgent = 0;
  #running: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #waiters: Waiter[] = [];
  #patience: NodeJS.Timeout | null = null;
  #trouble: string | null = null;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #low = false;
  #closing = false;
  #wake: (() => void) | null = null;

  /** @param at the segment that goes on; null: the first line opens one. @param synced its last sequence number */
  constructor(
    settings: WriterSettings,
    at: { readonly file: string; readonly length: number } | null,
    synced: number,
    notices: WriterNotices,
  ) {
    this.#settings = settings;
    this.#file = at?.file ?? null;
    this.#length = at?.length ?? 0;
    this.#synced = synced;
    this.#notices = notices;
  }

  /** Why nothing can be written at present; null: it can. */
  get trouble(): string | null {
    return this.#trouble ?? (this.#low ? 'low_space' : null);
  }

  get waiting(): number {
    return this.#lines.length;
  }

  /** No more lines are taken. */
  get full(): boolean {
    return this.#lines.length >= MOST_WAITING || this.#bytes >= MOST_WAITING_BYTES;
  }

  /** @param urgent somebody waits for it */
  add(line: Line, urgent: boolean): void {
    this.#lines.push(line);
    this.#bytes += line.text.length + 1;
    if (urgent) this.#urgent = line.seq;
    this.#schedule();
  }

  /** Whether the line is on the disk, at once or when that is known. False: it is not, and may be later. */
  durable(seq: number): boolean | Promise<boolean> {
    if (seq <= this.#synced) return true;
    if (this.#trouble !== null) return false;
    return new Promise((resolve) => {
      this.#waiters.push({ seq, resolve });
      this.#patience ??= setTimeout(() => {
        this.#patience = null;
        if (this.#waiters.length > 0) this.#failed('slow');
      }, this.#settings.patienceMs ?? 5_000);
    });
  }

  /** Writes what is left; what the disk does not take then is lost, and their number returned. */
  async close(): Promise<number> {
    this.#closing = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#wake?.();
    this.#urgent = this.#lines.at(-1)?.seq ?? this.#urgent;
    this.#schedule();
    await this.#running;
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
    this.#release(false);
    await this.#handle?.close().catch(() => undefined);
    this.#handle = null;
    return this.#lines.length;
  }

  #schedule(): void {
    if (this.#running !== null || this.#lines.length === 0) return;
    if (this.#urgent > this.#synced) {
      if (this.#timer !== null) clearTimeout(this.#timer);
      this.#timer = null;
      this.#running = this.#run().finally(() => {
        this.#running = null;
        this.#schedule();
      });
      return;
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#urgent = this.#lines.at(-1)?.seq ?? 0;
      this.#schedule();
    }, LATEST_MS);
  }

  async #run(): Promise<void> {
    let pauseMs = SHORTEST_PAUSE_MS;
    // All that come in this turn go together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#lines.length > 0 && this.#urgent > this.#synced) {
      try {
        await this.#look();
        await this.#writeBatch();
        pauseMs = SHORTEST_PAUSE_MS;
      } catch (error) {
        this.#failed(codeOf(error));
        if (this.#closing) return;
        await this.#pause(pauseMs);
        pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
      }
    }
  }

  async #writeBatch(): Promise<void> {
    const batch = this.#nextBatch();
    const [first] = batch;
    const last = batch.at(-1);
    if (first === undefined || last === undefined) return;
    const handle = await this.#handleFor(first);
    if (this.#dirty) await handle.truncate(this.#length);
    this.#dirty = true;
    const began = performance.now();
    const bytes = Buffer.from(batch.map(({ text }) => `${text}\n`).join(''), 'utf8');
    for (let offset = 0; offset < bytes.length;) {
      const { bytesWritten } = await handle.write(bytes, offset, bytes.length - offset, this.#length + offset);
      offset += bytesWritten;
    }
    await handle.datasync();
    this.#dirty = false;
    this.#length += bytes.length;
    this.#lines.splice(0, batch.length);
    for (const { text } of batch) this.#bytes -= text.length + 1;
    this.#synced = last.seq;
    this.#worked();
    this.#notices.synced(last.seq, (performance.now() - began) / 1000);
  }

  /** Lines that belong into one segment. */
  #nextBatch(): readonly Line[] {
    let bytes = 0;
    let count = 0;
    for (const line of this.#lines) {
      if (count > 0 && (line.opens !== null || bytes + line.text.length > MOST_AT_ONCE)) break;
      bytes += line.text.length;
      count += 1;
    }
    return this.#lines.slice(0, count);
  }

  async #handleFor(first: Line): Promise<FileHandle> {
    if (first.opens !== null && first.opens !== this.#file) {
      await this.#handle?.close();
      this.#handle = null;
      // Never a file that is there: whatever is in it is not ours.
      const made = await open(path.join(this.#settings.dir, first.opens), 'wx', 0o600);
      this.#handle = made;
      this.#file = first.opens;
      this.#length = 0;
      this.#dirty = false;
      await syncDirectory(this.#settings.dir);
    }
    if (this.#file === null) throw new TypeError('the first line of a trail opens a segment');
    this.#handle ??= await open(path.join(this.#settings.dir, this.#file), 'r+');
    return this.#handle;
  }

  /** Now and then: how much is left on the file system. */
  async #look(): Promise<void> {
    const now = performance.now();
    if (now - this.#lookedAt < LOOK_EVERY_MS) return;
    this.#lookedAt = now;
    const { bavail, bsize } = await statfs(this.#settings.dir);
    const low = bavail * bsize < this.#settings.minFreeBytes;
    if (low === this.#low) return;
    this.#low = low;
    // What is left is for the records of what is refused.
    if (low) this.#notices.failing('low_space');
    else if (this.#trouble === null) this.#notices.recovered();
  }

  #failed(code: string): void {
    const before = this.#trouble;
    this.#trouble = code;
    this.#release(false);
    if (before !== code) this.#notices.failing(code);
  }

  #worked(): void {
    const wasTrouble = this.#trouble !== null;
    this.#trouble = null;
    this.#release(true);
    if (wasTrouble && !this.#low) this.#notices.recovered();
  }

  /** Tells whoever waits: those whose line is on the disk, or everybody that it is not. */
  #release(written: boolean): void {
    const still: Waiter[] = [];
    for (const waiter of this.#waiters) {
      if (!written) waiter.resolve(false);
      else if (waiter.seq <= this.#synced) waiter.resolve(true);
      else still.push(waiter);
    }
    this.#waiters = still;
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
    if (still.length > 0) {
      this.#patience = setTimeout(() => {
        this.#patience = null;
        this.#failed('slow');
      }, this.#settings.patienceMs ?? 5_000);
    }
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }
}
