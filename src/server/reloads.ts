import type { Evidence } from '../observe/audit/evidence.js';
import type { Log } from '../observe/log.js';
import type { Metrics } from '../observe/metrics.js';
import { constant } from '../observe/redact.js';
import type { Issue, IssueCode } from '../policy/issue.js';
import type { Policy } from '../policy/policy.js';
import type { FilesRead } from '../secret/files.js';
import { AddressError } from './address-error.js';
import { CertificateError } from './certificate.js';
import type { FileWatch } from './file-watch.js';
import { type ReadAgain, ReloadError, type Reloaded, StoppingError, logWarnings, placed } from './reloading.js';
import { SessionKeyError } from './session-key.js';
import { StateError } from './state.js';

export interface ReloadWatcher {
  began(): void;
  /** @param outcome null: it failed inside guardbee */
  ended(outcome: Reloaded | null): void;
}

export interface ReloadsInit {
  /** Reads the policy again, with all that it names. */
  readonly readAgain: () => Promise<ReadAgain>;
  /** All of it or nothing. */
  readonly goOverTo: (read: ReadAgain & { readonly ok: true }) => Promise<Reloaded>;
  readonly inForce: () => Policy;
  readonly stopping: () => boolean;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Null: there is no audit. */
  readonly evidence: () => Evidence | null;
  readonly watcher: ReloadWatcher | undefined;
}

/** Reloads, whoever asks for them, or because files have changed: one at a time; logged, counted and recorded. */
export class Reloads {
  readonly #init: ReloadsInit;
  readonly #oneAtATime = new OneAtATime(() => this.#watched());
  /** Somebody waits for what comes of the next reload, or is to hear of it. */
  #aloud = false;
  #failed: string | null = null;
  #fileWatch: FileWatch | null = null;

  constructor(init: ReloadsInit) {
    this.#init = init;
  }

  /** Why the last one changed nothing; null: it did, or there was none. */
  get failed(): string | null {
    return this.#failed;
  }

  /** What comes of it is said. */
  async ask(): Promise<Reloaded> {
    this.#aloud = true;
    return await this.#oneAtATime.ask();
  }

