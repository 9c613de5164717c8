import { isUnspecified } from '../net/address.js';
import { CidrSet } from '../net/cidr-set.js';
import { AmbientCallers } from './ambient-callers.js';
import { formatBind } from './bind.js';
import { checkRequired } from './compile-access.js';
import type { CompiledAuthenticators } from './compile-authenticators.js';
import { compileBind, compileTls, rangesOrNull } from './compile-bind.js';
import type { CompiledUpstreams } from './compile-upstreams.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import type { Material } from './material.js';
import type { DeclaredNames } from './names.js';
import type { MtlsAuthenticator, TcpListener } from './policy.js';
import type { HttpListenerEntry, TcpListenerEntry } from './schema.js';

interface Context {
  readonly authenticators: CompiledAuthenticators;
  readonly names: DeclaredNames;
  readonly material: Material;
  readonly findings: Findings;
}

const UNSAFE = {
  unsafe_plain_tcp:
    'whatever is said on this listener goes over the network as it is, unencrypted unless it encrypts itself',
  unsafe_no_authentication: 'whoever reaches this address reaches the service behind it',
  unsafe_network_identity:
    'callers of this listener are known by their address alone, and whoever takes that address in their network is them',
} as const;

export function compileTcp(
  name: string,
  entry: TcpListenerEntry,
  node: Draft,
  context: Context,
  upstreams: CompiledUpstreams,
): TcpListener {
  const { findings } = context;
  const lastPort = entry.bind.lastPort ?? entry.bind.port;
  checkPorts(entry, node, findings);
  const authenticator = compileAuthenticator(name, entry, node, context);
  const anyOf = entry.require === undefined ? [] : typeof entry.require === 'string' ? [entry.require] : entry.require;
  checkRequired(anyOf, node.get('require'), context);
  checkProxies(entry, node, findings);
  checkBeyondLoopback(name, entry, node, findings);
  for (const key of ['unsafe_plain_tcp', 'unsafe_no_authentication', 'unsafe_network_identity'] as const) {
    if (entry[key] === true) findings.warn('unsafe_key', node.get(key), 'key', UNSAFE[key]);
  }
  return {
    type: 'tcp',
    name,
    position: node.origin.keyAt,
    bind: compileBind(entry.bind, node.get('bind'), entry.socket),
    lastPort,
    tls: compileTls(entry.tls, undefined, node, context),
    allowFrom: rangesOrNull(entry.allow_from),
    from: rangesOrNull(entry.from),
    trustedProxies: new CidrSet(entry.trusted_proxies ?? []),
    proxyProtocol: compileProxyProtocol(entry, node, findings),
    sendProxyProtocol: entry.send_proxy_protocol ?? null,
    inner: entry.inner ?? null,
    upstream: upstreams.compile(entry.upstream, entry.bind, false, node.get('upstream'), 'tcp'),
    clientCertificates: authenticator,
    anyOf: authenticator === null ? [] : [...new Set(anyOf)],
    limits: {
      connections: entry.limits?.connections ?? 2000,
      connectionsPerAddress: entry.limits?.connections_per_address ?? null,
    },
    timeouts: { handshakeMs: entry.timeouts?.handshake ?? 10_000, headMs: entry.timeouts?.head ?? 10_000 },
    idleMs: entry.idle ?? Infinity,
    maxMs: entry.streams?.max ?? Infinity,
    endAtExpiry: entry.streams?.end_at_expiry ?? true,
  };
}

/** Who is to send PROXY headers must be named: from anybody else they are what a client says of itself. */
export function compileProxyProtocol(
  { proxy_protocol, trusted_proxies }: Pick<HttpListenerEntry, 'proxy_protocol' | 'trusted_proxies'>,
  node: Draft,
  findings: Findings,
): boolean {
  if (proxy_protocol === undefined) return false;
  if ((trusted_proxies ?? []).length === 0 && !node.dropped.has('trusted_proxies')) {
    findings.error(
      'wrong_value',
      node.get('proxy_protocol'),
      'key',
      'nobody is trusted to say it: PROXY headers are read of trusted_proxies alone, and there are none',
      'write trusted_proxies: [ADDRESS] beside it, with the addresses of the proxies',
    );
  }
  return true;
}

