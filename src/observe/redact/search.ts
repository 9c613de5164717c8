import { sha256Hex } from '../../secret/digest.js';
import { escapeControls } from '../control-characters.js';
import type { RunJudge } from './glance.js';
import { findKeyed } from './keyed.js';
import { MAX_TOKEN, MIN_TOKEN } from './mask.js';
import { findPem } from './pem.js';
import { ENCODED, WHOLE_WORD, percentDecode } from './percent.js';
import { ODD, RunFinder } from './runs.js';
import { findSchemes } from './schemes.js';
import { type Edit, Spans, apply, compose } from './spans.js';
import { findUserInfo } from './user-info.js';

const MAX_DECODINGS = 2;

/** Nothing can be found in a text shorter than any token that has none of these. */
const WORTH_A_LOOK = /[:=@,]|bearer|basic|token|apikey|negotiate|dpop|-----/i;

/** Keys and their values, schemes, and users of URLs need one of these. */
const STRUCTURED = /[\s:=@,"'`]/;

/** All finders, over one text. */
export class SecretSearch implements RunJudge {
  readonly #runs: RunFinder;

  /** @param knowsDigest is this the SHA-256 (64 lowercase hex digits) of a secret? Null: none is known. */
  constructor(knowsDigest: ((sha256hex: string) => boolean) | null) {
    this.#runs = new RunFinder(
      knowsDigest === null
        ? null
        : (text) => text.length >= MIN_TOKEN && text.length <= MAX_TOKEN && knowsDigest(sha256Hex(text)),
    );
  }

  get knowsAny(): boolean {
    return this.#runs.knowsAny;
  }

  knows(text: string): boolean {
    return this.#runs.knows(text);
  }

  findsInRun(run: string): boolean {
    const spans = new Spans(run);
    this.#runs.findRuns(run, spans);
    return !spans.empty;
  }

  findsInWord(word: string): boolean {
    const spans = new Spans(word);
    this.#runs.findOddWords(word, spans);
    return !spans.empty;
  }

  /** What must be masked in `text`. */
  edits(text: string): Edit[] {
    if (!ENCODED.test(text)) return this.#plain(text);
    // What is encoded comes first, and whole: of base64 with `%2F` in it the plain look would hide one part, and the
    // rest would then be too short to be seen.
    let edits: Edit[] = [];
    let masked = text;
    for (let round = MAX_DECODINGS; round > 0 && ENCODED.test(masked); round--) {
      const encoded = this.#encoded(masked, round);
      if (encoded.length === 0) continue;
      edits = compose(text, edits, encoded);
      masked = apply(text, edits);
    }
    return compose(text, edits, this.#plain(masked));
  }

  /** Each word is decoded as often as this round says, so that `%2570assword%253Dx` is found as well. */
  #encoded(text: string, round: number): Edit[] {
    const edits: Edit[] = [];
    for (const { 0: word, index } of text.matchAll(WHOLE_WORD)) {
      if (!ENCODED.test(word)) continue;
      let decoded = word;
      for (let times = 0; times < round; times++) decoded = percentDecode(decoded);
      const [first, ...others] = this.#plain(decoded);
      if (first === undefined) continue;
      const put = escapeControls(apply(decoded, [first, ...others]));
      edits.push({ from: index, to: index + word.length, put, rule: first.rule });
    }
    return edits;
  }

  #plain(text: string): Edit[] {
    if (text.length < MIN_TOKEN && !WORTH_A_LOOK.test(text)) return [];
    const spans = new Spans(text);
    findPem(text, spans);
    if (STRUCTURED.test(text)) {
      findKeyed(text, spans);
      findSchemes(text, spans);
      findUserInfo(text, spans);
    }
    this.#runs.findRuns(text, spans);
    if (ODD.test(text)) this.#runs.findOddWords(text, spans);
    return spans.edits();
  }
}
