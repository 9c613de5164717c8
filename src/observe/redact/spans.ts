import { mask } from './mask.js';

/** Why something is masked. */
export type Rule =
  /** The value of a key that names a secret. */
  | 'key_value'
  | 'authorization'
  | 'cookie'
  /** What follows `Bearer`, `Basic` and the like, wherever they stand. */
  | 'scheme'
  /** The password of a URL, or the user where there is no password. */
  | 'url_userinfo'
  | 'pem'
  | 'jwt'
  /** A prefix that a maker of tokens uses: `ghp_`, `hf_`, `AKIA`. */
  | 'token_shape'
  /** A secret of the policy, by its digest. */
  | 'known'
  /** Nobody knows it, but it looks like key material. */
  | 'random'
  | 'hex';

/** `put` takes the place of what stands from `from` up to `to`, in UTF-16 code units. */
export interface Edit {
  readonly from: number;
  readonly to: number;
  readonly put: string;
  readonly rule: Rule;
}

/** What to replace, collected by the finders in any order; where two overlap the earlier begins and both are hidden. */
export class Spans {
  readonly #text: string;
  readonly #spans: Edit[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  get empty(): boolean {
    return this.#spans.length === 0;
  }

  mask(rule: Rule, from: number, to: number): void {
    this.#spans.push({ from, to, put: mask(this.#text.slice(from, to)), rule });
  }

  add(rule: Rule, from: number, to: number, put: string): void {
    this.#spans.push({ from, to, put, rule });
  }

  /** In order, none touching another's characters. */
  edits(): Edit[] {
    if (this.#spans.length < 2) return this.#spans;
    const edits: Edit[] = [];
    let last: Edit | undefined;
    for (const span of this.#spans.sort((a, b) => a.from - b.from || b.to - a.to)) {
      if (last === undefined || span.from >= last.to) {
        last = span;
        edits.push(span);
      } else if (span.to > last.to) {
        last = { ...last, to: span.to };
        edits[edits.length - 1] = last;
      }
    }
    return edits;
  }
}

/** @param edits in order, without overlaps. */
export function apply(text: string, edits: readonly Edit[]): string {
  if (edits.length === 0) return text;
  let out = '';
  let at = 0;
  for (const { from, to, put } of edits) {
    out += text.slice(at, from) + put;
    at = to;
  }
  return out + text.slice(at);
}

/**
 * A second look at what a first one has changed, told in places of the text as it was: where an edit of `second`
 * touches one of `first`, both become one.
 *
 * @param first edits of `text`
 * @param second edits of `apply(text, first)`
 */
export function compose(text: string, first: readonly Edit[], second: readonly Edit[]): Edit[] {
  const between = apply(text, first);
  const edits: Edit[] = [];
  /** By how much places in `between` are ahead of those in `text`, after `first[one - 1]`. */
  let ahead = 0;
  let one = 0;
  let two = 0;
  for (;;) {
    const before = first[one];
    const after = second[two];
    if (before === undefined && after === undefined) return edits;
    const begins = before === undefined ? Infinity : before.from + ahead;
    const start = Math.min(begins, after?.from ?? Infinity);
    const from = start - ahead;
    let end = start;
    let at = start;
    let put = '';
    let rule: Rule | null = null;
    // Everything that hangs together, of either.
    for (;;) {
      const next = first[one];
      const other = second[two];
      if (next !== undefined && (next.from + ahead < end || next.from + ahead === start)) {
        end = Math.max(end, next.from + ahead + next.put.length);
        ahead += next.put.length - (next.to - next.from);
        rule ??= next.rule;
        one++;
      } else if (other !== undefined && (other.from < end || other.from === start)) {
        put += between.slice(at, other.from) + other.put;
        at = other.to;
        end = Math.max(end, other.to);
        rule ??= other.rule;
        two++;
      } else {
        break;
      }
    }
    edits.push({ from, to: end - ahead, put: put + between.slice(at, end), rule: rule ?? 'known' });
  }
}
