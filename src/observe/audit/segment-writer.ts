import type { Stats } from 'node:fs';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, statfs } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, syncDirectory } from '../../state/state-directory.js';
import { moveAside } from './segments.js';
import { type Batch, type Line, WaitingLines } from './waiting-lines.js';

export interface WriterNotices {
  /** Every line up to this one is on the disk: how long the last of them took, and how many bytes they are. */
  synced(seq: number, seconds: number, bytes: number): void;
  /** Lines cannot be written, or less is free than is to be. @param code that of the system, or one of `TROUBLES` */
  failing(code: string): void;
  /** They can again. */
  recovered(): void;
  /** Somebody else changed the segment; what was lost of it is in its place again where that was possible. */
  disturbed(disturbance: Disturbance): void;
}

/** What somebody else did to the segment that is written. */
export interface Disturbance {
  /** `cut` is what cannot be mended: the bytes are gone. */
  readonly what: 'removed' | 'replaced' | 'cut';
  readonly file: string;
  /** Name that what stood in its place has now; null: nothing did. */
  readonly kept: string | null;
}

interface Waiter {
  readonly seq: number;
  readonly sinceMs: number;
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
/** How many lines wait in memory while the disk does not take them. */
const MOST_WAITING = 10_000;
const MOST_WAITING_BYTES = 8 * 1024 * 1024;
const SHORTEST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const LOOK_EVERY_MS = 1_000;
const PATIENCE_MS = 5_000;
const COPIED_AT_ONCE = 1024 * 1024;

/**
 * Writes lines to segments, in order, in batches: one write and one fdatasync(2) for all that wait. A batch that fails is
 * taken back from the file and kept; after an fdatasync that failed nothing is believed to be on the disk that was not
 * before (the kernel drops such pages: https://wiki.postgresql.org/wiki/Fsync_Errors).
 */
export class SegmentWriter {
  readonly #settings: WriterSettings;
  readonly #notices: WriterNotices;
  /** Those that are not on the disk yet. */
  readonly #lines = new WaitingLines();
  #handle: FileHandle | null = null;
  #file: string | null;
  /** Bytes of the segment that are on the disk. */
  #length: number;
  /** There may be more in the file than that. */
  #dirty = false;
  /** Its name may not be on the disk yet. */
  #unnamed = false;
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
  readonly #watch: NodeJS.Timeout;
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
    // Whoever is sent elsewhere since the disk is full brings no more lines by which it would be seen that it no longer is.
    this.#watch = setInterval(() => {
      if (this.#running !== null) return;
      this.#start(async () => {
        try {
          await this.#look();
          // Where nothing waits it was a look that failed, and this one did not.
          if (this.#trouble !== null && this.#lines.count === 0) this.#worked();
        } catch (error) {
          this.#failed(codeOf(error));
        }
      });
    }, LOOK_EVERY_MS);
    this.#watch.unref();
  }

  /** Why nothing can be written at present; null: it can. */
  get trouble(): string | null {
    return this.#trouble ?? (this.#low ? 'low_space' : null);
  }

  /** The last line that is on the disk. */
  get synced(): number {
    return this.#synced;
  }

  get waiting(): number {
    return this.#lines.count;
  }

  /** No more lines are taken. */
  get full(): boolean {
    return this.#lines.count >= MOST_WAITING || this.#lines.bytes >= MOST_WAITING_BYTES;
  }

  /**
   * @param urgent somebody waits for it
   * @returns how many bytes of the segment it takes
   */
  add(line: Line, urgent: boolean): number {
    const bytes = this.#lines.add(line);
    if (urgent) this.#urgent = line.seq;
    this.#schedule();
    return bytes;
  }

  /** Whether the line is on the disk, at once or when that is known. False: it is not, and may be later. */
  durable(seq: number): boolean | Promise<boolean> {
    if (seq <= this.#synced) return true;
    if (this.#trouble !== null) return false;
    return new Promise((resolve) => {
      this.#waiters.push({ seq, sinceMs: performance.now(), resolve });
      this.#beImpatient();
    });
  }

  /** Writes what is left, for as long as patience lasts; what the disk does not take then is lost, and their number returned. */
  async close(): Promise<number> {
    this.#closing = true;
    clearInterval(this.#watch);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#wake?.();
    // Nobody looks after this.
    this.#lookedAt = Number.NEGATIVE_INFINITY;
    this.#urgent = this.#lines.last ?? this.#urgent;
    this.#schedule();
    const hangs = await this.#outlasts(this.#running);
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
    this.#release(false);
    // A file that is closed waits for what is underway in it.
    if (!hangs) await this.#handle?.close().catch(() => undefined);
    this.#handle = null;
    return this.#lines.count;
  }

  /** Whether patience ends first. */
  async #outlasts(running: Promise<void> | null): Promise<boolean> {
    if (running === null) return false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<true>((resolve) => {
      timer = setTimeout(() => {
        resolve(true);
      }, this.#settings.patienceMs ?? PATIENCE_MS);
    });
    // What was scheduled meanwhile is the same disk's.
    const done = running.then(async () => {
      while (this.#running !== null) await this.#running;
      return false as const;
    });
    const hangs = await Promise.race([done, late]);
    clearTimeout(timer);
    return hangs;
  }

  #schedule(): void {
    if (this.#running !== null || this.#lines.count === 0) return;
    if (this.#urgent > this.#synced) {
      if (this.#timer !== null) clearTimeout(this.#timer);
      this.#timer = null;
      this.#start(() => this.#run());
      return;
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#urgent = this.#lines.last ?? 0;
      this.#schedule();
    }, LATEST_MS);
  }

  /** One at a time. */
  #start(work: () => Promise<void>): void {
    this.#running = work().finally(() => {
      this.#running = null;
      // What was tried for the last time is not tried again.
      if (!this.#closing || this.#trouble === null) this.#schedule();
    });
  }

  async #run(): Promise<void> {
    let pauseMs = SHORTEST_PAUSE_MS;
    // All that come in this turn go together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#lines.count > 0 && this.#urgent > this.#synced) {
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
    const batch = this.#lines.first();
    if (batch === null) return;
    const handle = await this.#handleFor(batch);
    // Here too: somebody may have cut it since the last look.
    await this.#goOnWhereItEnds(handle, this.#file ?? '');
    if (this.#dirty) await handle.truncate(this.#length);
    this.#dirty = true;
    const began = performance.now();
    const { bytes } = batch;
    for (let offset = 0; offset < bytes.length;) {
      const { bytesWritten } = await handle.write(bytes, offset, bytes.length - offset, this.#length + offset);
      offset += bytesWritten;
    }
    await handle.datasync();
    this.#dirty = false;
    this.#length += bytes.length;
    this.#synced = batch.last;
    this.#lines.drop();
    this.#worked();
    this.#notices.synced(batch.last, (performance.now() - began) / 1000, bytes.length);
  }

  async #handleFor(first: Batch): Promise<FileHandle> {
    if (first.opens !== null && first.opens !== this.#file) {
      await this.#handle?.close();
      this.#handle = null;
      const name = path.join(this.#settings.dir, first.opens);
      // Never a file that is there: whatever is in it is not ours.
      if ((await statOf(name)) !== null) await moveAside(this.#settings.dir, first.opens);
      this.#handle = await open(name, 'wx+', 0o600);
      this.#file = first.opens;
      this.#length = 0;
      this.#dirty = false;
      this.#unnamed = true;
    }
    if (this.#file === null) throw new TypeError('the first line of a trail opens a segment');
    this.#handle ??= await open(path.join(this.#settings.dir, this.#file), AS_IT_IS);
    if (this.#unnamed) {
      await syncDirectory(this.#settings.dir);
      this.#unnamed = false;
    }
    return this.#handle;
  }

  /** Now and then: whether the segment is where it was, and how much is left on the file system. */
  async #look(): Promise<void> {
    const now = performance.now();
    if (now - this.#lookedAt < LOOK_EVERY_MS / 2) return;
    await this.#lookAtSegment();
    const { bavail, bsize } = await statfs(this.#settings.dir);
    this.#lookedAt = now;
    const low = bavail * bsize < this.#settings.minFreeBytes;
    if (low === this.#low) return;
    this.#low = low;
    // What is left is for the records of what is refused.
    if (low) this.#notices.failing('low_space');
    else if (this.#trouble === null) this.#notices.recovered();
  }

  async #lookAtSegment(): Promise<void> {
    const handle = this.#handle;
    const file = this.#file;
    if (handle === null || file === null) return;
    const name = path.join(this.#settings.dir, file);
    const [own, found] = await Promise.all([handle.stat(), statOf(name)]);
    if (found?.ino !== own.ino || found.dev !== own.dev) {
      const kept = await this.#putBack(handle, file, found !== null);
      this.#notices.disturbed({ what: found === null ? 'removed' : 'replaced', file, kept });
    }
    await this.#goOnWhereItEnds(this.#handle ?? handle, file);
  }

  /** What is written behind an end that is not there any more would follow a hole, and be lost in its line. */
  async #goOnWhereItEnds(handle: FileHandle, file: string): Promise<void> {
    const { size } = await handle.stat();
    if (size >= this.#length) return;
    // What follows gets a line of its own.
    if (size > 0) await handle.write('\n', size);
    this.#length = size > 0 ? size + 1 : 0;
    this.#notices.disturbed({ what: 'cut', file, kept: null });
  }

  /** What is open is there, whatever its name leads to: it is written again under that, as much as there is of it. */
  async #putBack(from: FileHandle, file: string, isTaken: boolean): Promise<string | null> {
    const { dir } = this.#settings;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const kept = isTaken ? await moveAside(dir, file) : null;
    const to = await open(path.join(dir, file), 'wx+', 0o600);
    try {
      const piece = Buffer.alloc(Math.min(this.#length, COPIED_AT_ONCE));
      for (let at = 0; at < this.#length;) {
        const { bytesRead } = await from.read(piece, 0, Math.min(piece.length, this.#length - at), at);
        // It was cut too.
        if (bytesRead === 0) break;
        for (let done = 0; done < bytesRead;) {
          done += (await to.write(piece, done, bytesRead - done, at + done)).bytesWritten;
        }
        at += bytesRead;
      }
      await to.sync();
      await syncDirectory(dir);
    } catch (error) {
      await to.close();
      // Half a copy would be taken for what somebody put there.
      await moveAside(dir, file).catch(() => undefined);
      throw error;
    }
    this.#handle = to;
    this.#dirty = false;
    await from.close();
    return kept;
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
    this.#beImpatient();
  }

  /** Until the one that has waited longest has waited long enough. */
  #beImpatient(): void {
    const [oldest] = this.#waiters;
    if (oldest === undefined || this.#patience !== null) return;
    const leftMs = oldest.sinceMs + (this.#settings.patienceMs ?? PATIENCE_MS) - performance.now();
    this.#patience = setTimeout(
      () => {
        this.#patience = null;
        if (this.#waiters.length > 0) this.#failed('slow');
      },
      Math.max(0, leftMs),
    );
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

/** For reading and writing; never what a link leads to, and a FIFO does not hang us. */
const AS_IT_IS = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Null: there is nothing of that name. */
async function statOf(name: string): Promise<Stats | null> {
  return await lstat(name).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  });
}
