import { characterRule } from './characters.js';
import { type Check, textCheck, tooLong } from './check.js';

/**
 * What a model is asked: lines and tabs, no other control characters. May be empty.
 * @param max in bytes
 * @param bidi characters that turn the direction of writing, which Arabic and Hebrew prompts may have
 */
export function prompt(required: boolean, max: number, bidi: 'allow' | 'refuse'): Check {
  const rule = characterRule({ lines: true, bidi: bidi === 'allow' }, 'none');
  return textCheck('prompt', required, (text) => (tooLong(text, max) ? 'too_long' : rule(text)));
}
