/**
 * Bytes as text and back, whatever they are: what is UTF-8 becomes its characters, and each byte that is not becomes a
 * lone surrogate, U+DC80 to U+DCFF, which no UTF-8 decodes to. So text that was not changed is written as it was read.
 * (Python calls it surrogateescape, PEP 383.)
 */
import { isUtf8 } from 'node:buffer';

/** First half of the range: byte 0x80 is U+DC80. */
const ESCAPE = 0xdc00;

// With the flag `u` the halves of a pair are not found.
const ESCAPED = /[\udc80-\udcff]/u;
const ALL_ESCAPED = /[\udc80-\udcff]/gu;

export function textOf(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  let good = 0;
  for (let at = 0; at < bytes.length;) {
    const length = sequenceAt(bytes, at);
    if (length > 0) {
      at += length;
      continue;
    }
    if (at > good) text += bytes.toString('utf8', good, at);
    text += String.fromCharCode(ESCAPE + (bytes[at] ?? 0));
    at++;
    good = at;
  }
  return text + bytes.toString('utf8', good);
}

export function bytesOf(text: string): Buffer {
  if (!ESCAPED.test(text)) return Buffer.from(text, 'utf8');
  const bytes = Buffer.allocUnsafe(Buffer.byteLength(text));
  let length = 0;
  let good = 0;
  for (const { index } of text.matchAll(ALL_ESCAPED)) {
    if (index > good) length += bytes.write(text.slice(good, index), length);
    bytes[length++] = text.charCodeAt(index) - ESCAPE;
    good = index + 1;
  }
  length += bytes.write(text.slice(good), length);
  return bytes.subarray(0, length);
}

/** How many bytes at the end may be the beginning of a character: 0 to 3. */
export function unfinishedCharacter(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return byte >= (back === 1 ? 0xc0 : back === 2 ? 0xe0 : 0xf0) ? back : 0;
  }
  return 0;
}

/** Length of the well-formed sequence at `at` (Unicode, table 3-7), 0 where there is none. */
function sequenceAt(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const second = bytes[at + 1] ?? 0;
  if (first >= 0xc2 && first <= 0xdf) return isContinuation(second) ? 2 : 0;
  const third = bytes[at + 2] ?? 0;
  if (first >= 0xe0 && first <= 0xef) {
    // Neither overlong nor a surrogate.
    if (first === 0xe0 ? second < 0xa0 : first === 0xed && second > 0x9f) return 0;
    return isContinuation(second) && isContinuation(third) ? 3 : 0;
  }
  if (first < 0xf0 || first > 0xf4) return 0;
  // Neither overlong nor beyond U+10FFFF.
  if (first === 0xf0 ? second < 0x90 : first === 0xf4 && second > 0x8f) return 0;
  return isContinuation(second) && isContinuation(third) && isContinuation(bytes[at + 3] ?? 0) ? 4 : 0;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}
