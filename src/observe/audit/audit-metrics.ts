import { DurationHistogram, type DurationSeries } from '../duration-histogram.js';
import type { Register } from '../register.js';
import { DELIVERY_FAULTS, type DeliveryFigures, PASSED_OVER } from './delivery.js';

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
  /** Null: the trail stays here. */
  readonly delivery: DeliveryFigures | null;
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
  registerDelivery(into, () => read().delivery);
}

/** Of a trail that stays here there is nothing to say; the names are the same for all. */
function registerDelivery(into: Register, read: () => DeliveryFigures | null): void {
  into.counter('audit_delivered_records_total', 'Audit records that the collector has taken.', [], (put) => {
    put([], read()?.delivered ?? 0);
  });
  into.gauge('audit_spool_records', 'Audit records that the collector has not taken yet.', [], (put) => {
    put([], read()?.behindRecords ?? 0);
  });
  into.gauge('audit_spool_bytes', 'Bytes of audit records that the collector has not taken yet.', [], (put) => {
    put([], read()?.behindBytes ?? 0);
  });
  into.counter('audit_delivery_failures_total', 'Batches that the collector did not take.', ['reason'], (put) => {
    const delivery = read();
    // Each from the beginning on: what is counted first is an increase then.
    if (delivery !== null) for (const fault of DELIVERY_FAULTS) put([fault], delivery.failures.get(fault) ?? 0);
  });
  into.counter('audit_undelivered_records_total', 'Audit records that were passed over.', ['reason'], (put) => {
    const delivery = read();
    if (delivery !== null) for (const reason of PASSED_OVER) put([reason], delivery.undeliverable.get(reason) ?? 0);
  });
}
