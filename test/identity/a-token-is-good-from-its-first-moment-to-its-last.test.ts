import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TokenTable } from '../../src/policy/token-table.js';
import type { Authenticator, Route } from '../../src/policy/policy.js';
import { NOW, authenticateOn as authenticate, bearer, compileRoutes, tokenEntry } from '../gate/listeners.js';
import { handshake, head1, read } from '../http/heads.js';

const OLD = 'old-token-0123456789';
const NEW = 'new-token-0123456789';

function routeWith(...authenticators: readonly Authenticator[]): Route {
  return compileRoutes([{ path: '/', access: ['read'], authenticators }])[0]!.route;
}

const outcome = (route: Route, lines: readonly string[], nowMs = NOW): string => {
  const said = authenticate(route, read(head1({}, ...lines)), nowMs);
  return said.ok ? `${said.identity.name} of ${said.identity.authenticator} by ${said.carrier}` : said.reason;
};
const withToken = (token: string): readonly string[] => [`Authorization: Bearer ${token}`];

describe('a token is good from its first moment to its last', () => {
  const keys = bearer([tokenEntry({ token: OLD, notBeforeMs: NOW, notAfterMs: NOW + 1000 })]);
  for (const [atMs, expected] of [
    [-Infinity, 'credential_not_yet_valid'],
    [NOW - 1, 'credential_not_yet_valid'],
    [NOW, 'keeper of keys by authorization'],
    [NOW + 999, 'keeper of keys by authorization'],
    [NOW + 1000, 'credential_expired'],
    [Infinity, 'credential_expired'],
  ] as const) {
    test(`at ${atMs - NOW} ms: ${expected}`, () =>
      assert.equal(outcome(routeWith(keys), withToken(OLD), atMs), expected));
  }

  test('without dates it is good always', () => {
    const always = routeWith(bearer([tokenEntry({ token: OLD })]));
    for (const atMs of [0, NOW, Number.MAX_SAFE_INTEGER])
      assert.equal(outcome(always, withToken(OLD), atMs), 'keeper of keys by authorization');
  });

  test('the identity says when it ends, and holds what the entry holds', () => {
    const said = authenticate(routeWith(keys), read(head1({}, ...withToken(OLD))), NOW);
    assert.ok(said.ok);
    assert.deepEqual(said.identity, {
      name: 'keeper',
      authenticator: 'keys',
      roles: ['operator'],
      grants: new Set(['operator', 'read', 'write']),
      expiresAtMs: NOW + 1000,
      revocables: [],
    });
    assert.doesNotMatch(JSON.stringify(said), new RegExp(OLD));
  });

  test('two live tokens of one name: both are good while one replaces the other', () => {
    const rotating = routeWith(
      bearer([tokenEntry({ token: OLD, notAfterMs: NOW + 1 }), tokenEntry({ token: NEW, notBeforeMs: NOW })]),
    );
    assert.equal(outcome(rotating, withToken(OLD)), 'keeper of keys by authorization');
    assert.equal(outcome(rotating, withToken(NEW)), 'keeper of keys by authorization');
    assert.equal(outcome(rotating, withToken(OLD), NOW + 1), 'credential_expired');
  });

  test('a token of fewer than 16 characters is nobody, even where somebody hashed it into the policy', () => {
    for (const [token, expected] of [
      ['a'.repeat(15), 'credential_invalid'],
      ['a'.repeat(16), 'keeper of keys by authorization'],
      ['a', 'credential_invalid'],
    ] as const) {
      assert.equal(outcome(routeWith(bearer([tokenEntry({ token })])), withToken(token)), expected);
    }
  });

  test('what is nearly the token is not the token', () => {
    const route = routeWith(bearer([tokenEntry({ token: OLD })]));
    for (const near of [OLD.toUpperCase(), `${OLD}0`, OLD.slice(0, -1), `x${OLD}`, tokenEntry({ token: OLD }).sha256])
      assert.equal(outcome(route, withToken(near)), 'credential_invalid');
  });
});

describe('the carrier picks one authenticator, whose word is final', () => {
  const first = bearer([tokenEntry({ token: OLD }, 'first')], ['authorization'], 'first');
  const second = bearer([tokenEntry({ token: NEW, name: 'other' }, 'second')], ['x_api_key', 'subprotocol'], 'second');
  const route = routeWith(first, second);

  for (const [lines, expected] of [
    [[], 'credential_missing'],
    [withToken(OLD), 'keeper of first by authorization'],
    [[`X-Api-Key: ${NEW}`], 'other of second by x_api_key'],
    [withToken(NEW), 'credential_invalid'],
    [[`X-Api-Key: ${OLD}`], 'credential_invalid'],
    [[`X-Guardbee-Token: ${OLD}`], 'credential_missing'],
    [[...withToken(OLD), `X-Api-Key: ${NEW}`], 'credential_ambiguous'],
    [[...withToken(OLD), `X-Guardbee-Token: ${NEW}`], 'keeper of first by authorization'],
    [['Authorization: Basic eDp5', `X-Api-Key: ${NEW}`], 'other of second by x_api_key'],
    [['Authorization: Bearer a b'], 'credential_malformed'],
  ] as const) {
    test(`${JSON.stringify(lines)}: ${expected}`, () => assert.equal(outcome(route, lines), expected));
  }

  test('also in the list of subprotocols', () => {
    const by = (token: string): string => {
      const said = authenticate(route, read(handshake(`Sec-WebSocket-Protocol: bearer, ${token}`)), NOW);
      return said.ok ? said.carrier : said.reason;
    };
    assert.equal(by(NEW), 'subprotocol');
    assert.equal(by(OLD), 'credential_invalid');
  });

  test('without authenticators nobody is anybody', () => {
    assert.equal(outcome(routeWith(), withToken(OLD)), 'credential_missing');
  });

  test('a fingerprint is known as soon as there was something to read', () => {
    const of = (lines: readonly string[]): string | null =>
      authenticate(route, read(head1({}, ...lines)), NOW).fingerprint;
    const { sha256 } = tokenEntry({ token: NEW });
    assert.equal(of(withToken(NEW)), sha256.slice(0, 6));
    assert.equal(of([]), null);
    assert.equal(of(['Authorization: Bearer a b']), null);
    assert.equal(of([...withToken(OLD), `X-Api-Key: ${NEW}`]), null);
  });
});

describe('the table of tokens', () => {
  test('finds by digest, and only by a whole one', () => {
    const entries = Array.from({ length: 1_000 }, (_, i) =>
      tokenEntry({ token: `token-${i}-0123456789`, name: `t${i}` }),
    );
    const table = new TokenTable(entries);
    assert.equal(table.size, 1_000);
    for (const entry of entries) assert.equal(table.find(entry.sha256), entry);
    const { sha256 } = entries[0]!;
    for (const wrong of ['', sha256.slice(1), `${sha256}0`, sha256.toUpperCase(), '__proto__', 'constructor'])
      assert.equal(table.find(wrong), null);
    assert.deepEqual(table.entries(), entries);
  });
});
