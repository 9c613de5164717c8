/** Why an authority gave no certificate. */

export const ACME_FAULTS = [
  /** No connection, or none that can be trusted. */
  'unreachable',
  'timeout',
  /** It answers what ACME does not say. */
  'garbage',
  'refused',
  /** It refuses for a reason of its own (5xx), which says nothing of what was asked for. */
  'unavailable',
  'rate_limited',
  /** It does not know the account any more. */
  'account_gone',
  /** It asked for proof that we hold the host, and did not get it. */
  'challenge_failed',
  /** It offers no way of proof that is enabled here. */
  'no_challenge',
  /** Something of this machine: the disk, or an end in the middle. */
  'local',
] as const;
export type AcmeFault = (typeof ACME_FAULTS)[number];

/** The message is one clause for the operator; it holds no token, no key, and of an authority's words what `inWords` leaves. */
export class AcmeFailure extends Error {
  override readonly name = 'AcmeFailure';
  readonly fault: AcmeFault;
  /** What the authority asked for, milliseconds; null: nothing. */
  readonly retryAfterMs: number | null;

  constructor(fault: AcmeFault, message: string, retryAfterMs: number | null = null) {
    super(message);
    this.fault = fault;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Characters of an authority's explanation that are kept. */
const LONGEST = 300;

/**
 * What an authority says of a problem, fit for a log: one line, not too long, and without whatever could be a token, a
 * thumbprint or a digest (an authority quotes the response to a challenge that it did not like).
 */
export function inWords(detail: unknown): string {
  if (typeof detail !== 'string') return '';
  const plain = detail
    .slice(0, 4 * LONGEST)
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/[\w-]{20,}(?:\.[\w-]{20,})*/g, '[…]')
    .trim();
  return plain.length > LONGEST ? `${plain.slice(0, LONGEST)}…` : plain;
}
