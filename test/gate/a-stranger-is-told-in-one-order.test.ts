import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DENIALS, DENIAL_REASONS, type DenialReason } from '../../src/denial.js';
import { admit, peerAllowed } from '../../src/gate/admit.js';
import { type Decision, assertPermit } from '../../src/gate/authorize.js';
import { type Message, readMessage } from '../../src/http/message.js';
import { formatAddress } from '../../src/net/address.js';
import { LIMITS, handshake, head1, head2, read } from '../http/heads.js';
import { NOW, type RouteParts, address, bearer, listenerOf, tokenEntry, decide } from './listeners.js';

const GOOD = 'good-token-0123456789';
const VIEWER = 'viewer-token-0123456789';
const EXPIRED = 'expired-token-0123456789';
const FUTURE = 'future-token-0123456789';
const SCRAPER = 'scraper-token-0123456789';

const keys = bearer([
  tokenEntry({ token: GOOD }),
  tokenEntry({ token: VIEWER, name: 'watcher', roles: ['viewer'], grants: ['read'] }),
  tokenEntry({ token: EXPIRED, name: 'former', notAfterMs: NOW }),
  tokenEntry({ token: FUTURE, name: 'future', notBeforeMs: NOW + 1 }),
]);
const scraper = bearer(
  [tokenEntry({ token: SCRAPER, name: 'prometheus', roles: ['scraper'], grants: ['scrape'] }, 'scraper')],
  ['authorization'],
  'scraper',
);

const ROUTES: readonly RouteParts[] = [
  { name: 'health', path: '/health', methods: ['GET'], access: 'public' },
  { name: 'closed', path: '/dev/**', access: 'deny' },
  { name: 'near', path: '/near', access: ['read'], from: ['192.0.2.0/24'] },
  { name: 'near-public', path: '/near-public', access: 'public', from: ['192.0.2.0/24'] },
  { name: 'near-closed', path: '/near-closed', access: 'deny', from: ['192.0.2.0/24'] },
  { name: 'metrics', path: '/metrics', access: ['scrape'], authenticators: [scraper] },
  { name: 'write', path: '/write', methods: ['POST'], access: ['write', 'control'] },
  { name: 'by-role', path: '/by-role', access: ['viewer'] },
  { name: 'nobody', path: '/nobody', access: ['toString', '__proto__'] },
  { name: 'read', path: '/read/**', access: ['read'] },
];

const listener = listenerOf({
  routes: ROUTES,
  authenticators: [keys],
  hosts: ['bee.test', '::1'],
  allowFrom: ['192.0.2.0/24', '198.51.100.0/24', '2001:db8::/32'],
  trustedProxies: ['198.51.100.1', '198.51.100.2'],
});
const STRANGER = '192.0.2.7';
const ELSEWHERE = '198.51.100.9';
const PROXY = '198.51.100.1';
const OUTSIDE = '203.0.113.5';

interface Ask {
  readonly method?: string;
  readonly target?: string;
  readonly host?: string;
  readonly from?: string;
  readonly fields?: readonly string[];
}

function ask({ method = 'GET', target = '/read', host = 'bee.test', from = STRANGER, fields = [] }: Ask): Decision {
  const lines = fields.map((line) => line.split(/: (.*)/s).slice(0, 2)).flat();
  return decide(listener, read(head1({ method, target, fields: ['host', host, ...lines] })), address(from), NOW);
}

const withToken = (token: string): readonly string[] => [`Authorization: Bearer ${token}`];
const outcome = (decision: Decision): string =>
  decision.allow ? `allowed by ${decision.route.name}` : decision.reason;

