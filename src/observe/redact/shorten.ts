const DELIMITERS: ReadonlySet<string> = new Set(' \t\r\n"\'/&?,;');
const MARGIN = 4096;

/**
 * The beginning of a text that is too long, ending where a word ends: a secret that crosses the limit is then either
 * whole, and masked, or not there.
 */
export function window(text: string, limit: number): string {
  for (let end = Math.min(text.length, limit + MARGIN); end > limit; end--) {
    if (DELIMITERS.has(text.charAt(end))) return text.slice(0, end);
  }
  let end = limit;
  while (end > 0 && !DELIMITERS.has(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}

export function shorten(clean: string, limit: number): string {
  let end = Math.min(limit, clean.length);
  const begun = clean.lastIndexOf('[redacted', end - 1);
  if (begun >= 0 && begun + 17 > end && !clean.slice(begun, end).includes(']')) end = begun;
  if (/[\ud800-\udbff]/.test(clean.charAt(end - 1))) end--;
  return `${clean.slice(0, end)}…`;
}
