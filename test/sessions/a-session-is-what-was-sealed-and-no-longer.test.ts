import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Identity } from '../../src/identity/identity.js';
import {
  type SessionKey,
  type SessionProof,
  proveSession,
  sealSession,
  unsealSession,
} from '../../src/identity/session.js';
import type { BasicAuthenticator, HttpListener, JwtAuthenticator } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { NOW, bearer, tokenEntry } from '../gate/listeners.js';
import { HOUR, TOKEN, cookieOf, keeper, listenerWith, ringOf } from './fixture.js';

const KEY = ringOf('k');

function verdict(proof: SessionProof): string {
  return proof.ok ? 'good' : proof.reason;
}

function prove(listener: HttpListener, value: string, nowMs = NOW, keys: readonly SessionKey[] = [KEY]): string {
  return verdict(proveSession(listener, keys, value, nowMs));
}

const { entry, identity } = keeper();
const KEYS = bearer([entry]);
const MAIN = listenerWith([KEYS]);
const COOKIE = cookieOf(MAIN, KEYS, identity, TOKEN, KEY);

describe('the seal', () => {
  test('what was sealed is read', () => {
    const proof = proveSession(MAIN, [KEY], COOKIE, NOW);
    assert.ok(proof.ok);
    assert.equal(proof.identity.name, 'keeper');
    assert.deepEqual([...proof.identity.grants], [...entry.grants]);
    assert.equal(proof.identity.expiresAtMs, NOW + 12 * HOUR);
    assert.deepEqual(
      proof.identity.revocables.map(({ issuer, jti, subject }) => [issuer, jti, subject]),
      [['guardbee:session:main', '0123456789abcdef0123456789abcdef', 'keeper']],
    );
  });

  test('every other letter at every place breaks it', () => {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=';
    let tried = 0;
    for (let at = 0; at < COOKIE.length; at += 1) {
      // All letters where bits may be spare, one elsewhere.
      const others = at >= COOKIE.length - 2 || COOKIE[at + 1] === '.' ? letters : COOKIE[at] === 'A' ? 'B' : 'A';
      for (const letter of others) {
        if (letter === COOKIE[at]) continue;
        const changed = `${COOKIE.slice(0, at)}${letter}${COOKIE.slice(at + 1)}`;
        assert.equal(prove(MAIN, changed), 'credential_invalid', changed);
        tried += 1;
      }
    }
    assert.ok(tried > COOKIE.length + 100);
  });

  test('cut, lengthened, joined, empty', () => {
    for (let length = 0; length < COOKIE.length; length += 1) {
      assert.equal(prove(MAIN, COOKIE.slice(0, length)), 'credential_invalid');
    }
    const [payload = '', mac = ''] = COOKIE.split('.');
    const wrong = [`${COOKIE}A`, `${COOKIE}=`, `A${COOKIE}`, `.${mac}`, `${payload}.`, `${payload}.${mac}.${mac}`];
    wrong.push(`${mac}.${payload}`, ` ${COOKIE}`, `"${COOKIE}"`, 'x'.repeat(100_000), `${'A'.repeat(8_000)}.${mac}`);
    for (const value of wrong) assert.equal(prove(MAIN, value), 'credential_invalid', value.slice(0, 80));
  });

  test('a cookie of another listener, and of another key, is a forgery', () => {
    assert.equal(
      prove(listenerWith([KEYS], 12 * HOUR, 'hive'), COOKIE, NOW, [ringOf('k', 'hive')]),
      'credential_invalid',
    );
    assert.equal(prove(MAIN, COOKIE, NOW, [ringOf('x')]), 'credential_invalid');
    assert.equal(prove(MAIN, COOKIE, NOW, []), 'credential_invalid');
  });

  test('a ring: the old key still verifies, the new one signs, and what is renewed needs the old one no longer', () => {
    const next = ringOf('n');
    assert.equal(prove(MAIN, COOKIE, NOW, [next, KEY]), 'good');
    const proof = proveSession(MAIN, [next, KEY], COOKIE, NOW + HOUR);
    assert.ok(proof.ok);
    const renewed = sealSession(proof.renewed, next);
    assert.ok(renewed !== null);
    assert.equal(prove(MAIN, renewed, NOW, [next]), 'good');
    assert.equal(prove(MAIN, COOKIE, NOW, [next]), 'credential_invalid');
    // The end stays where it was.
    assert.equal(prove(MAIN, renewed, NOW + 12 * HOUR - 1, [next]), 'good');
    assert.equal(prove(MAIN, renewed, NOW + 12 * HOUR, [next]), 'credential_expired');
  });

  test('a payload that we would never have made is refused though the seal is right', () => {
    const opened = unsealSession(COOKIE, [KEY]);
    assert.ok(opened !== null);
    const { session } = opened;
    const broken: readonly Partial<Record<keyof typeof session, unknown>>[] = [
      { id: 'short' },
      { id: 7 },
      { authenticator: null },
      { name: ['keeper'] },
      { issuedAtMs: '0' },
      { expiresAtMs: null },
      { binding: undefined },
      { granted: { roles: ['operator'], permissions: 'all' } },
      { granted: { roles: 'operator', permissions: [] } },
      { sources: [{ issuer: 1, jti: null, subject: null, issuedAtMs: null, expiresAtMs: 1 }] },
    ];
    for (const part of broken) {
      const value = sealSession({ ...session, ...part } as typeof session, KEY);
      assert.ok(value !== null);
      assert.equal(prove(MAIN, value), 'credential_invalid', JSON.stringify(part));
    }
  });

  test('what does not fit into a cookie is not begun', () => {
    const opened = unsealSession(COOKIE, [KEY]);
    assert.ok(opened !== null);
    const roles = Array.from({ length: 400 }, (_, index) => `role-${String(index)}`);
    assert.equal(sealSession({ ...opened.session, granted: { roles, permissions: [] } }, KEY), null);
  });
});

