/** Held against trying every request of a small world, which has a segment and a method that no route names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePathPattern } from '../../src/policy/path-pattern.js';
import type { PathPattern } from '../../src/policy/path-pattern.js';
import type { Route, RouteAccess } from '../../src/policy/policy.js';
import { RouteTable } from '../../src/policy/route-table.js';
import { shadowedRoutes } from '../../src/policy/shadow.js';

interface Drawn {
  readonly segments: readonly string[];
  readonly end: '' | '/' | '/**';
  readonly methods: readonly string[] | null;
  readonly deny: boolean;
  readonly encodedSlash: boolean;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  segments: fc.array(fc.constantFrom('a', 'b', 'A', '{x}'), { maxLength: 3 }),
  end: fc.constantFrom('', '/', '/**'),
  methods: fc.constantFrom(null, ['GET'], ['POST'], ['GET', 'POST']),
  deny: fc.boolean(),
  encodedSlash: fc.boolean(),
});

function patternOf(route: Drawn): PathPattern {
  let serial = 0;
  const text = route.segments.map((one) => `/${one === '{x}' ? `{x${serial++}}` : one}`).join('') + route.end;
  const parsed = parsePathPattern(text === '' ? '/' : text);
  assert.ok(parsed.ok, text);
  return parsed.pattern;
}

function routeOf(one: Drawn, index: number, pattern: PathPattern): Route {
  const access: RouteAccess = one.deny ? { kind: 'deny' } : { kind: 'public' };
  return {
    name: `r${index}`,
    index,
    listener: 'l',
    position: { line: 1, column: 1 },
    pattern: pattern.text,
    methods: one.methods === null ? null : new Set(one.methods),
    access,
    from: null,
    upstream: null,
    upstreamAuth: null,
    authenticators: [],
    encodedSlash: one.encodedSlash,
    safe: true,
    bodyMs: 0,
    upstreamMs: 0,
    wholeMs: Infinity,
    streamMaxMs: Infinity,
    audit: null,
    owns: null,
    demands: null,
  };
}

/** Every path of up to five segments; the last may be empty. `z` is named by no route. */
const PATHS: string[][] = [];
for (let length = 1; length <= 5; length++) {
  const letters = ['a', 'b', 'A', 'z'];
  for (let number = 0; number < letters.length ** (length - 1); number++) {
    const head = Array.from({ length: length - 1 }, (_, i) => letters[Math.floor(number / 4 ** i) % 4] ?? '');
    for (const last of [...letters, '']) PATHS.push([...head, last]);
  }
}

/** The same with encoded slashes in what no route names. */
const SLASHED: string[][] = PATHS.filter((path) => path.includes('z') && path.length < 5).flatMap((path) =>
  ['z/z', 'z/z/z', 'z/z/z/z', 'z/z/z/z/z', 'z/z/z/z/z/z'].flatMap((slashed) => [
    path.map((segment) => (segment === 'z' ? slashed : segment)),
    ...path.flatMap((segment, index) => (segment === 'z' ? [path.with(index, slashed)] : [])),
  ]),
);

/** Does the pattern as written, with its case, match. */
function matchesAsWritten(pattern: PathPattern, path: readonly string[]): boolean {
  for (const [index, segment] of pattern.segments.entries()) {
    if (segment.kind === 'rest') return true;
    const part = path[index];
    if (part === undefined) return false;
    if (segment.kind === 'literal' ? part !== segment.text : part === '') return false;
  }
  return path.length === pattern.segments.length;
}

test('a route is called shadowed exactly when nothing reaches it', () => {
  fc.assert(
    fc.property(fc.array(drawn, { minLength: 2, maxLength: 5 }), (all) => {
      const entries = all.map((one, index) => {
        const pattern = patternOf(one);
        return { route: routeOf(one, index, pattern), pattern };
      });
      const table = new RouteTable(entries);
      const reached = new Set<Route>();
      for (const segments of [...PATHS, ...SLASHED]) {
        const encodedSlash = segments.some((segment) => segment.includes('/'));
        for (const method of ['GET', 'POST', 'OTHER']) {
          const winner = table.match({ segments, method, encodedSlash });
          const entry = winner === null ? undefined : entries[winner.index];
          // A denial that only catches other spellings, or only encoded slashes, is not what its author wanted.
          if (winner === null || entry === undefined || !matchesAsWritten(entry.pattern, segments)) continue;
          if (encodedSlash && winner.access.kind === 'deny') continue;
          reached.add(winner);
        }
      }
      const said = new Set(shadowedRoutes(entries, table).map(({ route }) => route));
      for (const { route } of entries) assert.equal(said.has(route), !reached.has(route), route.name);
    }),
    { numRuns: 500, interruptAfterTimeLimit: 3000 },
  );
});
