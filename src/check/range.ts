import type { Check } from './check.js';

/** A number as JSON writes it (RFC 8259 §6), which is how a path, a query or a header field must write it too. */
const NUMBER = /^-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?$/;

/** From here on whole numbers are not exact for every reader. */
const INEXACT = 2 ** 53;

/**
 * A number. @param min the least that is allowed; @param max what it must be less than
 */
export function range(required: boolean, min: number, max: number, whole: boolean): Check {
  return {
    type: 'range',
    required,
    judge: (value, { form }) => {
      const number = form === 'json' ? value : numberOf(value);
      if (typeof number !== 'number') return form === 'json' ? 'type' : 'not_a_number';
      if (!Number.isFinite(number) || Math.abs(number) >= INEXACT) return 'out_of_range';
      if (whole && !Number.isInteger(number)) return 'not_whole';
      return number >= min && number < max ? null : 'out_of_range';
    },
  };
}

function numberOf(value: unknown): number | null {
  return typeof value === 'string' && NUMBER.test(value) ? Number(value) : null;
}
