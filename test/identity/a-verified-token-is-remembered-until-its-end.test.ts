import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Credential } from '../../src/identity/credential.js';
import type { Revocable } from '../../src/identity/identity.js';
import { JwtProver } from '../../src/identity/jwt.js';
import { FileKeys, type FittingKeys, type KeySource } from '../../src/identity/key-source.js';
import type { Proof } from '../../src/identity/provers.js';
import { NO_REVOCATIONS, type Revocations, type Standing } from '../../src/identity/revocation.js';
import { TokenCache, type VerifiedToken } from '../../src/identity/token-cache.js';
import { JWS_ALGORITHMS } from '../../src/policy/jws-algorithms.js';
import type { JwtAuthenticator } from '../../src/policy/policy.js';
import { TOKEN_CARRIERS } from '../../src/policy/policy.js';
import { type VerificationKey, readJwkSet } from '../../src/policy/verification-key.js';
import { issuerKey, jwkOf, makeToken } from '../support/token-issuer.js';

const NOW = Date.UTC(2026, 0, 1);
const SECOND = NOW / 1000;
const MINUTE = 60_000;
const pair = issuerKey('a', 'P-256');

function keysOf(...jwks: readonly object[]): readonly VerificationKey[] {
  const read = readJwkSet(Buffer.from(JSON.stringify({ keys: jwks })));
  assert.ok(read.ok);
  return read.value;
}

const KEYS = keysOf(jwkOf(pair));

function authenticator(parts: Partial<JwtAuthenticator> = {}): JwtAuthenticator {
  return {
    type: 'jwt',
    name: 'sso',
    realm: 'guardbee',
    carriers: new Set(TOKEN_CARRIERS),
    issuer: 'idp',
    audiences: ['queen'],
    algorithms: JWS_ALGORITHMS,
    keys: { kind: 'file', from: 'jwks', file: '/keys.json', keys: KEYS },
    clockToleranceMs: 5 * MINUTE,
    maxAgeMs: null,
    nameFrom: ['sub'],
    rolesFrom: ['realm_access', 'roles'],
    permissionsFrom: null,
    rolesMap: null,
    roles: new Map([['viewer', ['read']]]),
    permissions: new Set(['read', 'run']),
    revocation: null,
    ...parts,
  };
}

function token(more: Readonly<Record<string, unknown>> = {}): Credential {
  const claims = { iss: 'idp', aud: 'queen', sub: 'anna', exp: SECOND + 60, realm_access: { roles: ['viewer'] } };
  return new Credential(
    'authorization',
    makeToken({ alg: 'ES256', kid: 'a' }, { ...claims, ...more }, pair.privateKey),
  );
}

/** Keys that count who asks for them. */
class CountedKeys implements KeySource {
  asked = 0;
  keys: KeySource = new FileKeys(KEYS);

  fitting(...args: Parameters<KeySource['fitting']>): FittingKeys | Promise<FittingKeys> {
    this.asked += 1;
    return this.keys.fitting(...args);
  }

  holds(key: VerificationKey): boolean {
    return this.keys.holds(key);
  }
}

const prover = (keys: KeySource = new FileKeys(KEYS), revocations: Revocations = NO_REVOCATIONS): JwtProver =>
  new JwtProver(() => keys, revocations);
const outcome = (proof: Proof): string => (proof.ok ? proof.identity.name : proof.reason);
const now = (proof: Proof | Promise<Proof>): string => {
  assert.ok(!(proof instanceof Promise), 'this should be known at once');
  return outcome(proof);
};

