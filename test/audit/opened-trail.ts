/** The real writer in a folder of its own, with clocks that a test turns. */
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Entry } from '../../src/observe/audit/record.js';
import { type AuditRecord, readRecord } from '../../src/observe/audit/record.js';
import { listSegments } from '../../src/observe/audit/segments.js';
import { PUBLIC_KEY_FILE, keyId } from '../../src/observe/audit/signing-key.js';
import { AuditTrail, type Head, type TrailInit } from '../../src/observe/audit/trail.js';
import { type VerifyReport, verifyTrail } from '../../src/observe/audit/verify.js';
import type { AuditSettings } from '../../src/policy/policy.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

export const MIB = 1024 * 1024;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

export const REFUSED: Entry = {
  event: 'authorization_denied',
  result: 'denied',
  reason: 'permission_missing',
  who: 'keeper',
  client: '192.0.2.7',
  listener: 'main',
  action: 'POST',
  resource: '/v1/shutdown',
  request_id: '0b6f1c1e-9a4b-4f0e-8f3a-5b1c2d3e4f50',
  status: 403,
};

export class TrailPlace implements Disposable {
  readonly #directory = new TemporaryDirectory();
  readonly dir: string;
  readonly stateDir: string;
  nowMs = Date.UTC(2026, 10, 20, 12);
  ticksMs = 0;
  readonly heads: Head[] = [];
  readonly said: string[] = [];

  constructor() {
    this.dir = this.#directory.file('log');
    this.stateDir = this.#directory.file('state');
  }

  /** Time goes by, on both clocks. */
  pass(ms: number): void {
    this.nowMs += ms;
    this.ticksMs += ms;
  }

  async open(settings: Partial<AuditSettings> = {}, more: Partial<TrailInit> = {}): Promise<AuditTrail> {
    return await AuditTrail.open({
      settings: {
        dir: this.dir,
        onFailure: 'deny',
        checkpointRecords: 1000,
        checkpointMs: 60_000,
        segmentBytes: 64 * MIB,
        keepMs: Infinity,
        minFreeBytes: 1024,
        deliver: null,
        ...settings,
      },
      stateDir: this.stateDir,
      policy: 'abcdef123456',
      now: () => this.nowMs,
      ticks: () => this.ticksMs,
      notices: {
        checkpoint: (head) => {
          this.heads.push(head);
        },
        failing: (code) => {
          this.said.push(`failing ${code}`);
        },
        recovered: () => {
          this.said.push('recovered');
        },
        found: (what) => {
          this.said.push(what);
        },
        removed: (segments, through) => {
          this.said.push(`removed ${String(segments)} through ${String(through)}`);
        },
      },
      ...more,
    });
  }

  /** Opens it, adds, and waits until all of that is on the disk. */
  async write(count: number, settings: Partial<AuditSettings> = {}): Promise<void> {
    const trail = await this.open(settings);
    for (let number = 0; number < count; number += 1) trail.add(REFUSED);
    assert.equal(await trail.close({ event: 'stopped', result: 'noted' }), 0);
  }

  get segments(): string[] {
    return readdirSync(this.dir).filter((name) => name.endsWith('.ndjson'));
  }

  file(name: string): string {
    return join(this.dir, name);
  }

  /** The last segment. */
  get last(): string {
    const name = this.segments.at(-1);
    assert.ok(name !== undefined);
    return this.file(name);
  }

  /** Every record that can be read, in the order of the files. */
  async records(): Promise<AuditRecord[]> {
    const records: AuditRecord[] = [];
    for (const { file } of await listSegments(this.dir)) {
      for (const line of readFileSync(this.file(file), 'utf8').split('\n')) {
        const read = readRecord(Buffer.from(line));
        if (read.ok) records.push(read.record);
      }
    }
    return records;
  }

  async verify(): Promise<VerifyReport> {
    const key = createPublicKey(readFileSync(this.file(PUBLIC_KEY_FILE)));
    return await verifyTrail(
      { kind: 'dir', dir: this.dir },
      {
        keys: new Map([[keyId(key), key]]),
        heads: this.heads.map(({ seq, hash }) => ({ seq, hash, from: 'given' })),
      },
    );
  }

  /** Whole from its beginning, signed, and with every head that was ever said. */
  async isWhole(): Promise<AuditRecord[]> {
    const report = await this.verify();
    assert.deepEqual(report.problems, []);
    return await this.records();
  }

  [Symbol.dispose](): void {
    this.#directory.remove();
  }
}
