import { characterRule } from './characters.js';
import { type Check, textCheck, tooLong } from './check.js';

/** A text of one line, or of several. May be empty. @param max in bytes */
export function text(required: boolean, max: number, lines: 'allow' | 'refuse', bidi: 'allow' | 'refuse'): Check {
  const rule = characterRule({ lines: lines === 'allow', bidi: bidi === 'allow' }, 'mark');
  return textCheck('text', required, (value) => (tooLong(value, max) ? 'too_long' : rule(value)));
}
