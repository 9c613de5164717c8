import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { readTarget } from '../../src/http/target.js';
import { parsePathPattern } from '../../src/policy/path-pattern.js';
import type { Route } from '../../src/policy/policy.js';
import { type RouteQuery, RouteTable } from '../../src/policy/route-table.js';
import { type CompiledRoute, type RouteParts, compileRoutes } from './listeners.js';

function ask(table: RouteTable, method: string, path: string): string | null {
  const read = readTarget(path);
  assert.ok(read.ok, path);
  const { segments, encodedSlash } = read.target;
  return table.match({ segments, method, encodedSlash })?.name ?? null;
}

/** The table as it is documented, one line a rule, with no thought of speed. */
function readFromTheTop(entries: readonly CompiledRoute[], query: RouteQuery): Route | null {
  const first = (segments: readonly string[], encodedSlash: boolean): Route | null =>
    entries.find(({ route, pattern }) => {
      if (route.methods !== null && !route.methods.has(query.method)) return false;
      const deny = route.access.kind === 'deny';
      if (encodedSlash && !route.encodedSlash && !deny) return false;
      const expression = pattern.segments
        .map((segment) => {
          if (segment.kind === 'rest') return '(?:/.*)?';
          return segment.kind === 'param' ? '/[^/]+' : `/${segment.text.replaceAll(/[^a-z0-9]/gi, '\\$&')}`;
        })
        .join('');
      // Segments hold no control characters, so one can stand for a slash that is part of a segment.
      const path = segments.map((segment) => `/${segment.replaceAll('/', '\u0001')}`).join('');
      if (!deny) return new RegExp(`^${expression}$`, 's').test(path);
      const spelling = path.normalize('NFKC').toUpperCase().toLowerCase();
      const closed = new RegExp(`^${expression.toLowerCase()}$`, 's');
      return closed.test(spelling) || (segments.length > 1 && closed.test(spelling.replace(/\/$/, '')));
    })?.route ?? null;
  const sent = first(query.segments, query.encodedSlash);
  if (!query.encodedSlash) return sent;
  const decoded = first(query.segments.join('/').split('/'), false);
  if (decoded === null || (sent !== null && sent.index <= decoded.index)) return sent;
  return decoded.access.kind === 'deny' ? decoded : null;
}

