import type { DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';
import type { Particulars } from '../gate/authorize.js';
import type { Authenticator } from '../policy/policy.js';

/** How answers of our own are given; `server/respond` does it, from the two tables. */
export interface Respond {
  /**
   * @param asked who could have said that it is all right: what `WWW-Authenticate` offers. Empty: nobody was asked.
   * @param particulars what the reason alone does not say
   */
  denial(
    exchange: Exchange,
    reason: DenialReason,
    asked: readonly Authenticator[],
    particulars?: Particulars | null,
  ): void;
  /** Before the head is out: the row's answer. After it: the connection is cut, so that the client sees a broken body. */
  failure(exchange: Exchange, reason: FailureReason): void;
}
