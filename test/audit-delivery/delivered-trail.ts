import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  Delivery,
  type DeliveryFault,
  type DeliveryInit,
  type DeliveryTimings,
  type Undeliverable,
} from '../../src/observe/audit/delivery.js';
import { AuditTrail } from '../../src/observe/audit/trail.js';
import type { AuditSettings, DeliverySettings } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { testCertificates } from '../support/certificates.js';
import type { TemporaryDirectory } from '../support/temporary-directory.js';

export const TOKEN = 'collector-token-4f1b9c';

/** Faster than life, in the same proportions. */
export const QUICK: Partial<DeliveryTimings> = {
  requestMs: 400,
  pauseMs: 10,
  mendMs: 40,
  longestMs: 80,
  patienceMs: 300,
  lastMs: 1_000,
};

export async function deliverySettings(url: string, more: Partial<DeliverySettings> = {}): Promise<DeliverySettings> {
  const { ca } = await testCertificates();
  return {
    url,
    token: Secret.fromText(TOKEN),
    certificate: null,
    authority: url.startsWith('https:')
      ? { caFile: '', caPem: ca, crlFile: null, crlPems: [], partialChain: false }
      : null,
    batchRecords: 50,
    batchBytes: 1024 * 1024,
    batchMs: 20,
    wait: false,
    ...more,
  };
}

export interface DeliveredOptions {
  readonly timings?: Partial<DeliveryTimings>;
  readonly segmentBytes?: number;
  readonly notices?: Partial<DeliveryInit['notices']>;
}

/** A trail and its delivery, put together as the program does, with what was said. */
export class DeliveredTrail implements AsyncDisposable {
  readonly trail: AuditTrail;
  readonly delivery: Delivery;
  readonly failures: DeliveryFault[];
  readonly undeliverable: Undeliverable[];
  readonly again: string[];
  readonly #closed: { value: boolean };

  private constructor(
    trail: AuditTrail,
    delivery: Delivery,
    said: Pick<DeliveredTrail, 'failures' | 'undeliverable' | 'again'>,
  ) {
    this.trail = trail;
    this.delivery = delivery;
    this.failures = said.failures;
    this.undeliverable = said.undeliverable;
    this.again = said.again;
    this.#closed = { value: false };
  }

  static async open(
    directory: TemporaryDirectory,
    deliver: DeliverySettings,
    options: DeliveredOptions = {},
  ): Promise<DeliveredTrail> {
    const settings: AuditSettings = {
      dir: logOf(directory),
      onFailure: 'deny',
      checkpointRecords: 1000,
      checkpointMs: 60_000,
      segmentBytes: options.segmentBytes ?? 64 * 1024 * 1024,
      keepMs: Infinity,
      minFreeBytes: 1024,
      deliver,
    };
    const failures: DeliveryFault[] = [];
    const undeliverable: Undeliverable[] = [];
    const again: string[] = [];
    let delivery: Delivery | null = null;
    mkdirSync(directory.file('state'), { recursive: true, mode: 0o700 });
    const trail = await AuditTrail.open({
      settings,
      stateDir: directory.file('state'),
      policy: '0123456789ab',
      notices: {
        checkpoint: () => undefined,
        failing: () => undefined,
        recovered: () => undefined,
        found: () => undefined,
        removed: () => undefined,
        synced: (bytes) => delivery?.synced(bytes),
      },
    });
    delivery = new Delivery({
      settings: deliver,
      dir: settings.dir,
      stateDir: directory.file('state'),
      chain: trail.chain,
      synced: () => trail.synced,
      timings: { ...QUICK, ...options.timings },
      notices: {
        failing: (fault) => failures.push(fault),
        recovered: () => undefined,
        undeliverable: (records) => {
          undeliverable.push(records);
          const { from, through, reason } = records;
          const count = through - from + 1;
          trail.add({ event: 'records_undelivered', result: 'noted', reason, count, detail: { from, through } });
        },
        again: (why) => again.push(why),
        unkept: () => undefined,
        ...options.notices,
      },
    });
    delivery.start();
    return new DeliveredTrail(trail, delivery, { failures, undeliverable, again });
  }

  /** Adds so many records. @returns the number of the last */
  add(count: number, resource = '/v1/jobs'): number {
    let last = 0;
    for (let index = 0; index < count; index += 1) {
      last =
        this.trail.add({
          event: 'authorization_denied',
          result: 'denied',
          reason: 'route_denied',
          resource: `${resource}/${String(index)}`,
          request_id: `r${String(index)}`,
        }) ?? last;
    }
    return last;
  }

  /** As the program ends. @returns how many records the collector has not */
  async close(): Promise<number> {
    this.#closed.value = true;
    let behind = 0;
    await this.trail.close({ event: 'stopped', result: 'noted' }, async () => {
      behind = await this.delivery.close();
    });
    return behind;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed.value) await this.close();
  }
}

export function logOf(directory: TemporaryDirectory): string {
  return directory.file('log');
}

export function segmentsOf(directory: TemporaryDirectory): string[] {
  return readdirSync(logOf(directory))
    .filter((name) => name.endsWith('.ndjson'))
    .sort();
}

/** What is in the segments, line by line. */
export function linesOf(directory: TemporaryDirectory): string[] {
  return segmentsOf(directory).flatMap((name) =>
    readFileSync(join(logOf(directory), name), 'utf8')
      .split('\n')
      .slice(0, -1),
  );
}
