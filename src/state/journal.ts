import { type FileHandle, open, rename } from 'node:fs/promises';
import * as path from 'node:path';
import { isObject } from '../http/strict-json.js';
import { readStateFile, replaceStateFile, syncDirectory, why } from './state-directory.js';
import { StateError } from './store.js';

export interface JournalContent {
  readonly journal: Journal;
  /** Whole lines, without their ends. */
  readonly lines: readonly string[];
  /** The last line was being written when the process stopped; it is dropped. Empty: nothing was. */
  readonly torn: string;
}

/** `kernel`: what is written outlives this process. `disk`: it outlives the machine's power too. */
export type Durability = 'kernel' | 'disk';

/** One line that is a JSON object; null for anything else. */
export function parseLine(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

/** A file of lines that is added to, 0600. What was appended is as safe as was asked for before `append` resolves. */
export class Journal {
  readonly #file: string;
  readonly #durability: Durability;
  #handle: FileHandle | null = null;
  /** Bytes that are whole lines. */
  #length: number;
  #lines: number;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, durability: Durability, length: number, lines: number) {
    this.#file = file;
    this.#durability = durability;
    this.#length = length;
    this.#lines = lines;
  }

  /** @throws StateError */
  static async open(file: string, largest: number, durability: Durability): Promise<JournalContent> {
    const bytes = await readStateFile(file, largest);
    const end = bytes === null ? 0 : bytes.lastIndexOf(0x0a) + 1;
    const lines = bytes === null || end === 0 ? [] : bytes.toString('utf8', 0, end - 1).split('\n');
    const journal = new Journal(file, durability, end, lines.length);
    await journal.#reopen();
    return { journal, lines, torn: bytes?.toString('utf8', end) ?? '' };
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
        if (this.#durability === 'disk') await this.#handle?.datasync();
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

  /** Keeps the file under another name, since somebody may want to know what was in it. @throws StateError */
  async setAside(as: string): Promise<void> {
    await this.#inTurn(async () => {
      await this.#handle?.close();
      this.#handle = null;
      await rename(this.#file, as).catch((error: unknown) => {
        throw new StateError(`${this.#file} cannot be set aside: ${why(error)}`);
      });
      this.#length = 0;
      this.#lines = 0;
    });
  }

  /** Resolves when everything that was asked for so far was tried. */
  async settled(): Promise<void> {
    await this.#writing;
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
