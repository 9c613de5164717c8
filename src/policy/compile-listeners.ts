import { isUnspecified } from '../net/address.js';
import { CidrSet } from '../net/cidr-set.js';
import { Secret } from '../secret/secret.js';
import { formatBind } from './bind.js';
import { compileBind, compileTls, rangesOrNull } from './compile-bind.js';
import { AmbientCallers, beyondLoopbackCounts } from './ambient-callers.js';
import type { CompiledAuthenticators } from './compile-authenticators.js';
import { checkRequired, compileAccess, methodsOf } from './compile-access.js';
import { lostByValue } from './compile-body.js';
import { compileDemands } from './compile-demands.js';
import { compileCors } from './compile-cors.js';
import { type LimitsAt, checkLimits, compileRouteLimits } from './compile-limits.js';
import { compileLocal } from './compile-network.js';
import { type Outbound, compileOutbound } from './compile-outbound.js';
import { checkOwners, compileOwns } from './compile-ownership.js';
import { compileProxyProtocol, compileTcp } from './compile-tcp.js';
import { compileSessions } from './compile-sessions.js';
import { CompiledUpstreams } from './compile-upstreams.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { Material } from './material.js';
import type { DeclaredNames } from './names.js';
import type {
  Authenticator,
  HttpListener,
  Listener,
  ListenerLimits,
  ListenerTimeouts,
  MtlsAuthenticator,
  NetworkAuthenticator,
  RedirectListener,
  Route,
  ThrottleSettings,
  Upstream,
} from './policy.js';
import { RouteTable } from './route-table.js';
import type { HttpListenerEntry, PolicyFile, RedirectListenerEntry, RouteEntry, UpstreamAuthEntry } from './schema.js';
import type { ConnectionLimitsEntry } from './schema-limits.js';
import type { ParsedUpstream } from './upstream.js';
import { warnRoutes } from './warn-routes.js';

interface Context {
  readonly authenticators: CompiledAuthenticators;
  /** Role name → permissions. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly names: DeclaredNames;
  readonly material: Material;
  readonly findings: Findings;
  /** The policy names a Redis. */
  readonly sharedState: boolean;
}

export interface CompiledListeners {
  readonly listeners: readonly Listener[];
  readonly upstreams: readonly Upstream[];
}

const UNSAFE = {
  unsafe_plain_http: 'credentials and answers of this listener go over the network unencrypted',
  unsafe_network_identity:
    'callers of this listener are known by their address alone, and whoever takes that address in their network is them',
  unsafe_no_authentication: 'whoever reaches this address may use its public routes, and no other way in exists',
  unsafe_remote_upstream:
    'requests go on to the upstream over the network unencrypted, and who reaches it can walk around guardbee',
} as const;

const UNSAFE_LISTENER_KEYS = [
  'unsafe_plain_http',
  'unsafe_no_authentication',
  'unsafe_network_identity',
  'unsafe_remote_upstream',
] as const;

export function compileListeners(file: PolicyFile, tree: Draft, context: Context): CompiledListeners {
  const upstreams = new CompiledUpstreams(context);
  const listeners: Listener[] = [];
  for (const [name, entry] of Object.entries(file.listeners)) {
    const node = tree.at(['listeners', name]);
    if (node === null) continue;
    listeners.push(
      entry.type === 'redirect'
        ? compileRedirect(name, entry, node)
        : entry.type === 'tcp'
          ? compileTcp(name, entry, node, context, upstreams)
          : new ListenerCompilation(name, entry, node, context, upstreams).run(),
    );
  }
  checkOwners(listeners, tree, context.findings);
  return { listeners, upstreams: upstreams.all() };
}

function compileRedirect(name: string, entry: RedirectListenerEntry, node: Draft): RedirectListener {
  return {
    type: 'redirect',
    name,
    position: node.origin.keyAt,
    bind: compileBind(entry.bind, node.get('bind'), entry.socket),
    hosts: [...new Set(entry.hosts)],
    httpsPort: entry.https_port ?? 443,
    allowFrom: rangesOrNull(entry.allow_from),
    limits: compileLimits(entry.limits),
    timeouts: compileTimeouts(entry.timeouts),
  };
}

