import fc from 'fast-check';

/** One of the characters of `text`, which is ASCII. */
export function charactersOf(text: string): fc.Arbitrary<string> {
  return fc.nat(text.length - 1).map((i) => text.charAt(i));
}
