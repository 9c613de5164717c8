import { DENIALS } from '../denial.js';
import { Readable } from 'node:stream';
import { readMessage } from '../http/message.js';
import type { Identity } from '../identity/identity.js';
import { POLICY_ALONE } from '../identity/provers.js';
import { formatAddress, parseAddress } from '../net/address.js';
import type { ConnectionTest, HttpListener, Policy, PolicyTest, RequestTest } from '../policy/policy.js';
import { admitConnection, type ProveConnection } from './admit-connection.js';
import type { Invalid, Refusal } from './authorize.js';
import { MEANS_OF_POLICY, type Means, type Prove, decide, proveWith } from './decide.js';
import type { Limiter } from './limit.js';
import { SUPPOSED_OWNERS } from './owners.js';
import type { Underway } from './underway.js';

/** A request as `tests:` and `explain` describe it. */
export interface SupposedRequest {
  readonly listener: string;
  readonly method: string;
  readonly target: string;
  readonly host: string | null;
  readonly from: string;
  readonly upgrade: boolean;
  /** Names and values in turn, besides Host and credentials. */
  readonly headers?: readonly string[];
  /** As it is sent; JSON, where the fields do not say otherwise. */
  readonly body?: string | null;
  /** What the path names belongs to the caller, where the route asks; true where nothing is said. */
  readonly owner?: boolean;
  /** Null: no credential is shown. */
  readonly as: RequestTest['as'];
}

export type Supposition =
  | {
      readonly kind: 'allowed';
      readonly route: string;
      readonly line: number;
      readonly upstream: string;
      /** Who it was found to be; null on public routes. */
      readonly identity: Identity | null;
    }
  | {
      readonly kind: 'refused';
      readonly status: number;
      readonly reason: Refusal['reason'];
      readonly route: string | null;
      readonly line: number | null;
      readonly identity: Identity | null;
      /** The value that breaks its check; null where it is about something else. */
      readonly invalid: Invalid | null;
    }
  /** The question itself makes no sense: no such listener, no such address. */
  | { readonly kind: 'unanswerable'; readonly why: string };

/** Ends at once and has no body. */
const SUPPOSED: Underway = {
  bytesIn: 0,
  whenFinished: () => undefined,
  endBy: () => undefined,
  answer: { body: Readable.from([]), sendContinue: () => undefined },
};

/**
 * What the gate would say of a request, by the same code that says it of real ones.
 * @param means those that are not what the policy alone has; none of them may take time
 */
export function suppose(
  policy: Policy,
  request: SupposedRequest,
  nowMs: number,
  means: Partial<Means> = {},
): Supposition {
  const listener = policy.listeners.find((candidate) => candidate.name === request.listener);
  if (listener === undefined) return { kind: 'unanswerable', why: `there is no listener "${request.listener}"` };
  if (listener.type === 'tcp')
    return { kind: 'unanswerable', why: `listener "${request.listener}" passes bytes on and reads no requests` };
  if (listener.type !== 'http') return { kind: 'unanswerable', why: `listener "${request.listener}" only redirects` };
  const peer = parseAddress(request.from);
  if (peer === null) return { kind: 'unanswerable', why: `"${request.from}" is not an IP address` };
  const read = readMessage(
    {
      protocol: '1.1',
      scheme: listener.tls === null ? 'http' : 'https',
      method: request.method,
      target: request.target,
      authority: null,
      fields: supposedFields(listener, request),
      moreFollows: false,
    },
    listener.limits,
  );
  if (!read.ok)
    return {
      kind: 'refused',
      status: DENIALS[read.reason].status,
      reason: read.reason,
      route: null,
      line: null,
      identity: null,
      invalid: null,
    };
  const bytes = Buffer.from(request.body ?? '');
  const caller = { address: peer, text: formatAddress(peer), certificate: null, proxied: null };
  const decision = decide(listener, read.message, caller, nowMs, SUPPOSED, {
    ...MEANS_OF_POLICY,
    owners: { ...SUPPOSED_OWNERS, isOwner: () => request.owner !== false },
    prove: proveSupposed(request.as, policy),
    holdBody: () => ({ ok: true, bytes, release: () => undefined }),
    ...means,
  });
  if (decision instanceof Promise) throw new TypeError('what is only supposed takes no time');
  if (decision.allow) {
    return {
      kind: 'allowed',
      route: decision.route.name,
      line: decision.route.position.line,
      upstream: decision.upstream.name,
      identity: decision.identity,
    };
  }
  return {
    kind: 'refused',
    status: DENIALS[decision.reason].status,
    reason: decision.reason,
    route: decision.route?.name ?? null,
    line: decision.route?.position.line ?? null,
    identity: decision.identity,
    invalid: decision.particulars?.invalid ?? null,
  };
}

function supposedFields(listener: HttpListener, request: SupposedRequest): string[] {
  const first = listener.hosts === null ? undefined : [...listener.hosts][0];
  const fields = ['host', request.host ?? (first === undefined ? 'localhost' : inHostField(first))];
  // The key is that of RFC 6455 §1.3.
  if (request.upgrade) {
    fields.push('connection', 'Upgrade', 'upgrade', 'websocket', 'sec-websocket-version', '13');
    fields.push('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ==');
  }
  const { headers = [], body = null } = request;
  if (body !== null) {
    const typed = headers.some((name, at) => at % 2 === 0 && name.toLowerCase() === 'content-type');
    if (!typed) fields.push('content-type', 'application/json');
    fields.push('content-length', String(Buffer.byteLength(body)));
  }
  fields.push(...headers);
  return fields;
}

