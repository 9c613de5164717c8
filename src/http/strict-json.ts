/**
 * JSON that can be read one way only. RFC 8259 §4 leaves it to each reader what a repeated member means: one takes the
 * first, another the last, and what was judged is then not what somebody else acts upon.
 */

export type StrictJson =
  | { readonly ok: true; readonly value: unknown }
  /** No JSON, no UTF-8, or more of it than anybody means. */
  | { readonly ok: false; readonly why: 'malformed' }
  /** A member twice. `depth` is 1 in the outermost object. The name is the sender's: compare it, never show it. */
  | { readonly ok: false; readonly why: 'repeated'; readonly name: string; readonly depth: number };

const MALFORMED = { ok: false, why: 'malformed' } as const;

/** Lists and objects within each other. */
const DEEPEST = 64;
/** Members of all objects together. */
const MOST_MEMBERS = 20_000;
/** Commas, lists and objects: so many values that each is an object of ours are not read at all. */
const MOST_VALUES = 500_000;
/** Up to so many names are compared one by one, which costs less than a set. */
const FEW_NAMES = 8;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_MAP = 0x7b;
const CLOSE_MAP = 0x7d;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const COMMA = 0x2c;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads UTF-8 bytes. Refused: bytes that are no UTF-8, a byte order mark, text that is no JSON, repeated members however
 * they are escaped, half surrogate pairs, and what is nested or long beyond the bounds above.
 */
export function parseStrictJson(bytes: Uint8Array): StrictJson {
  try {
    const text = UTF8.decode(bytes);
    const fault = scan(text);
    return fault ?? { ok: true, value: JSON.parse(text) as unknown };
  } catch {
    return MALFORMED;
  }
}

/** A member of its own, whatever the prototype has. Undefined where there is none, and of what is no object. */
export function member(value: unknown, name: string): unknown {
  if (!isObject(value) || !Object.hasOwn(value, name)) return undefined;
  return value[name];
}

/** A JSON object: neither null nor a list. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The names of one object so far. */
class Names {
  readonly #few: string[] = [];
  #many: Set<string> | null = null;

  /** False: it is there already. */
  add(name: string): boolean {
    if (this.#many !== null) {
      if (this.#many.has(name)) return false;
      this.#many.add(name);
      return true;
    }
    if (this.#few.includes(name)) return false;
    this.#few.push(name);
    if (this.#few.length > FEW_NAMES) this.#many = new Set(this.#few);
    return true;
  }
}

/**
 * What `JSON.parse` does not mind, or null. It looks at strings and at what nests, and leaves the grammar to
 * `JSON.parse`: of a text that is no JSON it may say anything but that it is sound, since that is asked afterwards.
 * Strings, which most of a body is, are leapt over.
 */
function scan(text: string): Exclude<StrictJson, { ok: true }> | null {
  /** Of each object that is open; null for a list. */
  const open: (Names | null)[] = [];
  let names: Names | null = null;
  let nameIsNext = false;
  let members = 0;
  let values = 0;
  /** The first backslash that does not stand before where we are; -1: there is none. */
  let backslash = text.indexOf('\\');
  for (let i = 0; i < text.length; i += 1) {
    switch (text.charCodeAt(i)) {
      case OPEN_MAP:
      case OPEN_LIST: {
        const isMap: boolean = text.charCodeAt(i) === OPEN_MAP;
        names = isMap ? new Names() : null;
        nameIsNext = isMap;
        open.push(names);
        values += 1;
        if (open.length > DEEPEST || values > MOST_VALUES) return MALFORMED;
        break;
      }
      case CLOSE_MAP:
      case CLOSE_LIST:
        open.pop();
        names = open.at(-1) ?? null;
        nameIsNext = false;
        break;
      case COMMA:
        nameIsNext = names !== null;
        values += 1;
        if (values > MOST_VALUES) return MALFORMED;
        break;
      case QUOTE: {
        const start = i;
        let end = text.indexOf('"', start + 1);
        if (backslash !== -1 && backslash < start) backslash = text.indexOf('\\', start);
        const escaped = backslash !== -1 && backslash < end;
        if (escaped) while (end !== -1 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
        if (end === -1) return MALFORMED;
        i = end;
        if (!nameIsNext || names === null) {
          if (escaped && isTorn(text.slice(start, end + 1))) return MALFORMED;
          break;
        }
        nameIsNext = false;
        members += 1;
        if (members > MOST_MEMBERS) return MALFORMED;
        // "\u0069ss" is "iss" to every reader.
        const raw = text.slice(start, end + 1);
        const name: unknown = escaped ? JSON.parse(raw) : raw.slice(1, -1);
        if (typeof name !== 'string' || (escaped && isTorn(raw))) return MALFORMED;
        if (!names.add(name)) return { ok: false, why: 'repeated', name, depth: open.length };
        break;
      }
      default:
    }
  }
  return null;
}

/** Does an odd number of backslashes stand before it. */
function isEscaped(text: string, at: number): boolean {
  let before = at - 1;
  while (text.charCodeAt(before) === BACKSLASH) before -= 1;
  return (at - before) % 2 === 0;
}

const MAY_BE_TORN = /\\u[dD][89a-fA-F]/;
/** With the `u` flag, a surrogate that has its other half is none. */
const HALF_PAIR = /\p{Surrogate}/u;

/** Does the string hold half a surrogate pair, which readers keep, replace or refuse. @param raw with its quotes */
function isTorn(raw: string): boolean {
  if (!MAY_BE_TORN.test(raw)) return false;
  const value: unknown = JSON.parse(raw);
  return typeof value !== 'string' || HALF_PAIR.test(value);
}
