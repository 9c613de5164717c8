import { DENIALS } from '../denial.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { DeclaredNames } from './names.js';
import type { Listener, PolicyTest } from './policy.js';
import type { PolicyFile, PolicyTestEntry } from './schema.js';

/** `tests:` of a policy, with what they take for granted. */
export function compileTests(
  file: PolicyFile,
  tree: Draft,
  listeners: readonly Listener[],
  names: DeclaredNames,
  findings: Findings,
): PolicyTest[] {
  return (file.tests ?? []).flatMap((test, index) => {
    const node = tree.at(['tests', index]);
    if (node === null) return [];
    const listener = listenerOf(test, node, tree, listeners, names, findings);
    checkTest(test, node, listener, tree, names, findings);
    const { method, target } = test.request;
    const compiled: PolicyTest = {
      name: test.name ?? `${method} ${target}`,
      position: node.origin.at,
      listener: listener?.name ?? test.listener ?? '',
      method,
      target,
      host: test.host ?? null,
      as:
        test.as === undefined
          ? null
          : { name: test.as.name ?? 'test', roles: test.as.roles ?? [], permissions: test.as.permissions ?? [] },
      from: test.from ?? '127.0.0.1',
      headers: Object.entries(test.headers ?? {}).flat(),
      body: test.body === undefined ? null : typeof test.body === 'string' ? test.body : JSON.stringify(test.body),
      times: test.times ?? 1,
      owner: test.owner !== false,
      upgrade: test.upgrade === 'websocket',
      expect: test.expect === 'allow' ? { kind: 'allow' } : { kind: 'status', status: test.expect },
      route: test.route ?? null,
      reason: test.reason ?? null,
    };
    return [compiled];
  });
}

/** The listener a test asks, or null where that is not known. */
function listenerOf(
  test: PolicyTestEntry,
  node: Draft,
  tree: Draft,
  listeners: readonly Listener[],
  names: DeclaredNames,
  findings: Findings,
): Listener | null {
  const http = listeners.filter((listener) => listener.type === 'http');
  if (test.listener !== undefined) {
    const named = listeners.find((listener) => listener.name === test.listener);
    if (named === undefined) {
      if (!names.listeners.has(test.listener) && !tree.dropped.has('listeners')) {
        findings.unknownName(node.get('listener'), 'listener', test.listener, names.listeners);
      }
      return null;
    }
    if (named.type === 'http') return named;
    findings.error(
      'wrong_value',
      node.get('listener'),
      'value',
      `${show(named.name)} is a redirect listener, which has no rules to test`,
    );
    return null;
  }
  if (http.length === 1 && names.listeners.size === listeners.length) return http[0] ?? null;
  if (http.length === 0 && tree.get('listeners')?.tainted === false) {
    findings.error('wrong_value', node, 'key', 'there is no http listener whose rules could be tested');
  }
  if (http.length > 1) {
    findings.missing(
      node,
      'listener',
      `missing, needed is ${either(http.map((one) => one.name))}: there is more than one`,
    );
  }
  return null;
}

function checkTest(
  test: PolicyTestEntry,
  node: Draft,
  listener: Listener | null,
  tree: Draft,
  names: DeclaredNames,
  findings: Findings,
): void {
  for (const [index, role] of (test.as?.roles ?? []).entries()) {
    if (names.roles.has(role) || !names.allRoles) continue;
    findings.unknownName(node.at(['as', 'roles', index]), 'role', role, names.roles);
  }
  for (const [index, permission] of (test.as?.permissions ?? []).entries()) {
    if (names.permissions.has(permission) || !names.allPermissions) continue;
    findings.unknownName(node.at(['as', 'permissions', index]), 'permission', permission, names.permissions);
  }
  if (test.route !== undefined && listener?.type === 'http') {
    const routes = listener.routes.routes.map((route) => route.name);
    const tainted = tree.at(['listeners', listener.name, 'routes'])?.tainted === true;
    if (!routes.includes(test.route) && !tainted) findings.unknownName(node.get('route'), 'route', test.route, routes);
  }
  if (test.reason === undefined) return;
  const { status } = DENIALS[test.reason];
  if (test.expect === 'allow') {
    findings.error(
      'wrong_value',
      node.get('reason'),
      'value',
      'a request that is allowed has no reason code',
      'remove reason, or expect the status of the refusal',
    );
  } else if (test.expect !== status && node.get('expect')?.standIn === false) {
    findings.error(
      'wrong_value',
      node.get('reason'),
      'value',
      `${test.reason} is answered with ${status}, never with ${test.expect}`,
      `write expect: ${status}`,
    );
  }
}
