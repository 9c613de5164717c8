/**
 * What a value may be. One rule word is the whole answer: it comes from this list, and never holds the value, a
 * character of it or its length.
 */
export const RULES = Object.freeze([
  /** It must be there. */
  'missing',
  /** Sent more than once, or under a second spelling of its name. */
  'repeated',
  /** Bytes that are no UTF-8. */
  'not_utf8',
  /** JSON of another type, such as a number where a text is asked for. */
  'type',
  'empty',
  'too_long',
  'wrong_length',
  'not_hex',
  'null_byte',
  'characters',
  'shell_metacharacter',
  'control_character',
  'ansi_escape',
  'line_break',
  'bidi',
  'path_traversal',
  'outside_root',
  'not_a_number',
  'not_whole',
  'out_of_range',
  'not_listed',
  'url_malformed',
  'url_scheme',
  'url_host',
  'url_port',
  'url_private',
  'url_loopback',
  'url_special_address',
  'not_the_caller',
] as const);

export type Rule = (typeof RULES)[number];

/** What a check may need to know besides the value. */
export interface Asked {
  /** The name of who asks; null where nobody was asked. */
  readonly caller: string | null;
  /** `text`: a path, a query or a header field, where a number is written in letters. `json`: the value has its own type. */
  readonly form: 'text' | 'json';
}

export interface Check {
  readonly type: string;
  /** The value must be there; JSON's null is not. */
  readonly required: boolean;
  /** Of a value that is there. The first rule that it breaks, or null. Never throws. */
  judge(value: unknown, asked: Asked): Rule | null;
}

/** The rule that a value breaks, or null. Undefined and JSON's null are a value that is not there. */
export function violation(check: Check, value: unknown, asked: Asked): Rule | null {
  if (value === undefined || value === null) return check.required ? 'missing' : null;
  return check.judge(value, asked);
}

/** A check of texts; what is no text breaks it. */
export function textCheck(type: string, required: boolean, judge: (text: string, asked: Asked) => Rule | null): Check {
  return {
    type,
    required,
    judge: (value, asked) => (typeof value === 'string' ? judge(value, asked) : 'type'),
  };
}

/** Lengths are bytes of UTF-8, as services behind count them. */
export function tooLong(text: string, most: number): boolean {
  // No character takes more than three bytes for each of its UTF-16 units, and none less than one.
  if (text.length > most) return true;
  return text.length * 3 > most && Buffer.byteLength(text, 'utf8') > most;
}
