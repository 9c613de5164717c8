import type { Demands } from './demands.js';
import type { PathPattern } from './path-pattern.js';
import type { Route } from './policy.js';
import type { RouteTable } from './route-table.js';

/** A segment that no policy names, for parameters. */
const OTHER_SEGMENT = '\u0000';

/**
 * Routes whose path in another spelling, in capitals or with a slash at the end, is a later route's that asks for less.
 * guardbee tells the spellings apart, and a service that does not would do for the second what the first guards
 * (`/V1/Shutdown`, CVE-2018-1002105 and its like). A `deny` matches in every spelling, and closes what is in between.
 *
 * @param roles role → permissions: a route asks for less where one of them is enough for it and not for the other
 */
export function looserInOtherSpellings(
  entries: readonly { readonly route: Route; readonly pattern: PathPattern }[],
  table: RouteTable,
  roles: ReadonlyMap<string, readonly string[]>,
): { readonly route: Route; readonly looser: Route }[] {
  const grants = [...roles].map(([role, held]) => new Set([role, ...held]));
  return entries.flatMap(({ route, pattern }) => {
    if (route.access.kind !== 'require') return [];
    for (const segments of otherSpellings(pattern)) {
      for (const method of route.methods ?? ['GET', 'POST']) {
        const winner = table.match({ segments, method, encodedSlash: false });
        if (winner === null || winner === route) continue;
        if (asksForLess(winner, route, grants)) return [{ route, looser: winner }];
      }
    }
    return [];
  });
}

function* otherSpellings(pattern: PathPattern): Generator<readonly string[]> {
  const segments: string[] = [];
  let capitals = false;
  for (const segment of pattern.segments) {
    // What is below a `**` has a slash at the end in it already.
    if (segment.kind === 'rest') return;
    segments.push(segment.kind === 'literal' ? segment.text : OTHER_SEGMENT);
    capitals ||= segment.kind === 'literal' && segment.text.toUpperCase() !== segment.text;
  }
  if (segments.length === 0 || (segments.length === 1 && segments[0] === '')) return;
  yield [...segments, ''];
  if (capitals) yield segments.map((segment) => segment.toUpperCase());
}

function asksForLess(winner: Route, route: Route, grants: readonly ReadonlySet<string>[]): boolean {
  if (winner.access.kind === 'deny') return false;
  if (winner.access.kind === 'public' || demandsLess(winner.demands, route.demands)) return true;
  const enough = ({ access }: Route, held: ReadonlySet<string>): boolean =>
    access.kind === 'require' && access.anyOf.some((name) => held.has(name));
  return grants.some((held) => enough(winner, held) && !enough(route, held));
}

/** Who may is decided there by more than the path, and here it is not. */
function demandsLess(here: Demands | null, there: Demands | null): boolean {
  const byBody = (demands: Demands | null): boolean => (demands?.body?.json?.byValue ?? null) !== null;
  const byOwner = (demands: Demands | null): boolean => (demands?.owner ?? null) !== null;
  return (byBody(there) && !byBody(here)) || (byOwner(there) && !byOwner(here));
}
