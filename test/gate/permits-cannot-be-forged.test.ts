import { SUPPOSED_OWNERS } from '../../src/gate/owners.js';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Exchange } from '../../src/exchange.js';
import { type Permit, assertPermit, authorize } from '../../src/gate/authorize.js';
import { forward } from '../../src/proxy/forward.js';
import type { Respond } from '../../src/proxy/respond.js';
import { type UpgradingClient, tunnel } from '../../src/proxy/tunnel.js';
import { Upstreams } from '../../src/proxy/upstream.js';
import { head1, read } from '../http/heads.js';
import { NOW, UPSTREAM, address, listenerOf, decide } from './listeners.js';

function permitted(): Permit {
  const listener = listenerOf({ routes: [{ path: '/', access: 'public' }] });
  const decision = decide(listener, read(head1()), address('127.0.0.1'), NOW);
  assert.ok(decision.allow);
  return decision;
}

const permit = permitted();
const prototype = Object.getPrototypeOf(permit) as object;

const FORGERIES: readonly (readonly [what: string, value: unknown])[] = [
  ['a look-alike', Object.assign({}, permit)],
  ['a look-alike of its class', Object.assign(Object.create(prototype) as object, permit)],
  ['an object that inherits from one', Object.create(permit)],
  ['a proxy of one', new Proxy(permit, {})],
  ['a clone', structuredClone(Object.assign({}, permit, { admission: null, route: null }))],
  ['a refusal that says yes', Object.assign({}, permit, { allow: true, reason: 'credential_missing' })],
  ['true', true],
  ['null', null],
  ['undefined', undefined],
  ['a function', () => permit],
  ['its class', permit.constructor],
  ['a promise of one', Promise.resolve(permit)],
];

describe('permits cannot be forged', () => {
  test('one that authorize made is one', () => {
    assert.doesNotThrow(() => assertPermit(permit));
  });

  for (const [what, value] of FORGERIES) {
    test(`${what} is none`, () => {
      assert.throws(() => assertPermit(value as Permit), TypeError);
    });

    test(`${what} forwards nothing and opens no tunnel`, () => {
      // Whatever is touched before the permit was asked for is `null` and throws something else.
      const nothing = null as unknown;
      const upstreams = new Upstreams();
      const wanted = { name: 'TypeError', message: 'forwarding needs a permit' };
      assert.throws(
        () => forward(nothing as Exchange, value as Permit, upstreams, nothing as Respond, SUPPOSED_OWNERS),
        wanted,
      );
      assert.throws(
        () => tunnel(nothing as Exchange, value as Permit, nothing as UpgradingClient, upstreams, nothing as Respond),
        wanted,
      );
    });
  }

  test('its class makes no more of them', () => {
    const made = permit.constructor as new (...parts: unknown[]) => object;
    for (const parts of [
      [permit.admission, UPSTREAM, null],
      [Symbol('authorized'), permit.admission, UPSTREAM, null],
      [Symbol.for('authorized'), permit.admission, UPSTREAM, null],
      [undefined, permit.admission, UPSTREAM, null],
      [],
    ]) {
      assert.throws(() => new made(...parts), TypeError);
      class Forged extends made {}
      assert.throws(() => new Forged(...parts), TypeError);
    }
  });

  test('one cannot be changed into another', () => {
    assert.throws(() => Object.assign(permit, { upstream: { ...UPSTREAM, name: 'elsewhere' } }), TypeError);
    assert.throws(() => Object.defineProperty(permit, 'identity', { value: { name: 'root' } }), TypeError);
    assert.throws(() => Object.setPrototypeOf(permit, {}), TypeError);
    assert.equal(permit.upstream, UPSTREAM);
  });

  test('an admission alone is none: somebody must have been asked', () => {
    const listener = listenerOf({ routes: [{ path: '/', access: ['read'] }] });
    const route = listener.routes.routes[0]!;
    const admission = { ...permit.admission, listener, route };
    const refused = authorize(admission, null, null);
    assert.ok(!refused.allow);
    assert.equal(refused.reason, 'credential_missing');
    const denied = authorize(
      admission,
      {
        ok: false,
        reason: 'credential_expired',
        fingerprint: 'abcdef',
        attempt: null,
      },
      null,
    );
    assert.ok(!denied.allow);
    assert.deepEqual([denied.reason, denied.fingerprint], ['credential_expired', 'abcdef']);
  });

  test('on a closed route a proof is of no use', () => {
    const listener = listenerOf({ routes: [{ path: '/', access: 'deny' }] });
    const admission = { ...permit.admission, listener, route: listener.routes.routes[0]! };
    const identity = {
      name: 'root',
      authenticator: 'keys',
      roles: [],
      grants: new Set<string>(),
      expiresAtMs: Infinity,
      revocables: [],
    };
    for (const upstream of [null, UPSTREAM]) {
      const route = { ...admission.route, upstream };
      const decision = authorize(
        { ...admission, route },
        { ok: true, identity, carrier: 'authorization', fingerprint: 'abcdef' },
        null,
      );
      assert.equal(decision.allow, false);
    }
  });
});
