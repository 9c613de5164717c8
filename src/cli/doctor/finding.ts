/** What doctor says of one thing it looked at; the members are those of `--json`. */
export interface Finding {
  /** What was looked at: a word, and a name of the policy where there are several (`certificate queen`). */
  readonly check: string;
  /** `failed` sets the exit code. `skipped`: it could not be looked at, and nothing is known to be wrong. */
  readonly status: 'ok' | 'warn' | 'failed' | 'skipped';
  /** One clause without full stop. */
  readonly detail: string;
  /** What to do; null where there is nothing to do. */
  readonly fix: string | null;
}

export const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail, fix: null });
export const warn = (check: string, detail: string, fix: string): Finding => ({ check, status: 'warn', detail, fix });
export const failed = (check: string, detail: string, fix: string): Finding => ({
  check,
  status: 'failed',
  detail,
  fix,
});
export const skipped = (check: string, detail: string, fix: string): Finding => ({
  check,
  status: 'skipped',
  detail,
  fix,
});
