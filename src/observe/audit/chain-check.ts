/** Does one record follow the other: the part of `audit verify` that looks at lines and touches no file. */
import { type KeyObject, verify } from 'node:crypto';
import type { CanonicalValue } from './canonical-json.js';
import type { AuditEvent } from './events.js';
import { type Link, quickLink } from './quick-record.js';
import { type AuditRecord, GENESIS, type RecordProblem, readRecord, signedText } from './record.js';
import { type SegmentName, parseSegmentName } from './segments.js';

export type ProblemKind =
  | RecordProblem
  | 'blank_line'
  /** Bytes without a line end: at the end of the trail, or of a segment before the last. */
  | 'torn_tail'
  | 'torn_line'
  | 'link_broken'
  | 'genesis_wrong'
  | 'sequence_gap'
  | 'sequence_back'
  | 'other_chain'
  | 'segment_missing'
  | 'segment_name_wrong'
  | 'segment_head_wrong'
  | 'segment_empty'
  | 'beginning_missing'
  | 'removal_wrong'
  | 'signature_wrong'
  | 'key_unknown'
  | 'unsigned'
  | 'stranger'
  | 'head_missing'
  | 'head_differs';

export type NoteKind =
  | 'being_written'
  | 'begins_later'
  | 'clock_went_back'
  | 'chain_recovered'
  | 'records_lost'
  | 'not_signed_yet'
  | 'ends_sealed'
  | 'signatures_not_checked'
  | 'head_too_old';

/** Something found, and where. */
export interface Finding<Kind> {
  readonly kind: Kind;
  readonly file: string | null;
  /** From 1. */
  readonly line: number | null;
  readonly seq: number | null;
  /** For people. */
  readonly says: string;
  /** How many of the same kind follow right after it. */
  readonly alike: number;
}

/** What the head of the chain was once seen to be. */
export interface SeenHead {
  readonly seq: number;
  readonly hash: string;
  /** What a log said may be older than what is kept. */
  readonly from: 'given' | 'log' | 'state';
}

export interface Signed {
  readonly seq: number;
  readonly time: string;
  readonly key: string;
}

export interface ChainSettings {
  /** By their id. Null: signatures are not checked. */
  readonly keys: ReadonlyMap<string, KeyObject> | null;
  readonly heads: readonly SeenHead[];
  /** Whether it is all that there is of a chain, or may begin anywhere. */
  readonly whole: boolean;
  /** More records than this after the last checkpoint are not what guardbee leaves. */
  readonly mostUnsigned: number;
}

/** A segment that is being read. */
export interface Reading {
  /** How findings call it. */
  readonly label: string;
  /** Null: named by somebody else. */
  readonly name: SegmentName | null;
}

const MOST_FINDINGS = 1000;

/** Findings in their order; the same again and again is one. */
export class Findings<Kind extends string> {
  readonly list: Finding<Kind>[] = [];
  total = 0;

  add(
    kind: Kind,
    says: string,
    file: string | null = null,
    line: number | null = null,
    seq: number | null = null,
  ): void {
    this.total += 1;
    const last = this.list.at(-1);
    if (last?.kind === kind && last.file === file && line !== null) {
      this.list[this.list.length - 1] = { ...last, alike: last.alike + 1 };
    } else if (this.list.length < MOST_FINDINGS) {
      this.list.push({ kind, file, line, seq, says, alike: 0 });
    }
  }
}

interface Removal {
  readonly through: number;
  readonly hash: string;
  readonly seq: number;
  readonly file: string;
  readonly line: number;
}

/** What the words of these are looked at for. */
const TOLD: ReadonlySet<AuditEvent> = new Set<AuditEvent>([
  'checkpoint',
  'segment_opened',
  'segment_sealed',
  'segments_removed',
  'chain_recovered',
  'records_lost',
]);

export class ChainCheck {
  readonly problems = new Findings<ProblemKind>();
  readonly notes = new Findings<NoteKind>();
  readonly #settings: ChainSettings;
  readonly #heads = new Map<number, SeenHead[]>();
  #chain: string | null = null;
  #begin: { readonly seq: number; readonly prev: string | null; readonly time: string } | null = null;
  #last: Link | null = null;
  /** Lines since then that are no records: what follows them cannot be linked. */
  #skipped = 0;
  #records = 0;
  #signed: Signed | null = null;
  #reading: Reading = { label: '', name: null };
  #before: Reading | null = null;
  /** Good records of the segment that is read. */
  #ofSegment = 0;
  readonly #removals: Removal[] = [];
  /** Hashes of the last records of segments: what is removed ends there. */
  readonly #ends = new Map<number, string>();

