import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isMap, isScalar, parseDocument, visit } from 'yaml';
import type { HttpListener, Policy, Route } from '../../src/policy/policy.js';
import { EXAMPLES, PRESETS, ask, example, httpListeners, preset, requestFor, rulesOf, targetOf } from './presets.js';

const ALL = [
  ...PRESETS.map((name) => ({ name, source: preset(name) })),
  ...EXAMPLES.map((name) => ({ name: `the example ${name}`, source: example(name) })),
];

interface Guarded {
  readonly listener: HttpListener;
  readonly route: Route;
  readonly anyOf: readonly string[];
  /** Of the field that decides, where the body does. */
  readonly value: string | null;
}

function guarded(policy: Policy): Guarded[] {
  return httpListeners(policy).flatMap((listener) =>
    listener.routes.routes.flatMap((route): Guarded[] => {
      if (route.access.kind !== 'require') return [];
      const byValue = route.demands?.body?.json?.byValue ?? null;
      if (byValue === null) return [{ listener, route, anyOf: route.access.anyOf, value: null }];
      return [...byValue.permissions].map(([value, anyOf]) => ({ listener, route, anyOf, value }));
    }),
  );
}

for (const { name, source } of ALL) {
  test(`${name}: has no unsafe key`, () => {
    const found: string[] = [];
    visit(parseDocument(source.text), {
      Pair: (_, pair) => {
        if (isScalar(pair.key) && String(pair.key.value).startsWith('unsafe')) found.push(String(pair.key.value));
      },
    });
    assert.deepEqual(found, []);
    assert.ok(isMap(parseDocument(source.text).contents));
  });

  test(`${name}: beyond loopback there is TLS`, async () => {
    for (const listener of httpListeners(await rulesOf(source))) {
      assert.ok(listener.bind.loopback || listener.tls !== null, listener.name);
    }
  });

  test(`${name}: each guarded route refuses whoever shows no credential, or one without the permission`, async () => {
    const policy = await rulesOf(source);
    const routes = guarded(policy);
    assert.ok(routes.length > 0);
    for (const { listener, route, value } of routes) {
      for (const method of route.methods ?? ['GET', 'POST', 'DELETE', 'OPTIONS']) {
        for (const upgrade of method === 'GET' ? [false, true] : [false]) {
          const shape = { method, upgrade };
          const nobody = ask(policy, { ...requestFor(listener, route, null, value), ...shape });
          assert.deepEqual(
            nobody.kind === 'refused' && [nobody.status, nobody.reason, nobody.route],
            [401, 'credential_missing', route.name],
            `${method} ${route.name}`,
          );
          const stranger = ask(policy, {
            ...requestFor(listener, route, { name: 'stranger', roles: [], permissions: [] }, value),
            ...shape,
          });
          assert.deepEqual(
            stranger.kind === 'refused' && [stranger.status, stranger.reason, stranger.route],
            [403, 'permission_missing', route.name],
            `${method} ${route.name}`,
          );
        }
      }
    }
  });

  test(`${name}: each guarded route lets in just the roles that hold its permission, and there is one`, async () => {
    const policy = await rulesOf(source);
    for (const { listener, route, anyOf, value } of guarded(policy)) {
      const open: string[] = [];
      for (const role of policy.roles.keys()) {
        const caller = { name: 'caller', roles: [role], permissions: [] };
        const said = ask(policy, requestFor(listener, route, caller, value));
        if (said.kind === 'allowed') {
          assert.equal(said.route, route.name);
          open.push(role);
        }
      }
      const holders = [...policy.roles].filter(([, held]) => held.some((one) => anyOf.includes(one)));
      assert.deepEqual(
        open,
        holders.map(([role]) => role),
        `${route.name} ${value ?? ''}`,
      );
      assert.ok(open.length > 0, `${route.name} ${value ?? ''}`);
    }
  });

  test(`${name}: outside the allowed addresses nothing is open, whatever is shown`, async () => {
    const policy = await rulesOf(source);
    const everything = { name: 'everybody', roles: [...policy.roles.keys()], permissions: [] };
    for (const { listener, route, value } of guarded(policy)) {
      const places = listener.allowFrom ?? route.from;
      if (places === null) continue;
      for (const from of ['203.0.113.7', '2001:db8::7']) {
        const said = ask(policy, { ...requestFor(listener, route, everything, value), from });
        assert.equal(said.kind === 'refused' && said.status, 403, `${route.name} from ${from}`);
      }
    }
  });

  test(`${name}: what is closed is closed to everybody, in every spelling`, async () => {
    const policy = await rulesOf(source);
    const everything = { name: 'everybody', roles: [...policy.roles.keys()], permissions: [] };
    for (const listener of httpListeners(policy)) {
      for (const route of listener.routes.routes.filter((one) => one.access.kind === 'deny')) {
        const path = targetOf(route);
        const spellings = [
          path,
          path.toUpperCase(),
          path.replace(/[a-z]/, (letter) => letter.toUpperCase()),
          path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`),
          `${path}?x=1`,
          `/.${path}`,
          `/x/..${path}`,
          `/${path}`,
        ];
        for (const target of spellings) {
          for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
            const said = ask(policy, { ...requestFor(listener, route, everything), target, method, upgrade: false });
            assert.notEqual(said.kind, 'allowed', `${method} ${target}`);
          }
        }
      }
    }
  });

  test(`${name}: only GET and HEAD of /health are public, and no method is left to chance`, async () => {
    for (const listener of httpListeners(await rulesOf(source))) {
      for (const route of listener.routes.routes) {
        if (route.access.kind !== 'public') continue;
        assert.equal(route.pattern, '/health');
        for (const method of route.methods ?? ['any']) assert.ok(['GET', 'HEAD'].includes(method), method);
      }
    }
  });
}
