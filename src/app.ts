import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DENIALS } from './denial.js';
import type { Clock, ExchangeSink } from './exchange.js';
import { proveWith } from './gate/decide.js';
import { BasicProver } from './identity/basic.js';
import { JwksSource, type JwksState } from './identity/jwks.js';
import { JwtProver } from './identity/jwt.js';
import { FileKeys, type KeySource } from './identity/key-source.js';
import { POLICY_ALONE, type Provers } from './identity/provers.js';
import { endedBy } from './identity/revocation.js';
import { SessionProver } from './identity/session-prover.js';
import { type Admin, createAdmin } from './observe/admin.js';
import type { Log } from './observe/log.js';
import type { Evidence } from './observe/audit/evidence.js';
import { Metrics } from './observe/metrics.js';
import { ShadowFindings } from './observe/shadow-findings.js';
import type { ReadinessCheck, ReadinessReport } from './observe/readiness.js';
import { AccessRecorder } from './observe/record.js';
import { type Redactor, constant } from './observe/redact.js';
import type { HttpListener, JwtAuthenticator, Listener, Policy, TcpListener } from './policy/policy.js';
import { Upstreams } from './proxy/upstream.js';
import { type SniContexts, createSniContexts, describeCertificate, ensureSelfSigned } from './server/certificate.js';
import { type Exposure, ExposureWatch } from './server/exposure.js';
import { ownBindsOf } from './server/exposure-issues.js';
import type { Surroundings } from './server/handle.js';
import { HeldBodies } from './server/held-bodies.js';
import { type ConnectionEvents, type OpenListener, contextOptions, openListener } from './server/listener.js';
import { OpenExchanges } from './server/open-exchanges.js';
import { Audit } from './server/audit.js';
import { State } from './server/state.js';
import { PasswordThread } from './server/password-thread.js';
import { Shadow } from './server/shadow.js';
import type { Borrowed } from './server/shadow-means.js';
import { SlowDenials } from './server/slow-denials.js';
import { sessionRings, shadowRings } from './server/session-key.js';
import { SessionPages } from './server/session-pages.js';
import { Ownership } from './state/ownership.js';
import { VERSION } from './version.js';

/** The address is taken, or may not be taken by this user. */
export class AddressError extends Error {
  readonly listener: string;
  readonly code: string;
  constructor(listener: string, address: string, code: string) {
    super(
      code === 'EADDRINUSE'
        ? `${address} is already in use`
        : code === 'EACCES'
          ? `${address} needs a privilege that this process does not have (a port below 1024?)`
          : `${address} cannot be listened on (${code})`,
    );
    this.listener = listener;
    this.code = code;
  }
}

export interface AppSettings {
  readonly policy: Policy;
  /** A second policy that decides everything too, to no effect. Null: none is tried. */
  readonly shadow: Policy | null;
  readonly log: Log;
  readonly redactor: Redactor;
}

export interface ServingAt {
  readonly listener: string;
  /** `https://127.0.0.1:8443`. */
  readonly url: string;
}

/**
 * The running program: everything is put together here and nowhere else. `start` resolves when every address is
 * listened on; when one can't be, it lets go of all and rejects.
 */
export class App {
  readonly serving: readonly ServingAt[];
  readonly admin: AddressInfo | null;
  readonly #parts: Parts;

  private constructor(parts: Parts, adminAddress: AddressInfo | null) {
    this.#parts = parts;
    this.admin = adminAddress;
    this.serving = parts.open.map(({ listener, address }) => ({
      listener: listener.name,
      url: urlOf(listener, address),
    }));
  }

  /** @throws AddressError, CertificateError, SessionKeyError, StateInUseError, StateError */
  static async start(settings: AppSettings): Promise<App> {
    const parts = new Parts(settings);
    try {
      const adminAddress = await parts.start();
      return new App(parts, adminAddress);
    } catch (error) {
      await parts.stop();
      throw error;
    }
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#parts.connections;
  }

  /**
   * Takes nothing new and waits for what is underway, up to the policy's `drain`. True when all of it ended by itself.
   */
  async drain(): Promise<boolean> {
    const { policy } = this.#parts.settings;
    this.#parts.draining = true;
    for (const open of this.#parts.open) open.drain();
    void this.#parts.audit?.evidence.note('draining');
    this.#parts.denials.release();
    const ended = Promise.all(this.#parts.open.map((open) => open.ended));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => {
        resolve(false);
      }, policy.drainMs);
    });
    const clean = await Promise.race([ended.then(() => true as const), late]);
    clearTimeout(timer);
    await this.stop();
    return clean;
  }

  /** Ends everything at once. */
  async stop(): Promise<void> {
    await this.#parts.stop();
  }
}

