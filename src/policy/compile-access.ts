import { declaresByValue, lostByValue, permissionsByValue } from './compile-body.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import { SAFE_METHODS } from './methods.js';
import type { DeclaredNames } from './names.js';
import type { RouteAccess } from './policy.js';
import type { RouteEntry } from './schema.js';

interface Context {
  readonly names: DeclaredNames;
  readonly findings: Findings;
}

/** What is decided of who may pass. Where nothing is, or two things are, the route is closed. */
export function compileAccess(route: RouteEntry, node: Draft, context: Context): RouteAccess {
  const { findings } = context;
  const written = ['public', 'deny', 'require'].filter((key) => node.declares(key));
  if (declaresByValue(node)) written.push('require_by_value');
  if (written.length === 0) {
    if (lostByValue(node)) return { kind: 'deny' };
    findings.missing(
      node,
      'require',
      `missing, needed is exactly one of public, deny, require and body.json.require_by_value (route ${show(route.name)})`,
      'write require: PERMISSION; or deny: true, or public: true',
    );
    return { kind: 'deny' };
  }
  if (written.length > 1) {
    findings.error(
      'wrong_value',
      node.get(written[1] ?? '') ?? node.at(['body', 'json', written[1] ?? '']) ?? node,
      'key',
      `${written.join(' and ')} contradict each other (route ${show(route.name)}), allowed is exactly one of public, deny, require and body.json.require_by_value`,
      'keep one of them',
    );
  }
  if (route.unsafe_public === true && route.public !== true && !node.dropped.has('public')) {
    findings.error(
      'wrong_value',
      node.get('unsafe_public'),
      'key',
      'unsafe_public stands beside public: true only',
      'remove it',
    );
  }
  if (route.require !== undefined) {
    const anyOf = typeof route.require === 'string' ? [route.require] : route.require;
    checkRequired(anyOf, node.get('require'), context);
    return { kind: 'require', anyOf: [...new Set(anyOf)] };
  }
  const byValue = permissionsByValue(route);
  if (byValue !== null && route.public === undefined && route.deny === undefined) {
    const list = node.at(['body', 'json', 'require_by_value']);
    for (const [value, anyOf] of byValue) checkRequired(anyOf, list?.get(value) ?? null, context);
    // Who has none of them may ask for nothing, whatever the body says.
    return { kind: 'require', anyOf: [...new Set([...byValue.values()].flat())] };
  }
  if (route.public === true) {
    checkPublic(route, node, findings);
    return { kind: 'public' };
  }
  // A broken `require` is not known to be a denial, but nothing of this policy is used.
  return { kind: 'deny' };
}

/** Names in `require` and its like are permissions or roles that there are. */
export function checkRequired(anyOf: readonly string[], node: Draft | null, { names, findings }: Context): void {
  const { roles, permissions, allRoles, allPermissions } = names;
  for (const [index, name] of anyOf.entries()) {
    if (roles.has(name) || permissions.has(name) || !allRoles || !allPermissions) continue;
    const place = node?.kind === 'list' ? node.at([index]) : node;
    findings.unknownName(place, 'permission or role', name, [...permissions, ...roles]);
  }
}

function checkPublic(route: RouteEntry, node: Draft, findings: Findings): void {
  if (route.authenticate !== undefined) {
    findings.error(
      'wrong_value',
      node.get('authenticate'),
      'key',
      'a public route asks nobody who they are, so authenticate has no meaning here',
      'remove it, or write require: PERMISSION in place of public: true',
    );
  }
  if (route.unsafe_public === true) return;
  const hint = 'narrow it, write require: PERMISSION, or say unsafe_public: true beside it';
  if (!route.path.literal) {
    findings.error(
      'unsafe_public',
      node.get('path'),
      'value',
      `a public route is for one literal path, ${show(route.path.text)} matches many`,
      hint,
    );
  }
  const methods = methodsOf(route);
  const wide = methods === null ? ['any method'] : [...methods].filter((method) => !SAFE_METHODS.includes(method));
  if (wide.length > 0 && !node.dropped.has('methods')) {
    findings.error(
      'unsafe_public',
      node.get('methods'),
      'value',
      `a public route is for GET and HEAD, not for ${either(wide)}`,
      hint,
    );
  }
}

/** Null: any method. */
export function methodsOf(route: RouteEntry): ReadonlySet<string> | null {
  if (route.methods === undefined) return route.public === true ? new Set(SAFE_METHODS) : null;
  return route.methods === 'any' ? null : new Set(route.methods);
}
