import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { DENIALS, type DenialReason } from '../denial.js';
import { type SupposedRequest, type Supposition, suppose } from '../gate/policy-tests.js';
import { TOKEN, fieldRole } from '../http/fields.js';
import { parseAddress } from '../net/address.js';
import { either, show } from '../policy/found.js';
import { ISSUES } from '../policy/issue.js';
import type { HttpListener, Policy, Route, TokenEntry } from '../policy/policy.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { type Verdict, canonical, describe, linesOf, routeOf } from './explanation.js';
import { readStdin } from './input.js';
import { type PolicyOptions, type PolicySource, gatherNames, openPolicy, takesPolicy } from './policy-source.js';
import {
  type Caller,
  allHolders,
  callerOf,
  guess,
  nobodyOfTheName,
  roleNames,
  tokensNamed,
} from './supposed-caller.js';
import type { Voice } from './voice.js';

interface ExplainOptions extends PolicyOptions {
  readonly listener?: string;
  readonly as?: string;
  readonly role?: readonly string[];
  readonly permission?: readonly string[];
  readonly from?: string;
  readonly host?: string;
  readonly header?: readonly string[];
  readonly body?: string;
  readonly upgrade?: true;
  readonly json?: true;
}

export function registerExplain(program: Command, voice: Voice): void {
  const command = program
    .command('explain')
    .description(
      'Says what would become of a request, which line of the policy decides, and what it would take. Nothing is sent.',
    )
    .argument('<method>', 'GET, POST, …')
    .argument('<path>', 'path, with its query if there is one');
  takesPolicy(command)
    .option('--listener <name>', 'which listener; needed where there are several')
    .option('--as <name>', 'with the token, the certificate or the user of this name')
    .option('--role <role>', 'with a credential of this role (again for more)', gatherNames)
    .option('--permission <name>', 'with a credential of this permission (again for more)', gatherNames)
    .option('--from <address>', 'from this address (127.0.0.1)')
    .option('--host <name>', "for this Host (the listener's first)")
    .option(
      '--header <field>',
      "with this header field, as in 'X-Deadline: 1900000000000' (again for more)",
      gatherNames,
    )
    .option('--body <text>', 'with this body, as JSON; @FILE reads it from a file, @- from stdin')
    .option('--upgrade', 'as a WebSocket')
    .option('--json', 'report as JSON')
    .addHelpText(
      'after',
      '\nWithout --as, --role and --permission the request shows no credential, and may be known by its address.\n\nExample:\n  guardbee explain POST /v1/shutdown --role viewer --from 192.168.1.5 --policy policy.yaml\n',
    )
    .action(
      ending(async (method: string, path: string, positional: string | undefined, options: ExplainOptions) => {
        checkUsage(path, options);
        return await explain(await openPolicy(positional, options), method, path, options, voice);
      }),
    );
}

function checkUsage(path: string, options: ExplainOptions): void {
  const wrong = (message: string): never => {
    throw new Ending(EXIT.usage, message);
  };
  if (!path.startsWith('/')) wrong('the path begins with "/"; the host goes into --host');
  if (options.from !== undefined && parseAddress(options.from) === null) wrong('--from is one IP address');
  if (options.as !== undefined && (options.role !== undefined || options.permission !== undefined)) {
    wrong('--as is somebody of the policy, who has roles already: leave out --role and --permission, or --as');
  }
}

async function explain(
  source: PolicySource,
  method: string,
  target: string,
  options: ExplainOptions,
  voice: Voice,
): Promise<number> {
  const read = await readRules(source, options.as, voice);
  if (typeof read === 'number') return read;
  const { policy, unread } = read;
  const listener = listenerFor(policy, options.listener);
  const tokens = options.as === undefined ? [] : tokensNamed(policy, options.as);
  const holders = options.as === undefined ? [] : allHolders(policy).filter(({ holder }) => holder.name === options.as);
  if (options.as !== undefined && tokens.length + holders.length === 0) {
    if (unread === null) throw new Ending(EXIT.usage, nobodyOfTheName(policy, options.as));
    voice.err(renderIssues(unread));
    voice.err(`guardbee: ${show(options.as)} may be in a file that could not be read: say --role ROLE instead`);
    return exitCodeFor(unread);
  }
  const known = roleNames(policy);
  for (const role of options.role ?? []) {
    if (!known.has(role)) throw new Ending(EXIT.usage, `there is no role ${show(role)}${guess(role, known)}`);
  }

  const request: SupposedRequest = {
    listener: listener.name,
    method: /^[a-z]+$/.test(method) ? method.toUpperCase() : method,
    target,
    host: options.host ?? null,
    from: options.from ?? '127.0.0.1',
    headers: (options.header ?? []).flatMap(fieldOf),
    body: options.body === undefined ? null : await bodyOf(options.body),
    upgrade: options.upgrade === true,
    as: null,
  };
  const now = Date.now();
  const verdict = judge(policy, listener, request, callerOf(options, tokens, holders, listener, now), now);
  const explanation = await describe(policy, listener, request, verdict, options.from !== undefined, source);
  if (options.json === true) voice.json(explanation);
  else for (const line of linesOf(explanation)) voice.out(line);
  return EXIT.ok;
}

