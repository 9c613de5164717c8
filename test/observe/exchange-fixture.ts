import type { ExchangeRecord } from '../../src/exchange-record.js';
import type { Identity } from '../../src/identity/identity.js';
import { CidrSet } from '../../src/net/cidr-set.js';
import { parsePathPattern } from '../../src/policy/path-pattern.js';
import type { HttpListener, Policy, Route, Upstream } from '../../src/policy/policy.js';
import { RouteTable } from '../../src/policy/route-table.js';

export const UPSTREAM: Upstream = {
  name: '127.0.0.1:7833',
  authority: '127.0.0.1:7833',
  target: { kind: 'tcp', host: '127.0.0.1', port: 7833 },
  mustBeLoopback: true,
  tls: null,
};

const POSITION = { line: 1, column: 1 };

export function route(name: string, pattern = '/v1/jobs'): Route {
  return {
    name,
    index: 0,
    listener: 'queen',
    position: POSITION,
    pattern,
    methods: null,
    access: { kind: 'require', anyOf: ['run'] },
    from: null,
    upstream: UPSTREAM,
    upstreamAuth: null,
    authenticators: [],
    encodedSlash: false,
    safe: true,
    bodyMs: 30_000,
    upstreamMs: 60_000,
    wholeMs: Infinity,
    streamMaxMs: Infinity,
    audit: null,
    owns: null,
    demands: null,
  };
}

export const SUBMIT = route('submit');

export const ALICE: Identity = {
  name: 'alice',
  authenticator: 'keys',
  roles: ['operator', 'viewer'],
  grants: new Set(['operator', 'viewer', 'run']),
  expiresAtMs: Infinity,
  revocables: [],
};

/** An ordinary request that was answered. */
export const EXCHANGE: ExchangeRecord = {
  stage: 'over',
  granted: false,
  upgrade: false,
  requestId: '0b6f1c1e-9a4b-4f0e-8f3a-5b1c2d3e4f50',
  startedAtMs: Date.UTC(2026, 6, 29, 12, 0, 0, 5),
  durationMs: 3.25,
  listener: 'queen',
  scheme: 'https',
  protocol: '1.1',
  method: 'POST',
  path: '/v1/jobs',
  query: 'wait=1',
  host: 'queen.lan:7833',
  userAgent: 'curl/8.5.0',
  peer: '10.0.0.1',
  client: '192.168.1.5',
  route: SUBMIT,
  identity: ALICE,
  credentialFingerprint: 'ab12cd',
  invalid: null,
  outcome: { kind: 'permitted' },
  status: 200,
  upstream: '127.0.0.1:7833',
  upstreamMs: 2.5,
  bytesIn: 12,
  bytesOut: 3456,
  stream: 'none',
};

export function policyWith(routes: readonly Route[], version = 'abcdef123456'): Policy {
  const entries = routes.map((one) => {
    const parsed = parsePathPattern(one.pattern);
    if (!parsed.ok) throw new TypeError(parsed.problem);
    return { route: one, pattern: parsed.pattern };
  });
  const listener: HttpListener = {
    type: 'http',
    name: 'queen',
    position: POSITION,
    bind: { host: '127.0.0.1', port: 7833, loopback: true, socket: null, position: POSITION },
    hosts: null,
    local: null,
    outbound: false,
    tls: null,
    allowFrom: null,
    trustedProxies: new CidrSet([]),
    proxyProtocol: false,
    routes: new RouteTable(entries),
    limits: { headBytes: 16_384, headFields: 100, connections: 2000, connectionsPerAddress: null },
    timeouts: { handshakeMs: 1, headMs: 1, bodyMs: 1, upstreamMs: 1, keepAliveMs: 1 },
    stripRequestHeaders: new Set(),
    clientCertificates: null,
    sessions: null,
    origins: new Set(),
    streamsEndAtExpiry: true,
    throttle: null,
    deadlines: { answer: 'problem' },
    cors: null,
  };
  return {
    version,
    file: 'policy.yaml',
    listeners: [listener],
    upstreams: [UPSTREAM],
    upstreamExposure: { mode: 'warn' },
    authenticators: new Map(),
    roles: new Map(),
    stateDir: '/nowhere',
    secretMounts: [],
    redis: null,
    log: { level: 'info', file: null, format: 'json' },
    acme: null,
    audit: null,
    admin: null,
    drainMs: 1,
    watch: false,
    processes: 1,
    tests: [],
    warnings: [],
  };
}
