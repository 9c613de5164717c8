import { main } from '../../src/cli/guardbee.js';
import { ProcessVoice, type Channel } from '../../src/cli/voice.js';
import type { CommandResult } from '../support/process.js';

/** What a verb says, kept. */
export class Capture implements Channel {
  text = '';
  readonly isTTY: boolean;
  /** Code that every write fails with. */
  readonly #fails: string | null;

  constructor(options: { readonly isTTY?: boolean; readonly fails?: string } = {}) {
    this.isTTY = options.isTTY ?? false;
    this.#fails = options.fails ?? null;
  }

  write(text: string, done: (error?: Error | null) => void): boolean {
    if (this.#fails === null) this.text += text;
    const error = this.#fails === null ? null : Object.assign(new Error('write failed'), { code: this.#fails });
    setImmediate(() => done(error));
    return true;
  }

  on(): this {
    return this;
  }
}

/** Runs one verb in this process: for the many cases that only differ in their input. Paths are absolute. */
export async function perform(...argv: string[]): Promise<CommandResult> {
  const out = new Capture();
  const err = new Capture();
  const code = await main(argv, new ProcessVoice(out, err, {}));
  return { code, stdout: out.text, stderr: err.text };
}