/** `https://192.168.1.10:7833`, `tcp://192.168.1.10:9000-9099`, `tls://…`. */
function urlOf(listener: Listener, { address, port }: AddressInfo): string {
  const at = hostPort(address, port);
  if (listener.type === 'redirect') return `http://${at}`;
  if (listener.type === 'http') return `${listener.tls === null ? 'http' : 'https'}://${at}`;
  const range = listener.lastPort === listener.bind.port ? '' : `-${String(listener.lastPort)}`;
  return `${listener.tls === null ? 'tcp' : 'tls'}://${at}${range}`;
}

function hostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${String(port)}`;
}

const CLOCK: Clock = { now: () => Date.now(), ticks: () => performance.now() };

class Parts {
  readonly settings: AppSettings;
  readonly metrics: Metrics;
  readonly upstreams = new Upstreams();
  readonly bodies = new HeldBodies();
  readonly open: OpenListener[] = [];
  readonly denials = new SlowDenials({
    clock: CLOCK,
    delayed: (listener) => {
      this.metrics.authFailureDelayed(listener);
    },
  });
  readonly #passwords = new PasswordThread({
    died: (error) => {
      const { log } = this.settings;
      log.error('password.thread_died', 'the thread that checks passwords died; the next login starts another', {
        ...log.errorFields(error),
      });
    },
  });
  readonly #basic = new BasicProver(this.#passwords.check);
  draining = false;
  connections = 0;
  #admin: Admin | null = null;
  #watch: ExposureWatch | null = null;
  #state: State | null = null;
  #audit: Audit | null = null;
  #underway: OpenExchanges | null = null;
  #owners: Ownership | null = null;
  #shadow: Shadow | null = null;
  readonly #certificates = new Map<string, Date>();
  readonly #jwks = new Map<string, JwksSource>();

  constructor(settings: AppSettings) {
    this.settings = settings;
    this.metrics = new Metrics({ policy: settings.policy, version: VERSION, log: settings.log });
  }

  async start(): Promise<AddressInfo | null> {
    const { policy, log, redactor } = this.settings;
    // Everything that can be wrong is found before the first address is listened on.
    const contexts = new Map<string, SniContexts>();
    for (const listener of policy.listeners) {
      if (listener.type !== 'redirect' && listener.tls !== null)
        contexts.set(listener.name, await this.#contexts(listener));
    }
    const state = await State.open(policy, log, async ({ how, by }) => {
      const evidence = this.#audit?.evidence;
      return evidence !== undefined && (await evidence.note('audit_accessed', { by, how }));
    });
    this.#state = state;
    const { revocations, limits } = state;
    this.metrics.sharedLimits(() => (limits.shared === null ? null : limits.shared.state === 'up'));
    this.metrics.revocationStores(() => revocations.status);
    this.metrics.watchHeldBodies(() => this.bodies.bytes);
    this.metrics.watchReadiness(() => this.#readiness());
    const jwt = new JwtProver((authenticator) => this.#keysOf(authenticator), revocations);
    const rings = await sessionRings(policy);
    const sessions = new SessionProver(rings, revocations);
    const provers: Provers = {
      ...POLICY_ALONE,
      basic: this.#basic.prove.bind(this.#basic),
      jwt: (...asked) => jwt.prove(...asked),
      session: (...asked) => sessions.prove(...asked),
      ended: (identity, nowMs) => endedBy(revocations, identity, nowMs),
    };
    const underway = new OpenExchanges((identity, nowMs) => provers.ended(identity, nowMs));
    this.#underway = underway;
    const owners = await Ownership.open(policy, {
      now: () => Date.now(),
      unnamed: (route, why) => {
        log.warn('ownership.unnamed', `an answer of route "${route}" named nothing that is then somebody's: ${why}`, {
          'guardbee.route': constant(route),
          'guardbee.reason': constant(why),
        });
      },
      notKept: (message) => {
        log.error('ownership.not_kept', message);
      },
    });
    this.#owners = owners;
    this.#shadow = this.#tryShadow(revocations, owners, rings);
    const recorder = new AccessRecorder(log, redactor);
    const audit = policy.audit === null ? null : await Audit.open(policy.audit, policy, log, redactor);
    this.#audit = audit;
    if (audit !== null) this.metrics.watchAudit(() => audit.figures);
    const sink: ExchangeSink = {
      opened: (record) => {
        if (record.stream !== 'none') this.metrics.streamOpened(record.listener, record.stream);
        audit?.evidence.opened(record);
      },
      finished: (record) => {
        this.metrics.observe(record);
        recorder.record(record);
        return audit?.evidence.finished(record) ?? null;
      },
    };
    const around: Surroundings = {
      upstreams: this.upstreams,
      sink,
      clock: CLOCK,
      means: {
        prove: proveWith(provers),
        owners,
        limiter: state.limits,
        holdBody: this.#shadow?.watching(this.bodies.hold) ?? this.bodies.hold,
      },
      open: underway,
      ...(this.#shadow === null ? {} : { shadow: this.#shadow }),
      sessionPages: new SessionPages(sessions, provers, revocations, this.denials),
      denials: this.denials,
      witness: audit?.evidence ?? null,
      draining: () => this.draining,
      broke: (error, requestId) => {
        log.error('request.broke', 'a request failed inside guardbee', {
          'guardbee.request_id': constant(requestId),
          ...log.errorFields(error),
        });
      },
    };
    this.#fetchKeys();
    this.#shadow?.start();
    await audit?.evidence.note('started', {
      listeners: policy.listeners.map(({ name }) => name),
      version: VERSION,
    });
    const events = this.#events(sink, audit?.evidence ?? null);
    for (const listener of policy.listeners) {
      const { host, port } = listener.bind;
      try {
        this.open.push(await openListener(listener, contexts.get(listener.name) ?? null, around, events));
      } catch (error) {
        const taken = error instanceof Error && 'port' in error && typeof error.port === 'number' ? error.port : port;
        throw new AddressError(listener.name, hostPort(host, taken), errorCode(error));
      }
    }
    this.#watchExposure();
    return this.#openAdmin();
  }

  get audit(): Audit | null {
    return this.#audit;
  }

  async stop(): Promise<void> {
    this.draining = true;
    this.#watch?.stop();
    for (const source of this.#jwks.values()) source.stop();
    for (const open of this.open) open.destroy();
    await Promise.all(this.open.map((open) => open.ended));
    this.#underway?.stop();
    this.denials.release();
    await this.#shadow?.stop();
    this.#shadow = null;
    await this.#passwords.stop();
    this.upstreams.close();
    await this.#admin?.close();
    this.#admin = null;
    await this.#owners?.close();
    this.#owners = null;
    await this.#audit?.close();
    this.#audit = null;
    await this.#state?.close();
    this.#state = null;
  }

  #tryShadow(
    revocations: Borrowed['revocations'],
    owners: Borrowed['owners'],
    rings: Borrowed['rings'],
  ): Shadow | null {
    const { policy, shadow, log } = this.settings;
    if (shadow === null) return null;
    const findings = new ShadowFindings(
      log,
      policy.listeners.flatMap((listener) => (listener.type === 'http' ? [listener.name] : [])),
    );
    this.metrics.watchShadow({ version: shadow.version, counts: findings.counts });
    const borrowed = {
      revocations,
      owners,
      log,
      rings: shadowRings(shadow, policy, rings),
      ticks: () => CLOCK.ticks(),
    };
    return new Shadow(shadow, borrowed, findings);
  }

  async #contexts(listener: HttpListener | TcpListener): Promise<SniContexts> {
    const { policy, log } = this.settings;
    const { tls } = listener;
    if (tls === null) throw new TypeError('a listener without TLS has no certificate');
    const pairs =
      tls.kind === 'files'
        ? tls.certificates
        : await ensureSelfSigned(join(policy.stateDir, 'tls', listener.name), tls.names).then((made) => [
            { certFile: made.certFile, keyFile: made.keyFile, certPem: made.certPem, key: made.keyPem },
          ]);
    const contexts = createSniContexts(pairs, contextOptions(listener));
    const soonest = new Date(Math.min(...pairs.map((pair) => describeCertificate(pair.certPem).notAfter.getTime())));
    this.#certificates.set(listener.name, soonest);
    this.metrics.certificateExpires(listener.name, soonest);
    const days = Math.floor((soonest.getTime() - Date.now()) / 86_400_000);
    if (days < 30) {
      log.warn(
        'certificate.expiring',
        `the certificate of listener "${listener.name}" expires in ${String(days)} days`,
        {
          'guardbee.listener': constant(listener.name),
          'guardbee.days_left': days,
        },
      );
    }
    return contexts;
  }

  /** Begins to fetch the keys that are fetched; listening does not wait for them. */
  #fetchKeys(): void {
    const { policy, log } = this.settings;
    for (const authenticator of policy.authenticators.values()) {
      if (authenticator.type !== 'jwt' || authenticator.keys.kind !== 'url') continue;
      const { name } = authenticator;
      const source = new JwksSource({
        url: authenticator.keys.url,
        onFetched: (fetched) => {
          const fields = { 'guardbee.authenticator': constant(name) };
          if (fetched.ok) {
            log.debug('jwks.fetched', 'keys were fetched', { ...fields, 'guardbee.keys': fetched.keys.length });
          } else {
            log.warn('jwks.failed', `the keys of authenticator "${name}" could not be fetched: ${fetched.fault}`, {
              ...fields,
              'guardbee.reason': constant(fetched.fault),
            });
          }
        },
      });
      this.#jwks.set(name, source);
      source.start();
    }
    this.metrics.watchJwks(() =>
      [...this.#jwks].map(([authenticator, { state }]) => ({
        authenticator,
        ageSeconds: state.ageSeconds,
        failures: state.failures,
      })),
    );
  }

  #keysOf({ name, keys }: JwtAuthenticator): KeySource {
    const source = this.#jwks.get(name);
    if (keys.kind === 'url' && source !== undefined) return source;
    return new FileKeys(keys.kind === 'file' ? keys.keys : []);
  }

  #events(sink: ExchangeSink, evidence: Evidence | null): ConnectionEvents {
    const { log, redactor } = this.settings;
    const { metrics } = this;
    return {
      opened: (listener) => {
        this.connections += 1;
        metrics.connectionOpened(listener);
      },
      closed: (listener) => {
        this.connections -= 1;
        metrics.connectionClosed(listener);
      },
      passed: (listener, bytesIn, bytesOut) => {
        metrics.bytesPassed(listener, bytesIn, bytesOut);
      },
      refused: (listener, reason, peer, who) => {
        metrics.connectionRefused(listener, reason);
        log.warn('connection.refused', `connection refused: ${reason}`, {
          'guardbee.listener': constant(listener),
          'guardbee.reason': constant(reason),
          'network.peer.address': peer === null ? null : constant(peer),
          'client.address': who === undefined ? null : constant(who.client),
          'guardbee.identity': who?.identity == null ? null : redactor.redactText(who.identity),
        });
        evidence?.connectionRefused(listener, reason, who?.client ?? peer);
      },
      tlsFailed: (listener, peer, code) => {
        metrics.tlsHandshakeFailed(listener);
        evidence?.tlsFailed(listener, peer, code);
        log.debug('tls.failed', 'TLS handshake failed', {
          'guardbee.listener': constant(listener),
          'network.peer.address': peer === null ? null : constant(peer),
          'error.type': constant(code),
        });
      },
      certificateRefused: (listener, peer, code) => {
        log.debug('tls.client_certificate', 'a client certificate was not accepted', {
          'guardbee.listener': constant(listener),
          'network.peer.address': peer === null ? null : constant(peer),
          'error.type': constant(code),
        });
      },
      unreadable: (listener, peer, scheme, reason, requestId, send) => {
        const recorded = sink.finished({
          stage: 'over',
          granted: false,
          upgrade: false,
          requestId,
          startedAtMs: Date.now(),
          durationMs: 0,
          listener,
          scheme,
          protocol: 'unknown',
          method: '',
          path: '',
          query: null,
          host: null,
          userAgent: null,
          peer: peer?.text ?? '',
          client: null,
          route: null,
          identity: null,
          credentialFingerprint: null,
          outcome: { kind: 'denied', reason },
          invalid: null,
          status: DENIALS[reason].status,
          upstream: null,
          upstreamMs: null,
          bytesIn: 0,
          bytesOut: 0,
          stream: 'none',
        });
        if (recorded === null) send();
        else void recorded.then(send);
      },
    };
  }

  #watchExposure(): void {
    const { policy, log } = this.settings;
    const tell = (all: readonly Exposure[]): void => {
      for (const exposure of all) {
        this.metrics.upstreamExposure(exposure.upstream, exposure.state);
        // Seen in the same table, so that nothing is ever sent to an upstream to find out whether it is there.
        if (exposure.listening !== null) this.metrics.upstreamUp(exposure.upstream, exposure.listening);
        if (exposure.state !== 'exposed') continue;
        const accepted = policy.upstreamExposure.mode === 'firewalled';
        log[accepted ? 'info' : 'warn'](
          'upstream.exposed',
          `upstream ${exposure.upstream} can be reached around guardbee: ${exposure.why}`,
          {
            'guardbee.upstream': constant(exposure.upstream),
            'guardbee.addresses': constant(exposure.addresses.join(' ')),
          },
        );
      }
    };
    this.#watch = new ExposureWatch({
      upstreams: policy.upstreams,
      ownBinds: this.open.flatMap(({ listener, address }) => ownBindsOf([listener], () => address.port)),
      onChange: tell,
    });
    tell(this.#watch.start());
  }

  async #openAdmin(): Promise<AddressInfo | null> {
    const { policy, log } = this.settings;
    if (policy.admin === null) return null;
    const { host, port } = policy.admin;
    const admin = createAdmin({ bind: policy.admin, metrics: this.metrics, readiness: () => this.#readiness(), log });
    try {
      const address = await admin.listen();
      this.#admin = admin;
      return address;
    } catch (error) {
      throw new AddressError('admin', hostPort(host, port), errorCode(error));
    }
  }

  #readiness(): ReadinessReport {
    const exposed = (this.#watch?.current ?? []).filter((one) => one.state === 'exposed');
    const unknown = (this.#watch?.current ?? []).filter((one) => one.state === 'unknown');
    const accepted = this.settings.policy.upstreamExposure.mode !== 'refuse';
    const kept = this.#state?.readiness() ?? [];
    const expired = [...this.#certificates].filter(([, notAfter]) => notAfter.getTime() <= Date.now());
    return {
      checks: [
        { name: 'policy', status: 'ok', detail: constant(`version ${this.settings.policy.version}`) },
        ...(this.settings.shadow === null ? [] : [shadowCheck(this.settings.shadow)]),
        { name: 'listeners', status: 'ok', detail: constant(`${String(this.open.length)} open`) },
        exposed.length > 0
          ? {
              name: 'upstream_exposure',
              status: accepted ? 'ok' : 'failed',
              detail: constant(exposed.map((one) => `${one.upstream}: ${one.why}`).join('; ')),
            }
          : {
              name: 'upstream_exposure',
              status: unknown.length > 0 ? 'unknown' : 'ok',
              detail: constant(
                unknown.map((one) => `${one.upstream}: ${one.why}`).join('; ') || 'no upstream is exposed',
              ),
            },
        {
          name: 'certificates',
          status: expired.length > 0 ? 'failed' : 'ok',
          detail: constant(expired.length > 0 ? `expired: ${expired.map(([name]) => name).join(', ')}` : 'valid'),
        },
        ...kept,
        ...(this.#audit === null ? [] : [this.#audit.readiness()]),
        ...[...this.#jwks].map(([name, { state }]) => keysCheck(name, state)),
        {
          name: 'draining',
          status: this.draining ? 'failed' : 'ok',
          detail: constant(this.draining ? 'shutting down' : 'no'),
        },
      ],
    };
  }
}

function shadowCheck({ version, file }: Policy): ReadinessCheck {
  return { name: 'shadow', status: 'ok', detail: constant(`version ${version} of ${file} is tried, to no effect`) };
}

/** Stale keys still verify; without any nobody with a token gets in. */
function keysCheck(name: string, { state, ageSeconds, fault }: JwksState): ReadinessCheck {
  const age = `fetched ${String(Math.floor(ageSeconds))} s ago`;
  const since = fault === null ? '' : `, last attempt: ${fault}`;
  switch (state) {
    case 'fresh':
      return { name: `jwks:${name}`, status: 'ok', detail: constant(`${age}${since}`) };
    case 'stale':
      return { name: `jwks:${name}`, status: 'unknown', detail: constant(`stale, ${age}${since}`) };
    case 'never_loaded':
      return { name: `jwks:${name}`, status: 'failed', detail: constant(`never loaded${since}`) };
  }
}

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
