import type { Command } from 'commander';
import { escapeControls } from '../observe/control-characters.js';
import { quickLink } from '../observe/audit/quick-record.js';
import { type AuditRecord, type RecordRead, readRecord } from '../observe/audit/record.js';
import { TrailTail, mustHaveSegments } from '../observe/audit/tail.js';
import { noteAccess, placeOf, reading, readEvents, takesEvents, takesPlace, type PlaceOptions } from './audit-place.js';
import { EXIT, Ending, ending } from './exit-code.js';
import type { Line, Tone, Voice } from './voice.js';

interface TailOptions extends PlaceOptions {
  readonly lines: string;
  readonly follow?: true;
  readonly event?: readonly string[];
  readonly json?: true;
}

const MOST_LINES = 100_000;

export function registerTail(audit: Command, voice: Voice): void {
  takesEvents(takesPlace(audit.command('tail')))
    .description('Prints the last records of a trail, and those that come. It does not check the chain: verify does.')
    .option('-n, --lines <n>', 'how many', '20')
    .option('-f, --follow', 'go on with what is added, over rotation, until it is interrupted')
    .option('--json', 'print the records themselves, one JSON object a line')
    .addHelpText('after', '\nExample:\n  guardbee audit tail --policy policy.yaml -n 5 --event auth_failure\n')
    .action(ending(async (options: TailOptions) => reading(async () => await tail(options, voice))));
}

async function tail(options: TailOptions, voice: Voice): Promise<number> {
  const most = /^\d{1,6}$/.test(options.lines) ? Number(options.lines) : NaN;
  if (!(most <= MOST_LINES)) throw new Ending(EXIT.usage, `-n: allowed is a number up to ${MOST_LINES}`);
  const events = readEvents(options.event);
  const place = await placeOf([], options, voice);
  const { trail } = place;
  if (trail.kind !== 'dir') throw new TypeError('tail takes no files');
  await mustHaveSegments(trail.dir);
  await noteAccess('tail', place, voice);
  const isWanted = (line: Buffer): boolean => {
    if (events === null) return true;
    const event = quickLink(line.toString('latin1'))?.event;
    if (event !== undefined) return events.has(event);
    const read = readRecord(line);
    return read.ok && events.has(read.record.event);
  };
  const printed = (line: Buffer, read: RecordRead): void => {
    if (!read.ok)
      voice.err(`guardbee: a line of the trail is no record (${read.problem}); guardbee audit verify says more`);
    else if (options.json === true) void voice.pour(`${line.toString('utf8')}\n`);
    else voice.out(recordLine(read.record));
  };
  const reader = new TrailTail(trail.dir);
  const stop = new AbortController();
  try {
    for (const line of await reader.last(most, isWanted, events === null)) {
      printed(line, readRecord(line));
    }
    if (options.follow === true) {
      await reader.follow(
        (line) => {
          if (line !== null && isWanted(line)) printed(line, readRecord(line));
        },
        stop.signal,
        async () => {
          if (!(await voice.pour(''))) stop.abort();
        },
      );
    }
  } finally {
    await reader.close();
  }
  return EXIT.ok;
}

const TONES: Readonly<Record<AuditRecord['result'], Tone>> = {
  permitted: 'good',
  denied: 'bad',
  failed: 'warning',
  answered: 'good',
  noted: 'faint',
};

/** Columns that are always there stand first, and under each other. */
export function recordLine(record: AuditRecord): Line {
  const { time, event, result, who, action, resource, status, reason, route, listener, client, peer, count } = record;
  const rest = [
    action === undefined ? undefined : `${action} ${resource ?? ''}${record.query === true ? '?…' : ''}`,
    status === undefined ? undefined : `→ ${status}`,
    reason,
    route === undefined ? listener : `${listener ?? ''}/${route}`,
    client === undefined && peer === undefined ? undefined : `from ${client ?? peer ?? ''}`,
    count === undefined ? undefined : `× ${count}`,
    record.detail === undefined ? undefined : JSON.stringify(record.detail),
  ].filter((part) => part !== undefined && part !== '');
  return [
    { tone: 'faint', text: time },
    '  ',
    { tone: 'strong', text: event.padEnd(22) },
    '  ',
    { tone: TONES[result], text: result.padEnd(9) },
    // A line end in a text would begin a line that looks like a record.
    escapeControls(`  ${(who ?? '-').padEnd(16)}  ${rest.join('  ')}`.trimEnd()),
  ];
}
