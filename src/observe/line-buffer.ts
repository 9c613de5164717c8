/** What is kept for the next lines; a time when nothing could be written may have made more of it. */
const KEPT_BYTES = 128 * 1024;
const FIRST_BYTES = 16 * 1024;

/**
 * Lines that wait to be written, as bytes. As text, each would be a tree of the pieces that it was put together from,
 * and the collector would move all of them each time that it runs.
 */
export class LineBuffer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #used = 0;
  /** What was taken and may still be read. */
  #out: Buffer | null = null;
  #spare: Buffer | null = null;

  /** In bytes. */
  get length(): number {
    return this.#used;
  }

  /** @param lines whole ones, each with its line end */
  add(lines: string): void {
    const { length } = lines;
    // A UTF-16 unit is three bytes of UTF-8 at most.
    if (this.#bytes.length - this.#used < length * 3) this.#makeRoom(Buffer.byteLength(lines));
    this.#used += this.#bytes.write(lines, this.#used, 'utf8');
  }

  addFirst(lines: string): void {
    const rest = Buffer.from(this.#bytes.subarray(0, this.#used));
    this.#used = 0;
    this.add(lines);
    this.#makeRoom(rest.length);
    this.#used += rest.copy(this.#bytes, this.#used);
  }

  /** All there is. It stays what it is until `written`. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#used);
    this.#out = this.#bytes;
    this.#bytes = this.#spare ?? Buffer.allocUnsafeSlow(FIRST_BYTES);
    this.#spare = null;
    this.#used = 0;
    return taken;
  }

  /** Nobody reads what was taken last any more. */
  written(): void {
    if (this.#out !== null && this.#out.length <= KEPT_BYTES) this.#spare = this.#out;
    this.#out = null;
  }

  #makeRoom(bytes: number): void {
    const needed = this.#used + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#used);
    this.#bytes = larger;
  }
}
