import { type FileHandle, open, rename } from 'node:fs/promises';
import * as path from 'node:path';
import type { Revocable } from '../identity/identity.js';
import type { Standing } from '../identity/revocation.js';
import type { RevocationSettings } from '../policy/policy.js';
import { RevocationMemory } from './revocation-memory.js';
import { readStateFile, replaceStateFile, syncDirectory, why } from './state-directory.js';
import {
  type Revocation,
  type RevocationStore,
  StateError,
  type StoreStatus,
  type Tell,
  revocationOf,
} from './store.js';

const FILE = 'revocations.ndjson';
/** Entries that still matter; a few hundred bytes each, on disk and in memory. */
export const MOST_REVOCATIONS = 100_000;
/** The longest line holds an issuer and a jti of a credential's largest size, escaped. */
const LARGEST_FILE = 256 * 1024 * 1024;
const LONGEST_TEXT = 8192;
/** Lines that say nothing any more, before the file is written anew. */
const SLACK = 1000;

/**
 * Revocations in a file of this process's own: one JSON line each, added at the end and on the disk before `put`
 * resolves. Everything is read at the start; asking costs a look into a map.
 *
 * A last line without its line end was being written when the machine stopped, and nobody was told that it is kept: it
 * is dropped. Any other line that cannot be read may have been a revocation: then nobody is known to be good until an
 * operator accepts the loss.
 */
export class FileRevocations implements RevocationStore {
  readonly #file: string;
  readonly #tell: Tell;
  readonly #memory = new RevocationMemory();
  #handle: FileHandle | null = null;
  /** Bytes of the file that are whole lines. */
  #length = 0;
  #lines = 0;
  /** Why nobody is known to be good; null: all is well. */
  #lost: string | null = null;
  /** One write at a time, in the order they were asked for. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, tell: Tell) {
    this.#file = path.join(dir, FILE);
    this.#tell = tell;
  }

  /** @throws StateError when the file can't be read or written */
  static async open(dir: string, nowMs: number, tell: Tell): Promise<FileRevocations> {
    const store = new FileRevocations(dir, tell);
    await store.#load(nowMs);
    return store;
  }

