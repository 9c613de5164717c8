import type { DenialReason } from './denial.js';
import type { FailureReason } from './failure.js';
import type { Invalid } from './gate/authorize.js';
import type { Identity } from './identity/identity.js';
import type { Route } from './policy/policy.js';

/** What guardbee answers itself: stable codes, as those of denials are. */
export const OWN_PAGES = ['login_page', 'login', 'logout', 'refresh', 'preflight'] as const;
export type OwnPage = (typeof OWN_PAGES)[number];

/** How an exchange ended. One exchange, one ending, one record. */
export type Outcome =
  | { readonly kind: 'permitted' }
  /** A page of our own, which no upstream saw. */
  | { readonly kind: 'answered'; readonly by: OwnPage }
  | { readonly kind: 'denied'; readonly reason: DenialReason }
  | { readonly kind: 'failed'; readonly reason: FailureReason };

/**
 * What is known of one request when it has ended. Everything that came from outside (`method`, `path`, `query`,
 * `host`, `userAgent`) is raw here: `observe/` is the only reader, and cleans before it writes.
 */
export interface ExchangeRecord {
  /** `underway`: `outcome` is what it is so far, and status, times and bytes are not known yet. */
  readonly stage: 'underway' | 'over';
  /** What it was about to do was recorded before it did. */
  readonly granted: boolean;
  readonly requestId: string;
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly listener: string;
  /** `tcp` and `tls`: no request, but a connection that was passed on; what is only said of requests is empty. */
  readonly scheme: 'http' | 'https' | 'tcp' | 'tls';
  readonly protocol: '1.0' | '1.1' | '2' | 'unknown';
  readonly method: string;
  /** Raw path without the query; empty when the head was unreadable; the route's pattern where a parameter is invalid. */
  readonly path: string;
  readonly query: string | null;
  readonly host: string | null;
  /** It asks for a WebSocket. */
  readonly upgrade: boolean;
  readonly userAgent: string | null;
  readonly peer: string;
  /** After trusted proxies; null where it was not established. */
  readonly client: string | null;
  readonly route: Route | null;
  readonly identity: Identity | null;
  /** First 6 hex digits of the SHA-256 of the credential shown, valid or not. */
  readonly credentialFingerprint: string | null;
  readonly outcome: Outcome;
  /** The value for which it was refused: where it stands, and the rule that it breaks. All of it is the policy's. */
  readonly invalid: Invalid | null;
  readonly status: number;
  readonly upstream: string | null;
  /** Until the first byte of the upstream's answer; of a connection, until it stood. */
  readonly upstreamMs: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly stream: 'none' | 'sse' | 'ws' | 'tcp';
}
