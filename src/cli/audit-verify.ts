import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import type { Command } from 'commander';
import { type Finding, type SeenHead, parseHead } from '../observe/audit/chain-check.js';
import { escapeControls } from '../observe/control-characters.js';
import { headText } from '../observe/audit/record.js';
import { type VerifyReport, verifyTrail } from '../observe/audit/verify.js';
import { type KeyOptions, type PlaceOptions, keysOf, noteAccess, ownHeads, placeOf, reading } from './audit-place.js';
import { takesKey, takesPlace } from './audit-place.js';
import { EXIT, Ending, ending } from './exit-code.js';
import type { Voice } from './voice.js';

interface VerifyVerbOptions extends PlaceOptions, KeyOptions {
  readonly head?: readonly string[];
  readonly headFile?: string;
  readonly json?: true;
}

const MOST_SHOWN = 20;
const MOST_HEADS = 1_000_000;

export function registerVerify(audit: Command, voice: Voice): void {
  takesKey(takesPlace(audit.command('verify')))
    .argument('[file...]', 'segments, instead of a directory: copies may be anywhere')
    .description(
      'Reads a trail from its first record to its last: is each line as guardbee wrote it, does each follow the one before, are the checkpoints signed, is nothing missing. What is cut off at the end shows only against a head that was noted elsewhere: guardbee.audit.head in the log.',
    )
    .option(
      '--head <seq:hash>',
      'a record that must be in it; may be given again',
      (value: string, before: readonly string[] | undefined) => [...(before ?? []), value],
    )
    .option('--head-file <file>', 'a log of guardbee, or - for stdin: all heads in it must be in the trail')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExit codes: 0 nothing is wrong, 6 the trail is broken, 1 it cannot be read, 2 wrong usage.\n\nExample:\n  guardbee audit verify --policy policy.yaml\n',
    )
    .action(
      ending(async (files: readonly string[], options: VerifyVerbOptions) =>
        reading(async () => await verify(files, options, voice)),
      ),
    );
}

async function verify(files: readonly string[], options: VerifyVerbOptions, voice: Voice): Promise<number> {
  const given = (options.head ?? []).map((text) => {
    const head = parseHead(text, 'given');
    if (head === null) {
      throw new Ending(EXIT.usage, '--head: allowed is SEQ:HASH, as guardbee.audit.head in the log has it');
    }
    return head;
  });
  const place = await placeOf(files, options, voice);
  const keys = await keysOf(place, options, voice);
  const logged = options.headFile === undefined ? [] : await headsIn(options.headFile);
  await noteAccess('verify', place, voice);
  let report: VerifyReport;
  try {
    report = await verifyTrail(place.trail, {
      keys,
      heads: [...given, ...logged, ...(await ownHeads(place))],
      ...(place.policy?.audit == null ? {} : { checkpointRecords: place.policy.audit.checkpointRecords }),
      pause: progress(voice),
    });
  } finally {
    voice.progress(null);
  }
  if (options.json === true) voice.json(shown(report));
  else say(report, voice);
  return report.ok ? EXIT.ok : EXIT.auditBroken;
}

const HEAD_FIELD = 'guardbee.audit.head';
/** As a line of text for people has it: no value with a space in it stands there without quotes, so none ends a line so. */
const HEAD_AT_END = /(?:^|\s)the audit trail was signed guardbee\.audit\.head=(\S+)\s*$/;
/** What journald, Docker and shippers of logs call the line that they were given. */
const WRAPPED_IN = ['MESSAGE', 'log', 'message'];

/**
 * Paths and fields of requests stand in the log as well. A head that one of them made up would have a sound trail called
 * broken, so only guardbee's own line is believed.
 */
