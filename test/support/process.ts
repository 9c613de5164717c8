import { spawn, type ChildProcess } from 'node:child_process';
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { TemporaryDirectory } from './temporary-directory.js';
import { Watchers, within } from './wait.js';

/** The built program. This file runs from dist/test/support. */
export const GUARDBEE_ENTRY = fileURLToPath(new URL('../../src/cli/guardbee.js', import.meta.url));

/** Root of the repository. */
export const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));

export interface ProcessOptions {
  readonly args?: readonly string[];
  /** Added to a small environment: PATH, HOME and XDG_STATE_HOME in a private folder. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to stdin, which is then ended. Default: stdin is empty. */
  readonly input?: string | Buffer;
  /** Keep stdin open, to be written with `child.stdin`. */
  readonly keepStdin?: boolean;
  readonly nodeArgs?: readonly string[];
}

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One line of the JSON log. */
export type LogLine = Readonly<Record<string, unknown>>;

/** A child process under watch: its output, its log lines, its end. */
export class WatchedProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  /** Resolves when the process has ended and its output has been read to the end. */
  readonly exited: Promise<ExitStatus>;
  readonly directory: TemporaryDirectory;
  readonly #watchers = new Watchers();
  readonly #title: string;
  readonly #logLines: LogLine[] = [];
  #stdout = '';
  #stderr = '';
  #parsed = 0;
  #status: ExitStatus | null = null;

  constructor(command: string, args: readonly string[], options: ProcessOptions = {}) {
    this.#title = [command, ...args].join(' ');
    this.directory = new TemporaryDirectory();
    this.child = spawn(command, args, {
      cwd: options.cwd ?? this.directory.path,
      env: {
        PATH: process.env['PATH'],
        HOME: this.directory.path,
        XDG_STATE_HOME: this.directory.file('state'),
        TZ: 'UTC',
        ...options.env,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      this.#parseLog();
      this.#watchers.changed();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#watchers.changed();
    });
    // A process that ends without reading its input is no error of ours.
    this.child.stdin?.on('error', () => undefined);
    if (options.keepStdin !== true) this.child.stdin?.end(options.input ?? '');
    this.exited = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code, signal) => {
        this.#status = { code, signal };
        this.#watchers.changed();
        resolve(this.#status);
      });
    });
    this.exited.catch(() => undefined);
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`could not start ${this.#title}`);
    return this.child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Null while it runs. */
  get status(): ExitStatus | null {
    return this.#status;
  }

  /** The lines of stdout that are JSON objects, parsed. */
  get logLines(): readonly LogLine[] {
    return this.#logLines;
  }

  #parseLog(): void {
    for (
      let end = this.#stdout.indexOf('\n', this.#parsed);
      end !== -1;
      end = this.#stdout.indexOf('\n', this.#parsed)
    ) {
      const line = this.#stdout.slice(this.#parsed, end);
      this.#parsed = end + 1;
      if (!line.startsWith('{')) continue;
      try {
        const value: unknown = JSON.parse(line);
        if (typeof value === 'object' && value !== null) this.#logLines.push(value as LogLine);
      } catch {
        // Text that only looks like JSON; `stdout` still holds it.
      }
    }
  }

  async #until<T>(look: () => T | null | undefined, what: string, timeoutMs?: number): Promise<T> {
    return await this.#watchers.until(
      () => {
        const found = look();
        if (found !== null && found !== undefined) return found;
        if (this.#status !== null) throw new Error(`ended before ${what}: ${this.#report()}`);
        return null;
      },
      () => `${what}: ${this.#report()}`,
      timeoutMs,
    );
  }

  #report(): string {
    const status = this.#status === null ? 'running' : `exit ${String(this.#status.code ?? this.#status.signal)}`;
    return `${this.#title} (${status})\n--- stdout\n${this.#stdout.slice(-4000)}\n--- stderr\n${this.#stderr.slice(-4000)}`;
  }

  /** The first log line, past or future, that matches. */
  async waitForLog(match: (line: LogLine) => boolean, timeoutMs?: number): Promise<LogLine> {
    return await this.#until(() => this.#logLines.find(match), 'a log line', timeoutMs);
  }

  /** The first match in stdout or stderr, past or future. */
  async waitForOutput(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    return await this.#until(
      () => pattern.exec(this.#stdout) ?? pattern.exec(this.#stderr),
      `output ${String(pattern)}`,
      timeoutMs,
    );
  }

  /** Waits for its end by itself and holds it against `code`. */
  async expectExit(code: number, timeoutMs?: number): Promise<void> {
    const status = await within(this.exited, `the end of ${this.#report()}`, timeoutMs);
    assert.equal(status.code ?? status.signal, code, this.#report());
  }

  /** Sends a signal to this process, by its id. */
  signal(name: NodeJS.Signals): void {
    if (this.#status === null) process.kill(this.pid, name);
  }

  /** Sends a signal and waits for the end. */
  async kill(name: NodeJS.Signals = 'SIGKILL', timeoutMs?: number): Promise<ExitStatus> {
    this.signal(name);
    return await within(this.exited, `the end of ${this.#report()}`, timeoutMs);
  }

  /** SIGKILL where it still runs; removes its private folder. */
  async stop(): Promise<void> {
    try {
      if (this.child.pid !== undefined) await this.kill('SIGKILL');
    } finally {
      this.directory.remove();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * guardbee itself, as a child of its own.
 *
 *     await using guardbee = startGuardbee({ args: ['run', '--policy', file] });
 */
export function startGuardbee(options: ProcessOptions = {}): WatchedProcess {
  return new WatchedProcess(
    process.execPath,
    [...(options.nodeArgs ?? []), '--enable-source-maps', GUARDBEE_ENTRY, ...(options.args ?? [])],
    options,
  );
}

export interface CommandResult {
  /** Exit code; -1 where a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: ProcessOptions & { timeoutMs?: number } = {},
): Promise<CommandResult> {
  await using running = new WatchedProcess(command, args, options);
  const status = await within(running.exited, `${command} ${args.join(' ')}`, options.timeoutMs ?? 30_000);
  return { code: status.code ?? -1, stdout: running.stdout, stderr: running.stderr };
}

/** Runs one guardbee verb to its end. */
export async function runGuardbee(
  args: readonly string[],
  options: Omit<ProcessOptions, 'args'> & { timeoutMs?: number } = {},
): Promise<CommandResult> {
  return await runCommand(process.execPath, [...(options.nodeArgs ?? []), GUARDBEE_ENTRY, ...args], options);
}
