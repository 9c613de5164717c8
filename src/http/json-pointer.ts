/**
 * Places in a JSON document: JSON Pointer (RFC 6901), where a `*` stands for each element of a list. A member that is
 * itself called `*` has no pointer here.
 */
import { isObject, member } from './strict-json.js';

export const EACH = '*';

/** The reference tokens of `/a/b~1c`; null for what is no pointer, and for that of the whole document. */
export function parseJsonPointer(text: string): readonly string[] | null {
  if (!text.startsWith('/') || /~(?![01])/.test(text)) return null;
  return text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/**
 * - `ambiguous`: beside the member that is asked for stands another that is it in another case, or up to a NUL. Some
 *   readers (Go's encoding/json, cJSON) take the one for the other.
 * - `type`: something else than a list or object stands where the pointer leads through one. Some readers (serde) take a
 *   list for an object, in the order of its members.
 */
export type PointerFault = 'ambiguous' | 'type';

/**
 * Calls `visit` with each value that the pointer leads to, or with undefined where there is none, until it says
 * something. What is missing or null on the way leads to nothing.
 */
export function visitPointer<T>(
  value: unknown,
  pointer: readonly string[],
  visit: (found: unknown) => T | null,
  depth = 0,
): T | PointerFault | null {
  const token = pointer[depth];
  if (token === undefined) return visit(value);
  if (value === undefined || value === null) {
    // A list that is not there has no elements, as an empty one has none.
    return pointer.includes(EACH, depth) ? null : visit(undefined);
  }
  if (Array.isArray(value)) {
    const list = value as readonly unknown[];
    if (token === EACH) {
      for (const element of list) {
        const said = visitPointer(element, pointer, visit, depth + 1);
        if (said !== null) return said;
      }
      return null;
    }
    return /^(?:0|[1-9][0-9]{0,8})$/.test(token)
      ? visitPointer(list[Number(token)], pointer, visit, depth + 1)
      : 'type';
  }
  if (!isObject(value) || token === EACH) return 'type';
  if (hasTwin(value, token)) return 'ambiguous';
  return visitPointer(member(value, token), pointer, visit, depth + 1);
}

function hasTwin(object: Readonly<Record<string, unknown>>, name: string): boolean {
  for (const key of Object.keys(object)) {
    if (key !== name && mayBe(key, name) && fold(key.split('\0', 1)[0] ?? '') === fold(name)) return true;
  }
  return false;
}

/** Readers in C take a name to end where a NUL stands. */
function mayBe(key: string, name: string): boolean {
  return key.length === name.length || (key.length > name.length && key.charCodeAt(name.length) === 0);
}

/** U+017F is an s and U+212A a k to whoever folds case. */
function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}