function headIn(line: string, mayBeWrapped = true): SeenHead | null {
  if (mayBeWrapped && /^\d+:[0-9a-f:]+$/.test(line)) return parseHead(line, 'log');
  if (!line.includes(HEAD_FIELD)) return null;
  // Compose, syslog and containerd write something before it.
  const begin = line.indexOf('{');
  const value = begin === -1 ? undefined : parsed(line.slice(begin));
  if (typeof value !== 'object' || value === null) {
    const [, text = ''] = HEAD_AT_END.exec(stripVTControlCharacters(line)) ?? [];
    return parseHead(text, 'log');
  }
  const members = new Map<string, unknown>(Object.entries(value));
  const head = members.get(HEAD_FIELD);
  if (typeof head === 'string') return parseHead(head, 'log');
  if (!mayBeWrapped) return null;
  for (const name of WRAPPED_IN) {
    const inner = members.get(name);
    if (typeof inner === 'string') return headIn(inner.trimEnd(), false);
  }
  return null;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Every head that a log names, in whatever format it was written. */
async function headsIn(file: string): Promise<SeenHead[]> {
  const heads: SeenHead[] = [];
  const input = file === '-' ? process.stdin : createReadStream(file);
  const lines = createInterface({ input, crlfDelay: Infinity });
  try {
    // What `createInterface` reads from throws its errors here only once somebody listens.
    const failed = new Promise<never>((_resolve, reject) => input.once('error', reject));
    failed.catch(() => undefined);
    const read = async (): Promise<void> => {
      for await (const line of lines) {
        const head = headIn(line);
        if (head !== null) heads.push(head);
        if (heads.length > MOST_HEADS) throw new Ending(EXIT.policy, `--head-file: more than ${MOST_HEADS} heads`);
      }
    };
    await Promise.race([read(), failed]);
  } catch (error) {
    if (error instanceof Ending) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw new Ending(EXIT.policy, `--head-file: ${file} cannot be read: ${code}`);
  } finally {
    lines.close();
  }
  if (heads.length === 0) {
    throw new Ending(EXIT.policy, `--head-file: there is no guardbee.audit.head in ${file === '-' ? 'stdin' : file}`);
  }
  return heads;
}

const MIB = 1024 * 1024;

function progress(voice: Voice): (read: number, total: number) => void {
  let said = -1;
  return (read, total) => {
    const mib = Math.floor(read / MIB / 64) * 64;
    if (total < 64 * MIB || mib === said) return;
    said = mib;
    voice.progress(`${mib} of ${Math.round(total / MIB)} MiB`);
  };
}

function shown(report: VerifyReport): Record<string, unknown> {
  const { first, last, signed, problems, notes } = report;
  const finding = ({ kind, file, line, seq, says, alike }: Finding<string>): Record<string, unknown> => ({
    kind,
    ...(file === null ? {} : { file }),
    ...(line === null ? {} : { line }),
    ...(seq === null ? {} : { seq }),
    says,
    ...(alike === 0 ? {} : { alike }),
  });
  return {
    ok: report.ok,
    chain: report.chain,
    segments: report.segments,
    records: report.records,
    bytes: report.bytes,
    live: report.live,
    first,
    last: last === null ? null : { seq: last.seq, time: last.time, head: headText(last) },
    signed,
    unsigned: report.unsigned,
    problems: problems.map(finding),
    problem_count: report.problemCount,
    notes: notes.map(finding),
  };
}

/** The first thing that is wrong stands first: the rest may follow from it. */
export function say(report: VerifyReport, voice: Voice): void {
  const { problems, problemCount, notes, first, last, signed } = report;
  const [worst, ...others] = [...problems].sort((a, b) => Number(a.line === null) - Number(b.line === null));
  if (worst !== undefined) {
    voice.out([{ tone: 'bad', text: 'broken' }, `: ${sentence(worst)}`]);
    for (const problem of others.slice(0, MOST_SHOWN - 1)) voice.out(`        ${sentence(problem)}`);
    const shownOnes = Math.min(problems.length, MOST_SHOWN);
    const alike = problems.slice(0, shownOnes).reduce((sum, { alike: more }) => sum + more + 1, 0);
    if (problemCount > alike) voice.out(`        and ${problemCount - alike} more; --json has them`);
  }
  const range = first === null || last === null ? '' : `, ${first.seq} to ${last.seq}, ${first.time} to ${last.time}`;
  const size = `${count(report.records, 'record')} in ${count(report.segments, 'segment')}${range}`;
  if (report.ok) voice.out([{ tone: 'good', text: 'ok' }, `: ${size}`]);
  else voice.out(`read: ${size}`);
  if (signed !== null) {
    const how = report.ok ? 'signed: up to record' : 'the last checkpoint that is good: record';
    voice.out(`${how} ${signed.seq}, ${signed.time}, with the key ${signed.key}`);
  }
  for (const note of notes.slice(0, MOST_SHOWN)) voice.out([{ tone: 'warning', text: 'note' }, `: ${sentence(note)}`]);
  if (notes.length > MOST_SHOWN) voice.out(`and ${notes.length - MOST_SHOWN} more notes; --json has them`);
  if (report.ok && last !== null) voice.out(`head: ${headText(last)}`);
}

export function sentence({ file, line, seq, says, alike }: Finding<string>): string {
  const place = [
    ...(file === null ? [] : [line === null ? file : `${file} line ${line}`]),
    ...(file !== null && seq !== null ? [`record ${seq}`] : []),
  ].join(', ');
  const more = alike === 0 ? '' : ` (and ${alike} more like it)`;
  // Names of files, and of what was set aside, come from whoever can write there: a line end of theirs would be a line of ours.
  return escapeControls(`${place === '' ? '' : `${place}: `}${says}${more}`);
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