describe('a stranger is told in one order', () => {
  const ROWS: readonly (readonly [what: string, ask: Ask, outcome: string])[] = [
    ['public', { target: '/health' }, 'allowed by health'],
    ['public, with a credential that is no good', { target: '/health', fields: withToken('x') }, 'allowed by health'],
    ['public, but another method', { target: '/health', method: 'HEAD' }, 'route_unknown'],
    ['no such route', { target: '/none' }, 'route_unknown'],
    ['no such route, with a token', { target: '/none', fields: withToken(GOOD) }, 'route_unknown'],
    ['an encoded slash that nobody allowed', { target: '/read/a%2Fb' }, 'ambiguous_path'],
    ['an encoded slash in what is closed', { target: '/dev%2Fx' }, 'route_denied'],
    ['closed', { target: '/dev/x', fields: withToken(GOOD) }, 'route_denied'],
    ['closed to those from elsewhere', { target: '/near-closed', from: ELSEWHERE }, 'route_denied'],
    ['no credential', {}, 'credential_missing'],
    ['an unknown token', { fields: withToken('unknown-token-0123456789') }, 'credential_invalid'],
    ['a short token', { fields: withToken('short') }, 'credential_invalid'],
    ['an expired token', { fields: withToken(EXPIRED) }, 'credential_expired'],
    ['a token of the future', { fields: withToken(FUTURE) }, 'credential_not_yet_valid'],
    ['a token that is none', { fields: ['Authorization: Bearer a b'] }, 'credential_malformed'],
    ['two credentials', { fields: [...withToken(GOOD), `X-Api-Key: ${GOOD}`] }, 'credential_ambiguous'],
    ['a good token', { fields: withToken(GOOD) }, 'allowed by read'],
    ['another carrier', { fields: [`X-Api-Key: ${GOOD}`] }, 'allowed by read'],
    ['too little', { target: '/write', method: 'POST', fields: withToken(VIEWER) }, 'permission_missing'],
    ['enough', { target: '/write', method: 'POST', fields: withToken(GOOD) }, 'allowed by write'],
    ['a role in place of a permission', { target: '/by-role', fields: withToken(VIEWER) }, 'allowed by by-role'],
    ['a role that it is not', { target: '/by-role', fields: withToken(GOOD) }, 'permission_missing'],
    ['names that every object has', { target: '/nobody', fields: withToken(GOOD) }, 'permission_missing'],
    ["another authenticator's token", { target: '/metrics', fields: withToken(GOOD) }, 'credential_invalid'],
    ["its own authenticator's token", { target: '/metrics', fields: withToken(SCRAPER) }, 'allowed by metrics'],
    ['the same elsewhere', { fields: withToken(SCRAPER) }, 'credential_invalid'],
    [
      'a carrier that is not enabled there',
      { target: '/metrics', fields: [`X-Api-Key: ${SCRAPER}`] },
      'credential_missing',
    ],
    ['another host', { host: 'evil.test', fields: withToken(GOOD) }, 'wrong_host'],
    ['the host, otherwise written', { host: 'BEE.TEST.:99', fields: withToken(GOOD) }, 'allowed by read'],
    ['an IPv6 host', { host: '[0:0::1]:8443', fields: withToken(GOOD) }, 'allowed by read'],
    ['from elsewhere', { target: '/near', from: ELSEWHERE, fields: withToken(GOOD) }, 'client_denied'],
    ['from elsewhere, to a public route', { target: '/near-public', from: ELSEWHERE }, 'client_denied'],
    ['from near', { target: '/near', fields: withToken(GOOD) }, 'allowed by near'],
    ['from an address that may not connect', { from: OUTSIDE, fields: withToken(GOOD) }, 'address_denied'],
    // The order: peer, host, forwarding fields, route, denial, place, credential, permission.
    ['peer before host', { from: OUTSIDE, host: 'evil.test' }, 'address_denied'],
    ['host before route', { host: 'evil.test', target: '/none' }, 'wrong_host'],
    ['host before forwarding', { host: 'evil.test', from: PROXY, fields: ['X-Forwarded-For: x'] }, 'wrong_host'],
    [
      'forwarding before route',
      { target: '/none', from: PROXY, fields: ['X-Forwarded-For: x'] },
      'forwarded_malformed',
    ],
    ['place before credential', { target: '/near', from: ELSEWHERE }, 'client_denied'],
    [
      'credential before permission',
      { target: '/write', method: 'POST', fields: withToken(EXPIRED) },
      'credential_expired',
    ],
    ['how many before which', { fields: [...withToken('short'), 'X-Api-Key: a'] }, 'credential_ambiguous'],
  ];
  for (const [what, asked, expected] of ROWS) {
    test(`${what}: ${expected}`, () => {
      const decision = ask(asked);
      assert.equal(outcome(decision), expected);
      if (decision.allow) assert.doesNotThrow(() => assertPermit(decision));
      else assert.ok(DENIAL_REASONS.includes(decision.reason));
    });
  }

  test('every reason that the gate can give stands above', () => {
    const given = new Set(ROWS.map(([, , reason]) => reason));
    const ofTheGate: DenialReason[] = DENIAL_REASONS.filter((reason) =>
      /^(?:credential|permission|route|client|address|wrong_host|forwarded)/.test(reason),
    );
    // What is known from elsewhere than the policy is told of in tests of its own.
    const elsewhere: readonly DenialReason[] = ['credential_revoked', 'credential_unverifiable'];
    for (const reason of ofTheGate) if (!elsewhere.includes(reason)) assert.ok(given.has(reason), reason);
  });

  test('a refusal says who and where, as far as it is known, and never the token', () => {
    const expired = ask({ fields: withToken(EXPIRED) });
    assert.ok(!expired.allow);
    assert.equal(expired.route?.name, 'read');
    assert.equal(expired.client, STRANGER);
    assert.equal(expired.identity, null);
    assert.match(expired.fingerprint ?? '', /^[0-9a-f]{6}$/);
    const poor = ask({ target: '/write', method: 'POST', fields: withToken(VIEWER) });
    assert.ok(!poor.allow);
    assert.equal(poor.identity?.name, 'watcher');
    const nobody = ask({ from: OUTSIDE });
    assert.ok(!nobody.allow);
    assert.equal(nobody.client, null);
    for (const one of [expired, poor]) assert.doesNotMatch(JSON.stringify(one), /-token-0123456789/);
  });

  test('a permit holds who was proved, and on public routes nobody', () => {
    const permit = ask({ fields: withToken(GOOD) });
    assert.ok(permit.allow);
    assert.equal(permit.identity?.name, 'keeper');
    assert.equal(permit.carrier, 'authorization');
    assert.ok(Object.isFrozen(permit));
    const open = ask({ target: '/health', fields: withToken(GOOD) });
    assert.ok(open.allow);
    assert.deepEqual([open.identity, open.carrier, open.fingerprint], [null, null, null]);
  });

  test('a route without an upstream permits nothing', () => {
    const bare = listenerOf({ routes: [{ path: '/a', access: 'public', upstream: null }] });
    assert.equal(outcome(decide(bare, read(head1({ target: '/a' })), address(STRANGER), NOW)), 'route_denied');
  });

  test('the peer is asked before anything is read', () => {
    assert.ok(peerAllowed(listener, address(STRANGER)));
    assert.ok(peerAllowed(listener, address('::ffff:192.0.2.7')));
    assert.ok(!peerAllowed(listener, address(OUTSIDE)));
    assert.ok(!peerAllowed(listener, address('::1')));
    assert.ok(peerAllowed(listenerOf({ routes: [] }), address(OUTSIDE)));
  });

  describe('behind trusted proxies', () => {
    const admitted = (from: string, ...lines: readonly string[]): string => {
      const message = read(head1({ target: '/health' }, ...lines));
      const admission = admit(listener, message, { address: address(from), proxied: null });
      if (!admission.admitted) return admission.reason;
      return [admission.client, admission.scheme, admission.requestId ?? '-'].join(' ');
    };
    const ROWS: readonly (readonly [from: string, lines: readonly string[], outcome: string])[] = [
      // Nobody else is believed.
      [STRANGER, ['X-Forwarded-For: 10.0.0.1', 'X-Forwarded-Proto: https', 'X-Request-Id: r'], `${STRANGER} http -`],
      [STRANGER, ['X-Forwarded-For: nonsense', 'X-Forwarded-Proto: nonsense'], `${STRANGER} http -`],
      [ELSEWHERE, ['X-Forwarded-For: 10.0.0.1'], `${ELSEWHERE} http -`],
      [PROXY, [], `${PROXY} http -`],
      [PROXY, ['X-Forwarded-For: 10.0.0.1'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: 10.0.0.1:5123'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: [2001:DB8::1]:443'], '2001:db8::1 http -'],
      [PROXY, ['X-Forwarded-For: ::ffff:10.0.0.1'], '10.0.0.1 http -'],
      // From the right: what the client itself said stands to the left.
      [PROXY, ['X-Forwarded-For: 127.0.0.1, 10.0.0.1'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: 127.0.0.1', 'X-Forwarded-For: 10.0.0.1'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: nonsense, 10.0.0.1'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: 10.0.0.1, 198.51.100.2'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: 10.0.0.1', 'X-Forwarded-For: 198.51.100.2'], '10.0.0.1 http -'],
      [PROXY, ['X-Forwarded-For: 198.51.100.2'], '198.51.100.2 http -'],
      [PROXY, ['X-Forwarded-For: 10.0.0.1, nonsense'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-For: 10.0.0.1', 'X-Forwarded-For: unknown'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-For: 10.0.0.1,'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-For: 010.0.0.1'], 'forwarded_malformed'],
      // Only that field says it: others are dropped, not weighed.
      [PROXY, ['Forwarded: for=10.0.0.1', 'X-Real-IP: 10.0.0.2', 'True-Client-IP: 10.0.0.3'], `${PROXY} http -`],
      [PROXY, ['X_Forwarded_For: 10.0.0.1'], `${PROXY} http -`],
      [PROXY, ['X-Forwarded-Proto: https'], `${PROXY} https -`],
      [PROXY, ['X-Forwarded-Proto: HTTPS'], `${PROXY} https -`],
      [PROXY, ['X-Forwarded-Proto: https, https'], `${PROXY} https -`],
      [PROXY, ['X-Forwarded-Proto: http'], `${PROXY} http -`],
      // A proxy that adds to what the client said leaves the client's word on the left.
      [PROXY, ['X-Forwarded-Proto: https, http'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-Proto: http', 'X-Forwarded-Proto: https'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-Proto: https,'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-Proto:'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-Proto: wss'], 'forwarded_malformed'],
      [PROXY, ['X-Forwarded-Proto: https\u00a0'], 'forwarded_malformed'],
      [PROXY, ['X-Request-Id: a-b_c.9'], `${PROXY} http a-b_c.9`],
      [PROXY, ['X-Request-Id: a', 'X-Request-Id: b'], `${PROXY} http -`],
      [PROXY, ['X-Request-Id: a b'], `${PROXY} http -`],
      [PROXY, ['X-Request-Id: '], `${PROXY} http -`],
      [PROXY, [`X-Request-Id: ${'a'.repeat(65)}`], `${PROXY} http -`],
    ];
    for (const [from, lines, expected] of ROWS)
      test(`${from} ${JSON.stringify(lines)}`, () => assert.equal(admitted(from, ...lines), expected));

    test('`from` is about the client, `allow_from` about the peer', () => {
      const near = (xff: string, from: string): string =>
        outcome(ask({ target: '/near', from, fields: [`X-Forwarded-For: ${xff}`, ...withToken(GOOD)] }));
      assert.equal(near('192.0.2.9', PROXY), 'allowed by near');
      assert.equal(near('203.0.113.5', PROXY), 'client_denied');
      assert.equal(near('192.0.2.9', ELSEWHERE), 'client_denied');
      assert.equal(near('192.0.2.9', OUTSIDE), 'address_denied');
    });
  });

  test('no message of any kind gets a permit from a route that requires one, without a token that is good for it', () => {
    const guarded = listenerOf({
      routes: ROUTES.filter(({ access }) => access !== 'public'),
      authenticators: [keys],
      trustedProxies: ['198.51.100.1'],
    });
    const poor = [
      EXPIRED,
      FUTURE,
      SCRAPER,
      'unknown-token-0123456789',
      'short',
      '',
      `${GOOD} `,
      `${GOOD}x`,
      GOOD.toUpperCase(),
    ];
    const token = fc.constantFrom(...poor, GOOD, VIEWER);
    const line = fc.oneof(
      token.map((one) => ['authorization', `Bearer ${one}`]),
      token.map((one) => ['Authorization', `BEARER  ${one}`]),
      token.map((one) => ['authorization', `Basic ${one}`]),
      token.map((one) => ['X-Api-Key', one]),
      token.map((one) => ['x_api_key', one]),
      token.map((one) => ['x-guardbee-token', one]),
      token.map((one) => ['Sec-WebSocket-Protocol', `bearer, ${one}`]),
      token.map((one) => ['Cookie', `token=${one}`]),
      fc.constantFrom(
        ...[
          ['X-Auth-User', 'keeper'],
          ['X-Auth-Roles', 'operator'],
          ['X-Forwarded-For', '192.0.2.1'],
          ['X-Forwarded-For', '127.0.0.1, 192.0.2.1'],
          ['Connection', 'authorization, x-api-key'],
          ['X-Original-URL', '/health'],
          ['X-HTTP-Method-Override', 'GET'],
          ['Content-Length', '5'],
          ['Transfer-Encoding', 'chunked'],
          ['Upgrade', 'websocket'],
        ],
      ),
    );
    const target = fc.constantFrom(
      ...['/read', '/read/x', '/READ', '/read%2Fx', '/write', '/near', '/metrics', '/dev/x', '/health', '/by-role'],
      ...['/nobody', '/read?token=x', `/read?access_token=${GOOD}`, '/%72ead', '//read', '/read/..', '/'],
    );
    const message: fc.Arbitrary<Message | null> = fc
      .record({
        method: fc.constantFrom('GET', 'POST', 'HEAD', 'OPTIONS', 'PUT'),
        target,
        lines: fc.array(line, { maxLength: 4 }),
        way: fc.constantFrom<'1' | '2' | 'ws'>('1', '2', 'ws'),
      })
      .map(({ method, target: path, lines, way }) => {
        const flat = lines.flat();
        const raw =
          way === 'ws'
            ? { ...handshake(), target: path, fields: [...handshake().fields, ...flat] }
            : way === '2'
              ? head2({ method, target: path, fields: flat })
              : head1({ method, target: path, fields: ['host', 'bee.test', ...flat] });
        const result = readMessage(raw, LIMITS);
        return result.ok ? result.message : null;
      });
    const peer = fc.constantFrom(STRANGER, ELSEWHERE, PROXY, OUTSIDE, '::1').map(address);
    const seen = { allowed: 0, denied: 0 };
    fc.assert(
      fc.property(message, peer, (one, from) => {
        if (one === null) return;
        const decision = decide(guarded, one, from, NOW);
        if (!decision.allow) {
          seen.denied += 1;
          assert.ok(Object.hasOwn(DENIALS, decision.reason));
          return;
        }
        seen.allowed += 1;
        const { route, identity } = decision;
        assert.ok(route.access.kind === 'require');
        assert.ok(identity !== null && route.access.anyOf.some((name) => identity.grants.has(name)));
        // Somebody showed it, whole, in one of the places for it, and nothing else beside it.
        const shown = [
          ...(one.authorization === null ? [] : [one.authorization.replace(/^bearer +/i, '')]),
          ...(route.name === 'metrics' ? [] : [...one.apiKey, ...one.guardbeeToken]),
          ...(route.name === 'metrics' || one.webSocket === null
            ? []
            : one.webSocket.subprotocols.slice(one.webSocket.subprotocols.indexOf('bearer') + 1)),
        ];
        const good = route.name === 'metrics' ? [SCRAPER] : [GOOD, VIEWER];
        assert.ok(
          shown.some((text) => good.includes(text)),
          `${route.name}: ${shown.join(' | ')}`,
        );
        if (route.from !== null) assert.ok(route.from.has(address(decision.admission.client)));
        assert.equal(decision.admission.client === formatAddress(from) || formatAddress(from) === PROXY, true);
      }),
      { numRuns: 15_000, interruptAfterTimeLimit: 2_500 },
    );
    assert.ok(seen.allowed > 20 && seen.denied > 200, JSON.stringify(seen));
  });
});
