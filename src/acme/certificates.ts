import type { AcmeSettings, CertificatePair } from '../policy/policy.js';
import { StateError } from '../state/store.js';
import { AcmeFailure } from './failure.js';
import { AccountFile, AcmeFileError, HostFiles, type HostStatus, type Issued, NOTHING_TRIED } from './files.js';
import { issue } from './issue.js';
import type { PendingChallenges } from './pending-challenges.js';
import { isUrgent, limitInForce, limitUntil, quietAfterSuccess, renewalTime, retryDelay } from './renewal.js';

export { AcmeFileError };

export interface AcmeNotice {
  readonly level: 'info' | 'warn' | 'error';
  /** `acme.…` */
  readonly event: string;
  readonly message: string;
  readonly host: string;
}

export interface AcmeEvents {
  notice(notice: AcmeNotice): void;
  /** A host has another certificate now. */
  exchanged(): void;
  /** A throw that is a bug of ours; what was underway counts as failed. */
  broke(error: unknown): void;
}

/** How a host stands. Times in epoch milliseconds. */
export interface HostState {
  readonly host: string;
  /** Null: there is no certificate yet. */
  readonly notAfterMs: number | null;
  readonly renewAtMs: number | null;
  /** Attempts of this process. */
  readonly succeeded: number;
  readonly failed: number;
  readonly lastSuccessMs: number | null;
  /** Why the last attempt failed; null: it did not. */
  readonly failure: string | null;
}

export interface AcmeOptions {
  /** First wait after a failure and so on, instead of those of `retryDelay`. */
  readonly retryDelay?: typeof retryDelay;
}

interface Kept {
  readonly host: string;
  readonly files: HostFiles;
  issued: Issued | null;
  status: HostStatus;
  /** Ticks before which nothing is tried: the clock may be set while we wait. */
  waitUntil: number;
  succeeded: number;
  failed: number;
}

/** The clock may have been set, and a machine have slept. */
const LONGEST_SLEEP_MS = 600_000;

/**
 * The certificates that an ACME authority issues: read when a policy that wants them is, ordered when there are none,
 * renewed when they are due. One order at a time; what goes wrong leaves the certificate from before.
 */
export class AcmeCertificates {
  readonly #stateDir: string;
  readonly #challenges: PendingChallenges;
  readonly #events: AcmeEvents;
  readonly #retryDelay: typeof retryDelay;
  /** Those that a policy was asked about, be it in force or not. */
  readonly #kept = new Map<string, Kept>();
  #settings: AcmeSettings | null = null;
  #account: AccountFile | null = null;
  #wanted: readonly string[] = [];
  #stopped = false;
  #working: Promise<void> | null = null;
  #attempt: { readonly host: string; readonly controller: AbortController } | null = null;
  #wake: () => void = () => undefined;

  constructor(stateDir: string, challenges: PendingChallenges, events: AcmeEvents, options: AcmeOptions = {}) {
    this.#stateDir = stateDir;
    this.#challenges = challenges;
    this.#events = events;
    this.#retryDelay = options.retryDelay ?? retryDelay;
  }

  /**
   * Reads what there is of these hosts; nothing is asked for them yet.
   *
   * @throws AcmeFileError, StateError
   */
  async read(hosts: readonly string[]): Promise<void> {
    for (const host of hosts) {
      if (this.#kept.has(host)) continue;
      const files = new HostFiles(this.#stateDir, host);
      const issued = await files.readCertificate();
      const status = await files.readStatus();
      this.#kept.set(host, { host, files, issued, status, waitUntil: 0, succeeded: 0, failed: 0 });
    }
  }

  /** Of a host that was read. Null: it has none yet. */
  pairOf(host: string): CertificatePair | null {
    return this.#kept.get(host)?.issued?.pair ?? null;
  }

  /**
   * Cares for these hosts, and for no others. What failed is tried again at once: somebody may have mended it. Another
   * authority is asked at once too, whatever the one before gave or wanted.
   *
   * @param settings null: for none at all
   */
  install(settings: AcmeSettings | null, hosts: readonly string[]): void {
    const moved = this.#settings?.directory !== settings?.directory;
    this.#settings = settings;
    this.#wanted = settings === null ? [] : hosts;
    if (moved) this.#account = settings === null ? null : new AccountFile(this.#stateDir, settings.directory);
    const wanted = new Set(this.#wanted);
    for (const [host, kept] of this.#kept) {
      if (!wanted.has(host)) this.#kept.delete(host);
      else if (moved || kept.status.failures > 0) kept.waitUntil = 0;
    }
    if (this.#attempt !== null && (moved || !wanted.has(this.#attempt.host))) this.#attempt.controller.abort();
    if (!this.#stopped && wanted.size > 0) this.#working ??= this.#work();
    this.#wake();
  }

  /** Of the hosts that are cared for. */
  states(): HostState[] {
    return this.#wanted.flatMap((host): HostState[] => {
      const kept = this.#kept.get(host);
      if (kept === undefined) return [];
      const { issued, status, succeeded, failed } = kept;
      return [
        {
          host,
          notAfterMs: issued?.notAfterMs ?? null,
          renewAtMs: issued === null ? null : renewalTime(issued, issued.certificate.fingerprint256),
          succeeded,
          failed,
          lastSuccessMs: status.lastSuccessMs,
          failure: status.lastFailure?.why ?? null,
        },
      ];
    });
  }

  /** What is underway is left as it is; the next start goes on from there. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#attempt?.controller.abort();
    this.#wake();
    await this.#working;
  }

  async #work(): Promise<void> {
    while (!this.#isStopped()) {
      const next = this.#next();
      if (next !== null && next.inMs <= 0) await this.#try(next.kept);
      else await this.#sleep(Math.min(next?.inMs ?? LONGEST_SLEEP_MS, LONGEST_SLEEP_MS));
    }
  }

  /** A method, or the compiler takes the first look for the last. */
  #isStopped(): boolean {
    return this.#stopped;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      // The listeners keep the process alive, not this.
      const timer = setTimeout(resolve, ms).unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #next(): { readonly kept: Kept; readonly inMs: number } | null {
    let next: { readonly kept: Kept; readonly inMs: number } | null = null;
    for (const host of this.#wanted) {
      const kept = this.#kept.get(host);
      if (kept === undefined) continue;
      const inMs = this.#dueIn(kept);
      if (next === null || inMs < next.inMs) next = { kept, inMs };
    }
    return next;
  }

  #dueIn({ issued, status, waitUntil }: Kept): number {
    const nowMs = Date.now();
    const limit = limitInForce(status, this.#settings?.directory, nowMs);
    const isCurrent = issued !== null && issued.directory === this.#settings?.directory;
    const due = isCurrent ? renewalTime(issued, issued.certificate.fingerprint256) : -Infinity;
    // Of several that are due the first of the policy comes first.
    return Math.max(0, due - nowMs, waitUntil - performance.now(), limit === null ? 0 : limit - nowMs);
  }

  async #try(kept: Kept): Promise<void> {
    const settings = this.#settings;
    const account = this.#account;
    if (settings === null || account === null) return;
    const { host, files, status } = kept;
    const controller = new AbortController();
    this.#attempt = { host, controller };
    const { signal } = controller;
    try {
      this.#tell('info', 'asking', host, `${nameOf(settings)} is asked for a certificate of "${host}"`);
      await files.prepare();
      await issue(host, files, {
        settings,
        account,
        challenges: this.#challenges,
        signal,
        failures: status.failures,
        pause: (ms) => pause(ms, signal),
      });
      const issued = await files.readCertificate();
      if (issued === null) throw new AcmeFailure('local', 'the certificate that was just written cannot be read');
      await this.#succeeded(kept, issued, settings);
    } catch (error) {
      if (signal.aborted) return;
      if (!isExpected(error)) this.#events.broke(error);
      await this.#failed(
        kept,
        isExpected(error) ? error : new AcmeFailure('local', 'guardbee made a mistake'),
        settings,
      );
    } finally {
      this.#attempt = null;
    }
  }

