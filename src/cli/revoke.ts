import type { Command } from 'commander';
import { DATE_FORM, parseDate } from '../policy/date.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import type { Policy } from '../policy/policy.js';
import { ControlServer, askControl } from '../server/control.js';
import { StateError, StateInUseError } from '../server/state.js';
import {
  type CommandAnswer,
  type Command as StateCommand,
  perform,
  targetsFor,
  unknownIssuer,
} from '../state/revocation-commands.js';
import { PolicyRevocations } from '../state/revocations.js';
import { ensureStateDirectory } from '../state/state-directory.js';
import type { StoreNotice } from '../state/store.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { readStdin } from './input.js';
import { type PolicyOptions, type PolicySource, openPolicy, takesPolicy } from './policy-source.js';
import type { Voice } from './voice.js';

interface RevokeOptions extends PolicyOptions {
  readonly issuer?: string;
  readonly jti?: string;
  readonly subject?: string;
  readonly before?: string;
  readonly expires?: string;
  readonly token?: string;
  readonly list?: true;
  readonly acceptLoss?: true;
  readonly json?: true;
}

export function registerRevoke(program: Command, voice: Voice): void {
  takesPolicy(program.command('revoke'))
    .description(
      'Declares credentials void before their time: one by issuer and jti, or all of a subject that were issued before a moment. A running guardbee refuses them at once, and cuts their open streams within a second; so do all others that share its Redis. A revocation is not taken back.',
    )
    .option('--issuer <issuer>', 'who issued it: `iss` of the token')
    .option('--jti <id>', 'which one: `jti` of the token')
    .option('--subject <subject>', 'all of this subject: `sub` of its tokens')
    .option('--before <date>', 'with --subject: those issued before this moment (now)')
    .option('--expires <date>', 'when the credential ends by itself; the revocation is kept so long (a year)')
    .option('--token <->', '- reads the token itself from stdin, and takes all of this from it')
    .option('--list', 'print what is revoked, as far as guardbee knows it')
    .option('--accept-loss', 'go on with a store that was emptied or damaged: what was lost is revoked no longer')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  guardbee revoke --policy policy.yaml --list\n')
    .action(
      ending(async (positional: string | undefined, options: RevokeOptions) => {
        const command = await commandOf(positional, options);
        const source = await openPolicy(positional, options);
        const answer = await answerOf(command, source, voice);
        return say(answer, command, voice, options.json === true);
      }),
    );
}

async function commandOf(positional: string | undefined, options: RevokeOptions): Promise<StateCommand> {
  const { issuer, jti, subject, token } = options;
  const asked = [
    ['--jti', jti],
    ['--subject', subject],
    ['--token', token],
    ['--list', options.list],
    ['--accept-loss', options.acceptLoss],
  ].flatMap(([flag, value]) => (value === undefined ? [] : [String(flag)]));
  if (asked.length !== 1) {
    throw new Ending(
      EXIT.usage,
      asked.length === 0
        ? 'what? Say --jti ID or --subject SUBJECT, --token - to read the token from stdin, --list, or --accept-loss'
        : `one at a time: found ${asked.join(' and ')}`,
    );
  }
  const needsIssuer = jti !== undefined || subject !== undefined;
  const misplaced = [
    ...(needsIssuer || issuer === undefined ? [] : ['--issuer']),
    ...(subject !== undefined || options.before === undefined ? [] : ['--before']),
    ...(needsIssuer || options.expires === undefined ? [] : ['--expires']),
  ];
  if (misplaced.length > 0)
    throw new Ending(EXIT.usage, `${misplaced.join(' and ')} cannot stand beside ${asked[0] ?? ''}`);
  if (options.list === true) return { cmd: 'list' };
  if (options.acceptLoss === true) return { cmd: 'accept_loss' };
  if (token !== undefined) return await fromToken(positional, options, token);
  if (issuer === undefined) throw new Ending(EXIT.usage, 'whose? Say --issuer ISSUER (`iss` of the token)');
  for (const [flag, text] of [
    ['--issuer', issuer],
    ['--jti', jti],
    ['--subject', subject],
  ] as const) {
    if (text !== undefined && (text === '' || text.length > LONGEST_TOKEN)) {
      throw new Ending(EXIT.usage, `${flag}: allowed are 1 to ${String(LONGEST_TOKEN)} characters`);
    }
  }
  const expiresMs = readDate('--expires', options.expires);
  if (jti !== undefined) return { cmd: 'revoke', issuer, jti, expiresMs };
  // All that has been issued until now, this very millisecond included.
  const beforeMs = readDate('--before', options.before) ?? Date.now() + 1;
  return { cmd: 'revoke', issuer, subject: subject ?? '', beforeMs, expiresMs };
}

function readDate(flag: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const date = parseDate(text);
  if (!date.ok) throw new Ending(EXIT.usage, `${flag}: allowed is ${DATE_FORM}`);
  return date.value;
}

const LONGEST_TOKEN = 8192;

/**
 * What a JWT says of itself, unverified: whoever holds it may have it revoked, and whoever makes one up revokes what
 * nobody has. Neither it nor its claims are printed.
 */
