import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const SIZE_FORM = 'a size such as 512B, 16KiB, 2MiB or 1GiB';

const UNITS: ReadonlyMap<string, number> = new Map([
  ['B', 1],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
]);

/** Reads a size of more than nothing; bytes. */
export function parseSize(text: string): Parsed<number> {
  const found = /^(\d{1,12})(B|KiB|MiB|GiB)$/.exec(text);
  if (found === null) return refused(`allowed is ${SIZE_FORM}`, respell(text));
  const bytes = Number(found[1]) * (UNITS.get(found[2] ?? '') ?? NaN);
  if (bytes === 0) return refused('a size is more than nothing');
  if (!Number.isSafeInteger(bytes)) return refused('this is more than any machine holds');
  return parsed(bytes);
}

/** Bytes as the reference writes them: `16KiB`, `100B`. */
export function formatSize(bytes: number): string {
  let text = `${bytes}B`;
  for (const [unit, size] of UNITS) if (bytes >= size && bytes % size === 0) text = `${bytes / size}${unit}`;
  return text;
}

/** `2MB` is 2,000,000 to some and 2,097,152 to others, so it is asked for rather than guessed. */
function respell(text: string): string | undefined {
  const one = /^(\d{1,9})\s*([KMG]?)(i?B?|bytes?)$/i.exec(text.trim());
  if (one === null) return undefined;
  const letter = (one[2] ?? '').toUpperCase();
  return `write ${one[1]}${letter === '' ? 'B' : `${letter}iB`}`;
}