describe('the first route that matches decides', () => {
  const routes: readonly RouteParts[] = [
    { name: 'health', path: '/health', methods: ['GET'], access: 'public' },
    { name: 'closed', path: '/Dev/**', access: 'deny' },
    { name: 'closed-post', path: '/jobs/{id}/cancel', methods: ['POST'], access: 'deny' },
    { name: 'stop', path: '/v1/shutdown', methods: ['POST'], access: 'deny' },
    { name: 'jobs', path: '/jobs', methods: ['GET', 'POST'] },
    { name: 'job', path: '/jobs/{id}', methods: ['GET'] },
    { name: 'job-special', path: '/jobs/special' },
    { name: 'job-dir', path: '/jobs/{id}/' },
    { name: 'files', path: '/files/{name}', encodedSlash: true },
    { name: 'files-private', path: '/files/private/{name}' },
    { name: 'files-rest', path: '/files/**', encodedSlash: true },
    { name: 'ui', path: '/ui/**', methods: ['GET'] },
    { name: 'deep', path: '/a/{b}/c/{d}/e' },
    { name: 'deep-literal', path: '/a/b/c/d/e' },
    { name: 'late-closed', path: '/ui/secret', access: 'deny' },
    { name: 'v1', path: '/v1/**', methods: ['GET', 'POST'] },
  ];
  const table = new RouteTable(compileRoutes(routes));

  const ROWS: readonly (readonly [method: string, path: string, route: string | null])[] = [
    ['GET', '/health', 'health'],
    ['HEAD', '/health', null],
    ['POST', '/health', null],
    ['GET', '/health/', null],
    ['GET', '/Health', null],
    ['GET', '/healt%68', 'health'],
    ['GET', '/health%20', null],
    ['GET', '/', null],
    ['GET', '/unknown', null],
    // `**` matches the path before it and everything below.
    ['GET', '/ui', 'ui'],
    ['GET', '/ui/', 'ui'],
    ['GET', '/ui/a/b/c', 'ui'],
    ['GET', '/uia', null],
    ['GET', '/UI/a', null],
    // A parameter is one segment, and never none.
    ['GET', '/jobs', 'jobs'],
    ['GET', '/jobs/', null],
    ['GET', '/jobs/7', 'job'],
    ['GET', '/jobs/7/', 'job-dir'],
    ['GET', '/jobs/7/8', null],
    ['GET', '/jobs/special', 'job'],
    ['PUT', '/jobs/special', 'job-special'],
    ['PUT', '/jobs/7', null],
    ['GET', '/jobs/%20', 'job'],
    // The order of the list, not the nearness of the pattern.
    ['GET', '/a/b/c/d/e', 'deep'],
    ['GET', '/a/b/c/d/f', null],
    ['GET', '/ui/secret', 'ui'],
    ['POST', '/ui/secret', 'late-closed'],
    // Denials: every spelling.
    ['GET', '/dev', 'closed'],
    ['GET', '/dev/', 'closed'],
    ['GET', '/DEV/x', 'closed'],
    ['GET', '/dEv/@fs/etc/passwd', 'closed'],
    ['GET', '/%64ev/x', 'closed'],
    ['GET', '/%EF%BD%84ev/x', 'closed'],
    ['GET', '/de%2fv', null],
    ['GET', '/dev%2fx', 'closed'],
    ['GET', '/DEV%2Fx/y', 'closed'],
    ['POST', '/jobs/7/CANCEL', 'closed-post'],
    ['POST', '/jobs/7/cancel/', 'closed-post'],
    ['POST', '/jobs/7%2Fcancel', 'closed-post'],
    ['GET', '/jobs/7/cancel', null],
    ['POST', '/v1/shutdown', 'stop'],
    ['POST', '/v1/SHUTDOWN', 'stop'],
    ['POST', '/v1/shutdown/', 'stop'],
    ['POST', '/v1/%C5%BFhutdown', 'stop'],
    ['POST', '/v1%2Fshutdown', 'stop'],
    ['POST', '/v1/shutdown/x', 'v1'],
    ['GET', '/v1/shutdown', 'v1'],
    // Encoded slashes: only where asked for, and where no earlier route would have it otherwise.
    ['GET', '/jobs%2F7', null],
    ['GET', '/ui/a%2Fb', null],
    ['GET', '/files/a', 'files'],
    ['GET', '/files/a%2Fb', 'files'],
    ['GET', '/files/private%2Fa', 'files'],
    ['GET', '/files/private/a', 'files-private'],
    ['GET', '/files/private%2Fa/b', 'files-rest'],
    ['GET', '/files/x/y%2Fz', 'files-rest'],
    ['GET', '/files%2Fa', null],
  ];
  for (const [method, path, route] of ROWS)
    test(`${method} ${path} → ${route ?? 'nothing'}`, () => assert.equal(ask(table, method, path), route));

  test('an encoded slash never goes around an earlier route', () => {
    const entries = compileRoutes([
      { name: 'control', path: '/v1/control', access: ['control'] },
      { name: 'rest', path: '/**', encodedSlash: true },
    ]);
    const guarded = new RouteTable(entries);
    assert.equal(ask(guarded, 'GET', '/v1/control'), 'control');
    assert.equal(ask(guarded, 'GET', '/v1%2Fcontrol'), null);
    assert.equal(ask(guarded, 'GET', '/v1%2Fother'), 'rest');
  });

  test('a deny of a folder alone leaves the name without the slash', () => {
    const listing = new RouteTable(
      compileRoutes([{ name: 'listing', path: '/static/', access: 'deny' }, { path: '/**' }]),
    );
    assert.equal(ask(listing, 'GET', '/static/'), 'listing');
    assert.equal(ask(listing, 'GET', '/static'), 'route-1');
    const root = new RouteTable(compileRoutes([{ name: 'root', path: '/', access: 'deny' }, { path: '/**' }]));
    assert.equal(ask(root, 'GET', '/'), 'root');
    assert.equal(ask(root, 'GET', '/a'), 'route-1');
  });

  test('an empty table matches nothing', () => {
    assert.equal(ask(new RouteTable([]), 'GET', '/'), null);
  });

  describe('properties', () => {
    const literal = fc.constantFrom('a', 'b', 'A', 'aB', 's', 'k', '__proto__', 'constructor');
    const pattern = fc
      .tuple(fc.array(fc.oneof(literal, fc.constant('{x}')), { maxLength: 3 }), fc.constantFrom('', '/**', '/'))
      .map(([parts, end]) => {
        const names = parts.map((part, i) => (part === '{x}' ? `{x${i}}` : part));
        return names.length === 0 && end === '' ? '/' : `${names.map((name) => `/${name}`).join('')}${end}`;
      });
    const method = fc.constantFrom('GET', 'POST', 'HEAD');
    const access = fc.constantFrom<'public' | 'deny' | readonly string[]>('public', 'deny', ['read']);
    const route: fc.Arbitrary<RouteParts> = fc
      .tuple(pattern, access, fc.boolean(), fc.option(fc.uniqueArray(method, { minLength: 1 }), { nil: null }))
      .map(([path, how, encodedSlash, methods]) => ({
        path,
        access: how,
        encodedSlash,
        ...(methods === null ? {} : { methods }),
      }));
    const segment = fc.constantFrom(
      ...[
        'a',
        'b',
        'A',
        'B',
        'ab',
        'AB',
        'aB',
        's',
        'S',
        '\u017f',
        'k',
        '\u212a',
        '\uff41',
        'c',
        '{x0}',
        '**',
        '%',
        ' ',
      ],
      ...['__proto__', 'constructor'],
    );
    const query = fc
      .tuple(
        fc.array(
          fc.oneof(
            segment,
            fc.tuple(segment, segment).map(([one, two]) => `${one}/${two}`),
          ),
          { maxLength: 4 },
        ),
        fc.boolean(),
        method,
      )
      .map(([parts, slash, by]): RouteQuery => {
        const segments = slash || parts.length === 0 ? [...parts, ''] : parts;
        return { segments, method: by, encodedSlash: segments.some((one) => one.includes('/')) };
      });

    test('the tree and a list that is read from the top say the same', () => {
      let matched = 0;
      fc.assert(
        fc.property(
          fc.array(route, { maxLength: 8 }),
          fc.array(query, { minLength: 1, maxLength: 5 }),
          (list, asked) => {
            const entries = compileRoutes(list);
            const tree = new RouteTable(entries);
            for (const one of asked) {
              const winner = tree.match(one);
              if (winner !== null) matched += 1;
              assert.equal(winner, readFromTheTop(entries, one));
            }
          },
        ),
        { numRuns: 3_000, interruptAfterTimeLimit: 2_500 },
      );
      assert.ok(matched > 100, String(matched));
    });

    test('what is closed is closed in every spelling', () => {
      const CLOSED = ['/admin', '/v1/shutdown', '/k/{x}/s', '/dev/**'];
      const open = new RouteTable(
        compileRoutes([
          ...CLOSED.map((path) => ({ path, access: 'deny' as const })),
          { path: '/**', encodedSlash: true },
        ]),
      );
      /** The same letter to some reader. */
      const spell = (c: string): string[] => {
        const hex = `%${c.charCodeAt(0).toString(16)}`;
        const wide = encodeURIComponent(String.fromCharCode(c.charCodeAt(0) + 0xfee0));
        const more = c === 's' ? ['%C5%BF'] : c === 'k' ? ['%E2%84%AA'] : [];
        return c === '/' ? ['/', '%2F'] : [c, c.toUpperCase(), hex, hex.toUpperCase(), wide, ...more];
      };
      const paths = fc
        .constantFrom('/admin', '/v1/shutdown', '/k/7/s', '/dev/x', '/dev')
        .chain((path) =>
          fc
            .tuple(...Array.from(path.slice(1), (c) => fc.constantFrom(...spell(c))))
            .map((spelt) => `/${spelt.join('')}`),
        );
      fc.assert(
        fc.property(paths, fc.constantFrom('', '/'), (path, end) => {
          const read = readTarget(path + end);
          if (!read.ok) return;
          const { segments, encodedSlash } = read.target;
          assert.equal(open.match({ segments, method: 'GET', encodedSlash })?.access.kind, 'deny', path + end);
        }),
        { numRuns: 25_000, interruptAfterTimeLimit: 1_500 },
      );
    });
  });

  test('1,000 routes decide like 10, in the time of 10', () => {
    const listOf = (count: number): RouteParts[] => [
      ...Array.from({ length: count }, (_, i): RouteParts => {
        const kind = i % 4;
        if (kind === 0) return { path: `/v1/things-${i}/{id}/stream`, methods: ['GET'] };
        if (kind === 1) return { path: `/v1/closed-${i}`, access: 'deny' };
        return kind === 2 ? { path: `/v${i}/**` } : { path: `/v1/things-${i}/x`, methods: ['GET', 'POST'] };
      }),
      { path: '/last/{id}' },
    ];
    const few = new RouteTable(compileRoutes(listOf(10)));
    const entries = compileRoutes(listOf(1_000));
    const many = new RouteTable(entries);
    const queries = [
      '/v1/things-4/7/stream',
      '/V1/CLOSED-5',
      '/v6/a/b/c',
      '/v1/things-7/x',
      '/last/7',
      '/v1/none',
      '/',
    ].map((path): RouteQuery => ({ segments: path.slice(1).split('/'), method: 'GET', encodedSlash: false }));
    for (const [i, { route, pattern }] of entries.entries()) {
      const segments = pattern.segments.map((segment) => (segment.kind === 'literal' ? segment.text : 'any'));
      const asked = { segments, method: 'GET', encodedSlash: false };
      assert.equal(many.match(asked), route, `route ${i}`);
      assert.equal(readFromTheTop(entries.slice(0, i + 1), asked), route);
    }
    const timeOf = (one: RouteTable): number => {
      let best = Infinity;
      for (let round = 0; round < 20; round++) {
        const before = performance.now();
        for (let i = 0; i < 500; i++) for (const asked of queries) one.match(asked);
        best = Math.min(best, performance.now() - before);
      }
      return best;
    };
    timeOf(few);
    // A list read from the top would take fifty times as long and more.
    assert.ok(timeOf(many) < 5 * timeOf(few));
  });
});

