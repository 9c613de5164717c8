/**
 * Does a run of letters, digits, `-` and `_` look like key material, or like a name somebody chose? Both
 * `x9Fq2-LmZ80aVtR4_kPw` and `Meta-Llama-3-8B-Instruct` mix all three kinds of characters, and a log without model
 * names is of no use. Two things tell them apart: in names the kind of character changes mostly at a separator or
 * after a capital, and neighbouring letters are pairs that occur in words.
 */

/** Letter pairs common in words: three of ten random pairs are in it, eight or nine of ten in names. */
const COMMON_PAIRS =
  'th he in er an re nd at on nt ha es st en ed to it ou ea hi is or ti as te et ng of al de se le sa si ar ve ra ld ' +
  'ur me ne wa ro ri li ll be ma ce ic io la co ch ct el em om il ot us lo ho no wi di ca ec ee ss so un ta tr ge ol ' +
  'ni ut mo mi pe po pr pl am im ad ac ab up ai id ie if ig ir iv ke ki na ns op os ow pa pi rd rs rt ru sh sp su ts ' +
  'tu ty ul vi we wo ay bl bo bu cl cr da do dr ds ef ei ep ev ex fa fe fi fl fo fr ga gi gh go gr gu iz ly mp nc nk ' +
  'nn ob oc od oo ov pp qu ry rn rm rk rl rc sk sc sm sw tt tw ua ub ue ug ui um uc va vo';

const common = new Uint8Array(26 * 26);
for (const pair of COMMON_PAIRS.split(' ')) common[(pair.charCodeAt(0) - 97) * 26 + (pair.charCodeAt(1) - 97)] = 1;

const NONE = 0;
const LOWER = 1;
const UPPER = 2;
const DIGIT = 3;

/** Shortest run that is judged, by what it mixes. */
const MIN_MIXED = 20;
const MIN_LETTERS = 24;
const MIN_ONE_CASE = 32;

export function looksRandom(run: string): boolean {
  if (run.length < MIN_MIXED) return false;
  let lower = 0;
  let upper = 0;
  let digits = 0;
  let pairs = 0;
  let commonPairs = 0;
  let changes = 0;
  let before = NONE;
  let letterBefore = 0;
  for (let index = 0; index < run.length; index++) {
    const code = run.charCodeAt(index);
    let kind = NONE;
    let letter = 0;
    if (code >= 97 && code <= 122) {
      kind = LOWER;
      letter = code - 97;
      lower++;
    } else if (code >= 65 && code <= 90) {
      kind = UPPER;
      letter = code - 65;
      upper++;
    } else if (code >= 48 && code <= 57) {
      kind = DIGIT;
      digits++;
    }
    if (before !== NONE && kind !== NONE) {
      if (kind !== DIGIT && before !== DIGIT) {
        pairs++;
        commonPairs += common[letterBefore * 26 + letter] ?? 0;
      }
      // `Llama` begins with a capital: that change says nothing.
      if (kind !== before && !(before === UPPER && kind === LOWER)) changes++;
    }
    before = kind;
    letterBefore = letter;
  }
  const length = lower + upper + digits;
  const wordy = commonPairs >= 0.6 * pairs;
  if (lower > 0 && upper > 0 && digits > 0) return !(wordy && pairs * 3 >= length && changes <= 0.25 * length);
  if (lower > 0 && upper > 0) return run.length >= MIN_LETTERS && !wordy;
  if (digits > 0 && lower + upper > 0) return run.length >= MIN_ONE_CASE && changes > 0.2 * length;
  return false;
}
