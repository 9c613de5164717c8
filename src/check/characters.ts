import type { Rule } from './check.js';

/** What a text may hold besides ordinary characters. */
export interface Allowed {
  readonly lines: boolean;
  readonly bidi: boolean;
}

/** C0, DEL and C1 but for tab, line feed and carriage return. */
const CONTROL = '\\0-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f';
/** Embeddings, overrides and isolates (UAX #9 §2): a text with them is shown in another order than it is read. */
const BIDI = '\\u202a-\\u202e\\u2066-\\u2069';
/** Lines end at these too, for some readers. */
const LINES = '\\n\\r\\u2028\\u2029';
const MARK = '\\ufeff';

/** Judges the first character that is not allowed. @param more characters besides, that only some texts may not hold */
export function characterRule(allowed: Allowed, more: 'none' | 'mark'): (text: string) => Rule | null {
  const set = `${CONTROL}${allowed.bidi ? '' : BIDI}${allowed.lines ? '' : LINES}${more === 'mark' ? MARK : ''}`;
  // One pass of the engine's own, whatever the length.
  const wrong = new RegExp(`[${set}]`);
  return (text) => {
    const at = text.search(wrong);
    return at === -1 ? null : ruleOf(text.charCodeAt(at));
  };
}

function ruleOf(code: number): Rule {
  if (code === 0) return 'null_byte';
  if (code === 0x1b) return 'ansi_escape';
  if (code === 0x0a || code === 0x0d || code === 0x2028 || code === 0x2029) return 'line_break';
  if (code < 0xa0) return 'control_character';
  return code === 0xfeff ? 'characters' : 'bidi';
}
