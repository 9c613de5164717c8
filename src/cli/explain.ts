import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { DENIALS, type DenialReason } from '../denial.js';
import { OWN_FOLDER } from '../gate/admit.js';
import { type SupposedRequest, type Supposition, describeInvalid, suppose } from '../gate/policy-tests.js';
import { TOKEN, fieldRole } from '../http/fields.js';
import type { Identity } from '../identity/identity.js';
import { formatAddress, parseAddress } from '../net/address.js';
import { didYouMean } from '../policy/did-you-mean.js';
import type { PathPart } from '../policy/document.js';
import { either, show } from '../policy/found.js';
import { ISSUES } from '../policy/issue.js';
import { METHODS } from '../policy/methods.js';
import type { Holder, HttpListener, Policy, Route, TokenEntry } from '../policy/policy.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { duration } from './duration-text.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { readStdin } from './input.js';
import {
  type PolicyOptions,
  type PolicySource,
  gatherNames,
  openPolicy,
  positionOf,
  takesPolicy,
} from './policy-source.js';
import { limitTexts } from './show-limits.js';
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
  const explanation = await describe(policy, listener, request, verdict, options, source);
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

function guess(name: string, candidates: Iterable<string>): string {
  const meant = didYouMean(name, candidates);
  return meant === undefined ? '' : `, did you mean ${meant}?`;
}

function allTokens(policy: Policy): TokenEntry[] {
  return [...policy.authenticators.values()].flatMap((one) => (one.type === 'bearer' ? one.tokens.entries() : []));
}

function tokensNamed(policy: Policy, name: string): TokenEntry[] {
  return allTokens(policy).filter((token) => token.name === name);
}

/** Who shows a certificate, or a user name and a password. */
interface Shown {
  readonly by: 'certificate' | 'user';
  readonly authenticator: string;
  readonly holder: Holder;
}

function allHolders(policy: Policy): Shown[] {
  return [...policy.authenticators.values()].flatMap((one): Shown[] => {
    const shown = (by: Shown['by'], holder: Holder): Shown => ({ by, authenticator: one.name, holder });
    if (one.type === 'mtls') return one.identities.entries().map(({ holder }) => shown('certificate', holder));
    return one.type === 'basic' ? [...one.users.values()].map(({ holder }) => shown('user', holder)) : [];
  });
}

function nobodyOfTheName(policy: Policy, name: string): string {
  const names = new Set(
    [...allTokens(policy), ...allHolders(policy).map(({ holder }) => holder)].map((one) => one.name),
  );
  return `there is no token, user or certificate ${show(name)}${guess(name, names)}`;
}

/** Roles of the policy, and those that only its tokens name. */
function roleNames(policy: Policy): Set<string> {
  return new Set([...policy.roles.keys(), ...allTokens(policy).flatMap((token) => token.roles)]);
}

/** Who asks: nobody known, whoever is at that address, somebody made up, or whoever holds a token. */
type Caller =
  | { readonly kind: 'nobody' }
  | { readonly kind: 'known'; readonly identity: Identity; readonly from: string }
  | { readonly kind: 'supposed'; readonly as: NonNullable<SupposedRequest['as']> }
  | { readonly kind: 'token'; readonly as: NonNullable<SupposedRequest['as']>; readonly token: TokenEntry }
  | { readonly kind: 'shown'; readonly as: NonNullable<SupposedRequest['as']>; readonly shown: Shown };

function callerOf(
  options: ExplainOptions,
  tokens: readonly TokenEntry[],
  holders: readonly Shown[],
  listener: HttpListener,
  now: number,
): Exclude<Caller, { kind: 'known' }> {
  // While a token is rotated there are two of its name: take the one that gets furthest.
  const asked = new Set(listener.routes.routes.flatMap((route) => route.authenticators.map((one) => one.name)));
  const rank = (token: TokenEntry): number =>
    (asked.has(token.authenticator) ? 2 : 0) + (token.notBeforeMs <= now && now < token.notAfterMs ? 1 : 0);
  const [token] = [...tokens].sort((a, b) => rank(b) - rank(a));
  const shown = holders.find(({ authenticator }) => asked.has(authenticator)) ?? holders[0];
  if (
    shown !== undefined &&
    (token === undefined || (!asked.has(token.authenticator) && asked.has(shown.authenticator)))
  ) {
    const { name, roles, grants } = shown.holder;
    return { kind: 'shown', shown, as: { name, roles, permissions: [...grants] } };
  }
  if (token !== undefined) {
    return { kind: 'token', token, as: { name: token.name, roles: token.roles, permissions: [...token.grants] } };
  }
  const { role: roles = [], permission: permissions = [] } = options;
  if (roles.length + permissions.length === 0) return { kind: 'nobody' };
  return { kind: 'supposed', as: { name: 'somebody', roles, permissions } };
}

