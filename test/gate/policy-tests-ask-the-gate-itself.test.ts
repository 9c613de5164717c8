import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { UNLIMITED } from '../../src/gate/limit.js';
import { type SupposedRequest, runPolicyTests, suppose } from '../../src/gate/policy-tests.js';
import type { Listener, Policy, RequestTest } from '../../src/policy/policy.js';
import { NOW, type ListenerParts, bearer, listenerOf } from './listeners.js';

const keys = bearer([]);

function policyOf(parts: Partial<ListenerParts>, tests: readonly RequestTest[] = []): Policy {
  const listener = listenerOf({
    routes: [
      { name: 'health', path: '/health', methods: ['GET'], access: 'public' },
      { name: 'closed', path: '/dev/**', access: 'deny' },
      { name: 'socket', path: '/ws', methods: ['GET'], access: ['read'] },
      { name: 'near', path: '/near', access: ['read'], from: ['192.0.2.0/24'] },
      { name: 'write', path: '/**', methods: ['POST'], access: ['write'] },
    ],
    authenticators: [keys],
    ...parts,
  });
  const redirect: Listener = {
    type: 'redirect',
    name: 'redirect',
    position: listener.position,
    bind: listener.bind,
    hosts: ['bee.test'],
    httpsPort: 443,
    allowFrom: null,
    limits: listener.limits,
    timeouts: listener.timeouts,
  };
  return {
    version: '000000000000',
    file: 'policy.yaml',
    listeners: [listener, redirect],
    upstreams: [],
    upstreamExposure: { mode: 'warn' },
    authenticators: new Map([['keys', keys]]),
    roles: new Map([['operator', ['read', 'write']]]),
    stateDir: '/nonexistent',
    secretMounts: [],
    redis: null,
    log: { level: 'info', file: null, format: 'auto' },
    acme: null,
    audit: null,
    admin: null,
    drainMs: 0,
    watch: false,
    processes: 1,
    tests,
    warnings: [],
  };
}

const REQUEST: SupposedRequest = {
  listener: 'main',
  method: 'GET',
  target: '/health',
  host: null,
  from: '127.0.0.1',
  upgrade: false,
  as: null,
};
const OPERATOR = { name: 'somebody', roles: ['operator'], permissions: [] };

const said = (request: Partial<SupposedRequest>, parts: Partial<ListenerParts> = {}): string => {
  const answer = suppose(policyOf(parts), { ...REQUEST, ...request }, NOW);
  switch (answer.kind) {
    case 'allowed':
      return `${answer.route} (line ${answer.line}) → ${answer.upstream}`;
    case 'refused':
      return `${answer.status} ${answer.reason} ${answer.route ?? '-'}`;
    case 'unanswerable':
      return answer.why;
  }
};

