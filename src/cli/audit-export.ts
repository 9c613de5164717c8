import type { FileHandle } from 'node:fs/promises';
import { open, rename, unlink } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { RbeeChain, type RbeeMethod, rbeeEvent, rbeeTime } from '../observe/audit/rbee-record.js';
import type { AuditRecord } from '../observe/audit/record.js';
import { SHEET_HEAD, sheetRow } from '../observe/audit/sheet.js';
import { type VerifyReport, verifyTrail } from '../observe/audit/verify.js';
import type { Authenticator, Policy } from '../policy/policy.js';
import { NAME, NAME_FORM } from '../policy/name.js';
import {
  type KeyOptions,
  type PlaceOptions,
  keysOf,
  noteAccess,
  ownHeads,
  placeOf,
  readEvents,
  reading,
  takesEvents,
  takesKey,
  takesPlace,
} from './audit-place.js';
import { sentence } from './audit-verify.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { readPast } from './moment.js';
import type { Voice } from './voice.js';

const FORMATS = ['csv', 'json', 'rbee'] as const;
type Format = (typeof FORMATS)[number];

interface ExportOptions extends PlaceOptions, KeyOptions {
  readonly format: string;
  readonly since?: string;
  readonly until?: string;
  readonly event?: readonly string[];
  readonly out?: string;
  readonly serviceId: string;
  readonly brokenToo?: true;
}

export function registerExport(audit: Command, voice: Voice): void {
  takesKey(takesEvents(takesPlace(audit.command('export'))))
    .argument('[file...]', 'segments, instead of a directory: copies may be anywhere')
    .description(
      'Writes a trail, or a part of it, for other programs, after it has verified all of it: CSV, one JSON array, or records as rbee writes them, chained by its rule.',
    )
    .requiredOption('--format <format>', FORMATS.join(', '))
    .option('--since <when>', 'records from then on: a date (2027-01-01), or how long ago (7d)')
    .option('--until <when>', 'records before then')
    .option('--out <file>', 'write to a new file, 0600, instead of stdout')
    .option('--service-id <name>', 'with rbee: the service that the records are of', 'guardbee')
    .option('--broken-too', 'export what can be read of a trail that is broken')
    .addHelpText(
      'after',
      '\nExit codes: 0 exported, 6 the trail is broken and nothing was exported, 1 it cannot be read or written, 2 wrong usage.\n\nExample:\n  guardbee audit export --policy policy.yaml --format csv --since 7d\n',
    )
    .action(
      ending(async (files: readonly string[], options: ExportOptions) =>
        reading(async () => await exportTrail(files, options, voice)),
      ),
    );
}

async function exportTrail(files: readonly string[], options: ExportOptions, voice: Voice): Promise<number> {
  const format = FORMATS.find((one) => one === options.format);
  if (format === undefined) throw new Ending(EXIT.usage, `--format: there are ${FORMATS.join(', ')}`);
  if (!NAME.test(options.serviceId)) throw new Ending(EXIT.usage, `--service-id: allowed is ${NAME_FORM}`);
  const now = Date.now();
  const since = options.since === undefined ? null : readPast('--since', options.since, now);
  const until = options.until === undefined ? null : readPast('--until', options.until, now);
  const events = readEvents(options.event);
  const place = await placeOf(files, options, voice);
  const keys = await keysOf(place, options, voice);
  const heads = await ownHeads(place);
  await noteAccess('export', place, voice);
  const verified = await verifyTrail(place.trail, { keys, heads });
  if (!verified.ok) {
    voice.err(`guardbee: the trail is broken: ${whatIsWrong(verified)}`);
    if (options.brokenToo !== true) {
      throw new Ending(EXIT.auditBroken, 'nothing was exported; --broken-too exports what can be read of it');
    }
  }
  const writing = writerOf(format, options.serviceId, place.policy);
  const last = verified.last?.seq ?? 0;
  const output = options.out === undefined ? new Poured(voice) : await NewFile.open(options.out);
  try {
    let pending = writing.head;
    const again = await verifyTrail(place.trail, {
      keys,
      heads,
      onRecord: (record) => {
        // What came since was not verified before it was written.
        if (record.seq > last && options.brokenToo !== true) return;
        const ms = Date.parse(record.time);
        if ((since !== null && ms < since) || (until !== null && ms >= until)) return;
        if (events === null || events.has(record.event)) pending += writing.record(record);
      },
      pause: async () => {
        const piece = pending;
        pending = '';
        if (piece !== '') await output.write(piece);
      },
    });
    if (!again.ok && options.brokenToo !== true) {
      throw new Ending(EXIT.auditBroken, `the trail changed while it was exported: ${whatIsWrong(again)}`);
    }
    await output.write(pending + writing.tail);
    await output.finish();
  } catch (error) {
    await output.discard();
    throw error;
  }
  for (const said of writing.leftOut()) voice.err(`guardbee: ${said}`);
  return EXIT.ok;
}