describe('the end', () => {
  test('to the millisecond, and a lifetime made shorter holds for open sessions', () => {
    assert.equal(prove(MAIN, COOKIE, NOW + 12 * HOUR - 1), 'good');
    assert.equal(prove(MAIN, COOKIE, NOW + 12 * HOUR), 'credential_expired');
    const short = listenerWith([KEYS], HOUR);
    assert.equal(prove(short, COOKIE, NOW + HOUR - 1), 'good');
    assert.equal(prove(short, COOKIE, NOW + HOUR), 'credential_expired');
    const long = listenerWith([KEYS], 24 * HOUR);
    assert.equal(prove(long, COOKIE, NOW + 12 * HOUR), 'credential_expired');
  });

  test('never after the token', () => {
    const soon = keeper({ notAfterMs: NOW + HOUR });
    const keys = bearer([soon.entry]);
    const cookie = cookieOf(listenerWith([keys]), keys, soon.identity, TOKEN, KEY);
    // It was still without an end when the session began.
    for (const value of [cookie, COOKIE]) {
      assert.equal(prove(listenerWith([keys]), value, NOW + HOUR - 1), 'good');
      assert.equal(prove(listenerWith([keys]), value, NOW + HOUR), 'credential_expired');
    }
  });

  test('a token that was removed, replaced, or is not good yet, ends it; one that was rotated does not', () => {
    const other = tokenEntry({ token: 'another-token-of-keeper' });
    assert.equal(prove(listenerWith([bearer([])]), COOKIE), 'credential_revoked');
    assert.equal(prove(listenerWith([bearer([other])]), COOKIE), 'credential_revoked');
    assert.equal(prove(listenerWith([bearer([other, entry])]), COOKIE), 'good');
    assert.equal(prove(listenerWith([bearer([keeper({ name: 'somebody' }).entry])]), COOKIE), 'credential_revoked');
    assert.equal(prove(listenerWith([bearer([keeper({ notBeforeMs: NOW + 1 }).entry])]), COOKIE), 'credential_revoked');
    assert.equal(prove(listenerWith([bearer([entry], undefined, 'others')]), COOKIE), 'credential_revoked');
    assert.equal(prove({ ...MAIN, sessions: null }, COOKIE), 'credential_invalid');
  });

  test('roles and permissions are those of the policy as it is now', () => {
    const less = keeper({ roles: ['viewer'], grants: ['read'] });
    const proof = proveSession(listenerWith([bearer([less.entry])]), [KEY], COOKIE, NOW);
    assert.ok(proof.ok);
    assert.deepEqual([...proof.identity.grants], ['viewer', 'read']);
  });

  test('a changed password ends it', () => {
    const holder = { name: 'anna', roles: ['operator'], grants: new Set(['operator', 'read']) };
    const of = (hash: string): BasicAuthenticator => ({
      type: 'basic',
      name: 'people',
      realm: 'guardbee',
      carriers: new Set(['basic']),
      users: new Map([['anna', { hash: Secret.fromText(hash), cost: 12, holder }]]),
    });
    const before = of('$2b$12$before');
    const who: Identity = { ...holder, authenticator: 'people', expiresAtMs: Infinity, revocables: [] };
    const listener = listenerWith([before]);
    const cookie = cookieOf(listener, before, who, 'YW5uYTpodW50ZXIy', KEY);
    assert.equal(prove(listener, cookie), 'good');
    assert.equal(prove(listenerWith([of('$2b$12$after')]), cookie), 'credential_revoked');
    assert.equal(prove(listenerWith([{ ...before, users: new Map() }]), cookie), 'credential_revoked');
    assert.doesNotMatch(Buffer.from(cookie.split('.')[0] ?? '', 'base64url').toString(), /before|hunter2/);
  });

  test('of a JWT: its own roles and permissions, its end, and what could be revoked of it', () => {
    const sso: JwtAuthenticator = {
      type: 'jwt',
      name: 'sso',
      realm: 'guardbee',
      carriers: new Set(['authorization']),
      issuer: 'https://idp.lan',
      audiences: ['queen'],
      algorithms: ['ES256'],
      keys: { kind: 'file', from: 'public_key', file: '/key.pem', keys: [] },
      clockToleranceMs: 0,
      maxAgeMs: null,
      nameFrom: ['sub'],
      rolesFrom: ['roles'],
      permissionsFrom: ['scope'],
      rolesMap: null,
      roles: new Map([['operator', ['read', 'write']]]),
      permissions: new Set(['read', 'write', 'scrape']),
      revocation: { store: 'shared', key: null, onUnavailable: 'deny' },
    };
    const { revocation } = sso;
    assert.ok(revocation !== null);
    const source = { issuer: 'https://idp.lan', jti: 'j-1', subject: 'anna', issuedAtMs: NOW, expiresAtMs: NOW + HOUR };
    const who: Identity = {
      name: 'anna',
      authenticator: 'sso',
      roles: ['operator'],
      grants: new Set(['operator', 'read', 'write', 'scrape']),
      expiresAtMs: NOW + HOUR,
      revocables: [{ settings: revocation, ...source }],
    };
    const listener = listenerWith([sso]);
    const cookie = cookieOf(listener, sso, who, 'eyJ.x.y', KEY);
    const proof = proveSession(listener, [KEY], cookie, NOW);
    assert.ok(proof.ok);
    assert.deepEqual([...proof.identity.grants].sort(), ['operator', 'read', 'scrape', 'write']);
    assert.deepEqual(proof.identity.revocables[1], { settings: revocation, ...source });
    assert.equal(prove(listener, cookie, NOW + HOUR), 'credential_expired');
    // The role has lost a permission since.
    const later = { ...sso, roles: new Map([['operator', ['read']]]) };
    const less = proveSession(listenerWith([later]), [KEY], cookie, NOW);
    assert.ok(less.ok);
    assert.deepEqual([...less.identity.grants].sort(), ['operator', 'read', 'scrape']);
    const none = proveSession(
      listenerWith([{ ...sso, roles: new Map(), permissions: new Set(['read']) }]),
      [KEY],
      cookie,
      NOW,
    );
    assert.ok(none.ok);
    assert.deepEqual([...none.identity.roles, ...none.identity.grants], []);
    assert.equal(prove(listenerWith([{ ...sso, issuer: 'https://other.lan' }]), cookie), 'credential_revoked');
  });
});
