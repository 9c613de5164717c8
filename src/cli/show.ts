import * as path from 'node:path';
import type { Command } from 'commander';
import { parseAddress, formatAddressAndPort } from '../net/address.js';
import type { CertificateIdentity } from '../policy/certificate-table.js';
import { parseDocument } from '../policy/document.js';
import { ISSUES } from '../policy/issue.js';
import type {
  Authenticator,
  BasicAuthenticator,
  CorsSettings,
  DeliverySettings,
  Bind,
  Holder,
  HttpListener,
  JwtAuthenticator,
  Listener,
  ListenerLimits,
  MtlsAuthenticator,
  NetworkAuthenticator,
  Policy,
  RedirectListener,
  TcpListener,
  Route,
  ThrottleSettings,
  TlsSettings,
  TokenEntry,
  Upstream,
} from '../policy/policy.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import {
  type HttpListenerEntry,
  type PolicyFile,
  type RouteEntry,
  type SecretReference,
  type UpstreamAuthEntry,
  policySchema,
} from '../policy/schema.js';
import { formatSize } from '../policy/size.js';
import { validate } from '../policy/validate.js';
import { duration } from './duration-text.js';
import { EXIT, ending } from './exit-code.js';
import { type PolicyOptions, type PolicySource, openPolicy, takesPolicy } from './policy-source.js';
import { shownLimits } from './show-limits.js';
import type { Voice } from './voice.js';
import { type Plain, toYaml } from './yaml-text.js';

export function registerShow(program: Command, voice: Voice): void {
  takesPolicy(program.command('show'))
    .description(
      'Prints the policy in force, with all defaults filled in. Secrets are left out: their files are named, and tokens are told by the first digits of their hash, as in the log.',
    )
    .option('--json', 'print JSON instead of YAML')
    .addHelpText('after', '\nExample:\n  guardbee show policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) => {
        return await show(await openPolicy(positional, options), voice, options.json === true);
      }),
    );
}

async function show(source: PolicySource, voice: Voice, json: boolean): Promise<number> {
  const whole = await source.load();
  // Without its secrets a policy says all but who the tokens are.
  const rules =
    !whole.ok && whole.issues.every((issue) => ISSUES[issue.code] === 'secret')
      ? await source.load({ skipSecretFiles: true })
      : whole;
  if (!rules.ok) {
    const { issues } = whole.ok ? rules : whole;
    voice.err(renderIssues(issues));
    return exitCodeFor(issues);
  }
  if (!whole.ok) {
    voice.err(`guardbee: not all that ${source.file} names could be read; tokens of such files are not shown`);
  }
  const { policy } = rules;
  const text = (await source.text()) ?? '';
  const written = validate(parseDocument(text, policy.file), policySchema).value;
  const shown = new Showing(policy, written).policy();
  if (json) {
    voice.json(shown);
  } else {
    voice.out(`# ${policy.file} (${policy.version}) as it is in force: defaults filled in, secrets left out`);
    voice.out(toYaml(shown));
  }
  return EXIT.ok;
}

type Shown = Record<string, Plain | undefined>;

/** The compiled policy in the words of the policy file, in the order of the reference. */
class Showing {
  readonly #policy: Policy;
  /** What was written: the compiled policy holds secrets, and no longer knows where they came from. */
  readonly #written: PolicyFile | null;

  constructor(policy: Policy, written: PolicyFile | null) {
    this.#policy = policy;
    this.#written = written;
  }

