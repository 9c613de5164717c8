/**
 * JSON that can be read one way only. RFC 8259 §4 leaves it to each reader what a repeated member means: one takes the
 * first, another the last, and what was judged is then not what somebody else acts upon.
 */

export type StrictJson = { readonly ok: true; readonly value: unknown } | { readonly ok: false };

const NOT_JSON: StrictJson = { ok: false };

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_MAP = 0x7b;
const CLOSE_MAP = 0x7d;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const COMMA = 0x2c;

/** Reads UTF-8 bytes. Refused: bytes that are no UTF-8, a byte order mark, text that is no JSON, repeated members. */
export function parseStrictJson(bytes: Uint8Array): StrictJson {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    return NOT_JSON;
  }
  return repeatsAMember(text) ? NOT_JSON : { ok: true, value };
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

/** @param text is JSON already, so all that is looked for are strings where a name stands. */
function repeatsAMember(text: string): boolean {
  /** The names so far of each object that is open; null for a list. */
  const open: (Set<string> | null)[] = [];
  let names: Set<string> | null = null;
  let nameIsNext = false;
  for (let i = 0; i < text.length; i += 1) {
    switch (text.charCodeAt(i)) {
      case OPEN_MAP:
        names = new Set();
        open.push(names);
        nameIsNext = true;
        break;
      case OPEN_LIST:
        names = null;
        open.push(names);
        nameIsNext = false;
        break;
      case CLOSE_MAP:
      case CLOSE_LIST:
        open.pop();
        names = open.at(-1) ?? null;
        nameIsNext = false;
        break;
      case COMMA:
        nameIsNext = names !== null;
        break;
      case QUOTE: {
        const start = i;
        let escaped = false;
        for (i += 1; text.charCodeAt(i) !== QUOTE; i += 1) {
          if (text.charCodeAt(i) !== BACKSLASH) continue;
          escaped = true;
          i += 1;
        }
        if (!nameIsNext || names === null) break;
        nameIsNext = false;
        // "\u0069ss" is "iss" to every reader.
        const raw = text.slice(start, i + 1);
        const name: unknown = escaped ? JSON.parse(raw) : raw.slice(1, -1);
        if (typeof name !== 'string' || names.has(name)) return true;
        names.add(name);
        break;
      }
      default:
    }
  }
  return false;
}
