import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import type { Decision } from '../../src/gate/authorize.js';
import { MEANS_OF_POLICY, decide as decideCaller } from '../../src/gate/decide.js';
import type { Underway } from '../../src/gate/underway.js';
import type { Message } from '../../src/http/message.js';
import { type Authentication, authenticate } from '../../src/identity/authenticate.js';
import type { Caller } from '../../src/identity/caller.js';
import { POLICY_ALONE } from '../../src/identity/provers.js';
import { type Address, formatAddress, parseAddress } from '../../src/net/address.js';
import { CidrSet } from '../../src/net/cidr-set.js';
import { parseCidr } from '../../src/net/cidr.js';
import { type PathPattern, parsePathPattern } from '../../src/policy/path-pattern.js';
import type {
  Authenticator,
  BearerAuthenticator,
  Carrier,
  HttpListener,
  Route,
  RouteAccess,
  TokenEntry,
  Upstream,
} from '../../src/policy/policy.js';
import { TOKEN_CARRIERS } from '../../src/policy/policy.js';
import { RouteTable } from '../../src/policy/route-table.js';
import { TokenTable } from '../../src/policy/token-table.js';
import { Secret } from '../../src/secret/secret.js';
import { sha256Hex } from '../../src/secret/digest.js';

/** Compiled policies, built without their text: what the gate is told, and nothing more. */

export const NOW = Date.UTC(2026, 0, 1);
const NOWHERE = { line: 0, column: 0 };

export const UPSTREAM: Upstream = {
  name: '127.0.0.1:7833',
  authority: '127.0.0.1:7833',
  target: { kind: 'tcp', host: '127.0.0.1', port: 7833 },
  mustBeLoopback: true,
  tls: null,
};

export function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null, text);
  return parsed;
}

export function ranges(...texts: readonly string[]): CidrSet {
  return new CidrSet(
    texts.map((text) => {
      const read = parseCidr(text);
      assert.ok(read.ok, text);
      return read.range;
    }),
  );
}

