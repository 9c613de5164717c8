/**
 * The only place that writes logs. One JSON object a line, or one line of words for a person at a terminal. What is
 * written was redacted when it was put together, and is redacted here again: forgetting once is not a leak.
 */
import { isatty } from 'node:tty';
import { type Logger, pino } from 'pino';
import type { LogLevel, LogSettings } from '../policy/policy.js';
import type { AccessLine } from './record.js';
import { type Printable, type Redactor, constant } from './redact.js';
import { LineSink, type LinesElsewhere } from './sink.js';
import { timestamp } from './timestamp.js';

/** Names as OpenTelemetry has them; ours begin with `guardbee.`. What is null is left out. */
export type LogFields = Readonly<Record<string, Printable | number | boolean | null>>;

/** Where the log goes when the policy names no file. */
export interface LogStream {
  readonly fd: number;
  readonly terminal: boolean;
  readonly colours: boolean;
  /** Where another process writes the lines, whatever the policy names. */
  readonly elsewhere?: LinesElsewhere;
}

export interface LogTimings {
  readonly flushBytes: number;
  readonly flushMs: number;
  readonly maxBytes: number;
}

const SEVERITY: Readonly<Record<LogLevel, number>> = Object.freeze({
  trace: 10,
  debug: 20,
  info: 30,
  warn: 40,
  error: 50,
});

/** For pipes and files: a few dozen lines at a time, a tenth of a second late at most, at most 4 MiB behind. */
const BATCHED: LogTimings = Object.freeze({ flushBytes: 65_536, flushMs: 100, maxBytes: 4 * 1024 * 1024 });
/** Somebody is watching. */
const AT_ONCE: LogTimings = Object.freeze({ ...BATCHED, flushBytes: 1, flushMs: 0 });

/** @throws the system's error when the log file can't be opened. */
export function createLog(
  settings: LogSettings,
  redactor: Redactor,
  stream: LogStream = standardOutput(),
  timings: Partial<LogTimings> = {},
): Log {
  return new Log(settings, redactor, stream, timings);
}

/** Colours are for terminals, and not for those who set NO_COLOR (no-color.org). */
export function standardOutput(): LogStream {
  const terminal = isatty(1);
  const plain = (process.env['NO_COLOR'] ?? '') !== '' || process.env['TERM'] === 'dumb';
  return { fd: 1, terminal, colours: terminal && !plain };
}

export class Log {
  readonly format: 'json' | 'text';
  /** Only ever true of text. */
  readonly colours: boolean;
  readonly #redactor: Redactor;
  readonly #sink: LineSink;
  /** Where the log is a file; the file has everything. */
  readonly #standardOutput: LineSink | null;
  readonly #json: Logger;
  #written = '';
  #level: LogLevel;
  #severity: number;