  /** The one that there is, where there is one; another that is not started yet; null where none is wanted. */
  async fileWatchOf({ watch }: Policy, files: FilesRead): Promise<FileWatch | null> {
    if (!watch) return null;
    if (this.#fileWatch !== null) return this.#fileWatch;
    const { FileWatch } = await import('./file-watch.js');
    return new FileWatch({ files, reload: async (aloud) => await this.#filesChanged(aloud) });
  }

  /** Null: none from here on. */
  watchFiles(next: FileWatch | null): void {
    const before = this.#fileWatch;
    if (next === before) return;
    this.#fileWatch = next;
    before?.stop();
    next?.start();
  }

  async #filesChanged(aloud: boolean): Promise<void> {
    if (this.#init.stopping()) return;
    try {
      if (aloud) this.#aloud = true;
      await this.#oneAtATime.ask();
    } catch (error) {
      const { log } = this.#init;
      log.error('policy.reload_broke', 'a reload failed inside guardbee', log.errorFields(error));
    }
  }

  async #watched(): Promise<Reloaded> {
    const { watcher } = this.#init;
    const aloud = this.#aloud;
    this.#aloud = false;
    if (aloud) watcher?.began();
    let outcome: Reloaded | null = null;
    try {
      outcome = await this.#reload(aloud);
      return outcome;
    } finally {
      if (aloud || outcome?.ok === true) watcher?.ended(outcome);
    }
  }

  /** @param aloud what fails is said; it is not where it may be the middle of a change */
  async #reload(aloud: boolean): Promise<Reloaded> {
    const { log, metrics } = this.#init;
    const before = this.#init.inForce().version;
    let outcome: Reloaded;
    let files: FilesRead | null = null;
    try {
      const read = await this.#init.readAgain();
      ({ files } = read);
      if (!read.ok) throw new ReloadError(read.exitCode, read.issues);
      outcome = await this.#init.goOverTo(read);
    } catch (error) {
      if (error instanceof StoppingError) return { ok: false, before, exitCode: 1, issues: [] };
      const failed = problemOf(error, this.#init.inForce());
      if (failed === null) throw error;
      outcome = { ok: false, before, exitCode: failed.exitCode, issues: failed.issues };
    }
    const failure = aloud ? 'failed_aloud' : 'failed_quietly';
    if (files !== null) this.#fileWatch?.wasRead(files, outcome.ok ? 'taken_over' : failure);
    if (!outcome.ok && !aloud) {
      log.debug('policy.reload_waits', 'what the files of the policy hold cannot be taken over, or not yet', {
        'guardbee.policy_version': constant(before),
        'error.type': constant(outcome.issues[0]?.code ?? 'unknown'),
      });
      return outcome;
    }
    metrics.reloaded(outcome.ok, Date.now());
    if (outcome.ok) {
      this.#failed = null;
      log.info('policy.reloaded', `the policy was read again: ${outcome.changes.join('; ') || 'nothing has changed'}`, {
        'guardbee.policy': constant(this.#init.inForce().file),
        'guardbee.policy_version': constant(outcome.after),
        'guardbee.policy_version_before': constant(before),
        'guardbee.exchanges_refused': outcome.refused,
      });
      logWarnings(outcome.warnings, log);
    } else {
      const [first] = outcome.issues;
      this.#failed = first === undefined ? 'no reason is known' : placed(first);
      log.error(
        'policy.reload_failed',
        `the policy could not be read again; version ${before} stays in force (${String(outcome.issues.length)} ${outcome.issues.length === 1 ? 'problem' : 'problems'})`,
        { 'guardbee.policy_version': constant(before), 'guardbee.exit_code': outcome.exitCode },
      );
      for (const issue of outcome.issues) log.error(`policy.${issue.code}`, placed(issue));
    }
    const evidence = this.#init.evidence();
    await evidence?.note(
      'reloaded',
      outcome.ok ? { before, after: outcome.after } : { before, code: outcome.issues[0]?.code ?? 'unknown' },
      outcome.ok ? {} : { result: 'failed' },
    );
    return outcome;
  }
}

/** What an operator can mend, as issues; null: a bug of ours. */
function problemOf(
  error: unknown,
  policy: Policy,
): { readonly exitCode: number; readonly issues: readonly Issue[] } | null {
  if (error instanceof ReloadError) return error;
  const issue = (code: IssueCode, key = ''): Issue => ({
    severity: 'error',
    code,
    file: policy.file,
    line: 0,
    column: 0,
    key,
    message: error instanceof Error ? error.message : '',
  });
  if (error instanceof AddressError) {
    const key = error.listener === 'admin' ? 'admin.bind' : `listeners.${error.listener}.bind`;
    return { exitCode: 5, issues: [issue('address_unavailable', key)] };
  }
  if (error instanceof StateError) return { exitCode: 1, issues: [issue('state_unusable')] };
  if (error instanceof SessionKeyError) return { exitCode: 4, issues: [issue('state_unusable')] };
  if (error instanceof CertificateError) {
    const tooOpen = error.code === 'key_too_open' || error.code === 'dir_too_open';
    return { exitCode: tooOpen ? 4 : 1, issues: [issue('bad_certificate')] };
  }
  return null;
}

/** One at a time; who asks while one is underway gets one that begins afterwards, together with all others who do. */
class OneAtATime<T> {
  readonly #work: () => Promise<T>;
  #underway: Promise<T> | null = null;
  #next: Promise<T> | null = null;

  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  ask(): Promise<T> {
    // Asked first: when one has ended, the next begins a moment later.
    if (this.#next !== null) return this.#next;
    if (this.#underway === null) return this.#begin();
    this.#next = this.#underway.then(
      () => this.#begin(),
      () => this.#begin(),
    );
    return this.#next;
  }

  #begin(): Promise<T> {
    this.#next = null;
    const done = this.#work().finally(() => {
      if (this.#underway === done) this.#underway = null;
    });
    this.#underway = done;
    return done;
  }
}
