import type { DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';

/** How answers of our own are given; `server/respond` does it, from the two tables. */
export interface Respond {
  denial(exchange: Exchange, reason: DenialReason, realm: string | null): void;
  /** Before the head is out: the row's answer. After it: the connection is cut, so that the client sees a broken body. */
  failure(exchange: Exchange, reason: FailureReason): void;
}