function compileLimits(limits: ConnectionLimitsEntry | undefined): ListenerLimits {
  return {
    headBytes: limits?.head ?? 16 * 1024,
    headFields: limits?.fields ?? 100,
    connections: limits?.connections ?? 2000,
    connectionsPerAddress: limits?.connections_per_address ?? null,
  };
}

function compileTimeouts(timeouts: HttpListenerEntry['timeouts']): ListenerTimeouts {
  return {
    handshakeMs: timeouts?.handshake ?? 10_000,
    headMs: timeouts?.head ?? 10_000,
    bodyMs: timeouts?.body ?? 30_000,
    upstreamMs: timeouts?.upstream ?? 60_000,
    keepAliveMs: timeouts?.keep_alive ?? 60_000,
  };
}

class ListenerCompilation {
  readonly #name: string;
  readonly #entry: HttpListenerEntry;
  readonly #node: Draft;
  readonly #context: Context;
  readonly #upstreams: CompiledUpstreams;
  readonly #findings: Findings;
  readonly #remoteUpstream: boolean;
  readonly #ambient: AmbientCallers;
  readonly #outbound: Outbound | null;
  /** False once something was taken out for being broken that may have been the authentication of a route. */
  #authenticationIsCertain = true;

  constructor(name: string, entry: HttpListenerEntry, node: Draft, context: Context, upstreams: CompiledUpstreams) {
    this.#name = name;
    this.#entry = entry;
    this.#node = node;
    this.#context = context;
    this.#upstreams = upstreams;
    this.#findings = context.findings;
    this.#remoteUpstream = entry.unsafe_remote_upstream === true;
    this.#ambient = new AmbientCallers(name, node, context.findings);
    this.#outbound = compileOutbound(entry, node, context);
  }