  policy(): Shown {
    const { listeners, authenticators, roles, upstreamExposure, stateDir, secretMounts, log, admin, drainMs, watch } =
      this.#policy;
    return {
      version: 1,
      listeners: Object.fromEntries(listeners.map((one) => [one.name, this.#listener(one)])),
      authenticators:
        authenticators.size === 0
          ? undefined
          : Object.fromEntries([...authenticators].map(([name, one]) => [name, this.#authenticator(one)])),
      roles: roles.size === 0 ? undefined : Object.fromEntries(roles),
      acme: this.#acme(),
      upstream_exposure:
        upstreamExposure.mode === 'firewalled' ? { firewalled: upstreamExposure.why } : upstreamExposure.mode,
      state: { dir: stateDir, redis: this.#redis() },
      secret_mounts: secretMounts.length === 0 ? undefined : secretMounts,
      log: { level: log.level, file: log.file ?? undefined, format: log.format },
      audit: this.#audit(),
      admin: admin === null ? undefined : { bind: bindText(admin) },
      drain: duration(drainMs),
      processes: this.#policy.processes,
      watch,
    };
  }

  #redis(): Shown | undefined {
    const url = this.#written?.state?.redis?.url;
    const { redis } = this.#policy;
    return url === undefined || redis === null ? undefined : { url: this.#secret(url), prefix: redis.prefix };
  }

  #acme(): Shown | undefined {
    const written = this.#written?.acme;
    const { acme } = this.#policy;
    if (written === undefined || acme === null) return undefined;
    const { ca, external_account: account } = written;
    return {
      directory: acme.directory,
      terms_agreed: true,
      email: acme.email ?? undefined,
      challenges: acme.challenges,
      ca: ca === undefined ? undefined : this.#resolve(ca),
      external_account: account === undefined ? undefined : { key_id: account.key_id, key: this.#secret(account.key) },
    };
  }

  #audit(): Shown | undefined {
    const { audit } = this.#policy;
    if (audit === null) return undefined;
    return {
      dir: audit.dir,
      on_failure: audit.onFailure,
      checkpoint: { records: audit.checkpointRecords, interval: duration(audit.checkpointMs) },
      rotate: { size: formatSize(audit.segmentBytes) },
      keep: audit.keepMs === Infinity ? 'forever' : `${String(audit.keepMs / 86_400_000)}d`,
      min_free: formatSize(audit.minFreeBytes),
      deliver: this.#delivery(audit.deliver),
    };
  }

  #delivery(settings: DeliverySettings | null): Shown | undefined {
    const written = this.#written?.audit?.deliver;
    if (settings === null || written === undefined) return undefined;
    const { token: shown, client_certificate: pair, ca } = written;
    return {
      url: settings.url,
      token: shown === undefined ? undefined : this.#secret(shown),
      client_certificate:
        pair === undefined ? undefined : { cert: this.#resolve(pair.cert), key: this.#resolve(pair.key) },
      ca: ca === undefined ? undefined : this.#resolve(ca),
      batch: {
        records: settings.batchRecords,
        bytes: formatSize(settings.batchBytes),
        interval: duration(settings.batchMs),
      },
      wait: settings.wait ? true : undefined,
    };
  }

  #resolve(file: string): string {
    return path.resolve(path.dirname(this.#policy.file), file);
  }

  #listener(listener: Listener): Shown {
    if (listener.type === 'tcp') return tcp(listener, this.#written);
    return listener.type === 'http' ? this.#http(listener) : redirect(listener);
  }

  #http(listener: HttpListener): Shown {
    const entry = this.#written?.listeners[listener.name];
    const written = entry === undefined || entry.type === 'redirect' || entry.type === 'tcp' ? null : entry;
    const { timeouts } = listener;
    return {
      type: listener.type,
      bind: bindText(listener.bind),
      socket: listener.bind.socket ?? undefined,
      hosts: listener.hosts === null ? undefined : [...listener.hosts],
      tls: listener.tls === null ? undefined : tls(listener.tls),
      allow_from: addresses(listener.allowFrom),
      trusted_proxies: listener.trustedProxies.texts,
      proxy_protocol: listener.proxyProtocol ? 'require' : undefined,
      outbound: listener.outbound ? true : undefined,
      upstream_tls: this.#upstreamTls(written),
      strip_request_headers: listener.stripRequestHeaders.size === 0 ? undefined : [...listener.stripRequestHeaders],
      local_identity: listener.local === null ? undefined : holder(listener.local),
      sessions: this.#sessions(listener, written),
      origins: listener.origins.size === 0 ? undefined : [...listener.origins],
      routes: listener.routes.routes.map((route) => this.#route(route, written)),
      limits: { ...limits(listener.limits), ...shownLimits(written?.limits, duration) },
      timeouts: {
        handshake: duration(timeouts.handshakeMs),
        head: duration(timeouts.headMs),
        body: duration(timeouts.bodyMs),
        upstream: duration(timeouts.upstreamMs),
        keep_alive: duration(timeouts.keepAliveMs),
      },
      streams: {
        end_at_expiry: listener.streamsEndAtExpiry,
        max: written?.streams?.max === undefined ? undefined : duration(written.streams.max),
      },
      throttle: throttle(listener.throttle),
      cors: listener.cors === null ? undefined : cors(listener.cors),
      deadlines: listener.deadlines === null ? 'off' : { answer: listener.deadlines.answer },
      unsafe_plain_http: written?.unsafe_plain_http,
      unsafe_no_authentication: written?.unsafe_no_authentication,
      unsafe_network_identity: written?.unsafe_network_identity,
      unsafe_remote_upstream: written?.unsafe_remote_upstream,
    };
  }

  #sessions({ sessions }: HttpListener, written: HttpListenerEntry | null): Shown | undefined {
    if (sessions === null) return undefined;
    return {
      login_with: sessions.loginWith.map((one) => one.name),
      lifetime: duration(sessions.lifetimeMs),
      same_site: sessions.sameSite,
      keys: written?.sessions?.keys?.map((key) => this.#secret(key)),
      title: sessions.title,
    };
  }

  #route(route: Route, listener: HttpListenerEntry | null): Shown {
    const written: RouteEntry | undefined = listener?.routes[route.index];
    const { access } = route;
    const shown: Shown = {
      name: route.name,
      path: route.pattern,
      methods: route.methods === null ? 'any' : [...route.methods],
      public: access.kind === 'public' ? true : undefined,
      unsafe_public: written?.unsafe_public,
      deny: access.kind === 'deny' ? true : undefined,
      require: access.kind === 'require' ? access.anyOf : undefined,
    };
    if (access.kind === 'deny') return shown;
    return {
      ...shown,
      from: route.from?.texts,
      authenticate: access.kind === 'require' ? authenticate(route) : undefined,
      upstream: route.upstream === null ? undefined : upstreamText(route.upstream),
      upstream_auth: this.#upstreamAuth(written?.upstream_auth ?? listener?.upstream_auth),
      audit: route.audit ?? undefined,
      encoded_slash: route.encodedSlash ? 'allow' : undefined,
      limits: written?.limits === undefined ? undefined : shownLimits(written.limits, duration),
      streams: written?.streams?.max === undefined ? undefined : { max: duration(written.streams.max) },
      timeouts: { body: duration(route.bodyMs), upstream: duration(route.upstreamMs) },
      owns: owns(route.owns),
      owner: owner(route),
      timeout: route.wholeMs === Infinity ? undefined : duration(route.wholeMs),
    };
  }

  #upstreamTls(listener: HttpListenerEntry | null): Shown | undefined {
    const written = listener?.upstream_tls;
    if (written === undefined) return undefined;
    const { ca, client_certificate: pair, server_name, spki } = written;
    return {
      ca: ca === undefined ? undefined : this.#resolve(ca),
      client_certificate:
        pair === undefined ? undefined : { cert: this.#resolve(pair.cert), key: this.#resolve(pair.key) },
      server_name,
      spki: spki?.map(({ value }) => `sha256/${value}`),
    };
  }

  #upstreamAuth(auth: UpstreamAuthEntry | undefined): Shown | undefined {
    switch (auth?.type) {
      case undefined:
        return undefined;
      case 'bearer':
        return { type: auth.type, token: this.#secret(auth.token) };
      case 'basic':
        return { type: auth.type, username: auth.username, password: this.#secret(auth.password) };
      case 'header':
        return { type: auth.type, name: auth.name, value: this.#secret(auth.value) };
    }
  }

  #secret(reference: SecretReference): Shown {
    return 'file' in reference ? { file: this.#resolve(reference.file) } : { ...reference };
  }

  /** Every user of the file, with what the policy gives each. */
  #basic(authenticator: BasicAuthenticator): Shown {
    const written = this.#written?.authenticators?.[authenticator.name];
    const users = [...authenticator.users.values()].map((user) => holder(user.holder));
    return {
      type: authenticator.type,
      htpasswd_file: written?.type === 'basic' ? this.#resolve(written.htpasswd_file) : undefined,
      users: users.length === 0 ? undefined : users,
      realm: authenticator.realm,
    };
  }

  #authenticator(authenticator: Authenticator): Shown {
    if (authenticator.type === 'mtls') return mtls(authenticator);
    if (authenticator.type === 'network') return network(authenticator);
    if (authenticator.type === 'jwt') return jwt(authenticator);
    if (authenticator.type === 'basic') return this.#basic(authenticator);
    const written = this.#written?.authenticators?.[authenticator.name];
    const file = written?.type === 'bearer' ? written.tokens_file : undefined;
    const tokens = authenticator.tokens.entries().map(token);
    return {
      type: authenticator.type,
      tokens_file: file === undefined ? undefined : this.#resolve(file),
      tokens: tokens.length === 0 ? undefined : tokens,
      carriers: [...authenticator.carriers],
      realm: authenticator.realm,
    };
  }
}

function jwt(authenticator: JwtAuthenticator): Shown {
  const { keys, revocation, rolesMap, maxAgeMs, clockToleranceMs, rolesFrom, permissionsFrom } = authenticator;
  return {
    type: authenticator.type,
    issuer: authenticator.issuer,
    audience: authenticator.audiences,
    jwks: keys.kind === 'url' ? { url: keys.url } : keys.from === 'jwks' ? { file: keys.file } : undefined,
    public_key: keys.kind === 'file' && keys.from === 'public_key' ? { file: keys.file } : undefined,
    algorithms: authenticator.algorithms,
    clock_tolerance: clockToleranceMs === 0 ? 'none' : duration(clockToleranceMs),
    max_age: maxAgeMs === null ? undefined : duration(maxAgeMs),
    name_from: authenticator.nameFrom,
    roles_from: rolesFrom ?? undefined,
    permissions_from: permissionsFrom ?? undefined,
    roles_map: rolesMap === null ? undefined : Object.fromEntries(rolesMap),
    carriers: [...authenticator.carriers],
    realm: authenticator.realm,
    revocation:
      revocation === null
        ? 'none'
        : {
            store: revocation.store,
            key: revocation.key ?? undefined,
            on_unavailable: revocation.onUnavailable,
          },
  };
}

function cors({ any, origins, credentials, methods, headers, exposed, maxAgeMs }: CorsSettings): Shown {
  return {
    origins: any === null ? [...origins.keys()] : 'any',
    methods: [...methods],
    headers: [...headers],
    expose: exposed.size === 0 ? undefined : [...exposed],
    credentials: credentials ? true : undefined,
    max_age: duration(maxAgeMs),
  };
}

function owns(settings: Route['owns']): Shown | undefined {
  if (settings === null) return undefined;
  const steps = settings.from.map((step) => step.replaceAll('~', '~0').replaceAll('/', '~1'));
  return { from: `response./${steps.join('/')}`, for: duration(settings.forMs), most: settings.most };
}

function owner({ demands }: Route): Shown | undefined {
  const demand = demands?.owner ?? null;
  if (demand === null) return undefined;
  const { parameter, unless } = demand;
  return { parameter, unless: unless.length === 0 ? undefined : unless };
}

function throttle(settings: ThrottleSettings | null): Plain {
  if (settings === null) return 'off';
  return { after: settings.after, delay: duration(settings.delayMs), most: duration(settings.mostMs) };
}

/** `local_identity` stands at the listener, and is no entry of a list. */
function authenticate(route: Route): readonly string[] | undefined {
  const named = route.authenticators.filter((one) => one.type !== 'network' || one.local === null);
  return named.length === 0 ? undefined : named.map((one) => one.name);
}

function mtls({ type, authority, identities, realm }: MtlsAuthenticator): Shown {
  return {
    type,
    ca: authority.caFile,
    crl: authority.crlFile ?? undefined,
    identities: identities.entries().map(({ match, holder: of }) => ({ ...matchText(match), ...holder(of) })),
    realm,
  };
}

/** As `compile-mtls` reads it. */
function matchText({ kind, value }: CertificateIdentity['match']): Shown {
  switch (kind) {
    case 'san_dns':
      return { san: `DNS:${value}` };
    case 'san_uri':
      return { san: `URI:${value}` };
    case 'san_email':
      return { san: `email:${value}` };
    case 'cn':
      return { cn: value };
    case 'spki':
      return { spki: `sha256/${value}` };
  }
}

function network({ type, hosts, realm }: NetworkAuthenticator): Shown {
  return { type, identities: [...hosts].map(([from, of]) => ({ from, ...holder(of) })), realm };
}

function holder({ name, roles, grants }: Holder): Shown {
  return { name, ...granted(roles, grants) };
}

/** What roles give is among the permissions: this is what is in force. */
function granted(roles: readonly string[], grants: ReadonlySet<string>): Shown {
  const permissions = [...grants].filter((grant) => !roles.includes(grant));
  return {
    roles: roles.length === 0 ? undefined : roles,
    permissions: permissions.length === 0 ? undefined : permissions,
  };
}

function tcp(listener: TcpListener, file: PolicyFile | null): Shown {
  const entry = file?.listeners[listener.name];
  const written = entry?.type === 'tcp' ? entry : null;
  const { upstream, clientCertificates, timeouts, trustedProxies } = listener;
  const { target } = upstream;
  const range = listener.lastPort === listener.bind.port ? '' : `-${listener.lastPort}`;
  return {
    type: listener.type,
    bind: `${bindText(listener.bind)}${range}`,
    socket: listener.bind.socket ?? undefined,
    upstream: target.kind === 'unix' ? upstream.name : `tcp://${upstream.name}`,
    allow_from: addresses(listener.allowFrom),
    from: listener.from?.texts,
    tls: listener.tls === null ? undefined : tls(listener.tls),
    authenticate: clientCertificates === null ? undefined : [clientCertificates.name],
    require: clientCertificates === null ? undefined : listener.anyOf,
    inner: listener.inner ?? undefined,
    trusted_proxies: trustedProxies.texts.length === 0 ? undefined : trustedProxies.texts,
    proxy_protocol: listener.proxyProtocol ? 'require' : undefined,
    send_proxy_protocol: listener.sendProxyProtocol ?? undefined,
    limits: {
      connections: listener.limits.connections,
      connections_per_address: listener.limits.connectionsPerAddress ?? undefined,
    },
    timeouts: { handshake: duration(timeouts.handshakeMs), head: duration(timeouts.headMs) },
    idle: duration(listener.idleMs),
    streams: { end_at_expiry: listener.endAtExpiry, max: duration(listener.maxMs) },
    unsafe_plain_tcp: written?.unsafe_plain_tcp,
    unsafe_no_authentication: written?.unsafe_no_authentication,
    unsafe_network_identity: written?.unsafe_network_identity,
  };
}

function redirect(listener: RedirectListener): Shown {
  const { timeouts } = listener;
  return {
    type: listener.type,
    bind: bindText(listener.bind),
    socket: listener.bind.socket ?? undefined,
    hosts: listener.hosts,
    https_port: listener.httpsPort,
    allow_from: addresses(listener.allowFrom),
    limits: limits(listener.limits),
    timeouts: {
      handshake: duration(timeouts.handshakeMs),
      head: duration(timeouts.headMs),
      body: duration(timeouts.bodyMs),
      upstream: duration(timeouts.upstreamMs),
      keep_alive: duration(timeouts.keepAliveMs),
    },
  };
}

function bindText(bind: Bind): string {
  if (bind.path !== undefined) return `unix:${bind.path}`;
  const address = parseAddress(bind.host);
  return address === null ? `${bind.host}:${bind.port}` : formatAddressAndPort(address, bind.port);
}

function upstreamText(upstream: Upstream): string {
  return upstream.target.kind === 'unix' || upstream.tls !== null ? upstream.name : `http://${upstream.name}`;
}

function tls(settings: TlsSettings): Shown {
  if (settings.kind === 'acme') return { acme: { hosts: settings.hosts } };
  if (settings.kind === 'self_signed') return { self_signed: { names: settings.names } };
  const pairs = settings.certificates.map(({ certFile, keyFile }) => ({ cert: certFile, key: keyFile }));
  const [only] = pairs;
  return only !== undefined && pairs.length === 1 ? only : { certificates: pairs };
}

/** Any address is written as the two ranges that hold all. */
function addresses(set: HttpListener['allowFrom']): readonly string[] {
  return set?.texts ?? ['0.0.0.0/0', '::/0'];
}

function limits({ headBytes, headFields, connections, connectionsPerAddress }: ListenerLimits): Shown {
  return {
    head: formatSize(headBytes),
    fields: headFields,
    connections,
    connections_per_address: connectionsPerAddress ?? undefined,
  };
}

function token({ name, sha256, source, roles, grants, notBeforeMs, notAfterMs }: TokenEntry): Shown {
  return {
    name,
    token: source === null ? undefined : { [source.kind]: source.name },
    fingerprint: /^[0-9a-f]{64}$/.test(sha256) ? sha256.slice(0, 6) : undefined,
    ...granted(roles, grants),
    not_before: notBeforeMs === -Infinity ? undefined : new Date(notBeforeMs).toISOString(),
    not_after: notAfterMs === Infinity ? undefined : new Date(notAfterMs).toISOString(),
  };
}