  constructor(settings: ChainSettings) {
    this.#settings = settings;
    for (const head of settings.heads) {
      const there = this.#heads.get(head.seq);
      if (there === undefined) this.#heads.set(head.seq, [head]);
      else if (!there.some(({ hash }) => hash === head.hash)) there.push(head);
    }
  }

  get records(): number {
    return this.#records;
  }

  get chain(): string | null {
    return this.#chain;
  }

  get first(): { readonly seq: number; readonly time: string } | null {
    return this.#begin;
  }

  get last(): Link | null {
    return this.#last;
  }

  get signed(): Signed | null {
    return this.#signed;
  }

  /** Records after the last checkpoint. */
  get unsigned(): number {
    return this.#last === null ? 0 : this.#last.seq - (this.#signed?.seq ?? (this.#begin?.seq ?? 1) - 1);
  }

  beginSegment(reading: Reading): void {
    if (this.#last !== null) this.#ends.set(this.#last.seq, this.#last.hash);
    this.#before = this.#reading.label === '' ? null : this.#reading;
    this.#reading = reading;
    this.#ofSegment = 0;
  }

  /**
   * @param line without its end; null: longer than any record
   * @returns whether it is a record of this chain, in its place or not
   */
  take(line: Buffer | null, number: number): boolean {
    if (line === null) return this.#noRecord('too_long', 'longer than any record', number, null);
    const quick = quickLink(line.toString('latin1'));
    if (quick !== null && !TOLD.has(quick.event)) return this.#link(quick, number);
    const read = readRecord(line);
    if (!read.ok) {
      const { kind, says } = describe(line, read.problem);
      return this.#noRecord(kind, says, number, seqIn(line));
    }
    if (!this.#link(read.record, number)) return false;
    // What is out of its place proves nothing.
    if (this.#last === read.record) this.#told(read.record, number);
    return true;
  }

  /** Bytes without a line end. */
  torn(number: number, isNewest: boolean): void {
    this.#skipped += 1;
    if (isNewest) {
      this.#problem(
        'torn_tail',
        'the last line does not end: whoever wrote it was stopped. The next start of guardbee sets it aside',
        number,
        null,
      );
    } else {
      this.#problem(
        'torn_line',
        'the last line of this segment does not end, and there are segments after it',
        number,
        null,
      );
    }
  }

  /** What can be said only now. @param isLive somebody is writing */
  finish(isLive: boolean): void {
    if (this.#last !== null) this.#ends.set(this.#last.seq, this.#last.hash);
    this.#finishBeginning();
    this.#finishEnd();
    this.#finishSignatures(isLive);
    this.#finishHeads();
  }

  #problem(kind: ProblemKind, says: string, line: number | null, seq: number | null): void {
    this.problems.add(kind, says, this.#reading.label, line, seq);
  }

  #note(kind: NoteKind, says: string, line: number, seq: number): void {
    this.notes.add(kind, says, this.#reading.label, line, seq);
  }

  #noRecord(kind: ProblemKind, says: string, number: number, seq: number | null): false {
    this.#skipped += 1;
    this.#problem(kind, says, number, seq);
    return false;
  }

  #link(link: Link, number: number): boolean {
    const { seq, prev } = link;
    this.#ofSegment += 1;
    if (this.#chain !== null && link.chain !== this.#chain) {
      this.#problem('other_chain', `it belongs to another chain (${link.chain})`, number, seq);
      return false;
    }
    this.#chain = link.chain;
    this.#records += 1;
    const last = this.#last;
    if (last === null) {
      const begin = Math.max(1, seq - this.#skipped);
      this.#begin = { seq: begin, prev: this.#skipped === 0 ? prev : null, time: link.time };
      if (seq === 1 && prev !== GENESIS) {
        this.#problem(
          'genesis_wrong',
          'the first record of a chain follows no other, and this one says it does',
          number,
          1,
        );
      }
    } else {
      const next = last.seq + 1;
      if (seq <= last.seq) {
        this.#problem(
          'sequence_back',
          `record ${seq} stands after record ${last.seq}: it was copied or moved, or records were put before it`,
          number,
          seq,
        );
        return true;
      }
      if (seq > next + this.#skipped) this.#gap(next, seq - 1, number, seq);
      else if (seq === next && prev !== last.hash) {
        this.#problem(
          'link_broken',
          `it does not follow the record before it (${last.seq}): one of them was replaced`,
          number,
          seq,
        );
      }
      if (link.time < last.time) {
        this.#note('clock_went_back', `the clock went back, from ${last.time} to ${link.time}`, number, seq);
      }
    }
    if (number === 1) this.#checkName(link);
    this.#skipped = 0;
    this.#last = link;
    this.#checkHead(link, number);
    return true;
  }

  #gap(from: number, to: number, number: number, seq: number): void {
    const what = from === to ? `record ${from} is missing` : `records ${from} to ${to} are missing`;
    if (this.#ofSegment === 1 && this.#before !== null) {
      this.#problem('segment_missing', `${what} between ${this.#before.label} and this segment`, number, seq);
    } else {
      this.#problem('sequence_gap', `${what} before it`, number, seq);
    }
  }

  #checkName({ seq, time, event }: Link): void {
    const { name } = this.#reading;
    if (name !== null && (name.first !== seq || name.day !== time.slice(0, 10))) {
      this.#problem(
        'segment_name_wrong',
        `the name of the segment says record ${name.first} of ${name.day}; it begins with record ${seq} of ${time.slice(0, 10)}`,
        1,
        seq,
      );
    }
    if (event !== 'segment_opened') {
      this.#problem(
        'segment_head_wrong',
        'a segment begins with the record that opens it, and this one does not',
        1,
        seq,
      );
    }
  }

  #told(record: AuditRecord, number: number): void {
    const { seq, detail } = record;
    switch (record.event) {
      case 'checkpoint':
      case 'segment_sealed':
        this.#checkSignature(record, number);
        break;
      case 'segment_opened': {
        const { name } = this.#reading;
        const own = textOf(detail?.['segment']);
        if (name !== null && own !== name.file) {
          this.#problem('segment_head_wrong', 'the segment was opened under another name', number, seq);
        }
        break;
      }
      case 'segments_removed': {
        const through = detail?.['through'];
        const hash = textOf(detail?.['hash']);
        if (typeof through !== 'number' || hash === null) {
          this.#problem('removal_wrong', 'it does not say what was removed', number, seq);
        } else if (through >= (this.#begin?.seq ?? 1) - 1) {
          this.#removals.push({ through, hash, seq, file: this.#reading.label, line: number });
        }
        break;
      }
      case 'chain_recovered':
        this.#note('chain_recovered', recovered(detail), number, seq);
        break;
      case 'records_lost':
        this.#note('records_lost', `${record.count ?? 1} records could not be written and are lost`, number, seq);
        break;
      default:
        break;
    }
  }

  #checkSignature(record: AuditRecord, number: number): void {
    const { keys } = this.#settings;
    const { seq, time, key, signature } = record;
    if (key === undefined || signature === undefined) {
      this.#problem('signature_wrong', 'a checkpoint without a signature', number, seq);
      return;
    }
    if (keys !== null) {
      const known = keys.get(key);
      if (known === undefined) {
        const one = [...keys.keys()].join(', ');
        this.#problem('key_unknown', `signed with the key ${key}; the one that is trusted is ${one}`, number, seq);
        return;
      }
      const bytes = Buffer.from(signature, 'base64');
      if (
        bytes.toString('base64') !== signature ||
        !verify(null, Buffer.from(signedText(record), 'utf8'), known, bytes)
      ) {
        this.#problem('signature_wrong', 'the signature of this checkpoint does not fit what it says', number, seq);
        return;
      }
    }
    this.#signed = { seq, time, key };
  }

  #checkHead({ seq, hash }: Link, number: number): void {
    const heads = this.#heads.get(seq);
    if (heads === undefined) return;
    this.#heads.delete(seq);
    const wrong = heads.find((head) => head.hash !== hash);
    if (wrong === undefined) return;
    const said = { given: '--head', log: 'a line of the log', state: 'head.json in the state directory' }[wrong.from];
    this.#problem(
      'head_differs',
      `${said} says that record ${seq} is ${wrong.hash}, and here it is another`,
      number,
      seq,
    );
  }

  #finishBeginning(): void {
    const begin = this.#begin;
    if (begin === null || begin.seq === 1) return;
    if (!this.#settings.whole) {
      this.notes.add('begins_later', `begins with record ${begin.seq}; what is before it was not looked at`);
      return;
    }
    const signed = this.#signed?.seq ?? 0;
    const end = begin.seq - 1;
    const covered = this.#removals.some(
      ({ through, hash, seq }) =>
        seq < signed && hash === (through === end ? (begin.prev ?? hash) : this.#ends.get(through)),
    );
    if (covered) return;
    const [removal] = this.#removals;
    const missing = end === 1 ? 'record 1 is missing' : `records 1 to ${end} are missing`;
    this.problems.add(
      'beginning_missing',
      removal === undefined
        ? `${missing}, and no record says that they were removed`
        : removal.seq < signed
          ? `${missing}, and what says that records were removed (record ${removal.seq}) does not fit`
          : `${missing}, and the record that says so (${removal.seq}) is not covered by a checkpoint`,
    );
  }

  /** A segment is sealed only when the next record wants another one, which is opened in the same breath. */
  #finishEnd(): void {
    if (!this.#settings.whole || this.#last?.event !== 'segment_sealed') return;
    this.notes.add(
      'ends_sealed',
      'its last segment is sealed, and no other follows: one was removed, or guardbee was killed in that moment',
    );
  }

  #finishSignatures(isLive: boolean): void {
    const last = this.#last;
    if (last === null) return;
    if (this.#settings.keys === null) {
      this.notes.add('signatures_not_checked', 'signatures were not checked, as was asked for');
      return;
    }
    const { unsigned } = this;
    if (this.#signed === null && !isLive) {
      this.problems.add(
        'unsigned',
        'no record of it is signed: whoever can write these files can have written all of it',
      );
    } else if (unsigned > this.#settings.mostUnsigned) {
      this.problems.add('unsigned', `${unsigned} records follow the last checkpoint; guardbee signs more often`);
    } else if (unsigned > 0) {
      this.notes.add(
        'not_signed_yet',
        unsigned === 1
          ? 'the last record is not signed yet'
          : `the last ${unsigned} records are not signed yet; a --head noted elsewhere would cover them`,
      );
    }
  }

  #finishHeads(): void {
    let old = 0;
    for (const head of [...this.#heads.values()].flat()) {
      const { seq, from } = head;
      const last = this.#last?.seq ?? 0;
      if (from !== 'given' && seq < (this.#begin?.seq ?? 0)) {
        old += 1;
        continue;
      }
      const says =
        seq > last
          ? last === 0
            ? `record ${seq} was written, and there is none`
            : `record ${seq} was written, and the trail ends with record ${last}: its end is cut off`
          : `record ${seq} was written, and is not there`;
      this.problems.add('head_missing', says, null, null, seq);
    }
    if (old > 0) {
      this.notes.add(
        'head_too_old',
        old === 1 ? 'one head is of a record that was removed' : `${old} heads are of records that were removed`,
      );
    }
  }
}

