import type { Command } from 'commander';
import type { Policy, TokenSource } from '../policy/policy.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import type { SecretReference } from '../policy/schema.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { formatMoment } from './moment.js';
import { openPolicy, takesPolicy } from './policy-source.js';
import type { PlaceOptions } from './token-place.js';
import { readTokens } from './tokens-file.js';
import type { Voice } from './voice.js';

interface ListOptions extends PlaceOptions {
  readonly json?: true;
}

export function registerList(token: Command, voice: Voice): void {
  takesPolicy(token.command('list'))
    .description(
      'Lists the tokens of a tokens file, or of all that a policy names: whose they are, what they may do, and until when. Of the hash the first 6 digits are shown, as in the log.',
    )
    .option('--file <file>', 'a tokens file, in place of a policy')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  guardbee token list --file tokens.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: ListOptions) => {
        return await list(positional, options, voice);
      }),
    );
}

/** What is told of a token. Times are RFC 3339. */
interface Row {
  /** Null of a tokens file, which does not know who reads it. */
  readonly authenticator: string | null;
  readonly name: string;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
  /** Null where the token stands elsewhere, and was not read. */
  readonly fingerprint: string | null;
  readonly not_before: string | null;
  readonly not_after: string | null;
  readonly state: State;
  /** Where the token itself stands; null where its digest is kept. */
  readonly token: SecretReference | Readonly<Record<string, string>> | null;
}

type State = 'live' | 'expired' | 'not yet';

async function list(positional: string | undefined, options: ListOptions, voice: Voice): Promise<number> {
  const nowMs = Date.now();
  let rows: Row[];
  if (options.file === undefined) {
    const loaded = await (await openPolicy(positional, options)).load();
    if (!loaded.ok) {
      voice.err(renderIssues(loaded.issues));
      return exitCodeFor(loaded.issues);
    }
    rows = rowsOfPolicy(loaded.policy, nowMs);
  } else {
    if (positional !== undefined || options.policy !== undefined || options.config !== undefined) {
      throw new Ending(EXIT.usage, 'which one? Say --file or a policy, not both');
    }
    rows = await rowsOfFile(options.file, nowMs, voice);
  }
  if (options.json === true) voice.json({ tokens: rows });
  else for (const line of table(rows)) voice.out(line);
  return EXIT.ok;
}

function rowsOfPolicy(policy: Policy, nowMs: number): Row[] {
  return [...policy.authenticators.values()].flatMap((authenticator) =>
    authenticator.type !== 'bearer'
      ? []
      : authenticator.tokens.entries().map((token) => ({
          authenticator: authenticator.name,
          name: token.name,
          roles: token.roles,
          permissions: token.permissions,
          fingerprint: token.sha256.slice(0, 6),
          not_before: token.notBeforeMs === -Infinity ? null : formatMoment(token.notBeforeMs),
          not_after: token.notAfterMs === Infinity ? null : formatMoment(token.notAfterMs),
          state: stateOf(token.notBeforeMs, token.notAfterMs, nowMs),
          token: token.source === null ? null : referenceTo(token.source),
        })),
  );
}

function referenceTo({ kind, name }: TokenSource): Readonly<Record<string, string>> {
  return { [kind]: name };
}

async function rowsOfFile(file: string, nowMs: number, voice: Voice): Promise<Row[]> {
  const tokens = await readTokens(file, voice);
  return tokens.map((token) => ({
    authenticator: null,
    name: token.name,
    roles: token.roles ?? [],
    permissions: token.permissions ?? [],
    fingerprint: token.sha256?.slice(0, 6) ?? null,
    not_before: token.not_before === undefined ? null : formatMoment(token.not_before),
    not_after: token.not_after === undefined ? null : formatMoment(token.not_after),
    state: stateOf(token.not_before ?? -Infinity, token.not_after ?? Infinity, nowMs),
    token: token.token ?? null,
  }));
}

/** As a request is judged: valid while not_before <= now < not_after. */
function stateOf(notBeforeMs: number, notAfterMs: number, nowMs: number): State {
  if (nowMs >= notAfterMs) return 'expired';
  return nowMs < notBeforeMs ? 'not yet' : 'live';
}

const NOTHING = '-';

function table(rows: readonly Row[]): string[] {
  const ofPolicy = rows.some((row) => row.authenticator !== null);
  const heading = ['NAME', 'STATE', 'FINGERPRINT', 'ROLES', 'PERMISSIONS', 'NOT BEFORE', 'NOT AFTER'];
  const cells = rows.map((row) => [
    row.name,
    row.state,
    row.fingerprint ?? NOTHING,
    row.roles.join(',') || NOTHING,
    row.permissions.join(',') || NOTHING,
    row.not_before ?? NOTHING,
    row.not_after ?? NOTHING,
  ]);
  const lines = ofPolicy
    ? [['AUTHENTICATOR', ...heading], ...cells.map((line, i) => [rows[i]?.authenticator ?? NOTHING, ...line])]
    : [heading, ...cells];
  const widths = heading
    .concat(ofPolicy ? [''] : [])
    .map((_, column) => lines.reduce((width, line) => Math.max(width, line[column]?.length ?? 0), 0));
  return lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
