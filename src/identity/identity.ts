/** Who a credential proved the caller to be. */
export interface Identity {
  readonly name: string;
  readonly authenticator: string;
  readonly roles: readonly string[];
  /** Roles and permissions together: what `require` is looked up in. */
  readonly grants: ReadonlySet<string>;
  /** When this identity stops being valid, epoch milliseconds; Infinity where it does not. */
  readonly expiresAtMs: number;
}
