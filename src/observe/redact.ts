/**
 * Takes secrets out of text. Everything that comes from outside passes here before it is written anywhere, and passes
 * again where it is written. Pure, and linear in the length of the text whatever the text is: every finder either
 * steps forward or masks what it has scanned, so that no input makes it scan twice.
 *
 * What is found: the values of keys that name a secret, credentials after their scheme, cookies, PEM blocks, JWTs,
 * tokens of known shapes, passwords in URLs, every run of 16 or more characters whose SHA-256 is that of a known
 * token, and runs that look like key material even if unknown. What is percent-encoded is looked at decoded.
 */
import { sha256Hex } from '../secret/digest.js';
import { escapeControls } from './control-characters.js';
import { MASK, MAX_TOKEN, MIN_TOKEN } from './redact/mask.js';
import { SecretSearch } from './redact/search.js';
import { shorten, window } from './redact/shorten.js';
import { type Edit, apply } from './redact/spans.js';
import { TAME_NAME } from './redact/tame-name.js';

declare const printable: unique symbol;

/** Text without secrets and without control characters: the only kind of outside text a log takes. Made here alone. */
export type Printable = string & { readonly [printable]: true };

/** For literals of our own and for names out of the policy. They are not searched: never pass what a request said. */
export function constant(text: string): Printable {
  return escapeControls(text) as Printable;
}

export interface RedactorOptions {
  /** Is this the SHA-256 (64 lowercase hex digits) of a credential of ours? */
  readonly knowsDigest: (sha256hex: string) => boolean;
}

export class Redactor {
  readonly #knowsDigest: (sha256hex: string) => boolean;
  readonly #search: SecretSearch;
  #generation = 0;

  constructor(options: RedactorOptions) {
    this.#knowsDigest = options.knowsDigest;
    this.#search = new SecretSearch(options.knowsDigest);
  }

  /** Changes when the known digests do: whoever remembers what was redacted then forgets it. */
  get generation(): number {
    return this.#generation;
  }

  /** To be called when `knowsDigest` would now answer otherwise, that is after a reload. */
  digestsChanged(): void {
    this.#generation++;
  }

  /** For one value of a log line. Longer text is cut at `limit`, never inside a secret. */
  redactText(text: string, limit = 16_384): Printable {
    if (text.length <= limit) {
      const clean = escapeControls(this.mask(text));
      return (clean.length <= limit ? clean : shorten(clean, limit)) as Printable;
    }
    return shorten(escapeControls(this.mask(window(text, limit))), limit) as Printable;
  }

  /** A request path, raw. */
  redactPath(path: string): Printable {
    return this.ordinaryPath(path) ?? this.redactText(path, MAX_PATH);
  }

  /**
   * The path itself where a glance is enough: short lower-case segments and UUIDs, and none that is a known token. It
   * then needs no escaping either, in JSON or elsewhere.
   */
  ordinaryPath(path: string): Printable | null {
    if (path.length > MAX_PATH || !ORDINARY_PATH.test(path) || this.#holdsKnownSegment(path)) return null;
    return path as Printable;
  }

  #holdsKnownSegment(path: string): boolean {
    if (path.length <= MIN_TOKEN) return false;
    for (let start = 1; start < path.length;) {
      const slash = path.indexOf('/', start);
      const end = slash < 0 ? path.length : slash;
      if (end - start >= MIN_TOKEN && this.#isKnown(path.slice(start, end))) return true;
      start = end + 1;
    }
    return false;
  }

  /** A query, raw: names stay where they are ordinary, values never do. */
  redactQuery(query: string): Printable {
    const pieces: string[] = [];
    let start = 0;
    while (start <= query.length) {
      if (pieces.length === MAX_PARAMETERS) {
        pieces.push('…');
        break;
      }
      const next = query.indexOf('&', start);
      const end = next < 0 ? query.length : next;
      pieces.push(this.#redactParameter(query, start, end));
      start = end + 1;
    }
    return pieces.join('&') as Printable;
  }

  #redactParameter(query: string, start: number, end: number): string {
    if (start === end) return '';
    const equals = query.indexOf('=', start);
    if (equals < 0 || equals >= end) return MASK;
    const name = query.slice(start, Math.min(equals, start + MAX_NAME + 1));
    const tame = TAME_NAME.test(name) && (name.length < MIN_TOKEN || this.mask(name) === name);
    return `${tame ? name : MASK}=${equals + 1 === end ? '' : MASK}`;
  }

  /**
   * The chosen fields of an error: its code, its name, its message, redacted. Never the error itself: some carry what
   * they complain about (jose puts the whole claims set on it), and a stack repeats the message.
   */
  redactError(error: unknown): Readonly<Record<'error.type' | 'error.message', Printable>> {
    const type = property(error, 'code') ?? property(error, 'name') ?? typeof error;
    const message = typeof error === 'string' ? error : (property(error, 'message') ?? '');
    return { 'error.type': this.redactText(type, 64), 'error.message': this.redactText(message, 1024) };
  }

  /**
   * Secrets masked, all else as it was, line ends and control characters too: for streams of text that are not ours.
   * Idempotent: what is masked once stays as it is.
   */
  mask(text: string): string {
    return apply(text, this.#search.edits(text));
  }

  /** What `mask` would change, and why. */
  edits(text: string): Edit[] {
    return this.#search.edits(text);
  }

  #isKnown(text: string): boolean {
    return text.length >= MIN_TOKEN && text.length <= MAX_TOKEN && this.#knowsDigest(sha256Hex(text));
  }
}

const MAX_PATH = 1024;
const MAX_NAME = 40;
const MAX_PARAMETERS = 64;

/** Each segment is too short for a token, or a UUID, or one after a word: `job-0b6f1c1e-…`. */
const ORDINARY_PATH =
  /^(?:\/(?:[a-z0-9_.~-]{0,15}|(?:(?!xox|xapp|glpat)[a-z]{3,12}-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?=\/|$))*$/;

/** Errors can be anything, and a getter can throw. */
function property(value: unknown, name: string): string | null {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return null;
  try {
    const found: unknown = Reflect.get(value, name);
    return typeof found === 'string' && found !== '' ? found : null;
  } catch {
    return null;
  }
}
