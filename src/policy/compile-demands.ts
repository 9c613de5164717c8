import { compileBody } from './compile-body.js';
import { compileHeadChecks } from './compile-checks.js';
import { compileOwner } from './compile-ownership.js';
import type { Demands } from './demands.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { LimitDemand } from './limit-rules.js';
import type { RouteAccess } from './policy.js';
import type { RouteEntry } from './schema.js';

/**
 * Null where who asks is all that matters: such a route is not looked at any further.
 * @param listenerMost the listener's limit on bodies, in bytes; Infinity where it has none
 */
export function compileDemands(
  route: RouteEntry,
  node: Draft,
  access: RouteAccess,
  listenerMost: number,
  limits: LimitDemand | null,
  findings: Findings,
): Demands | null {
  const head = compileHeadChecks(route, node, access, findings);
  const body = compileBody(route, node, access, listenerMost, findings);
  const owner = compileOwner(route, node, access, findings);
  if (head === null && body === null && owner === null && limits === null) return null;
  return { head, body, owner, limits };
}
