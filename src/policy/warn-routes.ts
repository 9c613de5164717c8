import type { CompiledAuthenticators } from './compile-authenticators.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { DeclaredNames } from './names.js';
import { looserInOtherSpellings } from './other-spellings.js';
import type { Authenticator, Route } from './policy.js';
import type { RouteTable } from './route-table.js';
import type { RouteEntry } from './schema.js';
import { shadowedRoutes } from './shadow.js';
import { fieldOfSingleEndpoint } from './single-endpoint.js';

interface Context {
  readonly authenticators: CompiledAuthenticators;
  /** Role name → permissions. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly names: DeclaredNames;
  readonly findings: Findings;
}

/** @param listener the node of the listener */
export function warnRoutes(
  entries: readonly { readonly route: Route; readonly entry: RouteEntry }[],
  table: RouteTable,
  listener: Draft,
  context: Context,
): void {
  const { findings } = context;
  for (const { route, entry } of entries) {
    const node = listener.at(['routes', route.index]);
    if (entry.unsafe_public === true) {
      findings.warn(
        'unsafe_key',
        node?.get('unsafe_public') ?? null,
        'key',
        'anyone may ask for all that this route matches',
      );
    }
    if (route.access.kind === 'public') {
      const methods = route.methods === null ? 'with any method' : `with ${either([...route.methods])}`;
      const from = route.from === null ? 'anyone' : `anyone at ${either(route.from.texts.slice(0, 3))}`;
      findings.warn(
        'route_public',
        node,
        'value',
        `${from} may ask for ${route.pattern} ${methods} without a credential (route ${show(route.name)})`,
      );
    }
    warnUnheld(route, node, context);
    warnSingleEndpoint(route, node, findings);
  }
  const patterns = entries.map(({ route, entry }) => ({ route, pattern: entry.path }));
  for (const { route, looser } of looserInOtherSpellings(patterns, table, context.roles)) {
    const first = route.pattern.split('/')[1] ?? '';
    findings.warn(
      'route_spelling',
      listener.at(['routes', route.index]),
      'value',
      `in capitals or with a slash at the end, the path of the route ${show(route.name)} is that of ${show(looser.name)}, which asks for less; a service that takes both for the same would do for the one what the other guards`,
      `close the rest after it: { name: NAME, path: ${/[{}]/.test(first) ? '/**' : `/${first}/**`}, methods: any, deny: true }`,
    );
  }
  for (const { route, by } of shadowedRoutes(patterns, table)) {
    const node = listener.at(['routes', route.index]);
    const names = by.slice(0, 3).map((one) => show(one.name));
    findings.warn(
      'route_shadowed',
      node,
      'value',
      `the route ${show(route.name)} never decides: ${either(names).replace(' or ', ' and ')} before it ${by.length === 1 ? 'matches' : 'match'} all that it does`,
      'move it up, or remove it',
    );
  }
}

function warnSingleEndpoint(route: Route, node: Draft | null, findings: Findings): void {
  const field = fieldOfSingleEndpoint(route.pattern);
  if (field === null || route.access.kind === 'deny' || node?.dropped.has('body') === true) return;
  if (route.methods?.has('POST') === false || (route.demands?.body?.json ?? null) !== null) return;
  findings.warn(
    'body_unjudged',
    node,
    'value',
    `all that this API can do goes through one path, and nothing is asked of the body that says what (route ${show(route.name)})`,
    `write body: { json: { field: ${field}, require_by_value: { VALUE: PERMISSION } } } in place of require`,
  );
}

function warnUnheld(route: Route, node: Draft | null, context: Context): void {
  if (route.access.kind !== 'require' || !context.names.allTokens) return;
  const { byValue } = route.demands?.body?.json ?? { byValue: null };
  if (byValue === null) {
    warnNobody(route, route.access.anyOf, `the route ${show(route.name)}`, node?.get('require') ?? null, context);
    return;
  }
  const list = node?.at(['body', 'json', 'require_by_value']) ?? null;
  for (const [value, anyOf] of byValue.permissions) {
    warnNobody(route, anyOf, `${show(value)} on the route ${show(route.name)}`, list?.get(value) ?? null, context);
  }
}

/** @param what nobody can use, if nobody has any of the names */
function warnNobody(
  route: Route,
  anyOf: readonly string[],
  what: string,
  node: Draft | null,
  { authenticators, findings }: Context,
): void {
  const { grants } = authenticators;
  const held = (one: Authenticator): ReadonlySet<string> | undefined =>
    one.type === 'network' && one.local !== null ? one.local.grants : grants.get(one.name);
  if (route.authenticators.some((one) => anyOf.some((name) => held(one)?.has(name)))) return;
  const kind = route.authenticators.every((one) => one.type === 'bearer') ? 'token' : 'identity';
  findings.warn(
    'permission_unheld',
    node,
    'value',
    `no ${kind} of ${either(route.authenticators.map((one) => show(one.name)))} has ${either(anyOf.map(show))}, so nobody can use ${what}`,
  );
}
