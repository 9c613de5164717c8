import type { Printable } from './redact.js';

/** What `/readyz` looks at. */
export type ReadinessCheckName =
  | 'policy'
  | 'listeners'
  | 'upstream_exposure'
  | 'certificates'
  /** Certificates that an authority issues. */
  | 'acme'
  | 'revocations'
  /** Those that are counted in Redis. */
  | 'limits'
  | 'audit'
  /** The keys of an authenticator, by its name. */
  | `jwks:${string}`
  /** A second policy that is tried. */
  | 'shadow'
  /** Where there are several processes. */
  | 'workers'
  | 'draining';

export interface ReadinessCheck {
  readonly name: ReadinessCheckName;
  /** `unknown` is said, not hidden, and does not make the process unready: nothing is known to be wrong. */
  readonly status: 'ok' | 'failed' | 'unknown';
  /** One clause without full stop. */
  readonly detail: Printable;
}

export interface ReadinessReport {
  readonly checks: readonly ReadinessCheck[];
}

export function isReady(report: ReadinessReport): boolean {
  return report.checks.every((check) => check.status !== 'failed');
}
