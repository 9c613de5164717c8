/** A row for each run: its length, then its bytes. Longer runs are not remembered. */
const ROW = 64;
/** A megabyte of them. */
const ROWS = 16_384;

/**
 * Remembers which runs of bytes were looked at and held nothing: logs say the same paths, modules and clients again and
 * again. A run has one place, by a sum over its bytes, and the last one that had it stays: it never grows.
 * What is said to be remembered was compared byte for byte.
 */
export class ClearedRuns {
  readonly #rows: Uint8Array;
  readonly #lastRow: number;
  /** Where the run of the last `has` belongs. */
  #row = 0;

  /** @param rows how many runs are remembered at most; a power of two */
  constructor(rows = ROWS) {
    this.#rows = new Uint8Array(rows * ROW);
    this.#lastRow = rows - 1;
  }

  has(bytes: Buffer, from: number, to: number): boolean {
    const length = to - from;
    if (length >= ROW) return false;
    let sum = length;
    for (let at = from; at < to; at++) sum = Math.imul(sum ^ (bytes[at] ?? 0), 0x01000193);
    const row = ((sum ^ (sum >>> 15)) & this.#lastRow) * ROW;
    this.#row = row;
    const rows = this.#rows;
    if (rows[row] !== length) return false;
    for (let at = from, kept = row + 1; at < to; at++, kept++) {
      if (rows[kept] !== bytes[at]) return false;
    }
    return true;
  }

  /** The run that `has` was just asked about, and did not have. */
  add(bytes: Buffer, from: number, to: number): void {
    const length = to - from;
    if (length >= ROW) return;
    this.#rows[this.#row] = length;
    bytes.copy(this.#rows, this.#row + 1, from, to);
  }
}