  run(): HttpListener {
    const entry = this.#entry;
    const node = this.#node;
    const timeouts = compileTimeouts(entry.timeouts);
    const ownUpstream =
      entry.upstream === undefined ? null : this.#compileUpstream(entry.upstream, node.get('upstream'));
    const ownAuth = this.#compileUpstreamAuth(entry.upstream_auth, node.get('upstream_auth'));
    const ownAuthenticators = this.#compileAuthenticate(entry.authenticate, node);
    const local = this.#compileLocal();

    const routesNode = node.get('routes');
    const routesWritten = routesNode?.origin.kind === 'list' ? routesNode.origin.items.length : 0;
    if (node.dropped.has('routes') || routesWritten !== entry.routes.length) this.#authenticationIsCertain = false;

    const ownLimits: LimitsAt = { entry: entry.limits, node: node.get('limits'), id: this.#name };
    checkLimits(ownLimits, this.#context);

    const names = new Map<string, number>();
    const withoutUpstream: string[] = [];
    const unauthenticated: { readonly route: RouteEntry; readonly node: Draft }[] = [];
    const entries = entry.routes.map((route, index) => {
      const routeNode = node.at(['routes', index]) ?? node;
      this.#checkRouteName(route, routeNode, names);
      const access = compileAccess(route, routeNode, this.#context);
      const named = routeNode.declares('authenticate')
        ? this.#compileAuthenticate(route.authenticate, routeNode)
        : ownAuthenticators;
      const authenticators = local === null ? named : { ...named, list: [...named.list, local] };
      const upstream =
        route.upstream === undefined ? ownUpstream : this.#compileUpstream(route.upstream, routeNode.get('upstream'));
      const isWritten = route.upstream !== undefined || entry.upstream !== undefined;
      if (access.kind !== 'deny' && upstream === null && !isWritten && !routeNode.dropped.has('upstream')) {
        withoutUpstream.push(route.name);
      }
      if (typeof route.owner === 'object' && route.owner.unless !== undefined) {
        checkRequired(route.owner.unless, routeNode.at(['owner', 'unless']), this.#context);
      }
      const decided = access.kind === 'require';
      if (routeNode.dropped.has('require') || lostByValue(routeNode) || (decided && !authenticators.complete))
        this.#authenticationIsCertain = false;
      if (decided && authenticators.list.length === 0 && authenticators.complete) {
        unauthenticated.push({ route, node: routeNode });
      }
      const limitsAt = { entry: route.limits, node: routeNode.get('limits'), id: `${this.#name}/${route.name}` };
      checkLimits(limitsAt, this.#context);
      const limits = compileRouteLimits(limitsAt, ownLimits, access.kind, this.#context);
      const compiled: Route = {
        name: route.name,
        index,
        listener: this.#name,
        position: routeNode.origin.at,
        pattern: route.path.text,
        methods: methodsOf(route),
        access,
        from: rangesOrNull(route.from),
        upstream: access.kind === 'deny' ? null : upstream,
        upstreamAuth: routeNode.declares('upstream_auth')
          ? this.#compileUpstreamAuth(route.upstream_auth, routeNode.get('upstream_auth'))
          : ownAuth,
        authenticators: decided ? authenticators.list : [],
        encodedSlash: route.encoded_slash === 'allow',
        safe: route.safe !== false,
        bodyMs: route.timeouts?.body ?? timeouts.bodyMs,
        upstreamMs: route.timeouts?.upstream ?? timeouts.upstreamMs,
        audit: route.audit ?? null,
        owns: compileOwns(route, routeNode, access, this.#findings),
        wholeMs: route.timeout ?? entry.timeout ?? Infinity,
        streamMaxMs: route.streams?.max ?? entry.streams?.max ?? Infinity,
        demands: compileDemands(route, routeNode, access, entry.limits?.body ?? Infinity, limits, this.#findings),
      };
      return { route: compiled, pattern: route.path, entry: route };
    });
    if (withoutUpstream.length > 0) {
      const shown = withoutUpstream.slice(0, 3).map(show).join(', ');
      this.#findings.missing(
        node,
        'upstream',
        `missing, needed by ${withoutUpstream.length === 1 ? 'the route' : `${withoutUpstream.length} routes, like`} ${shown}`,
        this.#outbound === null ? 'write upstream: http://127.0.0.1:PORT' : 'write upstream: https://NAME:PORT',
      );
    }
    this.#checkBeyondLoopback(entries, unauthenticated);
    this.#warnUnsafe();
    const table = new RouteTable(entries);
    warnRoutes(entries, table, node, this.#context);
    return {
      type: 'http',
      name: this.#name,
      position: node.origin.keyAt,
      bind: compileBind(entry.bind, node.get('bind'), entry.socket),
      hosts: entry.hosts === undefined ? null : new Set(entry.hosts),
      local: local?.local ?? null,
      outbound: this.#outbound !== null,
      tls: compileTls(entry.tls, entry.hosts, node, this.#context),
      allowFrom: rangesOrNull(entry.allow_from),
      trustedProxies: new CidrSet(entry.trusted_proxies ?? []),
      proxyProtocol: compileProxyProtocol(entry, node, this.#findings),
      routes: table,
      limits: compileLimits(entry.limits),
      timeouts,
      stripRequestHeaders: new Set(entry.strip_request_headers ?? []),
      clientCertificates: clientCertificatesOf(table),
      sessions: compileSessions(
        entry.sessions,
        node,
        entries.flatMap(({ route }) => route.authenticators),
        // Several sidecars that share what is revoked share who has logged out.
        { store: this.#context.sharedState ? 'shared' : 'embedded', key: null, onUnavailable: 'deny' },
        this.#context,
      ),
      origins: new Set(entry.origins ?? []),
      streamsEndAtExpiry: entry.streams?.end_at_expiry ?? true,
      throttle: this.#compileThrottle(),
      cors: compileCors(entry.cors, node, this.#findings),
      deadlines: entry.deadlines === 'off' ? null : { answer: entry.deadlines?.answer ?? 'problem' },
    };
  }

  #compileUpstream(upstream: ParsedUpstream, node: Draft | null): Upstream | null {
    const { bind } = this.#entry;
    return this.#outbound === null
      ? this.#upstreams.compile(upstream, bind, this.#remoteUpstream, node)
      : this.#upstreams.compileOutbound(upstream, bind, this.#outbound, node);
  }

  #compileThrottle(): ThrottleSettings | null {
    const { throttle } = this.#entry;
    if (throttle === 'off') return null;
    const delayMs = throttle?.delay ?? Math.min(250, throttle?.most ?? 250);
    const mostMs = throttle?.most ?? Math.max(4_000, delayMs);
    if (delayMs > mostMs) {
      this.#findings.error(
        'wrong_value',
        this.#node.at(['throttle', 'delay']),
        'value',
        'the first delay is longer than the longest (most)',
        'write the longer one as most',
      );
    }
    return { after: throttle?.after ?? 5, delayMs, mostMs };
  }

  #checkRouteName(route: RouteEntry, node: Draft, names: Map<string, number>): void {
    const line = names.get(route.name);
    if (line === undefined) {
      names.set(route.name, node.origin.at.line);
      return;
    }
    this.#findings.error(
      'duplicate_name',
      node.get('name'),
      'value',
      `there are two routes of the name ${show(route.name)} in this listener, the first in line ${line}`,
      'give each its own: logs and metrics tell routes by it',
    );
  }

  /** The authenticators of a list, and whether all that were written are known. */
  #compileAuthenticate(
    list: readonly string[] | undefined,
    node: Draft,
  ): { readonly list: readonly Authenticator[]; readonly complete: boolean } {
    const listNode = node.get('authenticate');
    let complete = !node.dropped.has('authenticate') && listNode?.tainted !== true;
    const authenticators: Authenticator[] = [];
    for (const [index, name] of (list ?? []).entries()) {
      const at = listNode?.at([index]) ?? null;
      const authenticator = this.#context.authenticators.byName.get(name);
      if (authenticator === undefined) {
        complete = false;
        if (!this.#context.names.authenticators.has(name)) {
          this.#findings.unknownName(at, 'authenticator', name, this.#context.names.authenticators);
        }
      } else if (authenticators.includes(authenticator)) {
        this.#findings.error(
          'duplicate_name',
          at,
          'value',
          `the authenticator ${show(name)} stands twice`,
          'remove one',
        );
      } else {
        if (!this.#ambient.check(authenticator, authenticators, at))
          this.#checkCarriers(authenticator, authenticators, at);
        authenticators.push(authenticator);
      }
    }
    return { list: authenticators, complete };
  }

  /** The caller that everyone on this machine is, put at the end of each list. */
  #compileLocal(): NetworkAuthenticator | null {
    const node = this.#node.get('local_identity');
    if (this.#entry.local_identity === undefined || node === null) return null;
    this.#ambient.checkLocal(this.#entry.bind, node);
    return compileLocal(this.#entry.local_identity, node, this.#context);
  }

  /** A credential must name its authenticator by where it is shown; it never falls through to the next. */
  #checkCarriers(authenticator: Authenticator, others: readonly Authenticator[], node: Draft | null): void {
    for (const other of others) {
      const shared = [...authenticator.carriers].filter((carrier) => other.carriers.has(carrier));
      if (shared.length === 0 || canBeToldApart(authenticator, other)) continue;
      if (authenticator.type === 'jwt' && other.type === 'jwt') {
        this.#findings.error(
          'ambiguous_authenticators',
          node,
          'value',
          `${show(other.name)} and ${show(authenticator.name)} both read ${either(shared)} and have one issuer, so a token there would have two judges`,
          'give them other issuers or carriers, or write one with a list of audiences',
        );
        return;
      }
      this.#findings.error(
        'ambiguous_authenticators',
        node,
        'value',
        `${show(other.name)} and ${show(authenticator.name)} both read ${either(shared)}, so a credential there would have two judges`,
        shared.includes('basic')
          ? 'keep one of them, with the users of both in one htpasswd file'
          : `give each its own carriers, like carriers: [${shared[0] ?? ''}] for one of them, or put their tokens into one authenticator`,
      );
      return;
    }
  }

  #checkBeyondLoopback(
    entries: readonly { readonly route: Route }[],
    unauthenticated: readonly { readonly route: RouteEntry; readonly node: Draft }[],
  ): void {
    const { bind } = this.#entry;
    const node = this.#node;
    const bindNode = node.get('bind');
    // Of an outbound one beyond loopback it is said already that it may not be there at all.
    const beyond = !bind.loopback && this.#outbound === null;
    if (beyond && this.#entry.unsafe_plain_http !== true && !node.declares('tls')) {
      this.#findings.error(
        'bind_without_tls',
        bindNode,
        'value',
        `refusing ${formatBind(bind)}: it is reachable from other machines, and the listener ${show(this.#name)} has no tls`,
        `write tls: { self_signed: { names: [${suggestedName(this.#entry)}] } } or tls: { cert: FILE, key: FILE }; or bind 127.0.0.1:${bind.port}`,
      );
    }
    const { authenticated, networkAlone } = beyondLoopbackCounts(
      entries.map(({ route }) => route),
      this.#entry.unsafe_network_identity === true,
    );
    // Of a local identity beyond loopback it is said already that it can't be there.
    const certain = this.#authenticationIsCertain && !node.declares('local_identity');
    if (beyond && !authenticated && certain && this.#entry.unsafe_no_authentication !== true) {
      const why = networkAlone
        ? 'nobody proves who they are: its callers are known by their address alone'
        : unauthenticated.length > 0
          ? 'no route has an authenticator'
          : 'none of its routes requires a credential';
      this.#findings.error(
        'bind_without_authentication',
        bindNode,
        'value',
        `refusing ${formatBind(bind)}: it is reachable from other machines, and ${why}`,
        networkAlone
          ? 'give the callers tokens or certificates, at least on one route; or say unsafe_network_identity: true in the listener'
          : unauthenticated.length > 0
            ? `write authenticate: [NAME] in the listener, with an entry of that name in authenticators; or bind 127.0.0.1:${bind.port}`
            : `write require: PERMISSION in a route and authenticate: [NAME] in the listener; or bind 127.0.0.1:${bind.port}`,
      );
      // One cause, one issue: each route would only say it again.
      if (unauthenticated.length > 0 && !networkAlone) return;
    }
    for (const { route, node: routeNode } of unauthenticated) {
      this.#findings.error(
        'unauthenticated_route',
        routeNode.get('require') ?? routeNode,
        'key',
        `the route ${show(route.name)} requires something of callers that nobody identifies: there is no authenticate here or in the listener`,
        this.#outbound === null
          ? 'write authenticate: [NAME] in the listener'
          : 'write local_identity: { name: NAME, roles: [ROLE] } in the listener, for programs that show nothing',
      );
    }
  }

