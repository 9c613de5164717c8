import { type Check, type Rule, textCheck, tooLong } from './check.js';

const MODEL_REF = /^[A-Za-z0-9\-_/:.]+$/;
const SHELL = /[;|&$`\n\r]/;

/** The name of a model: `org/name`, `hf:org/name:tag`, a path or a URL without blanks. @param max in bytes */
export function modelRef(required: boolean, max: number): Check {
  return textCheck('model_ref', required, (text) => {
    if (text === '') return 'empty';
    if (tooLong(text, max)) return 'too_long';
    if (!MODEL_REF.test(text)) return firstFault(text);
    return text.includes('../') ? 'path_traversal' : null;
  });
}

/** Left to right, the first wrong character decides. */
function firstFault(text: string): Rule {
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charAt(i);
    if (c === '\0') return 'null_byte';
    if (SHELL.test(c)) return 'shell_metacharacter';
    if (c === '\\' && text.charAt(i - 1) === '.') return 'path_traversal';
    if (!MODEL_REF.test(c)) return 'characters';
  }
  return 'characters';
}
