import {
  type Stats,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  write as writeFile,
  writeSync as writeFileSync,
} from 'node:fs';
import { Socket } from 'node:net';
import { LineBuffer } from './line-buffer.js';

/** Where lines go. */
export type SinkTarget = { readonly fd: number } | { readonly file: string } | LinesElsewhere;

/** Another process writes them. */
export interface LinesElsewhere {
  /** Takes whole lines, each with its line end. False: it takes none at present. */
  send(lines: string): boolean;
}

export interface SinkOptions {
  readonly target: SinkTarget;
  /** Lines are kept until there are this many bytes of them… */
  readonly flushBytes: number;
  /** …or until this much time has gone by. */
  readonly flushMs: number;
  /** More than this is not kept: when the reader is slow or the disk full, lines are dropped and counted. */
  readonly maxBytes: number;
  /** Makes the line that says how many were lost, when writing works again. */
  readonly lost: (lines: number) => string;
}

const RETRY_FULL_PIPE_MS = 25;
const RETRY_BROKEN_MS = 1000;
const EXIT_PATIENCE_MS = 300;

/**
 * Writes lines in order, many at a time, and never waits: not for a slow reader, not for a full disk. Nothing that
 * goes wrong here may reach a request, so nothing here throws but the constructor.
 *
 * pino's own destination (sonic-boom) writes through the thread pool alone: a reader that stalls then holds one of its
 * four threads for good, and the process hangs when it wants to end, since Node joins them first.
 */