function whatIsWrong({ problems, problemCount }: VerifyReport): string {
  const [first] = problems;
  if (first === undefined) return 'something is wrong with it';
  return `${sentence(first)}${problemCount > 1 ? ` (${problemCount} problems in all)` : ''}`;
}

interface Writing {
  readonly head: string;
  readonly tail: string;
  record(record: AuditRecord): string;
  leftOut(): string[];
}

function writerOf(format: Format, service: string, policy: Policy | null): Writing {
  switch (format) {
    case 'csv':
      return { head: SHEET_HEAD, tail: '', record: sheetRow, leftOut: () => [] };
    case 'json': {
      let between = '\n';
      return {
        head: '[',
        tail: '\n]\n',
        record: (record) => {
          const text = `${between}${JSON.stringify(record)}`;
          between = ',\n';
          return text;
        },
        leftOut: () => [],
      };
    }
    case 'rbee': {
      const chain = new RbeeChain(service);
      const without = new Map<string, number>();
      const methodOf = (name: string): RbeeMethod | null => {
        const authenticator = policy?.authenticators.get(name);
        return authenticator === undefined ? null : METHODS[authenticator.type];
      };
      return {
        head: '',
        tail: '',
        record: (record) => {
          const event = rbeeEvent(record, service, methodOf);
          if (event !== null) return chain.add(event, rbeeTime(record.time));
          without.set(record.event, (without.get(record.event) ?? 0) + 1);
          return '';
        },
        leftOut: () => {
          if (without.size === 0) return [];
          const list = [...without].sort(([a], [b]) => (a < b ? -1 : 1)).map(([event, count]) => `${event} ${count}`);
          return [`rbee has no events for these, which were left out: ${list.join(', ')}`];
        },
      };
    }
  }
}

/** rbee knows four; a password is the nearest thing to a key that it has. */
const METHODS: Readonly<Record<Authenticator['type'], RbeeMethod>> = {
  bearer: 'bearer_token',
  jwt: 'bearer_token',
  basic: 'api_key',
  mtls: 'm_tls',
  network: 'internal',
};

interface Output {
  write(text: string): Promise<void>;
  finish(): Promise<void>;
  discard(): Promise<void>;
}

class Poured implements Output {
  readonly #voice: Voice;

  constructor(voice: Voice) {
    this.#voice = voice;
  }

  async write(text: string): Promise<void> {
    if (!(await this.#voice.pour(text))) throw new Ending(EXIT.policy, 'not all of it was read');
  }

  async finish(): Promise<void> {
    // What was poured is out.
  }

  async discard(): Promise<void> {
    // What was poured is out.
  }
}

/** There is the whole export, or none. */
class NewFile implements Output {
  readonly #handle: FileHandle;
  readonly #temporary: string;
  readonly #file: string;

  private constructor(handle: FileHandle, temporary: string, file: string) {
    this.#handle = handle;
    this.#temporary = temporary;
    this.#file = file;
  }

  static async open(file: string): Promise<NewFile> {
    const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      // Never over a file that is there; this one only holds the name.
      await (await open(file, 'wx', 0o600)).close();
      return new NewFile(await open(temporary, 'wx', 0o600), temporary, file);
    } catch (error) {
      throw cannotWrite(file, error);
    }
  }

  async write(text: string): Promise<void> {
    try {
      await this.#handle.writeFile(text);
    } catch (error) {
      throw cannotWrite(this.#file, error);
    }
  }

  async finish(): Promise<void> {
    try {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.#temporary, this.#file);
    } catch (error) {
      throw cannotWrite(this.#file, error);
    }
  }

  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await unlink(this.#temporary).catch(() => undefined);
    await unlink(this.#file).catch(() => undefined);
  }
}

function cannotWrite(file: string, error: unknown): Ending {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  return new Ending(EXIT.policy, `cannot write ${file}: ${code === 'EEXIST' ? 'it is there already' : code}`);
}
