import type { PathPattern } from './path-pattern.js';
import type { Route } from './policy.js';

const NOT_ASCII = /[\u0080-\uffff]/;

interface Node {
  readonly literals: Map<string, Node>;
  param: Node | null;
  /** Routes that end here, by index. */
  readonly here: Route[];
  /** Routes with `**` after this point, by index. */
  readonly below: Route[];
}

const node = (): Node => ({ literals: new Map(), param: null, here: [], below: [] });

/** What is asked of the table: the decoded path, the method, and whether the path held an encoded slash. */
export interface RouteQuery {
  readonly segments: readonly string[];
  readonly method: string;
  readonly encodedSlash: boolean;
}

/**
 * A listener's routes, compiled to a tree of segments, so that a look-up costs by the depth of the path and not by
 * the number of routes. The result is that of reading the list from the top: the first that matches wins.
 * `deny` routes match without regard to case and to a slash at the end, since an upstream may not regard them either;
 * all else is exact.
 */
export class RouteTable {
  readonly routes: readonly Route[];
  readonly #exact: Node = node();
  readonly #folded: Node = node();
  readonly #hasDenials: boolean;

  constructor(entries: readonly { readonly route: Route; readonly pattern: PathPattern }[]) {
    this.routes = Object.freeze(entries.map((entry) => entry.route));
    for (const { route, pattern } of entries) {
      const deny = route.access.kind === 'deny';
      let at = deny ? this.#folded : this.#exact;
      let rest = false;
      for (const segment of pattern.segments) {
        if (segment.kind === 'rest') {
          rest = true;
        } else if (segment.kind === 'param') {
          at.param ??= node();
          at = at.param;
        } else {
          const text = deny ? segment.text.toLowerCase() : segment.text;
          let next = at.literals.get(text);
          if (next === undefined) {
            next = node();
            at.literals.set(text, next);
          }
          at = next;
        }
      }
      (rest ? at.below : at.here).push(route);
    }
    this.#hasDenials = entries.some((entry) => entry.route.access.kind === 'deny');
  }

  /** The first route that matches, or null: no match is a denial. */
  match(query: RouteQuery): Route | null {
    const sent = this.#first(query);
    if (!query.encodedSlash) return sent;
    // An upstream that decodes `%2F` before it routes sees more segments than were sent. Where that is the business of
    // an earlier route, the two readings differ, and only a denial may be said of both.
    const decoded = this.#first({ ...query, segments: query.segments.join('/').split('/'), encodedSlash: false });
    if (decoded === null || (sent !== null && sent.index <= decoded.index)) return sent;
    return decoded.access.kind === 'deny' ? decoded : null;
  }

  #first(query: RouteQuery): Route | null {
    const { segments } = query;
    const allowed = search(this.#exact, query, segments, 0, null);
    if (!this.#hasDenials) return allowed;
    const folded = segments.map(foldCase);
    const first = search(this.#folded, query, folded, 0, allowed);
    // Many routers take `/admin/` for `/admin`; what closes the one closes both.
    const slashAtEnd = folded.length > 1 && folded.at(-1) === '';
    return slashAtEnd ? search(this.#folded, query, folded.slice(0, -1), 0, first) : first;
  }
}

/**
 * One spelling for all that some reader takes for the same letters: case, and forms that Unicode calls compatible
 * (U+017F is an s to whoever compares in upper case, U+FF41 an a to whoever normalizes). Patterns are ASCII.
 */
function foldCase(segment: string): string {
  return NOT_ASCII.test(segment) ? segment.normalize('NFKC').toUpperCase().toLowerCase() : segment.toLowerCase();
}

function search(
  at: Node,
  query: RouteQuery,
  segments: readonly string[],
  depth: number,
  best: Route | null,
): Route | null {
  let found = better(at.below, query, best);
  if (depth === segments.length) return better(at.here, query, found);
  const segment = segments[depth] ?? '';
  const literal = at.literals.get(segment);
  if (literal !== undefined) found = search(literal, query, segments, depth + 1, found);
  // A parameter is never empty: `/jobs/` is not `/jobs/{id}`.
  if (at.param !== null && segment !== '') found = search(at.param, query, segments, depth + 1, found);
  return found;
}

function better(routes: readonly Route[], query: RouteQuery, best: Route | null): Route | null {
  for (const route of routes) {
    if (best !== null && route.index > best.index) return best;
    if (matchesMethod(route, query)) return route;
  }
  return best;
}

function matchesMethod(route: Route, query: RouteQuery): boolean {
  if (route.methods !== null && !route.methods.has(query.method)) return false;
  // An allowing route must have asked for encoded slashes.
  return !query.encodedSlash || route.encodedSlash || route.access.kind === 'deny';
}
