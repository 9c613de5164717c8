import { compileHeadChecks } from './compile-checks.js';
import type { Demands } from './demands.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { RouteAccess } from './policy.js';
import type { RouteEntry } from './schema.js';

/** Null where who asks is all that matters: such a route is not looked at any further. */
export function compileDemands(
  route: RouteEntry,
  node: Draft,
  access: RouteAccess,
  findings: Findings,
): Demands | null {
  const head = compileHeadChecks(route, node, access, findings);
  return head === null ? null : { head, owner: null };
}
