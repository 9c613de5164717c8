import { inspect } from 'node:util';
import { sha256Hex } from './digest.js';

const MASK = '[secret]';

/**
 * A credential that prints as a mask in every channel: string conversion, template literals, JSON, `util.inspect`,
 * `console.log`, `Object.entries`. The bytes come out through `reveal()` alone; the places that may call it stand in
 * a list that a test holds against the source.
 */
export class Secret {
  readonly #bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Takes ownership of `bytes`: `wipe()` overwrites that very memory. */
  static fromBytes(bytes: Buffer): Secret {
    return new Secret(bytes);
  }

  static fromText(text: string): Secret {
    return new Secret(Buffer.from(text, 'utf8'));
  }

  /** Length in bytes. */
  get length(): number {
    return this.#bytes.length;
  }

  /** The secret itself. Callers are listed in `test/secret/reveal-golden-list.test.ts`. */
  reveal(): string {
    return this.#bytes.toString('utf8');
  }

  /**
   * SHA-256 (64 lowercase hex digits) of the whole, of each word of it and of the password in it: a field value such as
   * `Bearer TOKEN` is recognised in a log by its token alone, the URL of a Redis by its password. Digests are what a
   * redactor may know.
   */
  digests(): string[] {
    const text = this.#bytes.toString('utf8');
    const parts = [text, ...text.split(/\s+/), ...passwordsIn(text)];
    return [...new Set(parts)].filter((part) => part !== '').map(sha256Hex);
  }

  /** Overwrites the memory. Copies made by `reveal()` are strings, which Node cannot wipe (SECURITY.md says so). */
  wipe(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [Symbol.toPrimitive](): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}

/** What a URL or a field value of Basic (RFC 7617) holds behind the user name; in a URL as written, and as meant. */
function passwordsIn(text: string): string[] {
  const [, inUrl] = /^[a-z][a-z0-9+.-]*:\/\/[^/?#@:]*:([^/?#@]*)@/i.exec(text) ?? [];
  if (inUrl !== undefined) return [inUrl, decoded(inUrl)];
  const [, pair] = /^Basic ([A-Za-z0-9+/]+=*)$/i.exec(text) ?? [];
  if (pair === undefined) return [];
  const inPair = Buffer.from(pair, 'base64').toString('utf8');
  return inPair.includes(':') ? [inPair.slice(inPair.indexOf(':') + 1)] : [];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