interface Verdict {
  readonly said: Exclude<Supposition, { kind: 'unanswerable' }>;
  readonly caller: Caller;
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

function routeOf(listener: HttpListener, name: string | null): Route | null {
  return listener.routes.routes.find((route) => route.name === name) ?? null;
}

/** The answer, as `--json` prints it. */
interface Explanation {
  readonly decision: 'allowed' | 'refused';
  /** Of the refusal; null where the upstream answers. */
  readonly status: number | null;
  readonly reason: DenialReason | null;
  readonly listener: string;
  readonly route: string | null;
  readonly upstream: string | null;
  /** The deciding line; null where no line of the policy decides. */
  readonly file: string | null;
  readonly line: number | null;
  readonly text: string | null;
  readonly why: string;
  /** What a request to this route needs; null where no route matches, and where the route is closed. */
  readonly needed: Needed | null;
}

interface Needed {
  /** Any one of these permissions or roles; null on public routes. */
  readonly any_of: readonly string[] | null;
  /** Roles that hold one of them. */
  readonly roles: readonly string[] | null;
  /** Addresses that may connect, and that may use the route; null: any. */
  readonly allow_from: readonly string[] | null;
  readonly from: readonly string[] | null;
  readonly authenticate: readonly string[];
  /** How often and how many at once; in the words of the policy, with the name of the counters. */
  readonly limits: readonly string[];
  /** The parameter that names a thing which only its maker may use, or who holds one of `unless`; null: no such. */
  readonly owner: { readonly parameter: string; readonly unless: readonly string[] } | null;
  /** Where the answer names what the caller then owns; null: nothing is owned. */
  readonly owns: string | null;
}

async function describe(
  policy: Policy,
  listener: HttpListener,
  request: SupposedRequest,
  { said, caller }: Verdict,
  options: ExplainOptions,
  source: PolicySource,
): Promise<Explanation> {
  const route = routeOf(listener, said.route);
  const text = await source.text();
  const line = said.line ?? lineOf(text, listener, said.kind === 'refused' ? said.reason : null);
  return {
    decision: said.kind,
    status: said.kind === 'refused' ? said.status : null,
    reason: said.kind === 'refused' ? said.reason : null,
    listener: listener.name,
    route: said.route,
    upstream: said.kind === 'allowed' ? said.upstream : null,
    file: line === null ? null : policy.file,
    line,
    text: line === null || text === null ? null : (text.split(/\r?\n/)[line - 1] ?? '').trim(),
    why:
      said.kind === 'allowed'
        ? whyAllowed(route, caller, policy)
        : whyRefused(said, listener, route, request, caller, policy, options),
    needed: route === null ? null : neededFor(listener, route, policy),
  };
}

/** The key that decides where no route does; null where no line of the policy can change it. */
function lineOf(text: string | null, listener: HttpListener, reason: DenialReason | null): number | null {
  const keys: Readonly<Partial<Record<DenialReason, string>>> = {
    address_denied: 'allow_from',
    wrong_host: 'hosts',
    route_unknown: 'routes',
    forwarded_malformed: 'trusted_proxies',
  };
  const key = reason === null ? undefined : keys[reason];
  if (key === undefined) return null;
  const path: PathPart[] = ['listeners', listener.name, key];
  return (text === null ? null : positionOf(text, path))?.line ?? listener.position.line;
}

function whyAllowed(route: Route | null, caller: Caller, policy: Policy): string {
  if (route?.access.kind !== 'require') return 'the route is public: nobody is asked who they are';
  const held = heldBy(caller, policy);
  const enough = route.access.anyOf.filter((name) => held.has(name));
  return `${whoIs(caller)} has ${enough.join(', ')}, which is enough`;
}

function whyRefused(
  { reason, invalid }: Verdict['said'] & { readonly kind: 'refused' },
  listener: HttpListener,
  route: Route | null,
  request: SupposedRequest,
  caller: Caller,
  policy: Policy,
  options: ExplainOptions,
): string {
  switch (reason) {
    case 'address_denied':
      return `${canonical(request.from)} is not in allow_from, and is turned away before anything is read${
        options.from === undefined ? ' (--from ADDRESS asks for another one)' : ''
      }`;
    case 'wrong_host':
      return 'the Host is none of `hosts`';
    case 'client_denied':
      return `${canonical(request.from)} is not in \`from\` of the route`;
    case 'route_unknown':
      return noRoute(listener, request);
    case 'route_denied':
      return 'the route is closed to everybody';
    case 'credential_missing':
      return 'the route asks for a credential, and none is shown';
    case 'credential_invalid':
      return `${whoIs(caller)} is of another authenticator than the route asks for (${authenticatorsOf(route)})`;
    case 'credential_expired':
    case 'credential_not_yet_valid':
      return `${whoIs(caller)} ${validity(caller)}`;
    case 'permission_missing': {
      const held = [...heldBy(caller, policy)];
      return `${whoIs(caller)} has ${held.length === 0 ? 'nothing' : held.join(', ')}, and the route asks for ${asked(route)}`;
    }
    case 'field_invalid':
    case 'query_ambiguous':
      return invalid === null ? DENIALS[reason].title : describeInvalid(invalid);
    case 'operation_unknown':
      return `what the body asks for is not in require_by_value, which knows ${operationsOf(route)}`;
    case 'body_malformed':
    case 'body_ambiguous':
    case 'body_type_unsupported':
    case 'body_encoding_unsupported':
      return `${DENIALS[reason].title}: the route looks into bodies${
        request.body == null ? ' (--body TEXT gives it one)' : ''
      }`;
    case 'body_too_large':
      return 'the body is longer than `max` of the route';
    case 'deadline_malformed':
    case 'deadline_passed':
      return `${DENIALS[reason].title} (X-Deadline)`;
    case 'ambiguous_path':
      return `${DENIALS[reason].title}${
        /%2f/i.test(request.target) ? ' (only a route with encoded_slash: allow takes an encoded slash)' : ''
      }`;
    default:
      return `${DENIALS[reason].title}; such a request is refused before any rule looks`;
  }
}

/** Routes that the path would match with another method are probably what was meant. */
function noRoute(listener: HttpListener, request: SupposedRequest): string {
  const path = request.target.split('?', 1)[0] ?? '';
  const segments = path.slice(1).split('/');
  if (listener.sessions !== null && segments[0] === OWN_FOLDER) {
    return 'guardbee itself answers there (login, logout and refresh of sessions), and no route has a say in it';
  }
  const others = METHODS.filter((method) => {
    const route = listener.routes.match({ segments, method, encodedSlash: false });
    return route !== null && route.access.kind !== 'deny';
  });
  const hint = others.length === 0 ? '' : `; with ${either(others.slice(0, 5))} one does`;
  return `no route matches this method and path, and what no route allows is refused${hint}`;
}

function canonical(address: string): string {
  const read = parseAddress(address);
  return read === null ? address : formatAddress(read);
}

function whoIs(caller: Caller): string {
  if (caller.kind === 'nobody') return 'nobody';
  if (caller.kind === 'known') return `${caller.from} is ${show(caller.identity.name)} by its address, and`;
  if (caller.kind === 'shown') return `${caller.shown.by} ${show(caller.shown.holder.name)}`;
  return caller.kind === 'token' ? `token ${show(caller.token.name)}` : 'the supposed caller';
}

function heldBy(caller: Caller, policy: Policy): ReadonlySet<string> {
  if (caller.kind === 'nobody') return new Set();
  if (caller.kind === 'known') return caller.identity.grants;
  const { roles, permissions } = caller.as;
  return new Set([...roles, ...permissions, ...roles.flatMap((role) => policy.roles.get(role) ?? [])]);
}

function validity(caller: Caller): string {
  if (caller.kind !== 'token') return 'is not valid now';
  const { notBeforeMs, notAfterMs } = caller.token;
  return Date.now() < notBeforeMs
    ? `is not valid before ${new Date(notBeforeMs).toISOString()}`
    : `was valid until ${new Date(notAfterMs).toISOString()}`;
}

function asked(route: Route | null): string {
  return route?.access.kind === 'require' ? either(route.access.anyOf) : 'something else';
}

function operationsOf(route: Route | null): string {
  const values = [...(route?.demands?.body?.json?.byValue?.permissions.keys() ?? [])];
  return values.length <= MOST_LISTED
    ? values.join(', ')
    : `${values.slice(0, MOST_LISTED).join(', ')} and ${values.length - MOST_LISTED} more`;
}

function authenticatorsOf(route: Route | null): string {
  return either(route?.authenticators.map((one) => one.name) ?? []);
}

function ownerOf({ demands }: Route): Needed['owner'] {
  const owner = demands?.owner ?? null;
  return owner === null ? null : { parameter: owner.parameter, unless: owner.unless };
}

function neededFor(listener: HttpListener, route: Route, policy: Policy): Needed | null {
  if (route.access.kind === 'deny') return null;
  const anyOf = route.access.kind === 'require' ? route.access.anyOf : null;
  const roles =
    anyOf === null
      ? null
      : [...policy.roles].filter(([role, held]) => anyOf.includes(role) || held.some((one) => anyOf.includes(one)));
  return {
    any_of: anyOf,
    roles: roles === null ? null : roles.map(([role]) => role),
    allow_from: listener.allowFrom?.texts ?? null,
    from: route.from?.texts ?? null,
    authenticate: route.authenticators.map((one) => one.name),
    limits: limitTexts(route.demands?.limits ?? null, duration),
    owner: ownerOf(route),
    owns: route.owns === null ? null : route.owns.from.join('/'),
  };
}

function linesOf(explanation: Explanation): Parameters<Voice['out']>[0][] {
  const { decision, status, reason, route, upstream, file, line, text, why, needed } = explanation;
  const lines: Parameters<Voice['out']>[0][] = [
    decision === 'allowed'
      ? [{ tone: 'good', text: 'allowed' }, `: goes on to ${upstream ?? ''}`]
      : [{ tone: 'bad', text: 'refused' }, `: ${status ?? ''} ${reason ?? ''}`],
  ];
  const row = (label: string, value: string): number => lines.push(`  ${`${label}:`.padEnd(10)}${value}`);
  row('listener', explanation.listener);
  row('route', route ?? 'none');
  row('decided', file === null || line === null ? 'by no line of the policy' : `${file}:${line}: ${text ?? ''}`);
  row('why', why);
  if (needed !== null) row('needed', neededText(needed));
  for (const limit of needed?.limits ?? []) row('limit', limit);
  if (needed !== null && needed.owns !== null) row('owns', `what the answer names in ${needed.owns} is the caller's`);
  return lines;
}

const MOST_LISTED = 8;

function neededText(needed: Needed): string {
  const list = (all: readonly string[]): string =>
    all.length <= MOST_LISTED
      ? all.join(', ')
      : `${all.slice(0, MOST_LISTED).join(', ')} and ${all.length - MOST_LISTED} more`;
  const parts = [];
  if (needed.any_of !== null) {
    const roles = (needed.roles ?? []).filter((role) => needed.any_of?.includes(role) !== true);
    const holders = roles.length === 0 ? '' : ` (held by ${roles.length === 1 ? 'role' : 'roles'} ${list(roles)})`;
    parts.push(`a credential of ${list(needed.authenticate)} with ${either(needed.any_of)}${holders}`);
  } else {
    parts.push('no credential');
  }
  if (needed.owner !== null) {
    const { parameter, unless } = needed.owner;
    parts.push(`to have made the ${parameter}${unless.length === 0 ? '' : `, or ${either(unless)}`}`);
  }
  if (needed.allow_from !== null) parts.push(`a connection from ${list(needed.allow_from)}`);
  if (needed.from !== null) parts.push(`a client at ${list(needed.from)}`);
  return parts.join(', ');
}
