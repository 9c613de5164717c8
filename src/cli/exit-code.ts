/** What a verb's end means to scripts and service managers; `guardbee --help` prints this table. */
export const EXIT = Object.freeze({
  ok: 0,
  policy: 1,
  usage: 2,
  bind: 3,
  secret: 4,
  addressInUse: 5,
  auditBroken: 6,
  drainTimedOut: 7,
}) satisfies Record<string, number>;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** One row for each code, for `--help`. */
export const EXIT_MEANINGS: readonly { readonly code: ExitCode; readonly meaning: string }[] = [
  { code: EXIT.ok, meaning: 'fine' },
  { code: EXIT.policy, meaning: 'the policy is invalid, one of its tests failed, or what was asked about is not fine' },
  { code: EXIT.usage, meaning: 'wrong usage' },
  { code: EXIT.bind, meaning: 'refused by the bind policy: something beyond loopback would be unprotected' },
  { code: EXIT.secret, meaning: 'a secret or key is missing, empty, or open to others' },
  { code: EXIT.addressInUse, meaning: 'an address, or the state directory, is already in use' },
  { code: EXIT.auditBroken, meaning: 'the audit chain is broken' },
  { code: EXIT.drainTimedOut, meaning: 'the drain timed out: open exchanges were cut' },
];

/**
 * Ends a verb at once. `main` prints the message, where there is one, and returns the code. The message is a sentence
 * for the user, who can mend what it says; it never holds a secret.
 */
export class Ending extends Error {
  override readonly name = 'Ending';
  readonly code: number;

  constructor(code: number, message = '') {
    super(message);
    this.code = code;
  }
}

/** The action of a verb: what the function returns becomes the exit code. */
export function ending<A extends unknown[]>(verb: (...args: A) => Promise<number>): (...args: A) => Promise<void> {
  return async (...args) => {
    const code = await verb(...args);
    if (code !== EXIT.ok) throw new Ending(code);
  };
}