export interface TokenParts {
  readonly token: string;
  readonly name?: string;
  readonly roles?: readonly string[];
  readonly grants?: readonly string[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

export function tokenEntry(parts: TokenParts, authenticator = 'keys'): TokenEntry {
  const roles = parts.roles ?? ['operator'];
  return {
    name: parts.name ?? 'keeper',
    authenticator,
    sha256: sha256Hex(parts.token),
    source: null,
    roles,
    permissions: [],
    grants: new Set([...roles, ...(parts.grants ?? ['read', 'write'])]),
    notBeforeMs: parts.notBeforeMs ?? -Infinity,
    notAfterMs: parts.notAfterMs ?? Infinity,
  };
}

export function bearer(
  entries: readonly TokenEntry[],
  carriers: readonly Carrier[] = TOKEN_CARRIERS,
  name = 'keys',
): BearerAuthenticator {
  return { type: 'bearer', name, realm: 'guardbee', carriers: new Set(carriers), tokens: new TokenTable(entries) };
}

export interface RouteParts {
  readonly name?: string;
  readonly path: string;
  readonly methods?: readonly string[];
  readonly access?: 'public' | 'deny' | readonly string[];
  readonly from?: readonly string[];
  readonly encodedSlash?: boolean;
  readonly wholeMs?: number;
  readonly authenticators?: readonly Authenticator[];
  readonly upstream?: Upstream | null;
  readonly upstreamAuth?: { readonly field: string; readonly value: string };
}

export interface CompiledRoute {
  readonly route: Route;
  readonly pattern: PathPattern;
}

export function compileRoutes(
  list: readonly RouteParts[],
  authenticators: readonly Authenticator[] = [],
): CompiledRoute[] {
  return list.map((parts, index) => {
    const read = parsePathPattern(parts.path);
    assert.ok(read.ok, parts.path);
    const access = accessOf(parts.access ?? ['read']);
    const upstream = parts.upstream === undefined ? UPSTREAM : parts.upstream;
    const route: Route = {
      name: parts.name ?? `route-${index}`,
      index,
      listener: 'main',
      position: { line: index + 1, column: 1 },
      pattern: parts.path,
      methods: parts.methods === undefined ? null : new Set(parts.methods),
      access,
      from: parts.from === undefined ? null : ranges(...parts.from),
      upstream: access.kind === 'deny' ? null : upstream,
      upstreamAuth:
        parts.upstreamAuth === undefined
          ? null
          : { field: parts.upstreamAuth.field, value: Secret.fromText(parts.upstreamAuth.value) },
      authenticators: access.kind === 'require' ? (parts.authenticators ?? authenticators) : [],
      encodedSlash: parts.encodedSlash ?? false,
      safe: true,
      bodyMs: 30_000,
      upstreamMs: 60_000,
      wholeMs: parts.wholeMs ?? Infinity,
      streamMaxMs: Infinity,
      audit: null,
      owns: null,
      demands: null,
    };
    return { route, pattern: read.pattern };
  });
}

function accessOf(access: 'public' | 'deny' | readonly string[]): RouteAccess {
  if (access === 'public' || access === 'deny') return { kind: access };
  return { kind: 'require', anyOf: access };
}

export interface ListenerParts {
  readonly routes: readonly RouteParts[];
  readonly authenticators?: readonly Authenticator[];
  readonly hosts?: readonly string[];
  readonly allowFrom?: readonly string[];
  readonly trustedProxies?: readonly string[];
  readonly stripRequestHeaders?: readonly string[];
}

export function listenerOf(parts: ListenerParts): HttpListener {
  return {
    type: 'http',
    name: 'main',
    position: NOWHERE,
    bind: { host: '127.0.0.1', port: 0, loopback: true, socket: null, position: NOWHERE },
    hosts: parts.hosts === undefined ? null : new Set(parts.hosts),
    local: null,
    outbound: false,
    tls: null,
    allowFrom: parts.allowFrom === undefined ? null : ranges(...parts.allowFrom),
    trustedProxies: ranges(...(parts.trustedProxies ?? [])),
    proxyProtocol: false,
    routes: new RouteTable(compileRoutes(parts.routes, parts.authenticators)),
    limits: { headBytes: 16 * 1024, headFields: 100, connections: 100, connectionsPerAddress: null },
    timeouts: { handshakeMs: 10_000, headMs: 10_000, bodyMs: 30_000, upstreamMs: 60_000, keepAliveMs: 60_000 },
    stripRequestHeaders: new Set(parts.stripRequestHeaders ?? []),
    clientCertificates: null,
    sessions: null,
    origins: new Set(),
    streamsEndAtExpiry: true,
    throttle: null,
    deadlines: { answer: 'problem' },
    cors: null,
  };
}

/** A request without a body, of which nothing is expected when it is over. */
export const UNDERWAY: Underway = {
  bytesIn: 0,
  whenFinished: () => undefined,
  endBy: () => undefined,
  answer: { body: Readable.from([]), sendContinue: () => undefined },
};

/** Somebody at an address, without a client certificate. */
export function callerAt(at: Address): Caller {
  return { address: at, text: formatAddress(at), certificate: null, proxied: null };
}

export function decide(listener: HttpListener, message: Message, from: Address, nowMs: number): Decision {
  const decision = decideCaller(listener, message, callerAt(from), nowMs, UNDERWAY, MEANS_OF_POLICY);
  assert.ok(!(decision instanceof Promise));
  return decision;
}

/** Who it is, where the policy alone tells. */
export function authenticateOn(route: Route, message: Message, nowMs: number): Authentication {
  const listener = listenerOf({ routes: [] });
  const from = address('127.0.0.1');
  const asked = { listener, route, message, client: '127.0.0.1' };
  const said = authenticate(asked, callerAt(from), nowMs, POLICY_ALONE);
  assert.ok(!(said instanceof Promise));
  return said;
}