/** `Name: value`, as curl's -H takes it. */
function fieldOf(text: string): string[] {
  const colon = text.indexOf(':');
  const name = text.slice(0, Math.max(0, colon)).trim();
  const role = fieldRole(name.toLowerCase());
  if (!TOKEN.test(name)) throw new Ending(EXIT.usage, "--header is a field and its value, as in 'X-Deadline: 1'");
  if (role === 'hop' || role === 'credential') {
    throw new Ending(EXIT.usage, `--header ${name} is not said this way: --host and --as say host and credential`);
  }
  return [name, text.slice(colon + 1).trim()];
}

/** More than any route judges. */
const LONGEST_BODY = 16 * 1024 * 1024;

async function bodyOf(text: string): Promise<string> {
  if (!text.startsWith('@')) return text;
  const file = text.slice(1);
  let bytes: Buffer;
  try {
    bytes = file === '-' ? await readStdin(LONGEST_BODY) : await readFile(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new Ending(EXIT.usage, `--body ${text}: the file cannot be read (${code})`);
  }
  if (bytes.length > LONGEST_BODY) throw new Ending(EXIT.usage, '--body is longer than any route takes');
  return bytes.toString('utf8');
}

interface Rules {
  readonly policy: Policy;
  /** What kept the secret files from being read; null where they were read, or were not needed. */
  readonly unread: Parameters<typeof renderIssues>[0] | null;
}

/** The rules do not need the secrets; a token's name does. */
async function readRules(source: PolicySource, as: string | undefined, voice: Voice): Promise<Rules | number> {
  const whole = as === undefined ? null : await source.load();
  if (whole?.ok === true) return { policy: whole.policy, unread: null };
  const rules = await source.load({ skipSecretFiles: true });
  if (rules.ok) {
    const secrets = whole === null ? [] : whole.issues;
    return { policy: rules.policy, unread: secrets.length === 0 ? null : secrets };
  }
  const issues = whole?.issues.some((issue) => ISSUES[issue.code] !== 'secret') === true ? whole.issues : rules.issues;
  voice.err(renderIssues(issues));
  return exitCodeFor(issues);
}

function listenerFor(policy: Policy, name: string | undefined): HttpListener {
  const http = policy.listeners.filter((listener) => listener.type === 'http');
  const names = http.map((listener) => listener.name);
  const [only] = http;
  if (name === undefined) {
    if (only !== undefined && http.length === 1) return only;
    throw new Ending(
      EXIT.usage,
      http.length === 0
        ? 'the policy has no listener that forwards'
        : `which listener? Say --listener ${either(names)}`,
    );
  }
  const found = http.find((listener) => listener.name === name);
  if (found !== undefined) return found;
  throw new Ending(
    EXIT.usage,
    policy.listeners.some((listener) => listener.name === name)
      ? `listener ${show(name)} only redirects`
      : `there is no listener ${show(name)}${guess(name, names)}; there ${names.length === 1 ? 'is' : 'are'} ${names.join(', ')}`,
  );
}

function judge(
  policy: Policy,
  listener: HttpListener,
  request: SupposedRequest,
  caller: Exclude<Caller, { kind: 'known' }>,
  now: number,
): Verdict {
  const asNobody = answered(suppose(policy, request, now));
  const { identity } = asNobody;
  const asksWho = identity !== null || (asNobody.kind === 'refused' && asNobody.reason === 'credential_missing');
  if (caller.kind === 'nobody' && identity !== null) {
    return { said: asNobody, caller: { kind: 'known', identity, from: canonical(request.from) } };
  }
  if (!asksWho || caller.kind === 'nobody') return { said: asNobody, caller };
  const reason = notTaken(caller, routeOf(listener, asNobody.route), now);
  if (reason !== null) {
    const { route, line } = asNobody;
    return {
      said: { kind: 'refused', route, line, reason, status: DENIALS[reason].status, identity: null, invalid: null },
      caller,
    };
  }
  return { said: answered(suppose(policy, { ...request, as: caller.as }, now)), caller };
}

function notTaken(caller: Caller, route: Route | null, now: number): DenialReason | null {
  if (caller.kind === 'token') return proof(caller.token, route, now);
  if (caller.kind !== 'shown') return null;
  return route?.authenticators.some((one) => one.name === caller.shown.authenticator) === true
    ? null
    : 'credential_invalid';
}

/** Why a token would not be taken, as `identity/static-token` would say; null where it would be. */
function proof(token: TokenEntry, route: Route | null, now: number): DenialReason | null {
  if (route?.authenticators.some((one) => one.name === token.authenticator) !== true) return 'credential_invalid';
  if (now < token.notBeforeMs) return 'credential_not_yet_valid';
  return now >= token.notAfterMs ? 'credential_expired' : null;
}

function answered(said: Supposition): Verdict['said'] {
  if (said.kind === 'unanswerable') throw new Ending(EXIT.usage, said.why);
  return said;
}
