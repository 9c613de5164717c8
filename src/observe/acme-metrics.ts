import type { Register } from './register.js';

/** How a host stands for which an authority issues certificates. Times in epoch milliseconds. */
export interface AcmeFigures {
  readonly host: string;
  /** Null: there is no certificate yet. */
  readonly notAfterMs: number | null;
  readonly succeeded: number;
  readonly failed: number;
  readonly lastSuccessMs: number | null;
}

export function registerAcme(into: Register, read: () => readonly AcmeFigures[]): void {
  into.counter(
    'acme_orders_total',
    'Attempts to get a certificate of an ACME authority, and what came of them.',
    ['host', 'result'],
    (put) => {
      for (const { host, succeeded, failed } of read()) {
        put([host, 'ok'], succeeded);
        put([host, 'failed'], failed);
      }
    },
  );
  into.gauge(
    'acme_last_success_timestamp_seconds',
    'When a certificate was last issued for a host, in seconds since 1970; NaN: never.',
    ['host'],
    (put) => {
      for (const { host, lastSuccessMs } of read()) put([host], seconds(lastSuccessMs));
    },
  );
  into.gauge(
    'acme_cert_not_after_seconds',
    'When the certificate of a host expires, in seconds since 1970; NaN: there is none yet.',
    ['host'],
    (put) => {
      for (const { host, notAfterMs } of read()) put([host], seconds(notAfterMs));
    },
  );
}

function seconds(ms: number | null): number {
  return ms === null ? Number.NaN : ms / 1000;
}
