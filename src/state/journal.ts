import { type FileHandle, open } from 'node:fs/promises';
import * as path from 'node:path';
import { readStateFile, replaceStateFile, syncDirectory, why } from './state-directory.js';
import { StateError } from './store.js';

export interface JournalContent {
  readonly journal: Journal;
  /** Whole lines, without their ends. */
  readonly lines: readonly string[];
  /** The last line was being written when the process stopped; it is dropped. */
  readonly torn: boolean;
}

/**
 * A file of lines that is added to, 0600. Written to the kernel before `append` resolves, so that it outlives this process;
 * what must outlive the machine's power needs more than this.
 */
export class Journal {
  readonly #file: string;
  #handle: FileHandle | null = null;
  /** Bytes that are whole lines. */
  #length: number;
  #lines: number;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, length: number, lines: number) {
    this.#file = file;
    this.#length = length;
    this.#lines = lines;
  }

  /** @throws StateError */
  static async open(file: string, largest: number): Promise<JournalContent> {
    const bytes = await readStateFile(file, largest);
    const end = bytes === null ? 0 : bytes.lastIndexOf(0x0a) + 1;
    const lines = bytes === null || end === 0 ? [] : bytes.toString('utf8', 0, end - 1).split('\n');
    const journal = new Journal(file, end, lines.length);
    await journal.#reopen();
    return { journal, lines, torn: bytes !== null && end < bytes.length };
  }

  get lines(): number {
    return this.#lines;
  }

  /** @throws StateError; a part of a line is then not left behind. */
  async append(line: string): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#handle === null) await this.#reopen();
      try {
        await this.#handle?.appendFile(`${line}\n`);
      } catch (error) {
        await this.#handle?.truncate(this.#length).catch(() => undefined);
        throw new StateError(`${this.#file} cannot be written: ${why(error)}`);
      }
      this.#length += Buffer.byteLength(line) + 1;
      this.#lines += 1;
    });
  }

  /** Writes the file anew. @param lines asked for when it is this one's turn @throws StateError */
  async rewrite(lines: () => readonly string[]): Promise<void> {
    await this.#inTurn(async () => {
      const all = lines();
      const text = all.map((line) => `${line}\n`).join('');
      await replaceStateFile(this.#file, text);
      this.#length = Buffer.byteLength(text);
      this.#lines = all.length;
      await this.#reopen();
    });
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#handle?.close();
    this.#handle = null;
  }

  async #inTurn(write: () => Promise<void>): Promise<void> {
    const turn = this.#writing.then(write);
    this.#writing = turn.catch(() => undefined);
    await turn;
  }

  /** What follows the last whole line goes away, so that the next one begins at a line's beginning. */
  async #reopen(): Promise<void> {
    await this.#handle?.close();
    this.#handle = null;
    try {
      const handle = await open(this.#file, 'a', 0o600);
      this.#handle = handle;
      await handle.chmod(0o600);
      await handle.truncate(this.#length);
      await syncDirectory(path.dirname(this.#file));
    } catch (error) {
      throw new StateError(`${this.#file} cannot be written: ${why(error)}`);
    }
  }
}
