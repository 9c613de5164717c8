import { createHash, randomBytes, type Hash } from 'node:crypto';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { Respond } from '../support/recording-upstream.js';
import { residentBytes } from '../support/leak.js';

export const MIB = 1024 * 1024;
const PIECE = 64 * 1024;
const BLOCK = randomBytes(PIECE);

/** Bytes that never repeat, so that a piece that is lost, doubled or moved shows in the digest. */
export class Payload {
  readonly length: number;
  readonly #hash: Hash = createHash('sha256');
  #made = 0;

  /** Bytes made so far. */
  get made(): number {
    return this.#made;
  }

  constructor(length: number) {
    this.length = length;
  }

  /** Null at the end. */
  next(): Buffer | null {
    const left = this.length - this.#made;
    if (left === 0) return null;
    const piece = Buffer.from(BLOCK.subarray(0, Math.min(left, PIECE)));
    piece.writeDoubleLE(this.#made);
    this.#made += piece.length;
    this.#hash.update(piece);
    return piece;
  }

  /** Of all that was made; ask once, at the end. */
  digest(): string {
    return this.#hash.digest('hex');
  }
}

/** Writes a payload as fast as the other side takes it. Ends early where the other side goes away. */
export async function pour(payload: Payload, into: Writable): Promise<void> {
  for (let piece = payload.next(); piece !== null; piece = payload.next()) {
    if (into.destroyed) return;
    if (into.write(piece)) continue;
    const over = new AbortController();
    const { signal } = over;
    await Promise.race([once(into, 'drain', { signal }), once(into, 'close', { signal })]);
    // Who still listens for the other one would listen as long as it is poured.
    over.abort();
  }
}

/** Reads to the end. */
export async function digestOf(from: Readable): Promise<{ readonly length: number; readonly sha256: string }> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const piece of from as AsyncIterable<Buffer>) {
    hash.update(piece);
    length += piece.length;
  }
  return { length, sha256: hash.digest('hex') };
}

/** An upstream's answer of these bytes, its length stated. */
export function download(payload: Payload): Respond {
  return async (_request, connection) => {
    connection.write(`HTTP/1.1 200 OK\r\nContent-Length: ${String(payload.length)}\r\n\r\n`);
    await pour(payload, connection.socket);
  };
}

/** The most memory that a process held while it was watched. Looks every few milliseconds: there is no event for it. */
export class PeakMemory implements Disposable {
  readonly #pid: number;
  readonly #timer: NodeJS.Timeout;
  #peak = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.#look();
    this.#timer = setInterval(() => {
      this.#look();
    }, 10);
  }

  get bytes(): number {
    this.#look();
    return this.#peak;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#peak = Math.max(this.#peak, residentBytes(this.#pid));
  }
}
