import { LONGEST_RECORD } from './record.js';

/** A finished line, to be written after the one before it. */
export interface Line {
  /** Without its end; with it no longer than a record may be. */
  readonly text: string;
  readonly seq: number;
  /** Name of the segment that it opens; null: it goes where the one before went. */
  readonly opens: string | null;
}

/** Lines that belong into one segment, as they are written there. */
export interface Batch {
  /** Name of the segment that the first of them opens; null: they go where the ones before went. */
  readonly opens: string | null;
  /** Sequence number of the last. */
  readonly last: number;
  readonly bytes: Uint8Array;
}

/** Bytes that are written at once: what a power cut leaves behind is no more than `recover` looks at. */
const MOST_AT_ONCE = 256 * 1024;

interface Chunk {
  readonly buffer: Buffer;
  used: number;
  /** How many batches stand in it. */
  batches: number;
}

interface Growing {
  readonly chunk: Chunk;
  readonly opens: string | null;
  readonly start: number;
  end: number;
  count: number;
  last: number;
  /** It has been handed out: what comes later goes into the next. */
  isClosed: boolean;
}

/**
 * Lines that are not on the disk yet, as bytes outside of what the collector walks through: with one for every request,
 * whatever waits here would be moved each time that it runs.
 */
export class WaitingLines {
  readonly #batches: Growing[] = [];
  #chunk: Chunk | null = null;
  #spare: Chunk | null = null;
  #count = 0;
  #bytes = 0;

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Sequence number of the newest; null: none waits. */
  get last(): number | null {
    return this.#batches.at(-1)?.last ?? null;
  }

  /** @returns how many bytes it is, its end included */
  add(line: Line): number {
    const batch = this.#batchFor(line);
    const { buffer } = batch.chunk;
    const end = batch.end + buffer.write(line.text, batch.end, 'utf8');
    buffer[end] = 0x0a;
    const length = end + 1 - batch.end;
    batch.end = end + 1;
    batch.chunk.used = batch.end;
    batch.count += 1;
    batch.last = line.seq;
    this.#count += 1;
    this.#bytes += length;
    return length;
  }

  /** The oldest, and the same each time until it is dropped; null: nothing waits. */
  first(): Batch | null {
    const [batch] = this.#batches;
    if (batch === undefined) return null;
    batch.isClosed = true;
    const { chunk, opens, last, start, end } = batch;
    return { opens, last, bytes: chunk.buffer.subarray(start, end) };
  }

  /** The oldest is on the disk. */
  drop(): void {
    const batch = this.#batches.shift();
    if (batch === undefined) return;
    this.#count -= batch.count;
    this.#bytes -= batch.end - batch.start;
    const { chunk } = batch;
    chunk.batches -= 1;
    if (chunk.batches > 0) return;
    chunk.used = 0;
    if (chunk !== this.#chunk) this.#spare = chunk;
  }

  #batchFor(line: Line): Growing {
    const newest = this.#batches.at(-1);
    const hasRoom = (chunk: Chunk): boolean => chunk.buffer.length - chunk.used >= LONGEST_RECORD;
    if (newest !== undefined && !newest.isClosed && line.opens === null && hasRoom(newest.chunk)) return newest;
    if (this.#chunk === null || !hasRoom(this.#chunk)) {
      this.#chunk = this.#spare ?? { buffer: Buffer.allocUnsafeSlow(MOST_AT_ONCE), used: 0, batches: 0 };
      this.#spare = null;
    }
    const chunk = this.#chunk;
    chunk.batches += 1;
    const { opens, seq } = line;
    const batch = { chunk, opens, start: chunk.used, end: chunk.used, count: 0, last: seq, isClosed: false };
    this.#batches.push(batch);
    return batch;
  }
}
