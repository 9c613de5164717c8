/** What a reload can change and what it cannot, and what it has changed, in words for operators. */
import type { Log } from '../observe/log.js';
import type { Issue } from '../policy/issue.js';
import type {
  AuditSettings,
  Authenticator,
  Bind,
  CertificatePair,
  Listener,
  Policy,
  Position,
} from '../policy/policy.js';
import { digestOfCredentials } from './audit.js';
import { hostPort } from './listener-url.js';
import type { PolicyReading } from './together.js';
import { sha256Hex } from '../secret/digest.js';
import type { FilesRead } from '../secret/files.js';

/** A policy as it was read again, or what is wrong with it. */
export type ReadAgain = {
  /** What was found in the files that belong to it. */
  readonly files: FilesRead;
} & (
  | {
      readonly ok: true;
      readonly policy: Policy;
      /** Where a key stands in its text; null where that is not known. */
      readonly locate: (path: readonly string[]) => Position | null;
      /** What it was made of, for the workers; left out where there are none. */
      readonly reading?: PolicyReading;
    }
  | { readonly ok: false; readonly exitCode: number; readonly issues: readonly Issue[] }
);

/** What became of a reload. */
export type Reloaded =
  | {
      readonly ok: true;
      readonly before: string;
      readonly after: string;
      /** A line each; empty where all is as it was. */
      readonly changes: readonly string[];
      readonly warnings: readonly Issue[];
      /** Exchanges that were underway and that the policy now refuses. */
      readonly refused: number;
    }
  | { readonly ok: false; readonly before: string; readonly exitCode: number; readonly issues: readonly Issue[] };

/** Stops a reload; nothing has changed. */
export class ReloadError extends Error {
  override readonly name = 'ReloadError';
  readonly exitCode: number;
  readonly issues: readonly Issue[];

  constructor(exitCode: number, issues: readonly Issue[]) {
    super('the policy is not taken over');
    this.exitCode = exitCode;
    this.issues = issues;
  }
}

/** A reload came too late: nothing is said of it. */
export class StoppingError extends Error {
  override readonly name = 'StoppingError';
}

/** What belongs to the process: it has been opened once, and others may hold on to it. */
export function notReloadable(before: Policy, read: ReadAgain & { readonly ok: true }): Issue[] {
  const { policy: after, locate } = read;
  const checks: readonly (readonly [path: readonly string[], same: boolean, why: string])[] = [
    [['state', 'dir'], before.stateDir === after.stateDir, 'what is kept there is in use'],
    [['state', 'redis'], redisOf(before) === redisOf(after), 'the connections to it are in use'],
    [['log', 'file'], before.log.file === after.log.file, 'it is open (SIGUSR1 opens the same name again)'],
    [
      ['log', 'format'],
      before.log.format === after.log.format,
      'lines of two formats in one log can be read by nobody',
    ],
    [['audit'], auditOf(before.audit) === auditOf(after.audit), 'the trail is being written'],
    [['processes'], before.processes === after.processes, 'the processes have been begun'],
  ];
  return checks.flatMap(([path, same, why]): Issue[] => {
    if (same) return [];
    const at = locate(path) ?? { line: 0, column: 0 };
    return [
      {
        severity: 'error',
        code: 'not_reloadable',
        file: after.file,
        line: at.line,
        column: at.column,
        key: path.join('.'),
        message: `this differs from what guardbee was started with, and a reload cannot change it: ${why}`,
        hint: 'restart guardbee, or put back what was there; nothing else of this policy is used until then',
      },
    ];
  });
}

function redisOf({ redis }: Policy): string {
  return redis === null ? '' : JSON.stringify([redis.prefix, redis.url.digests()]);
}

function collectorOf({ audit }: Policy): string {
  return audit?.deliver == null ? '' : digestOfCredentials(audit.deliver);
}

function auditOf(settings: AuditSettings | null): string {
  if (settings === null) return '';
  const { deliver, ...rest } = settings;
  const plain = Object.entries(rest).map(([key, value]) => [key, String(value)]);
  if (deliver === null) return JSON.stringify(plain);
  // Those are renewed by whoever runs the collector; a trail goes on with others.
  const { url, batchRecords, batchBytes, batchMs, wait } = deliver;
  return JSON.stringify([plain, url, batchRecords, batchBytes, batchMs, wait]);
}

