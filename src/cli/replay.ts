import * as path from 'node:path';
import type { Command } from 'commander';
import { type Difference, type Verdict, differences, routeIn, wordFor } from '../gate/verdict.js';
import type { AuditRecord } from '../observe/audit/record.js';
import { escapeControls } from '../observe/control-characters.js';
import { type VerifyReport, verifyTrail } from '../observe/audit/verify.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import type { Policy } from '../policy/policy.js';
import { type KeyOptions, type Place, keysOf, noteAccess, ownHeads, reading, takesKey } from './audit-place.js';
import { sentence } from './audit-verify.js';
import { count } from './check.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { readPast } from './moment.js';
import { MOST_ROLES, type PastDecision, UNKNOWN, type Unknown, pastDecision, replay } from './past-decision.js';
import { type PolicyOptions, openPolicy, takesPolicy } from './policy-source.js';
import type { Voice } from './voice.js';

interface ReplayOptions extends PolicyOptions, KeyOptions {
  readonly audit?: string;
  readonly since?: string;
  readonly json?: true;
}

export function registerReplay(program: Command, voice: Voice): void {
  const command = program
    .command('replay')
    .description(
      'Asks a policy about the decisions that an audit trail has recorded, and says which would be others now. Nothing is sent and nothing written.',
    );
  takesKey(takesPolicy(command))
    .option('--audit <dir>', 'the directory of the segments (that of the policy)')
    .option('--since <when>', 'decisions from then on: a date (2027-01-01), or how long ago (7d)')
    .option('--json', 'report as JSON')
    .addHelpText(
      'after',
      '\nLimits are not counted, and queries, header fields and bodies are not recorded: where one of these decides, it is\nsaid that nothing is known.\n\nExit codes: 0 no decision would be another, 1 some would (or policy or trail cannot be read), 6 the trail is broken, 2 wrong usage.\n\nExample:\n  guardbee replay --audit audit --policy policy.yaml --since 7d\n',
    )
    .action(
      ending(async (positional: string | undefined, options: ReplayOptions) =>
        reading(async () => await replayTrail(positional, options, voice)),
      ),
    );
}

/** Decisions that would change alike. */
interface Change {
  readonly listener: string;
  readonly route: string | null;
  readonly who: string | null;
  readonly action: string;
  readonly before: string;
  readonly after: string;
  readonly after_route: string | null;
  readonly differs_in: readonly Difference[];
  count: number;
  readonly first: string;
  last: string;
  readonly request_id: string | null;
}

type NotReplayed = Unknown | 'listener_missing';

const WHY: Readonly<Record<NotReplayed, string>> = {
  ...UNKNOWN,
  listener_missing: 'this policy has no http listener of that name',
};

/** Kinds of changes that are told apart: names of callers may come out of somebody else's tokens. */
const MOST_CHANGES = 10_000;
/** Permissions whose end has not been read; those of exchanges that were cut by a crash have none. */
const MOST_OPEN = 20_000;

class Tally {
  readonly changes = new Map<string, Change>();
  readonly notReplayed = new Map<NotReplayed, number>();
  decisions = 0;
  same = 0;
  changed = 0;
  readonly #policy: Policy;
  readonly #listeners: ReadonlySet<string>;
  readonly #sinceMs: number;
  /** Granted, by request id. */
  readonly #open = new Map<string, AuditRecord>();

  constructor(policy: Policy, sinceMs: number) {
    this.#policy = policy;
    this.#listeners = new Set(policy.listeners.flatMap(({ type, name }) => (type === 'http' ? [name] : [])));
    this.#sinceMs = sinceMs;
  }

  take(record: AuditRecord): void {
    const { request_id: id, result } = record;
    // A permission that is on the disk before the upstream is asked has no duration yet; its end has.
    if (id !== undefined && result === 'permitted' && record.duration_ms === undefined) {
      this.#open.set(id, whatIsAsked(record));
      const [oldest] = this.#open.size > MOST_OPEN ? this.#open.values() : [];
      if (oldest !== undefined) this.#close(oldest, null);
      return;
    }
    const granted = id === undefined ? undefined : this.#open.get(id);
    if (granted === undefined) this.#ask(pastDecision(record, null));
    else this.#close(granted, record);
  }

