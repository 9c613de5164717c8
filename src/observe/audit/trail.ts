import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import * as path from 'node:path';
import type { AuditSettings } from '../../policy/policy.js';
import { HeldSocket, StateInUseError, isHeld } from '../../state/held-socket.js';
import { ensureStateDirectory, readStateFile, replaceStateFile, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { DurationSeries } from '../duration-histogram.js';
import { timestamp, utcDate } from '../timestamp.js';
import type { CanonicalValue } from './canonical-json.js';
import { type Entry, GENESIS, writeRecord } from './record.js';
import { type Found, recover } from './recover.js';
import { ClockWatch, findExpired, removeSegments } from './retention.js';
import { type Disturbance, SegmentWriter } from './segment-writer.js';
import { WRITER_SOCKET, segmentName } from './segments.js';
import { KEY_FOLDER, SigningKey } from './signing-key.js';

const HEAD_FILE = 'head.json';
/** How often the head is written there at most: a file that must be on the disk, in place of another, is dear. */
const HEAD_EVERY_MS = 1_000;
/** A clock that is set back by less is a clock that is kept right. */
const CLOCK_TOLERANCE_MS = 1_000;
/** The last moment that RFC 3339 has a form for. */
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
/** How often it is looked for segments that are old enough to go; often enough to begin soon after the clock is trusted. */
const RETENTION_MS = 3_600_000 + 60_000;

/** Where the chain stands: whoever has it can tell later that nothing before it is missing. */
export interface Head {
  readonly chain: string;
  readonly seq: number;
  readonly hash: string;
  readonly time: string;
}

export interface TrailNotices {
  /** A checkpoint is on the disk. */
  checkpoint(head: Head): void;
  /** More records are on the disk, so many bytes. */
  synced?(bytes: number): void;
  failing(code: string): void;
  recovered(): void;
  /** What the start found that should not be. */
  found(what: 'torn' | 'tail_missing' | 'head_unwritten' | 'disturbed' | 'not_removed', message: string): void;
  /** Segments that were older than they are to be kept have gone. @param through number of the last record in them */
  removed(segments: number, through: number): void;
}

export interface TrailInit {
  readonly settings: AuditSettings;
  readonly stateDir: string;
  /** Version of the policy that records are made under. */
  readonly policy: string;
  readonly notices: TrailNotices;
  readonly now?: () => number;
  /** Monotonic milliseconds. */
  readonly ticks?: () => number;
  readonly patienceMs?: number;
}

/**
 * The trail of one directory: the only writer of its chain. Sequence and hash are given at once, in the order in which
 * things happened; the disk follows.
 */
export class AuditTrail {
  /** How long batches took to be on the disk. */
  readonly syncs = new DurationSeries();
  readonly #settings: AuditSettings;
  readonly #stateDir: string;
  readonly #notices: TrailNotices;
  readonly #now: () => number;
  readonly #key: SigningKey;
  #lock: HeldSocket;
  readonly #writer: SegmentWriter;
  readonly #chain: string;
  #policy: string;
  #seq: number;
  #prev: string;
  #timeMs: number;
  #segment: { readonly file: string; readonly day: string; bytes: number } | null;
  #sealed: boolean;
  #sinceCheckpoint = 0;
  readonly #checkpoints: Head[] = [];
  #head: Head | null = null;
  /** The one that the state directory has. */
  #keptHead: Head | null = null;
  #headPause: NodeJS.Timeout | null = null;
  #keeping: Promise<void> = Promise.resolve();
  readonly #timer: NodeJS.Timeout;
  readonly #clock: ClockWatch;
  readonly #retention: NodeJS.Timeout;
  #tidying: Promise<void> = Promise.resolve();
  #lost = { count: 0, since: 0, until: 0 };
  #lostInAll = 0;
  #closed = false;

  private constructor(init: TrailInit, key: SigningKey, lock: HeldSocket, found: Found | null) {
    const { settings, notices } = init;
    this.#settings = settings;
    this.#stateDir = init.stateDir;
    this.#notices = notices;
    const now = init.now ?? Date.now;
    this.#now = () => Math.min(LAST_MS, Math.max(0, now()));
    this.#clock = new ClockWatch(this.#now, init.ticks ?? (() => performance.now()));
    this.#policy = init.policy;
    this.#key = key;
    this.#lock = lock;
    this.#chain = found?.last.chain ?? randomBytes(16).toString('hex');
    this.#seq = found?.last.seq ?? 0;
    this.#prev = found?.last.hash ?? GENESIS;
    this.#timeMs = found === null ? Number.NEGATIVE_INFINITY : Date.parse(found.last.time);
    this.#segment = found === null ? null : { file: found.segment.file, day: found.segment.day, bytes: found.bytes };
    this.#sealed = found?.last.event === 'segment_sealed';
    this.#writer = new SegmentWriter(
      {
        dir: settings.dir,
        minFreeBytes: settings.minFreeBytes,
        ...(init.patienceMs === undefined ? {} : { patienceMs: init.patienceMs }),
      },
      found === null ? null : { file: found.segment.file, length: found.bytes },
      this.#seq,
      {
        synced: (seq, seconds, bytes) => {
          this.syncs.observe(seconds);
          this.#synced(seq);
          notices.synced?.(bytes);
        },
        failing: (code) => {
          notices.failing(code);
        },
        recovered: () => {
          this.#sayWhatWasLost();
          notices.recovered();
        },
        disturbed: (disturbance) => {
          this.#disturbed(disturbance);
        },
      },
    );
    this.#timer = setInterval(() => {
      if (this.#sinceCheckpoint > 0) this.checkpoint();
    }, settings.checkpointMs);
    this.#timer.unref();
    this.#retention = setInterval(() => {
      this.#tidying = this.#tidying.then(() => this.retain());
    }, RETENTION_MS);
    this.#retention.unref();
  }

  /** @throws StateInUseError when another process writes there; StateError */
  static async open(init: TrailInit): Promise<AuditTrail> {
    const { dir } = init.settings;
    await ensureStateDirectory(dir, 'audit');
    await access(dir, constants.W_OK).catch((error: unknown) => {
      throw new StateError(`the audit directory ${dir} cannot be written to: ${why(error)}; audit: { dir } names it`);
    });
    const lock = await holdDirectory(dir);
    try {
      const key = await SigningKey.open(init.stateDir, dir);
      const head = await readHead(headFileOf(init.stateDir));
      const found = await recover(dir, head);
      const trail = new AuditTrail(init, key, lock, found);
      trail.#begin(found, head);
      return trail;
    } catch (error) {
      await lock.close();
      throw error;
    }
  }

  /** The last checkpoint that is on the disk; null before the first. */
  get head(): Head | null {
    return this.#head;
  }

  get chain(): string {
    return this.#chain;
  }

  /** Of the newest record. */
  get sequence(): number {
    return this.#seq;
  }

  /** The last record that is on the disk. */
  get synced(): number {
    return this.#writer.synced;
  }

  /** Records that are not on the disk yet. */
  get waiting(): number {
    return this.#writer.waiting;
  }

  /** Records that memory had no room for while the disk took none, since the start. */
  get lost(): number {
    return this.#lostInAll;
  }

  /** Why nothing can be recorded at present; null: it can. */
  get trouble(): string | null {
    return this.#writer.trouble;
  }

  /** After a reload: of records from here on. */
  set policy(version: string) {
    this.#policy = version;
  }

  /**
   * Adds a record to the chain. @param urgent somebody waits for it to be on the disk
   * @returns its sequence number; null: there was no room, which is counted and said in the chain
   */
  add(entry: Entry, urgent = false): number | null {
    if (this.#closed) return null;
    const nowMs = this.#now();
    if (this.#writer.full) {
      this.#lose(nowMs);
      return null;
    }
    this.#sayWhatWasLost();
    const seq = this.#chainUp(entry, nowMs, urgent);
    if (this.#sinceCheckpoint >= this.#settings.checkpointRecords) this.#checkpointAt(nowMs);
    return seq;
  }

  /** Whether that record is on the disk, at once or when it is known. */
  durable(seq: number | null): boolean | Promise<boolean> {
    return seq === null ? false : this.#writer.durable(seq);
  }

  /** Signs the chain as it stands. */
  checkpoint(): void {
    if (!this.#closed && !this.#writer.full) this.#checkpointAt(this.#now());
  }

  /**
   * The last record, signed, and everything on the disk that it takes. Resolves to how many records it did not take.
   * @param finish called when all is on the disk, while the directory is still ours
   */
  async close(last: Entry, finish?: () => Promise<void>): Promise<number> {
    clearInterval(this.#timer);
    clearInterval(this.#retention);
    await this.#tidying;
    this.add(last);
    this.checkpoint();
    this.#closed = true;
    const left = await this.#writer.close();
    if (this.#headPause !== null) clearTimeout(this.#headPause);
    this.#keepHead();
    await this.#keeping;
    await finish?.();
    await this.#lock.close();
    return left + this.#lost.count;
  }

  /**
   * Removes segments that are older than they are to be kept. The chain says so first, and signs that. Where the clock
   * may be wrong nothing is removed: what is gone stays gone.
   */
  async retain(): Promise<void> {
    const { keepMs, dir } = this.#settings;
    if (this.#closed || !this.#clock.isSteady || keepMs === Infinity) return;
    try {
      const expired = await findExpired(dir, keepMs, this.#now());
      if (expired === null) return;
      const { segments, last } = expired;
      const detail = { hash: last.hash, segments: segments.length, through: last.seq };
      if (this.add({ event: 'segments_removed', result: 'noted', detail }) === null) return;
      this.checkpoint();
      if (!(await this.#writer.durable(this.#seq))) return;
      await removeSegments(dir, segments);
      this.#notices.removed(segments.length, last.seq);
    } catch (error) {
      this.#notices.found('not_removed', error instanceof Error ? error.message : 'unknown');
    }
  }

  #begin(found: Found | null, head: Head | null): void {
    for (const torn of found?.torn ?? []) {
      const { kept, bytes, sha256 } = torn;
      this.#notices.found('torn', `the audit trail ended in the middle of a line; its ${bytes} bytes are in ${kept}`);
      this.add({ event: 'chain_recovered', result: 'noted', reason: 'torn', detail: { bytes, kept, sha256 } });
    }
    if (head !== null && (head.chain !== this.#chain || (found?.last.seq ?? 0) < head.seq)) {
      const last = found === null ? 0 : found.last.seq;
      this.#notices.found(
        'tail_missing',
        head.chain === this.#chain
          ? `the audit trail ends with record ${last}, and had ${head.seq} when it was last signed: records are missing`
          : `the audit trail is another than the one that was last signed here (chain ${head.chain}, record ${head.seq})`,
      );
      this.add({
        event: 'chain_recovered',
        result: 'noted',
        reason: 'tail_missing',
        detail: { chain: head.chain, hash: head.hash, seq: head.seq },
      });
    }
    // What is killed again and again before its time for a checkpoint comes would otherwise never sign anything.
    if (found !== null && found.last.signature === undefined) this.checkpoint();
  }

  /** Somebody was at the segment. */
  #disturbed({ what, file, kept }: Disturbance): void {
    this.#notices.found(
      'disturbed',
      what === 'removed'
        ? `the segment ${file} was removed while it was written, and has been put back`
        : what === 'replaced'
          ? `something else had the name of the segment ${file}, and is now ${kept ?? 'gone'}; the segment is back`
          : `the end of the segment ${file} was cut off while it was written: records are missing`,
    );
    const detail = { segment: file, ...(kept === null ? {} : { kept }) };
    if (!this.#closed) this.add({ event: 'chain_recovered', result: 'noted', reason: `segment_${what}`, detail });
    // The directory may be another one than it was.
    this.#keeping = this.#keeping.then(() => this.#holdDirectory());
  }

  async #holdDirectory(): Promise<void> {
    const { dir } = this.#settings;
    try {
      if (this.#closed || (await isHeld(dir, WRITER_SOCKET))) return;
      // First: closing it removes what has its name.
      await this.#lock.close();
      this.#lock = await holdDirectory(dir);
      await this.#key.publish(dir);
    } catch (error) {
      const said = error instanceof StateError || error instanceof StateInUseError ? error.message : 'unknown';
      this.#notices.found('disturbed', said);
    }
  }

  /** The record, and before it what must stand before it. */
  #chainUp(entry: Entry, nowMs: number, urgent: boolean): number {
    if (nowMs < this.#timeMs - CLOCK_TOLERANCE_MS) {
      const from = timestamp(this.#timeMs);
      this.#timeMs = nowMs;
      const went = utcDate(nowMs);
      // The segment goes on: the day that it was named for may never come. The next that does begins one again.
      if (this.#segment !== null) this.#segment = { ...this.#segment, day: went };
      this.#chainUp({ event: 'clock_went_back', result: 'noted', detail: { from } }, nowMs, false);
    }
    // Time stands still for as long as a clock was put back by a little.
    this.#timeMs = Math.max(nowMs, this.#timeMs);
    const day = utcDate(this.#timeMs);
    const segment = this.#segment;
    if (segment === null) return this.#openSegment(entry, null, day, urgent);
    if (this.#sealed) return this.#openSegment(entry, segment.file, day, urgent);
    if (day > segment.day || segment.bytes >= this.#settings.segmentBytes) {
      this.#write({ event: 'segment_sealed', result: 'noted' }, null, false, true);
      this.#sealed = true;
      return this.#openSegment(entry, segment.file, day, urgent);
    }
    return this.#write(entry, null, urgent, false);
  }

  #openSegment(entry: Entry, before: string | null, day: string, urgent: boolean): number {
    const file = segmentName(this.#seq + 1, day);
    this.#segment = { file, day, bytes: 0 };
    this.#sealed = false;
    const detail: Record<string, CanonicalValue> = { segment: file, ...(before === null ? {} : { before }) };
    this.#write({ event: 'segment_opened', result: 'noted', detail }, file, false, false);
    return this.#write(entry, null, urgent, false);
  }

  #write(entry: Entry, opens: string | null, urgent: boolean, signed: boolean): number {
    this.#seq += 1;
    const place = {
      chain: this.#chain,
      seq: this.#seq,
      time: timestamp(this.#timeMs),
      prev: this.#prev,
      policy: this.#policy,
    };
    const { line, hash } = writeRecord(entry, place, signed ? this.#key : null);
    this.#prev = hash;
    const bytes = this.#writer.add({ text: line, seq: this.#seq, opens }, urgent);
    if (this.#segment !== null) this.#segment.bytes += bytes;
    this.#sinceCheckpoint += 1;
    if (signed) {
      this.#sinceCheckpoint = 0;
      this.#checkpoints.push({ chain: this.#chain, seq: this.#seq, hash, time: place.time });
    }
    return this.#seq;
  }

  #checkpointAt(nowMs: number): void {
    if (this.#segment === null || this.#sealed) return;
    this.#timeMs = Math.max(nowMs, this.#timeMs);
    this.#write({ event: 'checkpoint', result: 'noted' }, null, false, true);
  }

  #lose(nowMs: number): void {
    this.#lostInAll += 1;
    const { count, since } = this.#lost;
    this.#lost = { count: count + 1, since: count === 0 ? nowMs : since, until: nowMs };
  }

  #sayWhatWasLost(): void {
    const { count, since, until } = this.#lost;
    if (count === 0 || this.#writer.full) return;
    this.#lost = { count: 0, since: 0, until: 0 };
    const detail = { since: timestamp(since), until: timestamp(until) };
    this.#chainUp({ event: 'records_lost', result: 'noted', count, detail }, this.#now(), false);
  }

  #synced(seq: number): void {
    let latest: Head | null = null;
    while ((this.#checkpoints[0]?.seq ?? Infinity) <= seq) {
      latest = this.#checkpoints.shift() ?? null;
      if (latest !== null) this.#notices.checkpoint(latest);
    }
    if (latest === null) return;
    this.#head = latest;
    if (this.#headPause === null) this.#keepHead();
  }

  /** What came while it rests is kept after it. */
  #keepHead(): void {
    this.#headPause = null;
    const head = this.#head;
    if (head === null || head === this.#keptHead) return;
    this.#keptHead = head;
    const text = `${JSON.stringify(head)}\n`;
    this.#keeping = this.#keeping.then(async () => {
      try {
        await replaceStateFile(headFileOf(this.#stateDir), text);
      } catch (error) {
        this.#notices.found('head_unwritten', error instanceof Error ? error.message : 'unknown');
      }
    });
    if (this.#closed) return;
    this.#headPause = setTimeout(() => {
      this.#keepHead();
    }, HEAD_EVERY_MS);
    this.#headPause.unref();
  }
}

function headFileOf(stateDir: string): string {
  return path.join(stateDir, KEY_FOLDER, HEAD_FILE);
}

async function readHead(file: string): Promise<Head | null> {
  const bytes = await readStateFile(file, 4096);
  if (bytes === null) return null;
  try {
    const value = JSON.parse(bytes.toString('utf8')) as Partial<Record<keyof Head, unknown>> | null;
    const { chain, seq, hash, time } = value ?? {};
    if (typeof chain === 'string' && typeof seq === 'number' && typeof hash === 'string' && typeof time === 'string') {
      return { chain, seq, hash, time };
    }
  } catch {
    // Said below.
  }
  throw new StateError(`${file} is not as guardbee writes it; move it away`);
}

async function holdDirectory(dir: string): Promise<HeldSocket> {
  const inUse = `another guardbee writes the audit trail in ${dir}; give each its own with audit: { dir: PATH }`;
  return await HeldSocket.open(dir, WRITER_SOCKET, inUse, (socket) => socket.destroy());
}