describe('a token is judged by the clock', () => {
  const anna = 'anna';
  const rows: readonly (readonly [string, Record<string, unknown>, Partial<JwtAuthenticator>, number, string])[] = [
    ['exp', { exp: SECOND }, {}, NOW + 5 * MINUTE - 1, anna],
    ['exp', { exp: SECOND }, {}, NOW + 5 * MINUTE, 'credential_expired'],
    ['exp without tolerance', { exp: SECOND }, { clockToleranceMs: 0 }, NOW - 1, anna],
    ['exp without tolerance', { exp: SECOND }, { clockToleranceMs: 0 }, NOW, 'credential_expired'],
    ['exp with a fraction', { exp: SECOND + 0.5 }, { clockToleranceMs: 0 }, NOW + 499, anna],
    ['exp with a fraction', { exp: SECOND + 0.5 }, { clockToleranceMs: 0 }, NOW + 500, 'credential_expired'],
    ['nbf', { nbf: SECOND }, {}, NOW - 5 * MINUTE, anna],
    ['nbf', { nbf: SECOND }, {}, NOW - 5 * MINUTE - 1, 'credential_not_yet_valid'],
    ['iat', { iat: SECOND }, {}, NOW - 5 * MINUTE, anna],
    ['iat', { iat: SECOND }, {}, NOW - 5 * MINUTE - 1, 'credential_not_yet_valid'],
    ['max_age', { iat: SECOND, exp: SECOND + 9999 }, { maxAgeMs: MINUTE }, NOW + 6 * MINUTE - 1, anna],
    ['max_age', { iat: SECOND, exp: SECOND + 9999 }, { maxAgeMs: MINUTE }, NOW + 6 * MINUTE, 'credential_expired'],
    ['max_age without iat', {}, { maxAgeMs: MINUTE }, NOW, 'credential_invalid'],
    ['the last second there is', { exp: 253_402_300_799 }, {}, NOW, anna],
    ['one second more', { exp: 253_402_300_800 }, {}, NOW, 'credential_invalid'],
  ];
  for (const [what, claims, parts, atMs, expected] of rows) {
    test(`${what}, ${String(atMs - NOW)} ms: ${expected}`, async () => {
      assert.equal(outcome(await prover().prove(authenticator(parts), token(claims), atMs)), expected);
    });
    test(`${what}, ${String(atMs - NOW)} ms, seen before: ${expected}`, async () => {
      const one = prover();
      const policy = authenticator(parts);
      const shown = token(claims);
      for (const before of [NOW, NOW + MINUTE]) await one.prove(policy, shown, before);
      assert.equal(outcome(await one.prove(policy, shown, atMs)), expected);
    });
  }
});

describe('the second sight of a token', () => {
  test('is decided at once, and by the same identity', async () => {
    const keys = new CountedKeys();
    const one = prover(keys);
    const sso = authenticator();
    const first = one.prove(sso, token(), NOW);
    assert.ok(first instanceof Promise);
    assert.equal(outcome(await first), 'anna');
    const shown = token();
    const known = await one.prove(sso, shown, NOW);
    const again = one.prove(sso, shown, NOW);
    assert.ok(known.ok && !(again instanceof Promise) && again.ok);
    assert.equal(again.identity, known.identity);
    assert.equal(again, one.prove(sso, shown, NOW));
    assert.deepEqual(known.identity.grants, new Set(['viewer', 'read']));
    assert.equal(keys.asked, 2);
  });

  test('ten at once are verified once', async () => {
    const keys = new CountedKeys();
    const one = prover(keys);
    const shown = token();
    const sso = authenticator();
    const all = await Promise.all(Array.from({ length: 10 }, async () => await one.prove(sso, shown, NOW)));
    assert.deepEqual(new Set(all.map(outcome)), new Set(['anna']));
    assert.equal(keys.asked, 1);
  });

  test('whoever waits with another that came earlier is still judged by the own moment', async () => {
    const one = prover();
    const sso = authenticator({ clockToleranceMs: 0 });
    const shown = token({ exp: SECOND });
    const early = one.prove(sso, shown, NOW - 1);
    const late = one.prove(sso, shown, NOW);
    assert.deepEqual([outcome(await early), outcome(await late)], ['anna', 'credential_expired']);
  });

  test('a token that was refused is not remembered as anything', async () => {
    const keys = new CountedKeys();
    const one = prover(keys);
    const sso = authenticator();
    const shown = token({ aud: 'king' });
    for (const _ of [1, 2]) assert.equal(outcome(await one.prove(sso, shown, NOW)), 'credential_invalid');
    assert.equal(keys.asked, 2);
  });

  test('is nothing to another authenticator, or to another policy', async () => {
    const one = prover();
    const shown = token();
    await one.prove(authenticator(), shown, NOW);
    assert.ok(one.prove(authenticator({ audiences: ['king'] }), shown, NOW) instanceof Promise);
    assert.equal(outcome(await one.prove(authenticator({ audiences: ['king'] }), shown, NOW)), 'credential_invalid');
  });

  test('a key that is no longer there takes its tokens with it, one that stays does not', async () => {
    const keys = new CountedKeys();
    const one = prover(keys);
    const sso = authenticator();
    const shown = token();
    await one.prove(sso, shown, NOW);
    assert.equal(now(one.prove(sso, shown, NOW)), 'anna');
    keys.keys = new FileKeys(keysOf(jwkOf(issuerKey('a', 'P-256'))));
    assert.equal(outcome(await one.prove(sso, shown, NOW)), 'credential_invalid');
    keys.keys = { fitting: () => null, holds: () => false };
    assert.equal(outcome(await one.prove(sso, shown, NOW)), 'credential_unverifiable');
  });
});

