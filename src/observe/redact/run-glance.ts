import { MIN_TOKEN } from './mask.js';

/** Shortest that `looksRandom` judges, by the kinds of characters it mixes; a test holds them against it. */
const SHORTEST_MIXED = 20;
const SHORTEST_LETTERS = 24;
const SHORTEST_ONE_CASE = 32;
const UUID_LENGTH = 36;

const LOWER = 1;
const UPPER = 2;
const DIGIT = 4;
const DASH = 8;
const PLUS = 16;
const SLASH = 32;
const IN_SEGMENT = LOWER | UPPER | DIGIT | DASH;
const LETTERS = LOWER | UPPER;
const ALNUM = LOWER | UPPER | DIGIT;
const IN_BASE64 = ALNUM | PLUS | SLASH;

const KINDS = new Uint8Array(256);
for (let byte = 0; byte < 128; byte++) {
  const character = String.fromCharCode(byte);
  if (/[a-z]/.test(character)) KINDS[byte] = LOWER;
  else if (/[A-Z]/.test(character)) KINDS[byte] = UPPER;
  else if (/[0-9]/.test(character)) KINDS[byte] = DIGIT;
  else if (/[_-]/.test(character)) KINDS[byte] = DASH;
  else if (character === '+') KINDS[byte] = PLUS;
  else if (character === '/') KINDS[byte] = SLASH;
}

/** How tokens of known shapes begin. */
const BEGINNINGS = new Uint8Array(1 << 16);
for (const [first, second] of 'gb sk gh gi hf AK AS xo xa gl np AI rk'.split(' ')) {
  BEGINNINGS[((first ?? '').charCodeAt(0) << 8) | (second ?? '').charCodeAt(0)] = 1;
}

/**
 * Is it certain, without a closer look, that a run holds nothing, where no secrets are known? Says so of paths, names,
 * and UUIDs, that is of nearly all there is in a log.
 */
export function holdsNothing(bytes: Buffer, from: number, to: number): boolean {
  const kinds = KINDS;
  let segment = from;
  let segmentKinds = 0;
  let base64 = from;
  let base64Kinds = 0;
  for (let at = from; at <= to; at++) {
    const kind = at < to ? (kinds[bytes[at] ?? 0] ?? 0) : 0;
    if ((kind & IN_SEGMENT) !== 0) {
      segmentKinds |= kind;
      // `eyJ` begins a JWT.
      if (kind === UPPER && bytes[at] === 0x4a && at >= from + 2 && bytes[at - 1] === 0x79 && bytes[at - 2] === 0x65) {
        return false;
      }
    } else {
      if (at - segment >= MIN_TOKEN && !isHarmless(bytes, segment, at, segmentKinds)) return false;
      segment = at + 1;
      segmentKinds = 0;
    }
    if ((kind & IN_BASE64) !== 0) {
      base64Kinds |= kind;
    } else {
      const letters = (base64Kinds & LETTERS) === LETTERS;
      const mixed = letters && ((base64Kinds & PLUS) !== 0 || (base64Kinds & (DIGIT | SLASH)) === (DIGIT | SLASH));
      if (mixed && at - base64 >= MIN_TOKEN) return false;
      base64 = at + 1;
      base64Kinds = 0;
    }
  }
  return true;
}

/**
 * The pieces of a run that have to be looked up, where that is all there is to do for a run of which `holdsNothing` is
 * certain: between slashes, letters of no more than two kinds, digits, `-` and `_`. Null where there may be more.
 */
export function piecesToLookUp(bytes: Buffer, from: number, to: number): string[] | null {
  const pieces: string[] = [];
  let start = from;
  let kinds = 0;
  for (let at = from; at <= to; at++) {
    const kind = at < to ? (KINDS[bytes[at] ?? 0] ?? 0) : SLASH;
    if (kind !== SLASH) {
      if ((kind & IN_SEGMENT) === 0) return null;
      kinds |= kind;
      continue;
    }
    // Of what mixes all three, parts may be base64; a dash at the end may be the sentence's.
    if ((kinds & ALNUM) === ALNUM || (at > start && bytes[at - 1] === 0x2d)) return null;
    if (at - start >= MIN_TOKEN) pieces.push(bytes.toString('latin1', start, at));
    start = at + 1;
    kinds = 0;
  }
  return pieces;
}

/** Of letters, digits, `-` and `_`. */
function isHarmless(bytes: Buffer, from: number, to: number, kinds: number): boolean {
  const length = to - from;
  for (let at = from, before = DASH; at < to; at++) {
    const kind = KINDS[bytes[at] ?? 0] ?? 0;
    if (before === DASH && BEGINNINGS[((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)] === 1) return false;
    before = kind;
  }
  const letters = kinds & (LOWER | UPPER);
  const digits = (kinds & DIGIT) !== 0;
  const shortest =
    letters === (LOWER | UPPER)
      ? digits
        ? SHORTEST_MIXED
        : SHORTEST_LETTERS
      : digits && letters !== 0
        ? SHORTEST_ONE_CASE
        : Infinity;
  if (length < shortest) return true;
  // What is before a UUID is too short to be judged, and the UUID's hex is in five parts.
  return length >= UUID_LENGTH && length < UUID_LENGTH + SHORTEST_MIXED && isUuid(bytes, to - UUID_LENGTH);
}

function isUuid(bytes: Buffer, from: number): boolean {
  for (let index = 0; index < UUID_LENGTH; index++) {
    const byte = bytes[from + index] ?? 0;
    if (index === 8 || index === 13 || index === 18 || index === 23) {
      if (byte !== 0x2d) return false;
    } else {
      const letter = byte | 0x20;
      if (!((byte >= 0x30 && byte <= 0x39) || (letter >= 0x61 && letter <= 0x66))) return false;
    }
  }
  return true;
}