describe('policy tests ask the gate itself', () => {
  const ROWS: readonly (readonly [request: Partial<SupposedRequest>, said: string])[] = [
    [{}, 'health (line 1) → 127.0.0.1:7833'],
    [{ target: '/health?a=b' }, 'health (line 1) → 127.0.0.1:7833'],
    [{ target: '/dev/x', as: OPERATOR }, '403 route_denied closed'],
    [{ target: '/DEV', as: OPERATOR }, '403 route_denied closed'],
    [{ target: '/none', as: OPERATOR }, '403 route_unknown -'],
    [{ method: 'POST', target: '/a' }, '401 credential_missing write'],
    [{ method: 'POST', target: '/a', as: { ...OPERATOR, roles: [] } }, '403 permission_missing write'],
    [{ method: 'POST', target: '/a', as: OPERATOR }, 'write (line 5) → 127.0.0.1:7833'],
    [
      { method: 'POST', target: '/a', as: { ...OPERATOR, roles: [], permissions: ['write'] } },
      'write (line 5) → 127.0.0.1:7833',
    ],
    [{ method: 'POST', target: '/a', as: { ...OPERATOR, roles: ['unknown'] } }, '403 permission_missing write'],
    [{ target: '/near', as: OPERATOR }, '403 client_denied near'],
    [{ target: '/near', as: OPERATOR, from: '192.0.2.9' }, 'near (line 4) → 127.0.0.1:7833'],
    [{ target: '/ws', as: OPERATOR, upgrade: true }, 'socket (line 3) → 127.0.0.1:7833'],
    [{ method: 'POST', target: '/ws', as: OPERATOR, upgrade: true }, '400 upgrade_malformed -'],
    // Requests that no rule gets to see.
    [{ target: '/..' }, '400 ambiguous_path -'],
    [{ target: '*' }, '400 malformed_target -'],
    [{ method: 'TRACE' }, '501 method_unsupported -'],
    [{ host: 'bee test' }, '400 malformed_head -'],
    [{ listener: 'none' }, 'there is no listener "none"'],
    [{ listener: 'redirect' }, 'listener "redirect" only redirects'],
    [{ from: 'nowhere' }, '"nowhere" is not an IP address'],
  ];
  for (const [request, expected] of ROWS) test(JSON.stringify(request), () => assert.equal(said(request), expected));

  test('the host is the first of `hosts` unless another is said, an IPv6 address too', () => {
    const allowed = 'health (line 1) → 127.0.0.1:7833';
    assert.equal(said({}, { hosts: ['queen.lan', 'other.lan'] }), allowed);
    assert.equal(said({}, { hosts: ['::1'] }), allowed);
    assert.equal(said({}, { hosts: ['2001:db8::1', 'queen.lan'] }), allowed);
    assert.equal(said({ host: '[::1]:8443' }, { hosts: ['::1'] }), allowed);
    assert.equal(said({ host: 'evil.test' }, { hosts: ['queen.lan'] }), '421 wrong_host -');
  });

  test('the peer is asked too', () => {
    assert.equal(said({ from: '192.0.2.9' }, { allowFrom: ['127.0.0.1'] }), '403 address_denied -');
  });

  test('a test passes when the gate says what it expects, in every point', () => {
    const base: RequestTest = {
      kind: 'request',
      name: 'a test',
      position: { line: 1, column: 1 },
      listener: 'main',
      method: 'POST',
      target: '/a',
      host: null,
      as: null,
      from: '127.0.0.1',
      headers: [],
      body: null,
      times: 1,
      owner: true,
      upgrade: false,
      expect: { kind: 'status', status: 401 },
      route: null,
      reason: null,
    };
    const passes = (parts: Partial<RequestTest>): boolean => {
      const [result] = runPolicyTests(policyOf({}, [{ ...base, ...parts }]), NOW, () => UNLIMITED);
      assert.ok(result !== undefined);
      assert.match(result.message, /^expected .+, got .+$/);
      return result.passed;
    };
    assert.ok(passes({}));
    assert.ok(passes({ route: 'write', reason: 'credential_missing' }));
    assert.ok(passes({ as: OPERATOR, expect: { kind: 'allow' }, route: 'write' }));
    assert.ok(!passes({ expect: { kind: 'allow' } }));
    assert.ok(!passes({ expect: { kind: 'status', status: 403 } }));
    assert.ok(!passes({ route: 'closed' }));
    assert.ok(!passes({ reason: 'credential_invalid' }));
    assert.ok(!passes({ as: OPERATOR }));
    assert.ok(!passes({ as: OPERATOR, expect: { kind: 'allow' }, route: 'closed' }));
    assert.ok(!passes({ as: OPERATOR, expect: { kind: 'allow' }, reason: 'credential_missing' }));
    assert.ok(!passes({ listener: 'none' }));
    assert.ok(!passes({ listener: 'none', expect: { kind: 'allow' } }));

    const message = (parts: Partial<RequestTest>): string | undefined =>
      runPolicyTests(policyOf({}, [{ ...base, ...parts }]), NOW, () => UNLIMITED)[0]?.message;
    assert.equal(
      message({ expect: { kind: 'status', status: 403 }, route: 'closed', reason: 'route_denied' }),
      'expected refused with 403 (route_denied) by route "closed", got refused with 401 (credential_missing) by route "write" (line 5)',
    );
    assert.equal(
      message({ expect: { kind: 'allow' }, target: '/none', method: 'GET' }),
      'expected allowed, got refused with 403 (route_unknown)',
    );
    assert.equal(message({ as: OPERATOR }), 'expected refused with 401, got allowed by route "write" (line 5)');
    assert.equal(
      message({ listener: 'none' }),
      'expected refused with 401, got no answer: there is no listener "none"',
    );
  });
});
