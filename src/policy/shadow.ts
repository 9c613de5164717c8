import type { PathPattern } from './path-pattern.js';
import type { Route } from './policy.js';
import type { RouteQuery, RouteTable } from './route-table.js';

/** A segment and a method that no policy names: what holds for them holds for every one that isn't named. */
const OTHER_SEGMENT = '\u0000';
const OTHER_METHOD = '\u0000';

/**
 * Routes that can never decide, each with those that decide in its place. Every request a route matches is matched by
 * one of a few representatives too, and the table itself is asked who wins them; so there is one notion of "matches".
 * `from` does not matter: it is asked after the route is chosen.
 *
 * A `deny` route also matches other spellings of its path (upper and lower case). It counts as shadowed when the path
 * as written is: closing only what nobody writes is not what its author wanted.
 */
export function shadowedRoutes(
  entries: readonly { readonly route: Route; readonly pattern: PathPattern }[],
  table: RouteTable,
): { readonly route: Route; readonly by: readonly Route[] }[] {
  const deepest = Math.max(0, ...entries.map(({ pattern }) => pattern.segments.length));
  const shadowed: { readonly route: Route; readonly by: readonly Route[] }[] = [];
  for (const { route, pattern } of entries) {
    const by = coverers(route, pattern, table, deepest);
    if (by !== null) shadowed.push({ route, by });
  }
  return shadowed;
}

function coverers(route: Route, pattern: PathPattern, table: RouteTable, deepest: number): Route[] | null {
  const winners = new Set<Route>();
  for (const query of queries(route, pattern, deepest)) {
    // Null: an encoded slash that an earlier route would read as two segments. That one has the say.
    const winner =
      table.match(query) ?? table.match({ ...query, segments: decoded(query.segments), encodedSlash: false });
    if (winner === null || winner === route) return null;
    winners.add(winner);
  }
  return [...winners].sort((a, b) => a.index - b.index);
}

/** Requests that stand for all that the route matches. */
function* queries(route: Route, pattern: PathPattern, deepest: number): Generator<RouteQuery> {
  const methods = route.methods ?? [OTHER_METHOD];
  const withSlashes = route.encodedSlash && route.access.kind !== 'deny';
  for (const segments of representatives(pattern, deepest)) {
    for (const method of methods) {
      yield { segments, method, encodedSlash: false };
      if (!withSlashes) continue;
      for (const slashed of slashedForms(segments, deepest)) yield { segments: slashed, method, encodedSlash: true };
    }
  }
}

/** The path with encoded slashes in one of its free segments, or in all of them. */
function* slashedForms(segments: readonly string[], deepest: number): Generator<string[]> {
  const free = segments.flatMap((segment, index) => (segment === OTHER_SEGMENT ? [index] : []));
  for (let slashes = 1; slashes <= deepest + 1 && free.length > 0; slashes++) {
    const slashed = Array.from({ length: slashes + 1 }, () => OTHER_SEGMENT).join('/');
    for (const chosen of free) yield segments.map((segment, index) => (index === chosen ? slashed : segment));
    yield segments.map((segment) => (segment === OTHER_SEGMENT ? slashed : segment));
  }
}

function decoded(segments: readonly string[]): string[] {
  return segments.flatMap((segment) => segment.split('/'));
}

/**
 * Paths that stand for all that the pattern matches. Where it takes any segment, one that no route names is the
 * hardest to cover: whatever covers it (a parameter or `**`) covers named ones as well. Below `**` as many segments
 * as the deepest pattern has and one more, with and without a slash at the end.
 */
function* representatives(pattern: PathPattern, deepest: number): Generator<string[]> {
  const fixed: string[] = [];
  let rest = false;
  for (const segment of pattern.segments) {
    if (segment.kind === 'literal') fixed.push(segment.text);
    else if (segment.kind === 'param') fixed.push(OTHER_SEGMENT);
    else rest = true;
  }
  if (!rest) {
    yield fixed;
    return;
  }
  for (let more = 0; fixed.length + more <= deepest + 1; more++) {
    const path = [...fixed, ...Array.from({ length: more }, () => OTHER_SEGMENT)];
    if (path.length > 0) yield path;
    yield [...path, ''];
  }
}
