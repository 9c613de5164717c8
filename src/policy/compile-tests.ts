import { DENIALS } from '../denial.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { DeclaredNames } from './names.js';
import type { ConnectionTest, Listener, PolicyTest, RequestTest } from './policy.js';
import type { PolicyFile, PolicyTestEntry } from './schema.js';

/** `tests:` of a policy, with what they take for granted. */
export function compileTests(
  file: PolicyFile,
  tree: Draft,
  listeners: readonly Listener[],
  names: DeclaredNames,
  findings: Findings,
): PolicyTest[] {
  return (file.tests ?? []).flatMap((test, index): PolicyTest[] => {
    const node = tree.at(['tests', index]);
    if (node === null) return [];
    const { request } = test;
    if (test.connect !== undefined && request === undefined && !node.declares('request')) {
      return [compileConnection(test, test.connect, node, { tree, listeners, names, findings })];
    }
    if (request === undefined) {
      if (node.dropped.has('connect')) return [];
      findings.missing(
        node,
        'request',
        'missing, needed is a request such as GET /',
        'write request: GET /; or connect: LISTENER',
      );
      return [];
    }
    if (test.connect !== undefined) {
      findings.error(
        'wrong_value',
        node.get('connect'),
        'key',
        'a test is of a request or of a connection',
        'keep one of them',
      );
    }
    const { expect } = test;
    if (expect === 'deny') {
      findings.error(
        'wrong_value',
        node.get('expect'),
        'value',
        'deny is of a connection; a request is refused with a status',
        'write expect: 403, or the status it is',
      );
    }
    const listener = listenerOf(test, node, tree, listeners, names, findings);
    checkTest(test, node, listener, tree, names, findings);
    const { method, target } = request;
    const compiled: RequestTest = {
      kind: 'request',
      name: test.name ?? `${method} ${target}`,
      position: node.origin.at,
      listener: listener?.name ?? test.listener ?? '',
      method,
      target,
      host: test.host ?? null,
      as: supposed(test),
      from: test.from ?? '127.0.0.1',
      headers: Object.entries(test.headers ?? {}).flat(),
      body: test.body === undefined ? null : typeof test.body === 'string' ? test.body : JSON.stringify(test.body),
      times: test.times ?? 1,
      owner: test.owner !== false,
      upgrade: test.upgrade === 'websocket',
      expect: typeof expect === 'string' ? { kind: 'allow' } : { kind: 'status', status: expect },
      route: test.route ?? null,
      reason: test.reason ?? null,
    };
    return [compiled];
  });
}

function supposed({ as }: PolicyTestEntry): RequestTest['as'] {
  return as === undefined
    ? null
    : { name: as.name ?? 'test', roles: as.roles ?? [], permissions: as.permissions ?? [] };
}

/** Keys that say something of a request. */
const OF_REQUESTS = ['listener', 'host', 'headers', 'body', 'times', 'owner', 'upgrade', 'route'] as const;

function compileConnection(
  test: PolicyTestEntry,
  connect: string,
  node: Draft,
  context: {
    readonly tree: Draft;
    readonly listeners: readonly Listener[];
    readonly names: DeclaredNames;
    readonly findings: Findings;
  },
): ConnectionTest {
  const { tree, listeners, names, findings } = context;
  const listener = listeners.find(({ name }) => name === connect) ?? null;
  if (listener !== null && listener.type !== 'tcp') {
    findings.error(
      'wrong_value',
      node.get('connect'),
      'value',
      `${show(connect)} is not of type tcp: what it says is said of requests`,
      'write request: GET / and listener',
    );
  } else if (listener === null && !names.listeners.has(connect) && !tree.dropped.has('listeners')) {
    findings.unknownName(node.get('connect'), 'listener', connect, names.listeners);
  }
  for (const key of OF_REQUESTS) {
    if (test[key] !== undefined)
      findings.error(
        'wrong_value',
        node.get(key),
        'key',
        `${key} says something of a request, and this is a connection`,
        'remove it',
      );
  }
  checkGrants(test, node, names, findings);
  if (typeof test.expect === 'number') {
    findings.error(
      'wrong_value',
      node.get('expect'),
      'value',
      'a connection is refused by closing it, with no status',
      'write expect: allow or expect: deny',
    );
  } else if (test.expect === 'allow' && test.reason !== undefined) {
    findings.error(
      'wrong_value',
      node.get('reason'),
      'value',
      'what is allowed has no reason code',
      'remove reason, or write expect: deny',
    );
  }
  return {
    kind: 'connection',
    name: test.name ?? `connect to ${connect}`,
    position: node.origin.at,
    listener: connect,
    as: supposed(test),
    from: test.from ?? '127.0.0.1',
    expect: test.expect === 'allow' ? 'allow' : 'deny',
    reason: test.reason ?? null,
  };
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
      named.type === 'tcp'
        ? `${show(named.name)} is a tcp listener, which reads no requests`
        : `${show(named.name)} is a redirect listener, which has no rules to test`,
      named.type === 'tcp' ? `write connect: ${named.name} in place of listener and request` : undefined,
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

function checkGrants(test: PolicyTestEntry, node: Draft, names: DeclaredNames, findings: Findings): void {
  for (const [index, role] of (test.as?.roles ?? []).entries()) {
    if (names.roles.has(role) || !names.allRoles) continue;
    findings.unknownName(node.at(['as', 'roles', index]), 'role', role, names.roles);
  }
  for (const [index, permission] of (test.as?.permissions ?? []).entries()) {
    if (names.permissions.has(permission) || !names.allPermissions) continue;
    findings.unknownName(node.at(['as', 'permissions', index]), 'permission', permission, names.permissions);
  }
}

function checkTest(
  test: PolicyTestEntry,
  node: Draft,
  listener: Listener | null,
  tree: Draft,
  names: DeclaredNames,
  findings: Findings,
): void {
  checkGrants(test, node, names, findings);
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
  } else if (test.expect !== 'deny' && test.expect !== status && node.get('expect')?.standIn === false) {
    findings.error(
      'wrong_value',
      node.get('reason'),
      'value',
      `${test.reason} is answered with ${status}, never with ${test.expect}`,
      `write expect: ${status}`,
    );
  }
}
