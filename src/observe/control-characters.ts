/**
 * Characters that do something to a terminal or a log reader instead of showing: C0, DEL and C1 controls, format
 * characters (bidirectional overrides, zero-width, tags), line and paragraph separators, lone surrogates. With them a
 * request could forge a log line (CWE-117), hide one, or make it read backwards (CVE-2021-42574).
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

const SHORT: ReadonlyMap<string, string> = new Map([
  ['\t', '\\t'],
  ['\n', '\\n'],
  ['\r', '\\r'],
]);

/** The same text with those characters written out: `\n`, `\u001b`, `\u{e0041}`. */
export function escapeControls(text: string): string {
  if (PRINTABLE_ASCII.test(text)) return text;
  return text.replace(UNPRINTABLE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    const hex = code.toString(16);
    return SHORT.get(character) ?? (code > 0xffff ? `\\u{${hex}}` : `\\u${hex.padStart(4, '0')}`);
  });
}
