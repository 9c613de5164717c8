/**
 * What systemd is told of a service of `Type=notify` or `notify-reload`: that it is ready, reloads, ends, and is well
 * (sd_notify(3)). Node has no unix datagram sockets, so systemd's own program `systemd-notify` says it. That is a child of
 * ours, and only root may speak in another process's name: the unit needs `NotifyAccess=all` (systemd issue 24516).
 *
 * Nothing here can end the service or hold it up: a program that is missing, slow or broken is logged once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import type { Log } from '../observe/log.js';
import { constant } from '../observe/redact.js';

/** `systemd-notify` waits up to 5 s for systemd to have read what it said (sd_notify_barrier(3)). */
const LONGEST_NOTICE_MS = 10_000;

/** How long the end of the program waits for the last word to be said. */
const LONGEST_FAREWELL_MS = 500;

/** Of `setTimeout`. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface NoticeSettings {
  /** `$NOTIFY_SOCKET`, as it was given: a path, or an abstract name after `@`. */
  readonly socket: string;
  /** How often systemd wants to hear that all is well, in milliseconds; null: never. */
  readonly watchdogMs: number | null;
  /** Where `systemd-notify` is looked for. */
  readonly path: string;
}

/**
 * What systemd asks of this process, or null where it asks nothing. The variables are taken out of the environment: no
 * child is to speak for us.
 */
export function takeNoticeSettings(env: NodeJS.ProcessEnv, pid: number): NoticeSettings | null {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: forPid, PATH: path } = env;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(env, name);
  if (socket === undefined || !/^[/@]./.test(socket)) return null;
  const asked = usec !== undefined && /^[1-9]\d{0,18}$/.test(usec) && (forPid ?? String(pid)) === String(pid);
  return {
    socket,
    watchdogMs: asked ? Number(usec) / 1000 : null,
    path: path ?? '/usr/local/bin:/usr/bin:/bin',
  };
}

export interface Vitals {
  /** Do all listeners of the policy take connections? */
  readonly listening: () => boolean;
}

/** Tells systemd, one thing after the other. */
export class ServiceNotices {
  readonly #settings: NoticeSettings;
  readonly #log: Log;
  #last: Promise<void> = Promise.resolve();
  #underway: ChildProcess | null = null;
  #watchdog: NodeJS.Timeout | null = null;
  #looking = false;
  #failed = false;
  #unwell = false;
  #pinging = false;
  /** There is no such program, or all is said. */
  #silent = false;
  #closed = false;

  constructor(settings: NoticeSettings, log: Log) {
    this.#settings = settings;
    this.#log = log;
  }

  /** Serving. From now on the watchdog is told, for as long as all is well. */
  ready(status: string, vitals: Vitals): void {
    this.#say(['READY=1', `STATUS=${status}`]);
    const { watchdogMs } = this.#settings;
    if (watchdogMs === null) return;
    // Half of it, as sd_watchdog_enabled(3) recommends.
    const everyMs = Math.min(Math.max(1, Math.floor(watchdogMs / 2)), LONGEST_TIMER_MS);
    this.#watchdog = setInterval(() => {
      void this.#tellWatchdog(vitals, watchdogMs);
    }, everyMs).unref();
  }

  /** A reload has begun. systemd compares the moment with the one at which it asked for one (systemd.service(5)). */
  reloading(): void {
    const usec = process.hrtime.bigint() / 1000n;
    this.#say(['RELOADING=1', `MONOTONIC_USEC=${String(usec)}`, 'STATUS=Reading the policy again']);
  }

  reloaded(status: string): void {
    this.#say(['READY=1', `STATUS=${status}`]);
  }

  /** The end has begun. @param longestMs that it may take, whatever `TimeoutStopSec=` says */
  stopping(longestMs: number): void {
    this.#say(['STOPPING=1', 'STATUS=Draining', `EXTEND_TIMEOUT_USEC=${String(Math.ceil(longestMs) * 1000)}`]);
  }

  /** Says nothing more. Leaves no child behind. */
  async close(): Promise<void> {
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LONGEST_FAREWELL_MS);
    });
    await Promise.race([this.#last, late]);
    clearTimeout(timer);
    this.#silent = true;
    this.#closed = true;
    this.#underway?.kill('SIGKILL');
  }

  /** A turn of the event loop has brought us here; so does one of the threads that look at files, or nothing is said. */
  async #tellWatchdog({ listening }: Vitals, watchdogMs: number): Promise<void> {
    if (this.#looking) {
      this.#isWell(false, 'the threads of Node that read files do not answer');
      return;
    }
    this.#looking = true;
    const startedMs = performance.now();
    // Whether it is there does not matter, but that somebody answers.
    await stat('/').catch(() => undefined);
    this.#looking = false;
    const slow = performance.now() - startedMs >= watchdogMs;
    if (!this.#isWell(!slow && listening(), slow ? 'reading files takes too long' : 'a listener takes no connections'))
      return;
    // One that waits is enough.
    if (this.#pinging) return;
    this.#pinging = true;
    this.#say(['WATCHDOG=1']);
    await this.#last;
    this.#pinging = false;
  }

  #isWell(well: boolean, otherwise: string): boolean {
    if (!well && !this.#unwell)
      this.#log.error('systemd.unwell', `the watchdog of systemd is not told that all is well: ${otherwise}`);
    this.#unwell = !well;
    return well;
  }

  #say(words: readonly string[]): void {
    this.#last = this.#last.then(async () => {
      if (!this.#silent) await this.#run(words);
    });
  }

  /** Never rejects. */
  async #run(words: readonly string[]): Promise<void> {
    const { socket, path } = this.#settings;
    const outcome = await new Promise<string | null>((resolve) => {
      // It gets what it needs and nothing else: our environment may name secrets, and be one.
      const child = spawn('systemd-notify', words, {
        cwd: '/',
        env: { NOTIFY_SOCKET: socket, PATH: path },
        stdio: 'ignore',
      });
      this.#underway = child;
      child.unref();
      const late = setTimeout(() => {
        child.kill('SIGKILL');
        resolve(`did not end within ${String(LONGEST_NOTICE_MS / 1000)} s`);
      }, LONGEST_NOTICE_MS).unref();
      const ended = (how: string | null): void => {
        clearTimeout(late);
        resolve(how);
      };
      child.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') this.#silent = true;
        ended(error.code === 'ENOENT' ? 'is not there' : `cannot be started (${error.code ?? 'unknown'})`);
      });
      child.once('exit', (code, signal) => {
        ended(code === 0 ? null : `ended with ${code === null ? (signal ?? '') : String(code)}`);
      });
    });
    this.#underway = null;
    const failed = outcome !== null;
    if (failed && !this.#failed && !this.#closed) {
      this.#log.warn(
        'systemd.not_told',
        `systemd wants to be told that guardbee is ready, and systemd-notify ${outcome}: install it, or write Type=exec into the unit`,
        { 'guardbee.notice': constant((words[0] ?? '').replace(/=.*/, '')) },
      );
    }
    this.#failed = failed;
  }
}
