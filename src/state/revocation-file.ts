import * as path from 'node:path';
import type { Revocable } from '../identity/identity.js';
import type { Standing } from '../identity/revocation.js';
import type { RevocationSettings } from '../policy/policy.js';
import { Journal, parseLine } from './journal.js';
import { RevocationMemory } from './revocation-memory.js';
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
  readonly #journal: Journal;
  /** Why nobody is known to be good; null: all is well. */
  #lost: string | null = null;

  private constructor(file: string, journal: Journal, tell: Tell) {
    this.#file = file;
    this.#journal = journal;
    this.#tell = tell;
  }

  /** @throws StateError when the file can't be read or written */
  static async open(dir: string, nowMs: number, tell: Tell): Promise<FileRevocations> {
    const file = path.join(dir, FILE);
    const { journal, lines, torn } = await Journal.open(file, LARGEST_FILE, 'disk');
    const store = new FileRevocations(file, journal, tell);
    await store.#take(lines, torn, nowMs);
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
      await this.#journal.settled();
      return;
    }
    try {
      await this.#journal.append(toLine(revocation, nowMs));
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      throw new StateError(`${error.message}; the revocation holds until this process ends, and no longer`);
    }
    if (this.#journal.lines > 2 * this.#memory.size + SLACK) await this.#compact(nowMs);
  }

  list(nowMs: number, most: number): { readonly entries: readonly Revocation[]; readonly total: number } {
    return this.#memory.list(nowMs, most);
  }

  async acceptLoss(nowMs: number): Promise<boolean> {
    if (this.#lost === null) return false;
    await this.#journal.setAside(`${this.#file}.damaged-${String(nowMs)}`);
    await this.#compact(nowMs);
    this.#lost = null;
    return true;
  }

  async close(): Promise<void> {
    await this.#journal.close();
  }

  async #take(lines: readonly string[], torn: string, nowMs: number): Promise<void> {
    let broken = 0;
    for (const line of lines) {
      const read = fromLine(line);
      if (read === null) broken += 1;
      else if (read.untilMs > nowMs) this.#memory.add(read);
    }
    if (torn !== '') {
      // Whole in itself, it can only make more void: then it is kept.
      const last = fromLine(torn);
      if (last !== null && last.untilMs > nowMs) this.#memory.add(last);
      this.#tell({
        store: 'embedded',
        level: 'warn',
        event: 'revocations.torn_line',
        message: `the last line of ${this.#file} was being written when the machine stopped; it is ${last === null ? 'dropped' : 'kept'}`,
      });
      if (last !== null && broken === 0) await this.#compact(nowMs);
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
    if (broken === 0 && this.#journal.lines > 2 * this.#memory.size + SLACK) await this.#compact(nowMs);
  }

  /** Writes the file anew, with what still matters. */
  async #compact(nowMs: number): Promise<void> {
    await this.#journal.rewrite(() => {
      this.#memory.forgetEnded(nowMs);
      return [...this.#memory.entries()].map((one) => toLine(one, nowMs));
    });
  }
}

/** JSON has no Infinity: null is without end. */
function toLine(revocation: Revocation, nowMs: number): string {
  const until = Number.isFinite(revocation.untilMs) ? revocation.untilMs : null;
  return JSON.stringify(
    revocation.kind === 'jti'
      ? { v: 1, at: nowMs, iss: revocation.issuer, jti: revocation.jti, until }
      : { v: 1, at: nowMs, iss: revocation.issuer, sub: revocation.subject, before: revocation.beforeMs, until },
  );
}

function fromLine(text: string): Revocation | null {
  const line = parseLine(text);
  if (line === null) return null;
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
