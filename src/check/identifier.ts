import { type Check, type Rule, textCheck, tooLong } from './check.js';

const IDENTIFIER = /^[A-Za-z0-9_-]+$/;

/** Names of things: ASCII letters, digits, `-` and `_`. @param max in bytes */
export function identifier(required: boolean, max: number): Check {
  return textCheck('identifier', required, (text) => {
    if (text === '') return 'empty';
    if (tooLong(text, max)) return 'too_long';
    return IDENTIFIER.test(text) ? null : firstFault(text);
  });
}

/** Left to right, the first wrong character decides. */
function firstFault(text: string): Rule {
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charAt(i);
    if (c === '\0') return 'null_byte';
    // A dot before a slash is told at the slash.
    if (c === '.' && isSlash(text.charAt(i + 1))) continue;
    if (isSlash(c) && text.charAt(i - 1) === '.') return 'path_traversal';
    if (!IDENTIFIER.test(c)) return 'characters';
  }
  return 'characters';
}

function isSlash(c: string): boolean {
  return c === '/' || c === '\\';
}