  #warnUnsafe(): void {
    for (const key of UNSAFE_LISTENER_KEYS) {
      if (this.#entry[key] === true) this.#findings.warn('unsafe_key', this.#node.get(key), 'key', UNSAFE[key]);
    }
  }

  #compileUpstreamAuth(auth: UpstreamAuthEntry | undefined, node: Draft | null): Route['upstreamAuth'] {
    if (auth === undefined) return null;
    const secretKey = auth.type === 'bearer' ? 'token' : auth.type === 'basic' ? 'password' : 'value';
    const secretNode = node?.get(secretKey) ?? null;
    const bytes = (secretNode === null ? undefined : this.#context.material.secrets.get(secretNode)) ?? Buffer.alloc(0);
    switch (auth.type) {
      case 'bearer':
        return { field: 'authorization', value: Secret.fromBytes(Buffer.concat([Buffer.from('Bearer '), bytes])) };
      case 'basic': {
        const pair = Buffer.concat([Buffer.from(`${auth.username}:`), bytes]);
        return { field: 'authorization', value: Secret.fromText(`Basic ${pair.toString('base64')}`) };
      }
      case 'header':
        return { field: auth.name, value: Secret.fromBytes(Buffer.from(bytes)) };
    }
  }
}

/** Whose certificates are asked for in the handshake, where nobody knows yet which route it is for. */
function clientCertificatesOf(table: RouteTable): MtlsAuthenticator | null {
  for (const { authenticators } of table.routes) {
    const found = authenticators.find((one) => one.type === 'mtls');
    if (found !== undefined) return found;
  }
  return null;
}

/**
 * By the shape of the credential, or by the issuer it names; `identity/authenticate` picks by the same. What has the shape
 * of a JWT goes to a JWT's judge, whatever tokens of that shape a bearer authenticator may hold.
 */
function canBeToldApart(one: Authenticator, other: Authenticator): boolean {
  if (one.type === 'jwt' && other.type === 'jwt') return one.issuer !== other.issuer;
  return (one.type === 'jwt' && other.type === 'bearer') || (one.type === 'bearer' && other.type === 'jwt');
}

/** A name for a certificate that fits the listener. */
function suggestedName(entry: HttpListenerEntry): string {
  const first = entry.hosts?.[0];
  if (first !== undefined) return first.includes(':') ? `"${first}"` : first;
  if (isUnspecified(entry.bind.address)) return 'NAME';
  return entry.bind.host.includes(':') ? `"${entry.bind.host}"` : entry.bind.host;
}