/** One port leads to one. */
function checkPorts({ bind, upstream }: TcpListenerEntry, node: Draft, findings: Findings): void {
  const own = (bind.lastPort ?? bind.port) - bind.port;
  const { target } = upstream;
  const there = target.kind === 'tcp' ? (target.lastPort ?? target.port) - target.port : 0;
  if (own === there) return;
  const fix = target.kind === 'tcp' && own > 0 ? `:${target.port}-${target.port + own}` : null;
  findings.error(
    'wrong_value',
    node.get('upstream'),
    'value',
    `${formatBind(bind)} has ${ports(own + 1)} and ${upstream.name} has ${ports(there + 1)}, but each port leads to one of its own`,
    fix !== null && target.kind === 'tcp' && target.port + own <= 65_535
      ? `write tcp://${target.host.includes(':') ? `[${target.host}]` : target.host}${fix}`
      : 'give both as many ports',
  );
}

function ports(count: number): string {
  return count === 1 ? 'one port' : `${count} ports`;
}

function compileAuthenticator(
  name: string,
  entry: TcpListenerEntry,
  node: Draft,
  { authenticators, names, findings }: Context,
): MtlsAuthenticator | null {
  const list = node.get('authenticate');
  const ambient = new AmbientCallers(name, node, findings);
  let found: MtlsAuthenticator | null = null;
  for (const [index, wanted] of (entry.authenticate ?? []).entries()) {
    const at = list?.at([index]) ?? null;
    const authenticator = authenticators.byName.get(wanted);
    if (authenticator === undefined) {
      if (!names.authenticators.has(wanted)) findings.unknownName(at, 'authenticator', wanted, names.authenticators);
    } else if (authenticator.type !== 'mtls') {
      findings.error(
        'wrong_value',
        at,
        'value',
        `${show(wanted)} is of type ${authenticator.type}: a tcp listener reads nothing of what is said, so its callers are known by certificates alone`,
        'name an authenticator of type mtls',
      );
    } else {
      ambient.check(authenticator, found === null ? [] : [found], at);
      found ??= authenticator;
    }
  }
  if (entry.authenticate !== undefined && !node.declares('require')) {
    findings.missing(
      node,
      'require',
      'missing, needed beside authenticate is a permission or role: who has a certificate may not everything for that',
      'write require: PERMISSION',
    );
  }
  if (entry.require !== undefined && !node.declares('authenticate')) {
    findings.error(
      'unauthenticated_route',
      node.get('require'),
      'key',
      'this requires something of callers that nobody identifies: there is no authenticate here',
      'write authenticate: [NAME] with an authenticator of type mtls',
    );
  }
  return found;
}

function checkProxies(entry: TcpListenerEntry, node: Draft, findings: Findings): void {
  if ((entry.trusted_proxies ?? []).length === 0 || node.declares('proxy_protocol')) return;
  findings.error(
    'wrong_value',
    node.get('trusted_proxies'),
    'key',
    'a proxy can tell a tcp listener who connected by a PROXY header alone, and proxy_protocol is not said',
    'write proxy_protocol: require beside it, or remove it',
  );
}

function checkBeyondLoopback(name: string, entry: TcpListenerEntry, node: Draft, findings: Findings): void {
  const { bind } = entry;
  if (bind.loopback) return;
  const bindNode = node.get('bind');
  const toLoopback = `or bind 127.0.0.1:${formatBind(bind).slice(formatBind(bind).lastIndexOf(':') + 1)}`;
  if (!node.declares('tls') && !node.declares('inner') && entry.unsafe_plain_tcp !== true) {
    const host = isUnspecified(bind.address) ? 'NAME' : bind.host.includes(':') ? `"${bind.host}"` : bind.host;
    findings.error(
      'bind_without_tls',
      bindNode,
      'value',
      `refusing ${formatBind(bind)}: it is reachable from other machines, and the listener ${show(name)} has no tls`,
      `write tls: { self_signed: { names: [${host}] } } or tls: { cert: FILE, key: FILE }; inner: ssh, if it is SSH that is passed on; ${toLoopback}`,
    );
  }
  if (node.declares('authenticate') || entry.unsafe_no_authentication === true) return;
  const fromSomewhere = node.declares('allow_from');
  if (fromSomewhere && (node.declares('inner') || entry.unsafe_network_identity === true)) return;
  findings.error(
    'bind_without_authentication',
    bindNode,
    'value',
    fromSomewhere
      ? `refusing ${formatBind(bind)}: it is reachable from other machines, and nobody proves who they are: its callers are known by their address alone`
      : `refusing ${formatBind(bind)}: it is reachable from other machines, and whoever reaches it reaches the service`,
    fromSomewhere
      ? `write authenticate: [NAME] with an authenticator of type mtls, and require; inner: ssh, if it is SSH that is passed on; or say unsafe_network_identity: true; ${toLoopback}`
      : `write authenticate: [NAME] with an authenticator of type mtls, and require; or, if it is SSH that is passed on, inner: ssh and allow_from: [RANGE]; ${toLoopback}`,
  );
}