function textOf(value: CanonicalValue | undefined): string | null {
  return typeof value === 'string' ? value : null;
}

function recovered(detail: AuditRecord['detail']): string {
  const seq = detail?.['seq'];
  if (typeof seq === 'number') {
    return `at this start the end of the trail was missing: record ${seq} had been signed, and was no longer there`;
  }
  const bytes = detail?.['bytes'];
  const kept = textOf(detail?.['kept']);
  const what = typeof bytes === 'number' ? `${bytes} bytes` : 'what stood';
  return `at this start ${what} after the last good record were set aside${kept === null ? '' : ` (${kept})`}`;
}

const MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/** What is wrong with a line that is no record. */
function describe(line: Buffer, problem: RecordProblem): { readonly kind: ProblemKind; readonly says: string } {
  if (line.length === 0) return { kind: 'blank_line', says: 'the line is empty' };
  if (line.at(-1) === 0x0d) {
    return { kind: 'not_canonical', says: 'the line ends with CR LF: something has rewritten the file' };
  }
  if (line.subarray(0, 3).equals(MARK)) {
    return { kind: 'not_json', says: 'the line begins with a byte order mark: something has rewritten the file' };
  }
  if (line.every((byte) => byte === 0)) {
    return { kind: 'not_json', says: 'the line is nothing but zeros: the disk has lost what was there' };
  }
  return { kind: problem, says: SAYS[problem] };
}

const SAYS: Readonly<Record<RecordProblem, string>> = {
  too_long: 'longer than any record',
  not_json: 'no JSON: it was changed or cut',
  not_canonical: 'not as guardbee writes it: something has rewritten the line',
  member_wrong: 'not a record: it has a member that no record has, or lacks one',
  hash_wrong: 'its hash does not fit what it says: one of the two was changed',
};

const HEAD = /^([1-9]\d{0,14}):((?:[0-9a-f]{8}:?){8})$/;

/** As `headText` writes it, or with the hash in one piece. Null: it is none. */
export function parseHead(text: string, from: SeenHead['from']): SeenHead | null {
  const [, seq, grouped] = HEAD.exec(text) ?? [];
  if (seq === undefined || grouped === undefined || grouped.endsWith(':')) return null;
  return { seq: Number(seq), hash: grouped.replaceAll(':', ''), from };
}

/** As far as it can still be read. */
function seqIn(line: Buffer): number | null {
  const found = /"seq":([1-9]\d{0,14})[,}]/.exec(line.toString('latin1'));
  return found === null ? null : Number(found[1]);
}

export function readingOf(label: string, file: string): Reading {
  return { label, name: parseSegmentName(file) };
}
