import { escapeControls } from '../observe/control-characters.js';

/** How a piece of a line is meant; shown as a colour where there is a terminal. */
export type Tone = 'good' | 'warning' | 'bad' | 'faint' | 'strong';

export interface Toned {
  readonly tone: Tone;
  readonly text: string;
}

export type Line = string | readonly (string | Toned)[];

/**
 * All that a verb says, it says through this: results to `out`, everything else to `err`. A line may hold several
 * lines. Characters that would move the cursor are written out, since file names and requests come from outside.
 */
export interface Voice {
  out(line: Line): void;
  err(line: Line): void;
  /** One JSON document on `out`. */
  json(value: unknown): void;
  /**
   * Text as it is, its line ends included, on `out`; to a terminal as `json` does. Resolves when there is room for more: false where
   * whoever reads it has gone.
   */
  pour(text: string): Promise<boolean>;
  /** What is being waited for, on a terminal's last line; nothing anywhere else. Null takes it away. */
  progress(text: string | null): void;
}

/** The part of `process.stdout` that a voice needs. */
export interface Channel {
  readonly isTTY?: boolean;
  write(text: string, done: (error?: Error | null) => void): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

const COLOURS: Readonly<Record<Tone, string>> = { good: '32', warning: '33', bad: '31', faint: '2', strong: '1' };

/** Columns that every terminal has. */
const NARROW = 80;

/** Characters that JSON may hold as they are, and that a terminal had better not see. */
const UNPRINTABLE_IN_JSON = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

export class ProcessVoice implements Voice {
  readonly #out: Output;
  readonly #err: Output;

  constructor(stdout: Channel, stderr: Channel, env: Readonly<Record<string, string | undefined>>) {
    this.#out = new Output(stdout, env);
    this.#err = new Output(stderr, env);
  }

  out(line: Line): void {
    this.#out.say(line);
  }

  err(line: Line): void {
    this.#err.say(line);
  }

  json(value: unknown): void {
    const text = JSON.stringify(value, null, 2);
    this.#out.write(`${text.replace(UNPRINTABLE_IN_JSON, inUnits)}\n`);
  }

  progress(text: string | null): void {
    this.#err.progress(text);
  }

  async pour(text: string): Promise<boolean> {
    if (text !== '') this.#out.write(this.#out.isTerminal ? text.replace(UNPRINTABLE_IN_JSON, inUnits) : text);
    await this.#out.settled();
    return !this.#out.isGone;
  }

  /** Resolves when all has been handed over: to null, or to the code of what kept stdout from taking it. */
  async settled(): Promise<string | null> {
    await this.#err.settled();
    return await this.#out.settled();
  }
}

class Output {
  readonly #channel: Channel;
  readonly #colours: boolean;
  /** A terminal on which a line can be written anew. */
  readonly #rewrites: boolean;
  #last: Promise<void> = Promise.resolve();
  #failure: string | null = null;
  /** Whoever read it. */
  isGone = false;

  constructor(channel: Channel, env: Readonly<Record<string, string | undefined>>) {
    this.#channel = channel;
    // https://no-color.org: any value but an empty one.
    this.#rewrites = channel.isTTY === true && env['TERM'] !== 'dumb';
    this.#colours = this.#rewrites && (env['NO_COLOR'] ?? '') === '';
    // Without a listener an error event ends the process with a stack; the callback of `write` has told us already.
    channel.on('error', () => undefined);
  }

  get isTerminal(): boolean {
    return this.#channel.isTTY === true;
  }

  say(line: Line): void {
    const pieces = typeof line === 'string' ? [line] : line;
    const text = pieces.map((piece) => (typeof piece === 'string' ? printable(piece) : this.#paint(piece))).join('');
    this.write(text.endsWith('\n') ? text : `${text}\n`);
  }

  progress(text: string | null): void {
    if (!this.#rewrites) return;
    // On a line of its own: longer text would wrap, and stay.
    const shown = text === null ? '' : printable(text);
    this.write(`\r\u001b[K${shown.length < NARROW ? shown : `${shown.slice(0, NARROW - 2)}…`}`);
  }

  write(text: string): void {
    this.#last = new Promise((resolve) => {
      this.#channel.write(text, (error) => {
        if (error !== null && error !== undefined) this.#failed(error);
        resolve();
      });
    });
  }

  async settled(): Promise<string | null> {
    await this.#last;
    return this.#failure;
  }

  #paint({ tone, text }: Toned): string {
    const plain = printable(text);
    return this.#colours ? `\u001b[${COLOURS[tone]}m${plain}\u001b[0m` : plain;
  }

  #failed(error: Error): void {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error';
    // Whoever reads has seen enough (`guardbee schema | head -1`).
    if (code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED') {
      this.isGone = true;
      return;
    }
    this.#failure ??= code;
  }
}

function printable(text: string): string {
  return text.split('\n').map(escapeControls).join('\n');
}

function inUnits(characters: string): string {
  return characters
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}