  finish(): void {
    for (const granted of [...this.#open.values()]) this.#close(granted, null);
  }

  #close(granted: AuditRecord, ended: AuditRecord | null): void {
    this.#open.delete(granted.request_id ?? '');
    this.#ask(pastDecision(granted, ended));
  }

  #ask(past: PastDecision | null): void {
    if (past === null || Date.parse(past.record.time) < this.#sinceMs) return;
    this.decisions += 1;
    const replayed = this.#listeners.has(past.record.listener ?? '')
      ? replay(past, this.#policy)
      : ({ known: false, why: 'listener_missing' } as const);
    if (!replayed.known) {
      this.notReplayed.set(replayed.why, (this.notReplayed.get(replayed.why) ?? 0) + 1);
      return;
    }
    const where = differences(comparable(past.verdict, replayed.verdict), replayed.verdict);
    if (where.length === 0) this.same += 1;
    else this.#changed(past, replayed.verdict, where);
  }

  #changed({ record, verdict }: PastDecision, after: Verdict, where: readonly Difference[]): void {
    this.changed += 1;
    const { listener = '', action = '', who = null, time } = record;
    const route = routeIn(verdict);
    const words = [wordFor(verdict), wordFor(after)] as const;
    const key = JSON.stringify([listener, route, who, action, ...words, routeIn(after), ...where]);
    const known = this.changes.get(key);
    if (known !== undefined) {
      known.count += 1;
      known.last = time;
    } else if (this.changes.size < MOST_CHANGES) {
      this.changes.set(key, {
        listener,
        route,
        who,
        action,
        before: words[0],
        after: words[1],
        after_route: routeIn(after),
        differs_in: where,
        count: 1,
        first: time,
        last: time,
        request_id: record.request_id ?? null,
      });
    }
  }
}

/** A record without what a hostile trail could fill the memory with, and the question does not need. */
function whatIsAsked(record: AuditRecord): AuditRecord {
  const { detail, roles, ...rest } = record;
  const place = detail?.['in'];
  return {
    ...rest,
    ...(typeof place === 'string' ? { detail: { in: place } } : {}),
    ...(roles === undefined ? {} : { roles: roles.slice(0, MOST_ROLES) }),
  };
}

/** What a record shortens or leaves out is no difference. */
function comparable(past: Verdict, now: Verdict): Verdict {
  if (past.said !== 'permitted' || now.said !== 'permitted') return past;
  const { who } = past;
  const cut =
    who !== null &&
    (who.roles.length >= MOST_ROLES || [who.name, ...who.roles].some((text) => /…|\[redacted/.test(text)));
  return { ...past, upstream: past.upstream === '' ? now.upstream : past.upstream, who: cut ? now.who : who };
}

async function replayTrail(positional: string | undefined, options: ReplayOptions, voice: Voice): Promise<number> {
  const sinceMs = options.since === undefined ? -Infinity : readPast('--since', options.since, Date.now());
  const source = await openPolicy(positional, options);
  const loaded = await source.load();
  if (!loaded.ok) {
    voice.err(renderIssues(loaded.issues));
    return exitCodeFor(loaded.issues);
  }
  const { policy } = loaded;
  const place = placeOf(options.audit, policy, source.file);
  const keys = await keysOf(place, options, voice);
  await noteAccess('replay', place, voice);
  const tally = new Tally(policy, sinceMs);
  const report = await verifyTrail(place.trail, {
    keys,
    heads: await ownHeads(place),
    onRecord: (record) => {
      tally.take(record);
    },
    pause: (read, total) => {
      const percent = total === 0 ? 100 : Math.min(100, Math.floor((100 * read) / total));
      voice.progress(`${String(percent)} % of the trail read, ${count(tally.decisions, 'decision')}`);
    },
  });
  tally.finish();
  voice.progress(null);
  if (options.json === true) voice.json(asJson(tally, report, source.file));
  else say(tally, report, source.file, voice);
  if (!report.ok) return EXIT.auditBroken;
  return tally.changed === 0 ? EXIT.ok : EXIT.policy;
}

/** The trail of the policy is believed by what its state directory knows. */
function placeOf(audit: string | undefined, policy: Policy, file: string): Place {
  if (audit === '') throw new Ending(EXIT.usage, '--audit: the name of the directory is empty');
  const dir = audit === undefined ? (policy.audit?.dir ?? null) : path.resolve(audit);
  if (dir === null) throw new Ending(EXIT.usage, `which trail? ${file} has none: say --audit DIR`);
  return { trail: { kind: 'dir', dir }, policy: policy.audit?.dir === dir ? policy : null };
}

function sorted(tally: Tally): Change[] {
  return [...tally.changes.values()].sort((a, b) => b.count - a.count);
}

function asJson(tally: Tally, { ok, problemCount, problems }: VerifyReport, file: string): Record<string, unknown> {
  const [first] = problems;
  return {
    policy: file,
    decisions: tally.decisions,
    same: tally.same,
    changed: tally.changed,
    not_replayed: Object.fromEntries(tally.notReplayed),
    changes: sorted(tally),
    chain: { ok, problems: problemCount, ...(first === undefined ? {} : { first: sentence(first) }) },
  };
}

const MOST_SHOWN = 50;

function say(tally: Tally, report: VerifyReport, file: string, voice: Voice): void {
  const [worst] = report.problems;
  if (worst !== undefined) voice.out([{ tone: 'bad', text: 'broken' }, `: ${sentence(worst)}`]);
  const { decisions, same, changed } = tally;
  voice.out([
    changed === 0 ? { tone: 'good', text: 'same' } : { tone: 'bad', text: 'changes' },
    `: of ${count(decisions, 'decision')} ${file} would make ${String(changed)} otherwise and ${String(same)} as they were`,
  ]);
  const changes = sorted(tally);
  for (const change of changes.slice(0, MOST_SHOWN)) {
    const { listener, route, who, action, before, after, after_route: afterRoute, differs_in: where } = change;
    const others = where.filter((one) => one === 'upstream' || one === 'who');
    const what = before === after ? `${before}, but another ${others.join(' and ')}` : `${before} -> ${after}`;
    const by = afterRoute === null || afterRoute === route ? '' : ` by ${afterRoute}`;
    voice.out(
      escapeControls(
        `  ${String(change.count).padStart(6)}  ${listener}/${route ?? '-'} ${action} ${who ?? '-'}: ${what}${by}`,
      ),
    );
    voice.out(escapeControls(`          last ${change.last}, for example request ${change.request_id ?? '-'}`));
  }
  if (changes.length > MOST_SHOWN)
    voice.out(`  and ${String(changes.length - MOST_SHOWN)} more kinds; --json has them`);
  for (const [why, times] of [...tally.notReplayed].sort(([, a], [, b]) => b - a)) {
    voice.out([{ tone: 'warning', text: 'not known' }, `: ${String(times)} ${why}: ${WHY[why]}`]);
  }
}