  async #succeeded(kept: Kept, issued: Issued, settings: AcmeSettings): Promise<void> {
    const nowMs = Date.now();
    const { host } = kept;
    kept.issued = issued;
    kept.succeeded += 1;
    kept.waitUntil = performance.now() + quietAfterSuccess(issued);
    kept.status = { ...NOTHING_TRIED, lastSuccessMs: nowMs };
    this.#events.exchanged();
    const until = new Date(issued.notAfterMs).toISOString();
    this.#tell('info', 'issued', host, `${nameOf(settings)} issued a certificate of "${host}", valid until ${until}`);
    if (issued.notAfterMs <= nowMs || issued.notBeforeMs > nowMs) {
      this.#tell(
        'warn',
        'clock',
        host,
        `by this machine's clock the new certificate of "${host}" is not valid now: look at the clock`,
      );
    }
    await this.#note(kept);
  }

  async #failed(kept: Kept, error: ExpectedError, settings: AcmeSettings): Promise<void> {
    const nowMs = Date.now();
    const { host, issued } = kept;
    const isOfAuthority = error instanceof AcmeFailure && error.fault !== 'local';
    const why = isOfAuthority ? `${nameOf(settings)}: ${error.message}` : error.message;
    const failures = kept.status.failures + 1;
    const isLimit = error instanceof AcmeFailure && (error.fault === 'rate_limited' || error.retryAfterMs !== null);
    const delay = this.#retryDelay(failures, issued, Math.random());
    const notBeforeMs = isLimit ? limitUntil(error.retryAfterMs, nowMs) : null;
    kept.failed += 1;
    kept.waitUntil = performance.now() + delay;
    const limitedBy = isLimit ? settings.directory : null;
    kept.status = { ...kept.status, failures, lastFailure: { atMs: nowMs, why }, notBeforeMs, limitedBy };
    const seconds = Math.round(Math.max(delay, (notBeforeMs ?? 0) - nowMs) / 1000);
    const isBad = issued === null || isUrgent(issued, nowMs);
    const serves =
      issued === null
        ? 'there is none'
        : `the one from before is valid until ${new Date(issued.notAfterMs).toISOString()}`;
    this.#tell(
      isBad ? 'error' : 'warn',
      'failed',
      host,
      `no new certificate of "${host}": ${why}; ${serves}; the next attempt is in ${String(seconds)} s`,
    );
    await this.#note(kept);
  }

  async #note({ host, files, status }: Kept): Promise<void> {
    try {
      await files.writeStatus(status);
    } catch (error) {
      if (!isExpected(error)) throw error;
      this.#tell('warn', 'not_kept', host, `what became of the attempt cannot be noted: ${error.message}`);
    }
  }

  #tell(level: AcmeNotice['level'], what: string, host: string, message: string): void {
    this.#events.notice({ level, event: `acme.${what}`, message, host });
  }
}

type ExpectedError = AcmeFailure | AcmeFileError | StateError;

/** Anything else is a mistake of ours. */
function isExpected(error: unknown): error is ExpectedError {
  return error instanceof AcmeFailure || error instanceof AcmeFileError || error instanceof StateError;
}

function nameOf({ directory }: AcmeSettings): string {
  return new URL(directory).host;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      reject(new AcmeFailure('local', 'guardbee is being stopped'));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end);
      resolve();
    }, ms);
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}
