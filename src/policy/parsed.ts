/** What reading a text gives: the value, or why it is none. Neither `problem` nor `hint` ever holds a secret. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | {
      readonly ok: false;
      /** A clause without full stop: what is wrong, or what is allowed. */
      readonly problem: string;
      /** How to write it instead. */
      readonly hint?: string;
    };

export const parsed = <T>(value: T): Parsed<T> => ({ ok: true, value });

export const refused = (problem: string, hint?: string): Parsed<never> =>
  hint === undefined ? { ok: false, problem } : { ok: false, problem, hint };
