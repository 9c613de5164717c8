/**
 * Anybody can bring about lines in the log by connecting, thousands in a second. So many are written; the rest is counted
 * by what it would have said, and told together when the second is over.
 */
export class LineLimit {
  readonly #perSecond: number;
  readonly #told: (what: string, count: number) => void;
  readonly #more = new Map<string, number>();
  #left = 0;
  #second: NodeJS.Timeout | null = null;

  /**
   * @param told has what was not written, of each kind
   */
  constructor(perSecond: number, told: (what: string, count: number) => void) {
    this.#perSecond = perSecond;
    this.#told = told;
  }

  /** @param what a kind of line, of which there are few. False: it is counted, and not to be written. */
  admits(what: string): boolean {
    if (this.#second === null) {
      this.#left = this.#perSecond;
      this.#second = setTimeout(this.#over, 1000);
      this.#second.unref();
    }
    if (this.#left > 0) {
      this.#left -= 1;
      return true;
    }
    this.#more.set(what, (this.#more.get(what) ?? 0) + 1);
    return false;
  }

  readonly #over = (): void => {
    this.#second = null;
    for (const [what, count] of this.#more) this.#told(what, count);
    this.#more.clear();
  };
}
