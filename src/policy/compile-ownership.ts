import type { OwnerDemand } from './demands.js';
import { didYouMean } from './did-you-mean.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import type { Listener, OwnsSettings, RouteAccess } from './policy.js';
import type { RouteEntry } from './schema.js';

const DAY_MS = 86_400_000;
const MOST = 10_000;

export function compileOwns(
  { owns }: RouteEntry,
  node: Draft,
  access: RouteAccess,
  findings: Findings,
): OwnsSettings | null {
  if (owns === undefined) return null;
  if (access.kind !== 'require') nobodyAsked(node.get('owns'), 'owns', access, findings);
  return { from: owns.from, forMs: owns.for ?? DAY_MS, most: owns.most ?? MOST };
}

export function compileOwner(
  { owner, path }: RouteEntry,
  node: Draft,
  access: RouteAccess,
  findings: Findings,
): OwnerDemand | null {
  if (owner === undefined) return null;
  if (access.kind !== 'require') nobodyAsked(node.get('owner'), 'owner', access, findings);
  const parameter = typeof owner === 'string' ? owner : owner.parameter;
  const segment = path.segments.findIndex((one) => one.kind === 'param' && one.name === parameter);
  if (segment === -1) {
    const known = path.segments.flatMap((one) => (one.kind === 'param' ? [one.name] : []));
    const meant = didYouMean(parameter, known);
    findings.error(
      'unknown_name',
      typeof owner === 'string' ? node.get('owner') : node.at(['owner', 'parameter']),
      'value',
      `the path ${show(path.text)} has no parameter ${show(parameter)}`,
      meant === undefined ? `write {${parameter}} where it stands in the path` : `did you mean ${meant}?`,
    );
  }
  return { parameter, segment, unless: typeof owner === 'string' ? [] : [...new Set(owner.unless ?? [])] };
}

function nobodyAsked(node: Draft | null, key: string, access: RouteAccess, findings: Findings): void {
  findings.error(
    'wrong_value',
    node,
    'key',
    access.kind === 'public'
      ? `a public route asks nobody who they are, so ${key} has no meaning here`
      : `nobody gets past a route that is closed, so ${key} has no meaning here`,
    'remove it, or write require: PERMISSION',
  );
}

/** Whose a thing is must have been learnt somewhere. */
export function checkOwners(listeners: readonly Listener[], tree: Draft, findings: Findings): void {
  const routes = listeners.flatMap((one) => (one.type === 'http' ? one.routes.routes : []));
  const learnt = new Set(
    routes.flatMap(({ owns, upstream }) => (owns === null || upstream === null ? [] : [upstream.name])),
  );
  for (const { demands, upstream, listener, index, name } of routes) {
    if ((demands?.owner ?? null) === null || upstream === null || learnt.has(upstream.name)) continue;
    findings.error(
      'wrong_value',
      tree.at(['listeners', listener, 'routes', index, 'owner']),
      'key',
      `no route before ${upstream.name} owns anything, so nobody could ever use the route ${show(name)}`,
      'write owns: { from: response.job_id } in the route that makes what this one is about',
    );
  }
}
