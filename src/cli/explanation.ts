import { DENIALS, type DenialReason } from '../denial.js';
import { OWN_FOLDER } from '../gate/admit.js';
import { type SupposedRequest, type Supposition, describeInvalid } from '../gate/policy-tests.js';
import { member, parseStrictJson } from '../http/strict-json.js';
import { formatAddress, parseAddress } from '../net/address.js';
import type { PathPart } from '../policy/document.js';
import { either, show } from '../policy/found.js';
import { METHODS } from '../policy/methods.js';
import type { HttpListener, Policy, Route } from '../policy/policy.js';
import { duration } from './duration-text.js';
import { type PolicySource, positionOf } from './policy-source.js';
import { limitTexts } from './show-limits.js';
import { type Caller, heldBy, validity, whoIs } from './supposed-caller.js';
import type { Voice } from './voice.js';

/** What the gate said, and of whom. */
export interface Found {
  readonly said: Exclude<Supposition, { kind: 'unanswerable' }>;
  readonly caller: Caller;
}

export function routeOf(listener: HttpListener, name: string | null): Route | null {
  return listener.routes.routes.find((route) => route.name === name) ?? null;
}

/** The answer, as `--json` prints it. */
export interface Explanation {
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

export async function describe(
  policy: Policy,
  listener: HttpListener,
  request: SupposedRequest,
  { said, caller }: Found,
  fromWasSaid: boolean,
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
        ? whyAllowed(route, request, caller, policy)
        : whyRefused(said, listener, route, request, caller, policy, fromWasSaid),
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

function whyAllowed(route: Route | null, request: SupposedRequest, caller: Caller, policy: Policy): string {
  if (route?.access.kind !== 'require') return 'the route is public: nobody is asked who they are';
  const held = heldBy(caller, policy);
  const { anyOf, by } = askedBy(route, request) ?? { anyOf: route.access.anyOf, by: null };
  const enough = anyOf.filter((name) => held.has(name));
  return `${whoIs(caller)} has ${enough.join(', ')}, which is enough${by === null ? '' : ` for ${by}`}`;
}

function whyRefused(
  { reason, invalid }: Found['said'] & { readonly kind: 'refused' },
  listener: HttpListener,
  route: Route | null,
  request: SupposedRequest,
  caller: Caller,
  policy: Policy,
  fromWasSaid: boolean,
): string {
  switch (reason) {
    case 'address_denied':
      return `${canonical(request.from)} is not in allow_from, and is turned away before anything is read${
        !fromWasSaid ? ' (--from ADDRESS asks for another one)' : ''
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
      if (caller.kind === 'stranger') return `this policy knows nobody who is called ${show(caller.name)}`;
      return `${whoIs(caller)} is of another authenticator than the route asks for (${authenticatorsOf(route)})`;
    case 'credential_expired':
    case 'credential_not_yet_valid':
      return `${whoIs(caller)} ${validity(caller)}`;
    case 'permission_missing': {
      const held = [...heldBy(caller, policy)];
      return `${whoIs(caller)} has ${held.length === 0 ? 'nothing' : held.join(', ')}, and ${askedBy(route, request)?.by ?? 'the route'} asks for ${asked(route, request)}`;
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

export function canonical(address: string): string {
  const read = parseAddress(address);
  return read === null ? address : formatAddress(read);
}

function asked(route: Route | null, request: SupposedRequest): string {
  if (route?.access.kind !== 'require') return 'something else';
  return either(askedBy(route, request)?.anyOf ?? route.access.anyOf);
}

/** What the body asks for, where that decides, and the permissions for it; null where it is nothing that is listed. */
function askedBy(
  route: Route | null,
  { body = null }: SupposedRequest,
): { readonly anyOf: readonly string[]; readonly by: string } | null {
  const byValue = route?.demands?.body?.json?.byValue ?? null;
  if (byValue === null || body === null) return null;
  const json = parseStrictJson(Buffer.from(body));
  const value = json.ok ? byValue.pointer.reduce<unknown>(member, json.value) : undefined;
  const anyOf = typeof value === 'string' ? byValue.permissions.get(value) : undefined;
  return anyOf === undefined ? null : { anyOf, by: show(String(value)) };
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

export function linesOf(explanation: Explanation): Parameters<Voice['out']>[0][] {
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
