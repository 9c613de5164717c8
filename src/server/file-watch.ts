import { stat } from 'node:fs/promises';
import { type FileRead, type FilesRead, type Reader, contentOf, readFile } from '../secret/files.js';

export interface FileWatchTimings {
  /** From one look to the next. */
  readonly lookMs: number;
  /** So long must nothing have changed: who renews a certificate and its key writes one after the other. */
  readonly settleMs: number;
  /** What never comes to rest is read all the same. */
  readonly longestUnrestMs: number;
  /** What is wrong for so long is not in the middle of a change. */
  readonly lastingMs: number;
  /** What no file shows may have been mended: an address is free again, a folder has another mode. */
  readonly againMs: number;
}

const TIMINGS: FileWatchTimings = {
  lookMs: 1000,
  settleMs: 500,
  longestUnrestMs: 10_000,
  lastingMs: 10_000,
  againMs: 60_000,
};

/** Looks take this part of the time at most, however many files there are and however slow their disk is. */
const LARGEST_SHARE = 0.1;

export interface FileWatchInit {
  /** As they were read when they were last taken over. */
  readonly files: FilesRead;
  /**
   * Reads them again, and tells `wasRead` what came of it. Never rejects.
   *
   * @param aloud a failure is to be said
   */
  readonly reload: (aloud: boolean) => Promise<void>;
  readonly timings?: Partial<FileWatchTimings>;
  /** Monotonic milliseconds. */
  readonly ticks?: () => number;
}

/** The last time that they were read, nothing came of it. */
interface Failing {
  readonly files: FilesRead;
  /** Since nothing has come of any, but for what was said. */
  sinceTicks: number;
  lastTicks: number;
  /** It has been said of what the files hold now. */
  said: boolean;
}

type ByPath<T> = Map<string, T>;

interface Content {
  /** Of the file that held it. */
  readonly stamp: string;
  readonly content: string;
}

/**
 * Looks at files again and again, and has them read when what they hold has changed and come to rest. It looks at each
 * path as a program that opens it would, so it sees what was written in place, what was renamed over it, and what a link
 * on the way now leads to, on any file system (decision 26).
 */
export class FileWatch {
  readonly #init: FileWatchInit;
  readonly #timings: FileWatchTimings;
  readonly #ticks: () => number;
  #inForce: FilesRead;
  #failing: Failing | null = null;
  /** A failure has been said, and since then nothing was taken over. */
  #outstanding = false;
  /** At the last look. */
  #seen: ByPath<string> = new Map();
  #unrestSinceTicks: number | null = null;
  /** When it was last asked what the files hold. */
  #decided: ByPath<string> = new Map();
  #contents: ByPath<Content> = new Map();
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(init: FileWatchInit) {
    this.#init = init;
    this.#timings = { ...TIMINGS, ...init.timings };
    this.#ticks = init.ticks ?? (() => performance.now());
    this.#inForce = init.files;
  }

