import { DurationHistogram, type DurationSeries } from '../duration-histogram.js';
import type { Register } from '../register.js';

/** How the trail is. */
export interface AuditFigures {
  readonly up: boolean;
  readonly sequence: number;
  readonly waiting: number;
  readonly lost: number;
  /** Epoch seconds of the last signature that is on the disk; null before the first. */
  readonly checkpointAt: number | null;
  /** By event. */
  readonly records: ReadonlyMap<string, number>;
  /** How long a batch took to be on the disk. */
  readonly syncs: DurationSeries;
}

const SYNCS = new DurationHistogram(
  'guardbee_audit_sync_duration_seconds',
  'Until a batch of audit records was on the disk.',
  [],
);

export function auditDurations({ syncs }: AuditFigures): string {
  return SYNCS.text([{ labels: [], series: syncs }]);
}

export function registerAudit(into: Register, read: () => AuditFigures): void {
  into.gauge('audit_up', 'Whether audit records can be written.', [], (put) => {
    put([], read().up ? 1 : 0);
  });
  into.counter('audit_records_total', 'Audit records made since the start.', ['event'], (put) => {
    for (const [event, count] of read().records) put([event], count);
  });
  into.counter('audit_lost_records_total', 'Audit records that there was no room for.', [], (put) => {
    put([], read().lost);
  });
  into.gauge('audit_head_sequence', 'Sequence number of the newest audit record.', [], (put) => {
    put([], read().sequence);
  });
  into.gauge('audit_waiting_records', 'Audit records that are not on the disk yet.', [], (put) => {
    put([], read().waiting);
  });
  into.gauge('audit_checkpoint_timestamp_seconds', 'When the chain was last signed; NaN: not yet.', [], (put) => {
    put([], read().checkpointAt ?? Number.NaN);
  });
}
