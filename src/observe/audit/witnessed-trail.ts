import type { Delivery } from './delivery.js';
import type { Recording } from './evidence.js';
import type { Entry } from './record.js';
import type { AuditTrail } from './trail.js';

/** A trail whose records count as kept when they are on the disk and with the collector. */
export class WitnessedTrail implements Recording {
  readonly #trail: AuditTrail;
  readonly #delivery: Delivery;

  constructor(trail: AuditTrail, delivery: Delivery) {
    this.#trail = trail;
    this.#delivery = delivery;
  }

  /** Why nothing can be recorded at present; null: it can. */
  get trouble(): string | null {
    return this.#trail.trouble ?? (this.#delivery.impatient ? 'collector' : null);
  }

  add(entry: Entry, urgent?: boolean): number | null {
    return this.#trail.add(entry, urgent);
  }

  durable(seq: number | null): boolean | Promise<boolean> {
    if (seq === null) return false;
    const written = this.#trail.durable(seq);
    if (written === false) return false;
    // It is sent as soon as it can be read.
    this.#delivery.hurry(seq);
    if (written === true) return this.#delivery.acknowledged(seq);
    return written.then((isWritten) => isWritten && this.#delivery.acknowledged(seq));
  }
}