  start(): void {
    this.#lookIn(this.#timings.lookMs);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** They were read, whoever wanted it. */
  wasRead(files: FilesRead, outcome: 'taken_over' | 'failed_aloud' | 'failed_quietly'): void {
    if (outcome === 'taken_over') {
      this.#inForce = files;
      this.#failing = null;
      this.#outstanding = false;
      return;
    }
    const ticks = this.#ticks();
    const said = outcome === 'failed_aloud' || (this.#failing?.said ?? false);
    this.#outstanding ||= said;
    this.#failing = { files, sinceTicks: this.#failing?.sinceTicks ?? ticks, lastTicks: ticks, said };
  }

  #lookIn(ms: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.look().then((nextMs) => {
        this.#lookIn(nextMs);
      });
    }, ms).unref();
  }

  /** Looks, and has them read if it is time to. Resolves to when to look again, in milliseconds. */
  async look(): Promise<number> {
    const began = this.#ticks();
    const { wanted, nextMs } = await this.#find();
    // Reading what has changed is not looking: another change may follow closely.
    const lookedMs = this.#ticks() - began;
    if (wanted !== 'no' && !this.#stopped) await this.#init.reload(wanted === 'aloud');
    return Math.max(nextMs, lookedMs / LARGEST_SHARE);
  }

  async #find(): Promise<{ readonly wanted: 'no' | 'quietly' | 'aloud'; readonly nextMs: number }> {
    const { lookMs, settleMs, longestUnrestMs } = this.#timings;
    const stamps = await this.#stamps();
    const ticks = this.#ticks();
    if (!isSame(stamps, this.#seen)) {
      this.#seen = stamps;
      this.#unrestSinceTicks ??= ticks;
      if (ticks - this.#unrestSinceTicks < longestUnrestMs) return { wanted: 'no', nextMs: settleMs };
    }
    this.#unrestSinceTicks = null;
    const wanted = isSame(stamps, this.#decided) ? this.#isTimeToTryAgain(ticks) : await this.#changed(stamps, ticks);
    return { wanted, nextMs: lookMs };
  }

  /** The files look different. @param stamps as they look */
  async #changed(stamps: ByPath<string>, ticks: number): Promise<'no' | 'quietly' | 'aloud'> {
    this.#decided = stamps;
    const failing = this.#failing;
    await this.#readContents(stamps);
    const isInForce = this.#hold(this.#inForce);
    if (failing === null) return isInForce ? 'no' : 'quietly';
    if (isInForce && !this.#outstanding) {
      // A file was away for a moment, or somebody has put back what there was: nobody need hear of it.
      this.#failing = null;
      return 'no';
    }
    if (failing.said && !this.#hold(failing.files)) {
      failing.said = false;
      failing.sinceTicks = ticks;
    }
    return failing.said || ticks - failing.sinceTicks < 3 * this.#timings.lastingMs ? 'quietly' : 'aloud';
  }

  /** Nothing has changed. */
  #isTimeToTryAgain(ticks: number): 'no' | 'quietly' | 'aloud' {
    if (this.#failing === null) return 'no';
    const { said, lastTicks } = this.#failing;
    const { againMs, lastingMs } = this.#timings;
    if (ticks - lastTicks < (said ? againMs : lastingMs)) return 'no';
    return said ? 'quietly' : 'aloud';
  }

  /** What each file looks like from outside; a change of it shows there, unless it is within the clock of its file system. */
  async #stamps(): Promise<ByPath<string>> {
    const stamps: ByPath<string> = new Map();
    for (const files of [this.#inForce, this.#failing?.files ?? NONE]) {
      // One after the other: a file system that does not answer holds up one thread of the pool, not all.
      for (const [path] of files) if (!stamps.has(path)) stamps.set(path, await stampOf(path));
    }
    return stamps;
  }

  async #readContents(stamps: ByPath<string>): Promise<void> {
    const contents: ByPath<Content> = new Map();
    for (const files of [this.#inForce, this.#failing?.files ?? NONE]) {
      for (const [path, read] of files) {
        const stamp = stamps.get(path) ?? '';
        const known = this.#contents.get(path);
        if (contents.has(path)) continue;
        contents.set(path, known?.stamp === stamp ? known : { stamp, content: await contentNow(path, read) });
      }
    }
    this.#contents = contents;
  }

  #hold(files: FilesRead): boolean {
    return [...files].every(([path, { content }]) => this.#contents.get(path)?.content === content);
  }
}

const NONE: FilesRead = new Map();

async function stampOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs, mode, uid, gid } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs, mode, uid, gid].join(' ');
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  }
}

/** Whether it may be read by others is asked when it is taken over. */
const ANYBODY: Reader = { groups: new Set(), credentialsDirectory: null, secretMounts: [] };

async function contentNow(path: string, { limit }: FileRead): Promise<string> {
  const read = await readFile(path, 'any', limit, ANYBODY);
  const content = contentOf(read);
  read.bytes?.fill(0);
  return content;
}

function isSame(one: ByPath<string>, other: ByPath<string>): boolean {
  return one.size === other.size && [...one].every(([path, stamp]) => other.get(path) === stamp);
}