describe('patterns of paths', () => {
  for (const text of [
    '/',
    '/**',
    '/a',
    '/a/',
    '/a/**',
    '/{id}',
    '/v1/{job_id}/stream',
    '/a/{x}/{y2}/**',
    '/.well-known/x',
    '/...',
    "/!$&'()+,=:@-._~",
  ]) {
    test(`good: ${text}`, () => {
      const read = parsePathPattern(text);
      assert.ok(read.ok);
      assert.equal(read.pattern.text, text);
      assert.equal(read.pattern.literal, !/[{*]/.test(text));
    });
  }
  for (const text of [
    '',
    'a',
    '**',
    '//',
    '/a//b',
    '/./a',
    '/a/..',
    '/a/.',
    '/**/a',
    '/a*',
    '/*',
    '/***',
    '/a**',
    '/{}',
    '/{Id}',
    '/{1a}',
    '/{id',
    '/id}',
    '/a{id}',
    '/{id}.json',
    '/{id}{x}',
    '/{a}/{a}',
    '/{a-b}',
    '/{__proto__}',
    '/a b',
    '/a;b',
    '/a?b',
    '/a#b',
    '/a%20b',
    '/%2e%2e',
    '/a\\b',
    '/café',
    '/a\n',
    '/a\n/b',
    '/\0',
    'http://bee.test/',
  ]) {
    test(`bad: ${JSON.stringify(text)}`, () => {
      const read = parsePathPattern(text);
      assert.ok(!read.ok);
      assert.notEqual(read.problem, '');
    });
  }

  test('a literal pattern is a path that requests may have, and matches it', () => {
    const part = fc.string({
      unit: fc.constantFrom(...'a Z 0 - . _ ~ ! $ & ( ) + , = : @'.split(' ')),
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 3 }), (parts) => {
        const text = `/${parts.join('/')}`;
        const pattern = parsePathPattern(text);
        const target = readTarget(text);
        assert.equal(pattern.ok, target.ok);
        if (!pattern.ok || !target.ok) return;
        assert.equal(ask(new RouteTable(compileRoutes([{ path: text }])), 'GET', text), 'route-0');
      }),
      { numRuns: 10_000, interruptAfterTimeLimit: 1_000 },
    );
  });
});
