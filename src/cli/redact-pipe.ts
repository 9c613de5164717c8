import { read, write } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** Pieces are read this long. Two are held: while one is looked at, the next one is read. */
const READ_BYTES = 256 * 1024;
/** A line that has stood unfinished this long is passed on as far as it is certain. */
export const PAUSE_MS = 100;
/** Somebody who shares the pipe has made it non-blocking: how long until it is tried again. */
const AGAIN_MS = 5;

/** What is given to be written, gathered: one write for each piece that was read. */
class Outbox {
  #bytes = Buffer.allocUnsafe(2 * READ_BYTES);
  #length = 0;

  readonly put = (bytes: Buffer): void => {
    const length = this.#length + bytes.length;
    if (length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(2 * length);
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    bytes.copy(this.#bytes, this.#length);
    this.#length = length;
  };

  /** All of it; valid until the next `put`. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }
}

/** What a filter does with what it reads. */
export interface Filter {
  readonly hasUnfinishedLine: boolean;
  push(chunk: Buffer): void;
  pause(): void;
  end(): void;
}

export interface PipeOptions {
  readonly input: number;
  readonly output: number;
  readonly filter: (write: (bytes: Buffer) => void) => Filter;
  /** Told once, as soon as nobody reads any more. */
  readonly broken: () => void;
}

export interface PipeResult {
  /** Lines that could not be written. */
  readonly lost: number;
  /** Code of the error that kept the last of them from being written. */
  readonly trouble: string | null;
  /** Code of the error that ended the input before its end, or null. */
  readonly inputError: string | null;
}

/**
 * Reads `input` to its end, whatever becomes of `output`: whoever writes into this pipe must not be ended by SIGPIPE,
 * nor wait for a disk that is full. It waits for a slow reader, and then so does the writer.
 *
 * Reads and writes go through Node's threads, which may block there: a stream of Node's would turn the pipe that it
 * shares with others non-blocking, for them too.
 */
export async function pump(options: PipeOptions): Promise<PipeResult> {
  const outbox = [new Outbox(), new Outbox()] as const;
  const chunks = [Buffer.allocUnsafe(READ_BYTES), Buffer.allocUnsafe(READ_BYTES)] as const;
  let turn: 0 | 1 = 0;
  const filter = options.filter((bytes) => outbox[turn].put(bytes));
  const outlet = new Outlet(options.output, options.broken);
  let writing: Promise<void> = Promise.resolve();
  const send = async (): Promise<void> => {
    const bytes = outbox[turn].take();
    if (bytes.length === 0) return;
    await writing;
    writing = outlet.write(bytes);
    turn = turn === 0 ? 1 : 0;
  };

  let inputError: string | null = null;
  let current: 0 | 1 = 0;
  let reading = readSome(options.input, chunks[current]);
  let paused = false;
  for (;;) {
    const got = await (filter.hasUnfinishedLine && !paused ? orPause(reading) : reading);
    if (got === null) {
      paused = true;
      filter.pause();
      await send();
      continue;
    }
    paused = false;
    if (got.length === 0) {
      inputError = got.error;
      break;
    }
    const chunk = chunks[current].subarray(0, got.length);
    current = current === 0 ? 1 : 0;
    reading = readSome(options.input, chunks[current]);
    filter.push(chunk);
    await send();
  }
  filter.end();
  await send();
  await writing;
  return { lost: outlet.lost, trouble: outlet.trouble, inputError };
}

/** Lines that cannot be written are counted. One that is written in part is ended before others follow. */
class Outlet {
  readonly #fd: number;
  readonly #onBroken: () => void;
  #broken = false;
  #lost = 0;
  #trouble: string | null = null;
  /** The last line that was written has no line end, and will never have its own. */
  #torn = false;
  /** What comes, up to the next line end, belongs to a line that is lost. */
  #skipping = false;

  constructor(fd: number, broken: () => void) {
    this.#fd = fd;
    this.#onBroken = broken;
  }

  get lost(): number {
    return this.#lost + (this.#skipping ? 1 : 0);
  }

  get trouble(): string | null {
    return this.#trouble;
  }

  async write(bytes: Buffer): Promise<void> {
    let rest = bytes;
    if (this.#broken) {
      this.#lose(rest);
      return;
    }
    if (this.#skipping) {
      const end = rest.indexOf(NEWLINE) + 1;
      this.#lose(end === 0 ? rest : rest.subarray(0, end));
      if (end === 0) return;
      rest = rest.subarray(end);
    }
    if (this.#torn && rest.length > 0) {
      if ((await this.#writeAll(LINE_END)) > 0) {
        this.#lose(rest);
        return;
      }
      this.#torn = false;
    }
    const left = await this.#writeAll(rest);
    if (left === 0) return;
    const at = rest.length - left;
    this.#torn = at > 0 && rest[at - 1] !== NEWLINE;
    this.#lose(rest.subarray(at));
  }

  #lose(bytes: Buffer): void {
    if (bytes.length === 0) return;
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) this.#lost++;
    this.#skipping = bytes.at(-1) !== NEWLINE;
  }

  /** @returns how many bytes could not be written. */
  async #writeAll(bytes: Buffer): Promise<number> {
    for (let at = 0; at < bytes.length;) {
      const { length, error } = await writeSome(this.#fd, bytes, at);
      at += length;
      if (error === null) continue;
      if (error === 'EAGAIN') {
        await delay(AGAIN_MS);
        continue;
      }
      this.#trouble = error;
      if (error === 'EPIPE') {
        this.#broken = true;
        this.#onBroken();
      }
      return bytes.length - at;
    }
    return 0;
  }
}

const NEWLINE = 0x0a;
const LINE_END = Buffer.of(NEWLINE);

interface Transfer {
  readonly length: number;
  readonly error: string | null;
}

/** Length 0: the end, or an error. */
async function readSome(fd: number, into: Buffer): Promise<Transfer> {
  for (;;) {
    const got = await new Promise<Transfer>((resolve) => {
      read(fd, into, 0, into.length, null, (error, length) => {
        resolve(error === null ? { length, error: null } : { length: 0, error: error.code ?? 'unknown error' });
      });
    });
    if (got.error !== 'EAGAIN') return got;
    await delay(AGAIN_MS);
  }
}

async function writeSome(fd: number, bytes: Buffer, at: number): Promise<Transfer> {
  return await new Promise((resolve) => {
    write(fd, bytes, at, bytes.length - at, null, (error, length) => {
      resolve(error === null ? { length, error: null } : { length: 0, error: error.code ?? 'unknown error' });
    });
  });
}

/** Null where nothing came for a while. */
async function orPause(reading: Promise<Transfer>): Promise<Transfer | null> {
  let timer: NodeJS.Timeout | undefined;
  const pause = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), PAUSE_MS);
  });
  try {
    return await Promise.race([reading, pause]);
  } finally {
    clearTimeout(timer);
  }
}
