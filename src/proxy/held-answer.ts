import type { Unnamed } from '../gate/owners.js';
import type { ClientHead } from '../http/client-head.js';
import { isObject, member, parseStrictJson } from '../http/strict-json.js';

/** Answers that name something are short; a longer one passes as it comes. */
const MOST_BYTES = 64 * 1024;
const LONGEST_NAME = 256;

/** An answer that is read before it is sent on, since whatever it names must be known by the time its reader asks for it. */
export class HeldAnswer {
  readonly head: ClientHead;
  readonly pieces: Buffer[] = [];
  #bytes = 0;

  constructor(head: ClientHead) {
    this.head = head;
  }

  /** False: it has become too large to be held. The piece is kept all the same. */
  add(piece: Buffer): boolean {
    this.pieces.push(piece);
    this.#bytes += piece.length;
    return this.#bytes <= MOST_BYTES;
  }

  /** What it names; null where it is no JSON that can be read one way only, or names nothing there. */
  named(steps: readonly string[]): string | null {
    const read = parseStrictJson(Buffer.concat(this.pieces));
    if (!read.ok) return null;
    let at: unknown = read.value;
    for (const step of steps) {
      if (Array.isArray(at)) at = /^(?:0|[1-9]\d{0,5})$/.test(step) ? (at as unknown[])[Number(step)] : undefined;
      else at = isObject(at) ? member(at, step) : undefined;
    }
    const name = Number.isSafeInteger(at) ? String(at) : at;
    return typeof name === 'string' && name !== '' && name.length <= LONGEST_NAME ? name : null;
  }
}

/** Whether to hold it: null, or why it can't be read. */
export function unreadable({ fields }: ClientHead): Unnamed | null {
  let json = false;
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1] ?? '';
    switch (fields[i]) {
      case 'content-type':
        json = /^[ \t]*application\/json[ \t]*(?:;|$)/i.test(value);
        break;
      case 'content-encoding':
        if (!/^[ \t]*identity[ \t]*$/i.test(value)) return 'coded';
        break;
      case 'content-length':
        if (Number(value) > MOST_BYTES) return 'too_large';
        break;
      default:
    }
  }
  return json ? null : 'not_json';
}