async function fromToken(positional: string | undefined, options: RevokeOptions, given: string): Promise<StateCommand> {
  if (given !== '-') {
    throw new Ending(
      EXIT.usage,
      'a token on the command line can be read by everybody on this machine (ps) and stays in the history of the shell: say --token - and give it on stdin',
    );
  }
  if (positional === '-' || options.policy === '-' || options.config === '-') {
    throw new Ending(EXIT.usage, 'stdin holds the token, so the policy must be a file');
  }
  const bytes = await readStdin(LONGEST_TOKEN + 2);
  try {
    const claims = claimsOf(bytes.toString('latin1').trim());
    if (claims === null) throw new Ending(EXIT.policy, 'what came on stdin is no JWT');
    const { iss, jti, exp } = claims;
    if (typeof iss !== 'string' || iss === '') throw new Ending(EXIT.policy, 'the token names no issuer (iss)');
    if (typeof jti !== 'string' || jti === '') {
      throw new Ending(
        EXIT.policy,
        'the token has no jti, so it cannot be revoked alone: revoke all of its subject with --issuer ISSUER --subject SUBJECT',
      );
    }
    const expiresMs = typeof exp === 'number' && exp > 0 && exp < 8.64e12 ? Math.ceil(exp * 1000) : null;
    return { cmd: 'revoke', issuer: iss, jti, expiresMs };
  } finally {
    bytes.fill(0);
  }
}

function claimsOf(token: string): Readonly<Record<string, unknown>> | null {
  const parts = token.split('.');
  const payload = parts[1];
  if (parts.length !== 3 || payload === undefined || token.length > LONGEST_TOKEN) return null;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    return typeof claims === 'object' && claims !== null ? (claims as Readonly<Record<string, unknown>>) : null;
  } catch {
    return null;
  }
}

async function answerOf(command: StateCommand, source: PolicySource, voice: Voice): Promise<CommandAnswer> {
  const rules = await policyOf(source, { skipSecretFiles: true }, voice);
  try {
    const answer = await askControl(rules.stateDir, command);
    return answer ?? (await withoutProgram(command, rules, source, voice));
  } catch (error) {
    if (error instanceof StateInUseError || error instanceof StateError) throw new Ending(EXIT.policy, error.message);
    throw error;
  }
}

/** Nobody runs there: the stores are opened here, and the directory is held meanwhile as a running program holds it. */
async function withoutProgram(
  command: StateCommand,
  rules: Policy,
  source: PolicySource,
  voice: Voice,
): Promise<CommandAnswer> {
  if (command.cmd === 'revoke') {
    const unknown = unknownIssuer(rules, command.issuer);
    if (unknown !== null) return { ok: false, error: unknown };
  }
  const stores = new Set(targetsFor(rules, command).map((target) => target.settings.store));
  // The secret that is the URL of Redis is read only where it is needed.
  const policy = stores.has('shared') ? await policyOf(source, { skipSecretFiles: false }, voice) : rules;
  await ensureStateDirectory(policy.stateDir);
  const control = await ControlServer.open(policy.stateDir, async () => ({
    ok: false,
    error: 'a command is at work in the state directory; try again',
  }));
  try {
    const tell = ({ level, message }: StoreNotice): void => {
      if (level !== 'info') voice.err(`guardbee: ${message}`);
    };
    const revocations = await PolicyRevocations.open(policy, Date.now(), tell, stores);
    try {
      return await perform(command, policy, revocations, Date.now());
    } finally {
      await revocations.close();
    }
  } finally {
    await control.close();
  }
}

async function policyOf(
  source: PolicySource,
  options: { readonly skipSecretFiles: boolean },
  voice: Voice,
): Promise<Policy> {
  const loaded = await source.load(options);
  if (loaded.ok) return loaded.policy;
  voice.err(renderIssues(loaded.issues));
  throw new Ending(exitCodeFor(loaded.issues));
}

function say(answer: CommandAnswer, command: StateCommand, voice: Voice, json: boolean): number {
  if (json) voice.json(answer);
  if (!answer.ok) {
    if (!json) voice.err(`guardbee: ${answer.error}`);
    return EXIT.policy;
  }
  if (!json) for (const line of lines(answer, command)) voice.out(line);
  return EXIT.ok;
}

function lines(answer: CommandAnswer & { readonly ok: true }, command: StateCommand): string[] {
  switch (command.cmd) {
    case 'revoke': {
      const kept = records(answer['kept']);
      if (kept.length === 0) return ['It has expired already: there is nothing to revoke.'];
      const where = kept.map(({ store, until }) => `${PLACES[String(store)] ?? String(store)} until ${String(until)}`);
      return [`Revoked; kept ${where.join(' and ')}.`];
    }
    case 'accept_loss': {
      const accepted = Array.isArray(answer['accepted']) ? answer['accepted'].map(String) : [];
      if (accepted.length === 0) return ['No store has lost anything.'];
      return [
        `Accepted. What was lost ${accepted.map((name) => PLACES[name] ?? name).join(' and ')} is revoked no longer.`,
      ];
    }
    case 'list': {
      const all = records(answer['revocations']);
      const total = Number(answer['total']);
      if (total === 0) return ['Nothing is revoked, as far as this guardbee knows.'];
      const shown = all.map((entry) => {
        const said = (key: string): string => (typeof entry[key] === 'string' ? entry[key] : 'ever');
        const what =
          entry['jti'] === undefined ? `subject ${said('subject')} before ${said('before')}` : `jti ${said('jti')}`;
        return `${said('issuer')}  ${what}  until ${said('until')}  (${said('store')})`;
      });
      return total > all.length ? [...shown, `and ${String(total - all.length)} older ones`] : shown;
    }
    case 'status':
      return [JSON.stringify(answer)];
  }
}

const PLACES: Readonly<Record<string, string>> = { embedded: 'in the state directory', shared: 'in Redis' };

function records(value: unknown): Readonly<Record<string, unknown>>[] {
  return Array.isArray(value)
    ? value.filter((one): one is Record<string, unknown> => typeof one === 'object' && one !== null)
    : [];
}