/** The same for pairs that serve alike. */
export function digestOfPairs(pairs: readonly CertificatePair[]): string {
  return sha256Hex(JSON.stringify(pairs.map(({ certPem, key }) => [certPem, key.digests()])));
}

function at({ host, port, path }: Bind): string {
  return path === undefined ? hostPort(host, port) : `unix:${path}`;
}

/** A line for each thing that an operator would look for; what the rules say in detail is in the policy. */
export function changesBetween(before: Policy, after: Policy, renewed: readonly string[]): string[] {
  const changes: string[] = [];
  if (before.version !== after.version) changes.push(`policy ${before.version} -> ${after.version}`);
  const was = new Map(before.listeners.map((listener) => [listener.name, listener]));
  const is = new Map(after.listeners.map((listener) => [listener.name, listener]));
  for (const [name, listener] of is) {
    const old = was.get(name);
    if (old === undefined) changes.push(`listener ${name} opened at ${at(listener.bind)}`);
    else if (at(old.bind) !== at(listener.bind)) changes.push(`listener ${name} moved to ${at(listener.bind)}`);
    changes.push(...routeChanges(old, listener));
  }
  for (const name of was.keys()) if (!is.has(name)) changes.push(`listener ${name} closed`);
  for (const name of renewed) changes.push(`certificate of listener ${name} exchanged`);
  for (const [name, authenticator] of after.authenticators) {
    changes.push(...peopleChanges(before.authenticators.get(name), authenticator));
  }
  for (const name of before.authenticators.keys())
    if (!after.authenticators.has(name)) changes.push(`authenticator ${name} removed`);
  if (collectorOf(before) !== collectorOf(after))
    changes.push('credentials for the collector of the audit trail exchanged');
  if (before.log.level !== after.log.level) changes.push(`log level ${after.log.level}`);
  return changes;
}

function routeChanges(before: Listener | undefined, after: Listener): string[] {
  if (before?.type !== 'http' || after.type !== 'http') return [];
  const names = ({ routes }: typeof after): Set<string> => new Set(routes.routes.map((route) => route.name));
  return difference(names(before), names(after)).map((words) => `routes of listener ${after.name}: ${words}`);
}

function peopleChanges(before: Authenticator | undefined, after: Authenticator): string[] {
  if (before === undefined) return [`authenticator ${after.name} added`];
  return difference(peopleOf(before), peopleOf(after)).map((words) => `authenticator ${after.name}: ${words}`);
}

/** Names; of a token its digest too, since one name may have two. */
function peopleOf(authenticator: Authenticator): Set<string> {
  switch (authenticator.type) {
    case 'bearer':
      return new Set(authenticator.tokens.entries().map(({ name, sha256 }) => `${name} (${sha256.slice(0, 6)})`));
    case 'basic':
      return new Set(authenticator.users.keys());
    case 'mtls':
      return new Set(authenticator.identities.entries().map(({ holder }) => holder.name));
    case 'network':
      return new Set([...authenticator.hosts].map(([address, { name }]) => `${name} (${address})`));
    case 'jwt':
      return new Set(
        authenticator.keys.kind === 'url'
          ? [authenticator.keys.url]
          : authenticator.keys.keys.map(({ digest }) => `key ${digest.slice(0, 6)}`),
      );
  }
}

const MOST_NAMED = 8;

function difference(before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  const named = (sign: string, names: readonly string[]): string[] =>
    names.length > MOST_NAMED
      ? [...names.slice(0, MOST_NAMED).map((name) => sign + name), `${sign}${String(names.length - MOST_NAMED)} more`]
      : names.map((name) => sign + name);
  const words = [
    ...named(
      '+',
      [...after].filter((name) => !before.has(name)),
    ),
    ...named(
      '-',
      [...before].filter((name) => !after.has(name)),
    ),
  ];
  return words.length === 0 ? [] : [words.join(' ')];
}

/** What everybody should see again at each start and each reload. */
export function logWarnings(warnings: readonly Issue[], log: Log): void {
  for (const warning of warnings) log.warn(`policy.${warning.code}`, placed(warning));
}

/** `policy.yaml:3:5 listeners.queen.bind: …`. */
export function placed({ file, line, column, key, message }: Issue): string {
  const place = line === 0 ? file : `${file}:${String(line)}:${String(column)}`;
  return `${place}${key === '' ? '' : ` ${key}`}: ${message}`;
}
