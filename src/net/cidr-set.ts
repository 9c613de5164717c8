import type { Address, AddressWords } from './address.js';
import type { CidrRange } from './cidr.js';

const WORD = 0xffff_ffffn;

/**
 * A set of address ranges, compiled so that a look-up costs the same for ten ranges and for ten thousand: sorted,
 * merged, in integers, found by halving. Immutable.
 */
export class CidrSet {
  static readonly EMPTY = new CidrSet([]);

  /** As written in the policy, in that order. */
  readonly texts: readonly string[];

  /** Merged IPv4 ranges, ascending: the range i is all from `#v4First[i]` to `#v4Last[i]`. */
  readonly #v4First: Uint32Array;
  readonly #v4Last: Uint32Array;
  /** The same for IPv6, four words each, most significant first. */
  readonly #v6First: Uint32Array;
  readonly #v6Last: Uint32Array;

  /** Ranges may overlap, touch or repeat. */
  constructor(ranges: readonly CidrRange[]) {
    this.texts = Object.freeze(ranges.map((range) => range.text));
    const v4 = merge(ranges.filter((range) => range.family === 4));
    this.#v4First = Uint32Array.from(v4, (span) => Number(span.first & WORD));
    this.#v4Last = Uint32Array.from(v4, (span) => Number(span.last & WORD));
    const v6 = merge(ranges.filter((range) => range.family === 6));
    this.#v6First = Uint32Array.from(v6.flatMap((span) => words(span.first)));
    this.#v6Last = Uint32Array.from(v6.flatMap((span) => words(span.last)));
    Object.freeze(this);
  }

  /** How many ranges were written; merged ones count each. */
  get size(): number {
    return this.texts.length;
  }

  /**
   * Is the address in one of the ranges. IPv4 (and its v4-mapped form) is looked up among the IPv4 ranges only, other
   * IPv6 among the IPv6 ranges only: `::/0` does not let IPv4 in.
   */
  has(address: Address): boolean {
    // By index: destructuring would walk an iterator on every look-up.
    const words = address.words;
    if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) return this.#hasV4(words[3]);
    return this.#hasV6(words[0], words[1], words[2], words[3]);
  }

  #hasV4(value: number): boolean {
    const first = this.#v4First;
    // Everything below `low` starts at or before the value, everything from `high` on after it.
    let low = 0;
    let high = first.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((first[middle] ?? 0) <= value) low = middle + 1;
      else high = middle;
    }
    return low > 0 && value <= (this.#v4Last[low - 1] ?? 0);
  }

  #hasV6(a: number, b: number, c: number, d: number): boolean {
    const first = this.#v6First;
    let low = 0;
    let high = first.length >>> 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareAt(first, middle, a, b, c, d) <= 0) low = middle + 1;
      else high = middle;
    }
    return low > 0 && compareAt(this.#v6Last, low - 1, a, b, c, d) >= 0;
  }
}

/** Below, at or above zero as the i-th four words of `array` are below, equal to or above a:b:c:d. */
function compareAt(array: Uint32Array, i: number, a: number, b: number, c: number, d: number): number {
  const at = i << 2;
  // Past the end cannot happen; the fallback satisfies the type.
  return (array[at] ?? 0) - a || (array[at + 1] ?? 0) - b || (array[at + 2] ?? 0) - c || (array[at + 3] ?? 0) - d;
}

interface Span {
  readonly first: bigint;
  readonly last: bigint;
}

/** Ascending spans that neither overlap nor touch, covering the same addresses. */
function merge(ranges: readonly CidrRange[]): Span[] {
  const spans = ranges
    .map((range): Span => ({ first: integer(range.first), last: integer(range.last) }))
    .sort((x, y) => (x.first < y.first ? -1 : x.first > y.first ? 1 : 0));
  const merged: Span[] = [];
  for (const span of spans) {
    const before = merged.at(-1);
    if (before === undefined || span.first > before.last + 1n) merged.push(span);
    else if (span.last > before.last) merged[merged.length - 1] = { first: before.first, last: span.last };
  }
  return merged;
}

function integer([a, b, c, d]: AddressWords): bigint {
  return (BigInt(a) << 96n) | (BigInt(b) << 64n) | (BigInt(c) << 32n) | BigInt(d);
}

function words(value: bigint): number[] {
  return [96n, 64n, 32n, 0n].map((shift) => Number((value >> shift) & WORD));
}