describe('whether it was revoked is asked at every sight', () => {
  const settings = { store: 'embedded', key: null, onUnavailable: 'deny' } as const;

  for (const [standing, onUnavailable, expected] of [
    ['good', 'deny', 'anna'],
    ['revoked', 'deny', 'credential_revoked'],
    ['revoked', 'allow', 'credential_revoked'],
    ['unknown', 'deny', 'credential_unverifiable'],
    ['unknown', 'allow', 'anna'],
  ] as const) {
    for (const late of [false, true]) {
      test(`${standing}, on_unavailable: ${onUnavailable}${late ? ', after asking' : ''}: ${expected}`, async () => {
        const asked: Revocable[] = [];
        const said: Standing[] = ['good', standing];
        const one = prover(undefined, {
          ...NO_REVOCATIONS,
          standing: (of) => {
            const answer = said[Math.min(asked.length, 1)]!;
            asked.push(of);
            return late ? Promise.resolve(answer) : answer;
          },
        });
        const sso = authenticator({ revocation: { ...settings, onUnavailable } });
        const shown = token({ jti: 'one', iat: SECOND });
        assert.equal(outcome(await one.prove(sso, shown, NOW)), 'anna');
        const second = one.prove(sso, shown, NOW);
        assert.equal(second instanceof Promise, late);
        assert.equal(outcome(await second), expected);
        assert.equal(asked.length, 2);
        assert.deepEqual(asked[1], {
          settings: sso.revocation,
          issuer: 'idp',
          jti: 'one',
          subject: 'anna',
          issuedAtMs: NOW,
          expiresAtMs: NOW + 6 * MINUTE,
        });
      });
    }
  }
});

describe('what a claim gives', () => {
  const granted = async (parts: Partial<JwtAuthenticator>, claims: Record<string, unknown>): Promise<string[]> => {
    const proof = await prover().prove(authenticator(parts), token(claims), NOW);
    return proof.ok ? [...proof.identity.grants] : [proof.reason];
  };
  const url = 'https://example.com/roles';
  for (const [name, parts, claims, expected] of [
    ['a text with blanks', { rolesFrom: ['scope'] }, { scope: 'openid viewer  x' }, ['viewer', 'read']],
    ['a name with dots', { rolesFrom: [url] }, { [url]: ['viewer'] }, ['viewer', 'read']],
    ['what is no text', { rolesFrom: ['r'] }, { r: [['viewer'], 1, null, { viewer: true }] }, []],
    ['a map', { rolesFrom: ['r'] }, { r: { viewer: true } }, []],
    ['what an object inherits', { rolesFrom: ['constructor', 'name'] }, {}, []],
    ['a path that ends early', { rolesFrom: ['sub', 'length'] }, {}, []],
    ['no claim at all', { rolesFrom: ['r'] }, {}, []],
    ['mapped', { rolesFrom: ['r'], rolesMap: new Map([['/users', 'viewer']]) }, { r: ['/users'] }, ['viewer', 'read']],
    ['not mapped', { rolesFrom: ['r'], rolesMap: new Map([['/users', 'viewer']]) }, { r: ['viewer'] }, []],
    ['permissions', { rolesFrom: null, permissionsFrom: ['scope'] }, { scope: 'run viewer sing' }, ['run']],
    ['another name', { nameFrom: ['email'] }, {}, ['credential_invalid']],
  ] as const) {
    test(name, async () => assert.deepEqual(await granted(parts, claims), expected));
  }
});

describe('the cache', () => {
  const entry = (untilMs: number): VerifiedToken => ({
    identity: { name: 'a', authenticator: 'b', roles: [], grants: new Set(), expiresAtMs: untilMs, revocables: [] },
    key: KEYS[0]!,
    fromMs: 0,
    untilMs,
  });

  test('never holds more than it may, and keeps what is used', () => {
    const cache = new TokenCache(100);
    cache.remember('kept', entry(Infinity));
    for (let i = 0; i < 10_000; i += 1) {
      cache.remember(`token-${String(i)}`, entry(Infinity));
      assert.ok(cache.size <= 100);
      assert.notEqual(cache.find('kept', 1), null);
    }
    assert.equal(cache.find('token-1', 1), null);
    assert.notEqual(cache.find('token-9999', 1), null);
  });

  test('gives a token for as long as it is good, and forgets it then', () => {
    const cache = new TokenCache(10);
    cache.remember('a', entry(1000));
    assert.notEqual(cache.find('a', 999), null);
    assert.equal(cache.find('a', 1000), null);
    assert.equal(cache.size, 0);
  });
});
