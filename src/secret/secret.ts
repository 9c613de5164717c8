import { inspect } from 'node:util';

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
