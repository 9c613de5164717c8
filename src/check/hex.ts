import { type Check, textCheck } from './check.js';

const HEX = /^[0-9A-Fa-f]*$/;

/** Hexadecimal digits in either case. @param length exactly this many: 64 for SHA-256, 40 for SHA-1, 32 for MD5 */
export function hex(required: boolean, length: number): Check {
  return textCheck('hex', required, (text) => {
    if (Buffer.byteLength(text, 'utf8') !== length) return 'wrong_length';
    if (HEX.test(text)) return null;
    // The first wrong character decides.
    return /[^0-9A-Fa-f]/.exec(text)?.[0] === '\0' ? 'null_byte' : 'not_hex';
  });
}
