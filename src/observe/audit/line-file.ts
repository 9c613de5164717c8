import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { LONGEST_RECORD } from './record.js';

const CHUNK = 256 * 1024;
const LINE_END = 0x0a;

/** @param line without its end, good until the call returns; null: longer than any record. @param number from 1 */
export type LineVisitor = (line: Buffer | null, number: number) => void;

/** A file read line by line in flat memory, and read on when it has grown. */
export class LineFile {
  readonly #handle: FileHandle;
  readonly #name: string;
  readonly #buffer: Buffer;
  /** Bytes at the beginning of the buffer that are the beginning of a line. */
  #held = 0;
  /** The line is too long to be held. */
  #skipping = false;
  #position: number;
  /** It was begun somewhere, and what stands before the first line end is only the rest of a line. */
  #isInside: boolean;
  #lines = 0;

  private constructor(handle: FileHandle, name: string, size: number, from: number) {
    this.#handle = handle;
    this.#name = name;
    this.#position = from;
    this.#isInside = from > 0;
    this.#buffer = Buffer.allocUnsafe(Math.min(CHUNK, Math.max(size, 2 * LONGEST_RECORD)));
  }

  /**
   * Null: there is no such file. @throws StateError
   * @param fromEnd begins with the first line that begins after the byte before these; `Infinity`: with the first line
   */
  static async open(name: string, fromEnd = Infinity): Promise<LineFile | null> {
    let handle: FileHandle;
    try {
      // A FIFO in its place does not hang us.
      handle = await open(name, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw new StateError(`${name} cannot be read: ${why(error)}`);
    }
    try {
      const found = await handle.stat();
      if (found.isFile()) return new LineFile(handle, name, found.size, Math.max(0, found.size - fromEnd - 1));
      throw new StateError(`${name} is not a file`);
    } catch (error) {
      await handle.close();
      throw error instanceof StateError ? error : new StateError(`${name} cannot be read: ${why(error)}`);
    }
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#position;
  }

  /** Lines that ended so far. */
  get lines(): number {
    return this.#lines;
  }

  /** Whether bytes follow the last line end. */
  get isTorn(): boolean {
    return this.#held > 0 || this.#skipping;
  }

  /**
   * All lines up to where the file ends now.
   * @param pause called after each piece that was read
   * @throws StateError
   */
  async read(visit: LineVisitor, pause?: () => Promise<void> | void): Promise<void> {
    for (;;) {
      let bytesRead: number;
      try {
        const room = this.#buffer.length - this.#held;
        ({ bytesRead } = await this.#handle.read(this.#buffer, this.#held, room, this.#position));
      } catch (error) {
        throw new StateError(`${this.#name} cannot be read: ${why(error)}`);
      }
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      this.#take(this.#held + bytesRead, visit);
      const paused = pause?.();
      if (paused instanceof Promise) await paused;
    }
  }

  #take(end: number, visit: LineVisitor): void {
    const buffer = this.#buffer;
    let start = 0;
    let from = this.#held;
    for (;;) {
      const at = buffer.indexOf(LINE_END, from);
      if (at === -1 || at >= end) break;
      if (this.#isInside) {
        this.#isInside = false;
      } else {
        this.#lines += 1;
        visit(this.#skipping || at - start >= LONGEST_RECORD ? null : buffer.subarray(start, at), this.#lines);
      }
      this.#skipping = false;
      start = at + 1;
      from = start;
    }
    this.#held = end - start;
    if (this.#held > LONGEST_RECORD) {
      this.#skipping = true;
      this.#held = 0;
    } else if (start > 0) {
      buffer.copyWithin(0, start, end);
    }
  }

  /** Where the file was cut, as a start does with the end of a line that was never written: reads on from its line ends. */
  async followCut(): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size >= this.#position || this.#skipping) return;
    this.#position -= this.#held;
    this.#held = 0;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