export class LineSink {
  readonly #options: SinkOptions;
  #outlet: Outlet;
  /** After a reopen, once the chunk that is being written is out. */
  #nextOutlet: Outlet | null = null;
  readonly #waiting = new LineBuffer();
  /** Being written, from `#offset` on. */
  #chunk: Buffer | null = null;
  #offset = 0;
  #writing = false;
  /** Somebody wants what waits to be written without delay. */
  #hurry = false;
  #closed = false;
  #timer: NodeJS.Timeout | null = null;
  #retry: NodeJS.Timeout | null = null;
  #dropped = 0;
  #unsaid = 0;
  #trouble: string | null = null;
  #idle: (() => void)[] = [];
  readonly #onExit = (): void => {
    this.#flushNow();
  };

  /** @throws the system's error when the file can't be opened. */
  constructor(options: SinkOptions) {
    this.#options = options;
    this.#outlet = openOutlet(options.target);
    if ('file' in options.target) endLastLine(options.target.file);
    process.on('exit', this.#onExit);
  }

  /** Lines dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Code of the error that keeps lines from being written (`ENOSPC`), or null. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** @param line without a line end. */
  write(line: string): void {
    this.writeLines(`${line}\n`, 1);
  }

  /** @param lines each with its line end: as another process has them. */
  writeLines(lines: string, count: number): void {
    if (this.#closed) return;
    if (this.#waiting.length + (this.#chunk?.length ?? 0) + lines.length > this.#options.maxBytes) {
      this.#drop(count);
      return;
    }
    this.#waiting.add(lines);
    if (this.#waiting.length >= this.#options.flushBytes) this.flush();
    else if (this.#timer === null && !this.#writing) this.#wait();
  }

  /** Begins to write what there is. */
  flush(): void {
    if (this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#timer = null;
    }
    this.#hurry = true;
    if (!this.#writing && this.#retry === null) this.#next();
  }

  /**
   * Opens the file anew (after logrotate has moved it away). What cannot be opened leaves things as they were.
   * @returns the system's error, or null.
   */
  reopen(): Error | null {
    if (this.#closed || !('file' in this.#options.target)) return null;
    try {
      const outlet = openOutlet(this.#options.target);
      this.#nextOutlet?.close();
      this.#nextOutlet = outlet;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
    if (!this.#writing) this.#switch();
    this.flush();
    return null;
  }

  /** Writes what is left, waiting for a slow reader no longer than `patienceMs`. Further lines are ignored. */
  async close(patienceMs = 1000): Promise<void> {
    if (this.#closed) return;
    this.flush();
    if (this.#chunk !== null || this.#waiting.length > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, patienceMs);
        this.#idle.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    this.#flushNow();
    this.#closed = true;
    for (const timer of [this.#timer, this.#retry]) if (timer !== null) clearTimeout(timer);
    process.off('exit', this.#onExit);
    this.#nextOutlet?.close();
    if (!this.#writing) this.#outlet.close();
  }

  #wait(): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.flush();
    }, this.#options.flushMs);
    this.#timer.unref();
  }

  #drop(lines: number): void {
    this.#dropped += lines;
    this.#unsaid += lines;
  }

  #next(): void {
    if (this.#chunk === null) {
      if (this.#waiting.length === 0) {
        this.#hurry = false;
        for (const resolve of this.#idle.splice(0)) resolve();
        return;
      }
      this.#chunk = this.#waiting.take();
      this.#offset = 0;
      this.#hurry = false;
    }
    this.#writing = true;
    this.#outlet.write(this.#chunk.subarray(this.#offset), (error, written) => {
      this.#written(error, written);
    });
  }

  #written(error: NodeJS.ErrnoException | null, written: number): void {
    this.#writing = false;
    this.#offset += written;
    if (this.#closed) {
      this.#outlet.close();
      return;
    }
    if (this.#chunk !== null && this.#offset >= this.#chunk.length) this.#chunk = null;
    if (this.#chunk === null) this.#waiting.written();
    if (error !== null) {
      const full = error.code === 'EAGAIN';
      if (!full) this.#trouble = error.code ?? 'unknown';
      this.#switch();
      this.#retry = setTimeout(
        () => {
          this.#retry = null;
          this.#next();
        },
        full ? RETRY_FULL_PIPE_MS : RETRY_BROKEN_MS,
      );
      this.#retry.unref();
      return;
    }
    this.#trouble = null;
    if (this.#chunk === null) {
      this.#switch();
      if (this.#unsaid > 0) {
        this.#waiting.addFirst(`${this.#options.lost(this.#unsaid)}\n`);
        this.#unsaid = 0;
      }
    }
    // What came meanwhile may wait for company, like everything else.
    const enough = this.#waiting.length >= this.#options.flushBytes;
    if (this.#chunk !== null || this.#hurry || this.#idle.length > 0 || enough) this.#next();
    else if (this.#waiting.length > 0 && this.#timer === null) this.#wait();
  }

  /** To the file that a reopen has opened. What is left of a line that is partly in the old file goes with it. */
  #switch(): void {
    if (this.#nextOutlet === null) return;
    if (this.#chunk !== null && this.#offset > 0) {
      const lineEnd = this.#chunk.indexOf(0x0a, this.#offset - 1);
      this.#chunk = this.#chunk.subarray(lineEnd + 1);
      this.#offset = 0;
      if (this.#chunk.length === 0) this.#chunk = null;
    }
    this.#outlet.close();
    this.#outlet = this.#nextOutlet;
    this.#nextOutlet = null;
  }

  /** At the end of the process, when nothing asynchronous happens any more. */
  #flushNow(): void {
    // What a thread of the pool has begun it also ends before the process does; let it come first.
    if (this.#writing) pause(20);
    const rest = [
      this.#chunk === null || this.#writing ? Buffer.alloc(0) : this.#chunk.subarray(this.#offset),
      this.#waiting.take(),
    ];
    if (!this.#writing) this.#chunk = null;
    let bytes = Buffer.concat(rest);
    for (let waited = 0; bytes.length > 0 && waited < EXIT_PATIENCE_MS;) {
      try {
        bytes = bytes.subarray(this.#outlet.writeNow(bytes));
      } catch (error) {
        if (!isErrno(error) || error.code !== 'EAGAIN') return;
        pause(10);
        waited += 10;
      }
    }
  }
}

type Done = (error: NodeJS.ErrnoException | null, written: number) => void;

/** One open file, pipe or socket. */
interface Outlet {
  write(bytes: Buffer, done: Done): void;
  /** Returns how many bytes were taken. Throws EAGAIN where a reader is slow. */
  writeNow(bytes: Buffer): number;
  close(): void;
}

function openOutlet(target: SinkTarget): Outlet {
  if ('send' in target) return outletElsewhere(target);
  if ('file' in target) {
    // O_NONBLOCK: without it, opening a FIFO waits for its reader. Of a regular file it is ignored.
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
    const fd = openSync(target.file, flags, 0o600);
    return outletOf(fd, fstatSync(fd), true, true);
  }
  const stats = fstatSync(target.fd);
  if (!stats.isFIFO()) return outletOf(target.fd, stats, false, false);
  // A write to a full pipe blocks a thread of the pool, and the process could not even end then. O_NONBLOCK would
  // concern every process that shares the pipe's end; an end of our own does not.
  try {
    const fd = openSync(`/proc/self/fd/${target.fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
    return outletOf(fd, stats, true, true);
  } catch {
    return outletOf(target.fd, stats, false, false);
  }
}

/** Who was killed while the disk was full has left half a line, which would take the first one of ours with it. */
function endLastLine(file: string): void {
  try {
    const fd = openSync(file, constants.O_RDWR | constants.O_APPEND | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(fd);
      if (!stats.isFile() || stats.size === 0) return;
      const last = Buffer.alloc(1);
      readSync(fd, last, 0, 1, stats.size - 1);
      if (last[0] !== 0x0a) writeFileSync(fd, '\n');
    } finally {
      closeSync(fd);
    }
  } catch {
    // It may be written and not read, or the disk is still full: the log goes on as it can.
  }
}

function outletOf(fd: number, stats: Stats, own: boolean, nonBlocking: boolean): Outlet {
  const close = (): void => {
    if (own) closeQuietly(fd);
  };
  if (stats.isSocket()) return socketOutlet(fd);
  if (stats.isFIFO() && nonBlocking) {
    return {
      // Never waits, so there is nothing to gain from a thread.
      write: (bytes, done) => {
        let written = 0;
        let failure: NodeJS.ErrnoException | null = null;
        try {
          while (written < bytes.length) written += writeFileSync(fd, bytes, written);
        } catch (error) {
          failure = asErrno(error);
        }
        // Not from within `write`, which a request is waiting for.
        if (failure === null) process.nextTick(done, null, written);
        else setImmediate(done, failure, written);
      },
      writeNow: (bytes) => writeFileSync(fd, bytes),
      close,
    };
  }
  return {
    // A disk can be slow; a thread waits for it.
    write: (bytes, done) => {
      writeFile(fd, bytes, 0, bytes.length, null, (error, written) => {
        // A short write is how a full disk begins: the rest is tried again, and then says what is wrong.
        done(error, written);
      });
    },
    writeNow: (bytes) => writeFileSync(fd, bytes),
    close,
  };
}

function outletElsewhere(target: LinesElsewhere): Outlet {
  const full = (): NodeJS.ErrnoException => Object.assign(new Error('too much waits'), { code: 'EAGAIN' });
  return {
    write: (bytes, done) => {
      const taken = target.send(bytes.toString('utf8'));
      setImmediate(done, taken ? null : full(), taken ? bytes.length : 0);
    },
    writeNow: (bytes) => {
      if (!target.send(bytes.toString('utf8'))) throw full();
      return bytes.length;
    },
    close: () => undefined,
  };
}

/** systemd's journal, and the pipes that Node makes for its children. */
function socketOutlet(fd: number): Outlet {
  // For the standard streams the process has a handle already, and two handles for one socket would disturb each other.
  const shared = fd === 1 ? process.stdout : fd === 2 ? process.stderr : null;
  const socket = shared ?? new Socket({ fd, readable: false, writable: true });
  if (socket instanceof Socket) socket.unref();
  let failed: ((error: NodeJS.ErrnoException) => void) | null = null;
  const onError = (error: Error): void => {
    failed?.(asErrno(error));
  };
  // Without a listener, a journal that restarts would be the end of the process.
  socket.on('error', onError);
  return {
    write: (bytes, done) => {
      let told = false;
      const tell: Done = (error, written) => {
        failed = null;
        if (!told) done(error, written);
        told = true;
      };
      failed = (error) => {
        tell(error, 0);
      };
      socket.write(bytes, (error) => {
        if (error === null || error === undefined) tell(null, bytes.length);
        else tell(asErrno(error), 0);
      });
    },
    writeNow: (bytes) => writeFileSync(fd, bytes),
    // The error listener stays: a late error of a socket that is not ours to close must not end the process.
    close: () => {
      if (shared === null) socket.destroy();
    },
  };
}

function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // Whatever was written is written.
  }
}

function isErrno(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error;
}

function asErrno(error: unknown): NodeJS.ErrnoException {
  return error instanceof Error ? error : new Error(String(error));
}

/** Only at the end of the process: nothing else runs meanwhile. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
