/** guardbee as a process that keeps an audit trail, on a disk that does as the test says. */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AuditRecord, readRecord } from '../../src/observe/audit/record.js';
import { type Guard, type GuardOptions, startGuard } from '../support/guard.js';
import type { PolicyValue } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

export interface AuditedOptions extends GuardOptions {
  /** Keys of `audit:`. */
  readonly audit?: Readonly<Record<string, PolicyValue>>;
}

export class AuditedGuard implements AsyncDisposable {
  readonly guard: Guard;
  readonly dir: string;
  readonly #folder: TemporaryDirectory;

  private constructor(guard: Guard, folder: TemporaryDirectory, dir: string) {
    this.guard = guard;
    this.#folder = folder;
    this.dir = dir;
  }

  static async start(options: AuditedOptions, does = ''): Promise<AuditedGuard> {
    const folder = new TemporaryDirectory();
    const { audit, ...rest } = options;
    const file = folder.file('disk');
    writeFileSync(file, does);
    const dir = typeof audit?.['dir'] === 'string' ? audit['dir'] : folder.file('log');
    try {
      const guard = await startGuard({
        ...rest,
        top: { ...rest.top, audit: { min_free: '1KiB', ...audit, dir } },
        env: { ...rest.env, DISK_DOES: file },
        nodeArgs: [...(rest.nodeArgs ?? []), '--import', new URL('./failing-disk.js', import.meta.url).href],
      });
      return new AuditedGuard(guard, folder, dir);
    } catch (error) {
      folder.remove();
      throw error;
    }
  }

  /** From here on. Empty: it works. */
  disk(does: '' | 'hang' | 'stuck' | 'EROFS' | 'EIO'): void {
    if (does === 'stuck') spawnSync('mkfifo', [this.#folder.file('disk.fifo')]);
    writeFileSync(this.#folder.file('disk'), does);
  }

  /** What stands in the files, on the disk or not. */
  get records(): AuditRecord[] {
    const files = readdirSync(this.dir).filter((name) => name.endsWith('.ndjson'));
    return files.sort().flatMap((name) => {
      const lines = readFileSync(join(this.dir, name), 'utf8').split('\n');
      return lines.flatMap((line) => {
        const read = readRecord(Buffer.from(line));
        return read.ok ? [read.record] : [];
      });
    });
  }

  async record(match: (record: AuditRecord) => boolean, what = 'the record'): Promise<AuditRecord> {
    return await waitUntil(() => this.records.find(match), what);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disk('');
    try {
      await this.guard[Symbol.asyncDispose]();
    } finally {
      this.#folder.remove();
    }
  }
}
