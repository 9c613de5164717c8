import type { Check } from './check.js';

/** One of a list. A number in the list is a number in JSON, and its decimal text elsewhere. */
export function oneOf(required: boolean, values: readonly (string | number)[]): Check {
  const inJson: ReadonlySet<unknown> = new Set(values);
  const inText: ReadonlySet<unknown> = new Set(values.map(String));
  return {
    type: 'enum',
    required,
    judge: (value, { form }) => ((form === 'json' ? inJson : inText).has(value) ? null : 'not_listed'),
  };
}