/** An entry of `hosts` as the Host field says it: an IPv6 address stands in brackets (RFC 3986 §3.2.2). */
function inHostField(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function proveSupposed(as: SupposedRequest['as'], policy: Policy): Prove {
  // Showing nothing, it may still be known by its address.
  if (as === null) return proveWith(POLICY_ALONE);
  return ({ route }) => ({
    ok: true,
    identity: supposedIdentity(as, policy, route.authenticators[0]?.name ?? ''),
    carrier: 'authorization',
    fingerprint: '000000',
  });
}

function supposedIdentity(as: NonNullable<RequestTest['as']>, policy: Policy, authenticator: string): Identity {
  const { name, roles, permissions } = as;
  const grants = new Set([...roles, ...permissions, ...roles.flatMap((role) => policy.roles.get(role) ?? [])]);
  return { name, authenticator, roles, grants, expiresAtMs: Number.POSITIVE_INFINITY, revocables: [] };
}

export interface PolicyTestResult {
  readonly test: PolicyTest;
  readonly passed: boolean;
  /** What was expected and what the gate said; one sentence. */
  readonly message: string;
}

/** Runs a policy's own tests. @param counters makes counters that nobody has used, for each test its own */
export function runPolicyTests(policy: Policy, nowMs: number, counters: () => Limiter): PolicyTestResult[] {
  return policy.tests.map((test) => {
    if (test.kind === 'connection') return testConnection(policy, test, nowMs);
    const limiter = counters();
    for (let time = 1; time < test.times; time += 1) suppose(policy, test, nowMs, { limiter });
    const said = suppose(policy, test, nowMs, { limiter });
    const got = describe(said);
    const wanted =
      (test.expect.kind === 'allow' ? 'allowed' : `refused with ${String(test.expect.status)}`) +
      (test.reason === null ? '' : ` (${test.reason})`) +
      (test.route === null ? '' : ` by route "${test.route}"`);
    return { test, passed: meets(test, said), message: `expected ${wanted}, got ${got}` };
  });
}

function meets(test: RequestTest, said: Supposition): boolean {
  if (said.kind === 'unanswerable') return false;
  if (test.route !== null && test.route !== said.route) return false;
  if (said.kind === 'allowed') return test.expect.kind === 'allow' && test.reason === null;
  if (test.reason !== null && test.reason !== said.reason) return false;
  return test.expect.kind === 'status' && test.expect.status === said.status;
}

/** A connection as `tests:` and `explain` describe it. */
export interface SupposedConnection {
  readonly listener: string;
  /** Address of the client, which connects by itself. */
  readonly from: string;
  /** Null: no certificate is shown. */
  readonly as: RequestTest['as'];
}

export type ConnectionSupposition =
  | { readonly kind: 'allowed'; readonly line: number; readonly upstream: string; readonly identity: Identity | null }
  | {
      readonly kind: 'refused';
      readonly reason: Refusal['reason'];
      readonly line: number;
      readonly identity: Identity | null;
    }
  | { readonly kind: 'unanswerable'; readonly why: string };

/** What the gate would say of a connection, by the same code that says it of real ones. */
export function supposeConnection(
  policy: Policy,
  connection: SupposedConnection,
  nowMs: number,
): ConnectionSupposition {
  const { listener: name, from } = connection;
  const listener = policy.listeners.find((candidate) => candidate.name === name);
  if (listener === undefined) return { kind: 'unanswerable', why: `there is no listener "${name}"` };
  if (listener.type !== 'tcp') return { kind: 'unanswerable', why: `listener "${name}" is not of type tcp` };
  const address = parseAddress(from);
  if (address === null) return { kind: 'unanswerable', why: `"${from}" is not an IP address` };
  const caller = { address, text: formatAddress(address), certificate: null, proxied: null };
  const decision = admitConnection(listener, caller, 0, nowMs, supposedHolder(connection.as, policy));
  const { identity } = decision;
  const { line } = listener.position;
  return decision.allow
    ? { kind: 'allowed', line, upstream: decision.upstream.name, identity }
    : { kind: 'refused', line, reason: decision.reason, identity };
}

function supposedHolder(as: RequestTest['as'], policy: Policy): ProveConnection {
  if (as === null) return () => ({ ok: false, reason: 'credential_missing' });
  return ({ name }) => ({ ok: true, identity: supposedIdentity(as, policy, name) });
}

function testConnection(policy: Policy, test: ConnectionTest, nowMs: number): PolicyTestResult {
  const said = supposeConnection(policy, test, nowMs);
  const passed =
    said.kind === 'allowed'
      ? test.expect === 'allow'
      : said.kind === 'refused' && test.expect === 'deny' && (test.reason === null || test.reason === said.reason);
  const wanted = test.expect === 'allow' ? 'allowed' : `refused${test.reason === null ? '' : ` (${test.reason})`}`;
  const got =
    said.kind === 'allowed'
      ? 'allowed'
      : said.kind === 'refused'
        ? `refused (${said.reason})`
        : `no answer: ${said.why}`;
  return { test, passed, message: `expected ${wanted}, got ${got}` };
}

/** Where the value stands, and the rule that it breaks. */
export function describeInvalid({ place, name, rule }: Invalid): string {
  return `${name} of the ${place} breaks the rule ${rule}`;
}

function describe(said: Supposition): string {
  switch (said.kind) {
    case 'allowed':
      return `allowed by route "${said.route}" (line ${String(said.line)})`;
    case 'refused':
      return (
        `refused with ${String(said.status)} (${said.reason})` +
        (said.route === null ? '' : ` by route "${said.route}" (line ${String(said.line)})`) +
        (said.invalid === null ? '' : `: ${describeInvalid(said.invalid)}`)
      );
    case 'unanswerable':
      return `no answer: ${said.why}`;
  }
}
