import type { Redactor } from '../redact.js';
import { MASK } from './mask.js';
import { PEM_BEGIN, PEM_END, afterPemEnd } from './pem.js';
import { type Edit, apply } from './spans.js';

/** A block that never ends must not silence the rest of the stream. */
const MAX_PEM_LINES = 200;

/**
 * `Redactor.mask` for a stream, line by line: never a line more or less, and none waits for another. It remembers
 * only whether it stands inside a PEM block.
 */
export class LineRedactor {
  readonly #redactor: Pick<Redactor, 'edits'>;
  #pemLines = 0;

  constructor(redactor: Pick<Redactor, 'edits'>) {
    this.#redactor = redactor;
  }

  /** Every character of the next line is masked, up to an END in it. */
  get insidePem(): boolean {
    return this.#pemLines > 0;
  }

  /** @param text one line, without its line end. */
  line(text: string): string {
    return apply(text, this.edits(text));
  }

  /** What of the line is masked, and why. The line counts: to be asked once for each. */
  edits(text: string): Edit[] {
    if (this.#pemLines === 0) return this.#plain(text, 0);
    const end = text.indexOf(PEM_END);
    if (end < 0) {
      this.#pemLines = this.#pemLines < MAX_PEM_LINES ? this.#pemLines + 1 : 0;
      return [{ from: 0, to: text.length, put: MASK, rule: 'pem' }];
    }
    this.#pemLines = 0;
    const after = afterPemEnd(text, end);
    return [{ from: 0, to: after, put: MASK, rule: 'pem' }, ...this.#plain(text.slice(after), after)];
  }

  /**
   * For a line that was looked at elsewhere.
   * @param insidePem where a BEGIN (true) or an END (false) was the last of the two in it, null where there was neither.
   */
  passed(insidePem: boolean | null): void {
    if (insidePem !== null) this.#pemLines = insidePem ? 1 : 0;
    else if (this.#pemLines > 0) this.#pemLines = this.#pemLines < MAX_PEM_LINES ? this.#pemLines + 1 : 0;
  }

  #plain(text: string, offset: number): Edit[] {
    const begin = text.lastIndexOf(PEM_BEGIN);
    if (begin >= 0 && !text.includes(PEM_END, begin)) this.#pemLines = 1;
    const edits = this.#redactor.edits(text);
    return offset === 0 ? edits : edits.map((edit) => ({ ...edit, from: edit.from + offset, to: edit.to + offset }));
  }
}