  get status(): StoreStatus {
    const entries = this.#memory.size;
    return this.#lost === null
      ? { state: 'up', detail: `${String(entries)} kept in the state directory`, lost: false, entries }
      : { state: 'unknown', detail: this.#lost, lost: true, entries };
  }

  standing(of: Revocable, nowMs: number): Standing {
    if (this.#memory.has(of, nowMs)) return 'revoked';
    return this.#lost === null ? 'good' : 'unknown';
  }

  known(of: Revocable, nowMs: number): Standing {
    return this.standing(of, nowMs);
  }

  async revoke(of: Revocable, nowMs: number): Promise<void> {
    await this.put(revocationOf(of), of.settings, nowMs);
  }

  async put(revocation: Revocation, _settings: RevocationSettings | null, nowMs: number): Promise<void> {
    if (revocation.untilMs <= nowMs) return;
    if (this.#memory.size >= MOST_REVOCATIONS) this.#memory.forgetEnded(nowMs);
    if (this.#memory.size >= MOST_REVOCATIONS) {
      throw new StateError(
        `there are ${String(MOST_REVOCATIONS)} revocations, which is as many as are kept; revoke by subject instead`,
      );
    }
    // It holds from here on, whatever becomes of the disk.
    if (!this.#memory.add(revocation)) {
      // What makes it known may still be on its way to the disk.
      await this.#writing;
      return;
    }
    const line = `${JSON.stringify(toLine(revocation, nowMs))}\n`;
    await this.#inTurn(async () => {
      await this.#append(line);
      if (this.#lines > 2 * this.#memory.size + SLACK) await this.#compact(nowMs);
    });
  }

  list(nowMs: number, most: number): { readonly entries: readonly Revocation[]; readonly total: number } {
    return this.#memory.list(nowMs, most);
  }

  async acceptLoss(nowMs: number): Promise<boolean> {
    if (this.#lost === null) return false;
    await this.#inTurn(async () => {
      await this.#handle?.close();
      this.#handle = null;
      // Kept, since somebody may want to know what it was.
      await rename(this.#file, `${this.#file}.damaged-${String(nowMs)}`).catch((error: unknown) => {
        throw new StateError(`${this.#file} cannot be set aside: ${why(error)}`);
      });
      await this.#compact(nowMs);
      this.#lost = null;
    });
    return true;
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

  async #load(nowMs: number): Promise<void> {
    const bytes = await readStateFile(this.#file, LARGEST_FILE);
    let broken = 0;
    if (bytes !== null) {
      const end = bytes.lastIndexOf(0x0a) + 1;
      for (let start = 0; start < end;) {
        const stop = bytes.indexOf(0x0a, start);
        const read = fromLine(bytes.toString('utf8', start, stop));
        this.#lines += 1;
        if (read === null) broken += 1;
        else if (read.untilMs > nowMs) this.#memory.add(read);
        start = stop + 1;
      }
      this.#length = end;
      if (end < bytes.length) {
        // Whole in itself, it can only make more void: then it is kept.
        const last = fromLine(bytes.toString('utf8', end));
        if (last !== null && last.untilMs > nowMs) this.#memory.add(last);
        this.#tell({
          store: 'embedded',
          level: 'warn',
          event: 'revocations.torn_line',
          message: `the last line of ${this.#file} was being written when the machine stopped; it is ${last === null ? 'dropped' : 'kept'}`,
        });
        if (last !== null && broken === 0) await this.#compact(nowMs);
      }
    }
    if (broken > 0) {
      this.#lost = `${String(broken)} ${broken === 1 ? 'line' : 'lines'} of ${this.#file} cannot be read, and may have been revocations`;
      this.#tell({
        store: 'embedded',
        level: 'error',
        event: 'revocations.lost',
        message: `${this.#lost}; "guardbee revoke --accept-loss" goes on without them`,
      });
    }
    if (this.#memory.size > MOST_REVOCATIONS) {
      throw new StateError(`${this.#file} holds more than ${String(MOST_REVOCATIONS)} revocations`);
    }
    if (this.#handle === null) await this.#reopen();
    if (broken === 0 && this.#lines > 2 * this.#memory.size + SLACK) await this.#compact(nowMs);
  }

  /** Opens for appending; what follows the last whole line goes away, so that the next line begins at a line's beginning. */
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

  async #append(line: string): Promise<void> {
    if (this.#handle === null) await this.#reopen();
    const handle = this.#handle;
    if (handle === null) throw new StateError(`${this.#file} is not open`);
    try {
      await handle.appendFile(line);
      await handle.datasync();
    } catch (error) {
      // A part of the line may be there: the next one must not be glued to it.
      await handle.truncate(this.#length).catch(() => undefined);
      throw new StateError(
        `${this.#file} cannot be written: ${why(error)}; the revocation holds until this process ends, and no longer`,
      );
    }
    this.#length += Buffer.byteLength(line);
    this.#lines += 1;
  }

  /** Writes the file anew, with what still matters. */
  async #compact(nowMs: number): Promise<void> {
    this.#memory.forgetEnded(nowMs);
    const lines = [...this.#memory.entries()].map((one) => `${JSON.stringify(toLine(one, nowMs))}\n`);
    const text = lines.join('');
    await replaceStateFile(this.#file, text);
    this.#length = Buffer.byteLength(text);
    this.#lines = lines.length;
    await this.#reopen();
  }
}

type Line = Readonly<Record<string, string | number | null>>;

/** JSON has no Infinity: null is without end. */
function toLine(revocation: Revocation, nowMs: number): Line {
  const until = Number.isFinite(revocation.untilMs) ? revocation.untilMs : null;
  return revocation.kind === 'jti'
    ? { v: 1, at: nowMs, iss: revocation.issuer, jti: revocation.jti, until }
    : { v: 1, at: nowMs, iss: revocation.issuer, sub: revocation.subject, before: revocation.beforeMs, until };
}

function fromLine(text: string): Revocation | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const line = value as Readonly<Record<string, unknown>>;
  const { v, iss, jti, sub, before, until } = line;
  if (v !== 1 || !isText(iss)) return null;
  const untilMs = until === null ? Infinity : until;
  if (typeof untilMs !== 'number' || Number.isNaN(untilMs)) return null;
  if (isText(jti)) return { kind: 'jti', issuer: iss, jti, untilMs };
  if (!isText(sub) || typeof before !== 'number' || !Number.isFinite(before)) return null;
  return { kind: 'subject', issuer: iss, subject: sub, beforeMs: before, untilMs };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= LONGEST_TEXT;
}