  constructor(settings: LogSettings, redactor: Redactor, stream: LogStream, timings: Partial<LogTimings>) {
    const terminal = settings.file === null && stream.terminal;
    this.format = settings.format === 'auto' ? (terminal ? 'text' : 'json') : settings.format;
    this.colours = this.format === 'text' && settings.file === null && stream.colours;
    this.#redactor = redactor;
    this.#level = settings.level;
    this.#severity = SEVERITY[settings.level];
    this.#json = pino(
      {
        level: 'trace',
        base: null,
        messageKey: 'msg',
        timestamp: () => `,"time":"${timestamp(Date.now())}"`,
        formatters: { level: (label) => ({ level: label.toUpperCase() }) },
      },
      {
        write: (line: string) => {
          this.#written = line.slice(0, -1);
        },
      },
    );
    const lost = (lines: number): string =>
      this.#line('warn', 'log.lines_lost', `${lines} log lines were lost: they could not be written in time`, {
        'guardbee.lines_lost': lines,
      });
    this.#sink = new LineSink({
      target: stream.elsewhere ?? (settings.file === null ? { fd: stream.fd } : { file: settings.file }),
      ...(terminal ? AT_ONCE : BATCHED),
      ...timings,
      lost,
    });
    this.#standardOutput =
      settings.file === null || stream.elsewhere !== undefined
        ? null
        : new LineSink({ target: { fd: stream.fd }, ...BATCHED, ...timings, lost });
  }

  get level(): LogLevel {
    return this.#level;
  }

  set level(level: LogLevel) {
    this.#level = level;
    this.#severity = SEVERITY[level];
  }

  /** Lines dropped since the start, because the reader was slow or the disk full. */
  get droppedLines(): number {
    return this.#sink.dropped;
  }

  /** Code of the error that keeps lines from being written (`ENOSPC`), or null. */
  get trouble(): string | null {
    return this.#sink.trouble;
  }

  enabled(level: LogLevel): boolean {
    return SEVERITY[level] >= this.#severity;
  }

  trace(event: string, msg: string, fields?: LogFields): void {
    this.#say('trace', event, msg, fields);
  }

  debug(event: string, msg: string, fields?: LogFields): void {
    this.#say('debug', event, msg, fields);
  }

  info(event: string, msg: string, fields?: LogFields): void {
    this.#say('info', event, msg, fields);
  }

  warn(event: string, msg: string, fields?: LogFields): void {
    this.#say('warn', event, msg, fields);
  }

  error(event: string, msg: string, fields?: LogFields): void {
    this.#say('error', event, msg, fields);
  }

  /**
   * What is said whatever the level, and on standard output too where the log is a file: whoever keeps that elsewhere
   * has it from there.
   */
  evidence(event: string, msg: string, fields: LogFields): void {
    const line = this.#line('info', event, msg, fields);
    this.#sink.write(line);
    this.#standardOutput?.write(line);
  }

  /** What of an error may be logged: its code or name, and its message without secrets. Never its stack. */
  errorFields(error: unknown): LogFields {
    return this.#redactor.redactError(error);
  }

  /** A line that `AccessRecorder` has made, of cleaned fields only. */
  access(line: AccessLine): void {
    this.#sink.write(line);
  }

  /** Lines that a worker has made, each with its line end. */
  passOn(lines: string): void {
    let count = 0;
    for (let at = lines.indexOf('\n'); at !== -1; at = lines.indexOf('\n', at + 1)) count++;
    this.#sink.writeLines(lines, count);
  }

  /** For logrotate: whoever moved the file away sends SIGUSR1. */
  reopen(): void {
    const error = this.#sink.reopen();
    if (error !== null) this.error('log.reopen_failed', 'the log file could not be reopened', this.errorFields(error));
  }

  /** Begins to write what is held back. */
  flush(): void {
    this.#sink.flush();
    this.#standardOutput?.flush();
  }

  /** Writes what is held back, waiting for a slow reader no longer than `patienceMs`, and ends the log. */
  async close(patienceMs?: number): Promise<void> {
    await Promise.all([this.#sink.close(patienceMs), this.#standardOutput?.close(patienceMs)]);
  }

  #say(level: LogLevel, event: string, msg: string, fields: LogFields | undefined): void {
    if (!this.enabled(level)) return;
    this.#sink.write(this.#line(level, event, msg, fields ?? {}));
    // What is wrong should be on the disk even if it is the last thing that happens.
    if (level === 'error') this.#sink.flush();
  }

  #line(level: LogLevel, event: string, msg: string, fields: LogFields): string {
    const clean: Record<string, string | number | boolean> = {};
    for (const [name, value] of Object.entries(fields)) {
      if (value === null) continue;
      clean[this.#redactor.redactText(name, 64)] = typeof value === 'string' ? this.#redactor.redactText(value) : value;
    }
    const what = this.#redactor.redactText(msg);
    if (this.format === 'json') {
      this.#json[level]({ 'event.name': constant(event), ...clean }, what);
      return this.#written;
    }
    const words = Object.entries(clean).map(([name, value]) => `${name}=${asWord(String(value))}`);
    return textLine(level, Date.now(), [what, ...words].join(' '), this.colours);
  }
}

const COLOUR: Readonly<Record<LogLevel, string>> = Object.freeze({
  trace: '\u001b[2m',
  debug: '\u001b[2m',
  info: '\u001b[32m',
  warn: '\u001b[33m',
  error: '\u001b[31m',
});
const PLAIN = '\u001b[0m';
const FAINT = '\u001b[2m';

/** A line for people: time, level, words. */
export function textLine(level: LogLevel, epochMs: number, words: string, colours: boolean): string {
  const time = timestamp(epochMs);
  const name = level.toUpperCase().padEnd(5);
  return colours ? `${FAINT}${time}${PLAIN} ${COLOUR[level]}${name}${PLAIN} ${words}` : `${time} ${name} ${words}`;
}

function asWord(text: string): string {
  return /^[^\s"]+$/.test(text) ? text : JSON.stringify(text);
}
