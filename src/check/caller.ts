import { type Check, textCheck } from './check.js';

/** The name of who asks, so that nobody speaks for another. */
export function caller(required: boolean): Check {
  return textCheck('caller', required, (text, asked) =>
    asked.caller !== null && text === asked.caller ? null : 'not_the_caller',
  );
}
