import type { AddressInfo } from 'node:net';
import type { Clock, ExchangeSink } from './exchange.js';
import { decideAgain } from './gate/decide-again.js';
import { proveWith } from './gate/decide.js';
import { BasicProver } from './identity/basic.js';
import { JwtProver } from './identity/jwt.js';
import { POLICY_ALONE, type Provers } from './identity/provers.js';
import { endedBy } from './identity/revocation.js';
import { SessionProver } from './identity/session-prover.js';
import type { Log } from './observe/log.js';
import { type Figures, Metrics } from './observe/metrics.js';
import { ShadowFindings } from './observe/shadow-findings.js';
import type { ReadinessReport } from './observe/readiness.js';
import { AccessRecorder } from './observe/record.js';
import { type Redactor, constant } from './observe/redact.js';
import type { Listener, Policy } from './policy/policy.js';
import { exitCodeFor } from './policy/render-issues.js';
import { Upstreams } from './proxy/upstream.js';
import type { FilesRead } from './secret/files.js';
import { AddressError, errorCode } from './server/address-error.js';
import { Audit } from './server/audit.js';
import { type ConnectionEvents, connectionEvents } from './server/connection-events.js';
import { type Exposure, ExposureWatch } from './server/exposure.js';
import { ownBindsOf, upstreamsHere } from './server/exposure-issues.js';
import { noticeExposures } from './server/exposure-notices.js';
import { type FetchedKeys, fetchedKeysOf, keysOf } from './server/fetched-keys.js';
import type { Surroundings } from './server/handle.js';
import { HeldBodies } from './server/held-bodies.js';
import type { InheritedSockets } from './server/inherited-sockets.js';
import { ListenerCertificates, type TlsOfListeners } from './server/listener-certificates.js';
import { hostPort, urlOf } from './server/listener-url.js';
import { type OpenListener, openListener } from './server/listener.js';
import { OpenAdmin, type ReadyAdmin } from './server/open-admin.js';
import { OpenExchanges } from './server/open-exchanges.js';
import { OpenListeners, type ReadyListeners } from './server/open-listeners.js';
import { PasswordThread } from './server/password-thread.js';
import {
  acmeCheck,
  certificatesCheck,
  exposureCheck,
  keysCheck,
  policyCheck,
  shadowCheck,
  workersCheck,
} from './server/readiness-checks.js';
import {
  type ReadAgain,
  ReloadError,
  type Reloaded,
  StoppingError,
  changesBetween,
  notReloadable,
} from './server/reloading.js';
import { type ReloadWatcher, Reloads } from './server/reloads.js';
import { sessionRings, shadowRings } from './server/session-key.js';
import { SessionPages } from './server/session-pages.js';
import type { Borrowed } from './server/shadow-means.js';
import { Shadow } from './server/shadow.js';
import { SlowDenials } from './server/slow-denials.js';
import { State } from './server/state.js';
import type { Crew, Kept, PolicyReading, Served } from './server/together.js';
import { Ownership } from './state/ownership.js';
import { VERSION } from './version.js';

export interface AppSettings {
  readonly policy: Policy;
  /** What was found in the files that belong to it. Null: this process does not look whether they change. */
  readonly files: FilesRead | null;
  /** Reads it again, with all that it names. */
  readonly readAgain: () => Promise<ReadAgain>;
  /** Told of a policy before it is in force: what it holds must not be seen in the log from then on. */
  readonly installing: (policy: Policy) => void;
  /** A second policy that decides everything too, to no effect. Null: none is tried. */
  readonly shadow: Policy | null;
  readonly log: Log;
  readonly redactor: Redactor;
  /** Sockets that systemd opened for listeners. Null: none. */
  readonly inherited: InheritedSockets | null;
  /** Told of each reload, whoever asked for it, but for those of which nothing is said. Left out: nobody is. */
  readonly reloads?: ReloadWatcher;
  /** The workers that serve what this process accepts; left out where it serves itself. */
  readonly crew?: Crew;
  /** What the owner of all does for this process, which serves what that accepts; left out where it does that itself. */
  readonly served?: Served;
}

/** A policy that is ready to be gone over to. One of the two is called, once. */
export interface Ready {
  /** Resolves to how many exchanges that were underway the policy refuses. */
  commit(): Promise<number>;
  abandon(): Promise<void>;
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
  readonly #parts: Parts;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Where it listens now. */
  get serving(): readonly ServingAt[] {
    return this.#parts.listeners.current.map(({ listener, address }) => ({
      listener: listener.name,
      url: urlOf(listener, address),
    }));
  }

  get admin(): AddressInfo | null {
    return this.#parts.admin.address;
  }

  /** @throws AddressError, CertificateError, SessionKeyError, StateInUseError, StateError */
  static async start(settings: AppSettings): Promise<App> {
    const parts = new Parts(settings);
    try {
      await parts.start();
      return new App(parts);
    } catch (error) {
      await parts.stop();
      throw error;
    }
  }

  /** Every listener of the policy takes connections; in a drain none is meant to. */
  get listening(): boolean {
    return this.#parts.draining || this.#parts.listeners.current.every((open) => open.listening);
  }

  /** In milliseconds: the longest that a drain and the stop after it take. */
  get longestEndMs(): number {
    return this.#parts.policy.drainMs + LONGEST_STOP_MS;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#parts.connections;
  }

  /**
   * Reads the policy again and goes over to it, or says why it does not and changes nothing. Logged, counted and
   * recorded; one at a time.
   */
  async reload(): Promise<Reloaded> {
    return await this.#parts.reloads.ask();
  }

  /**
   * Makes ready for a policy that somebody else has read and judged. @throws what a reload would fail with
   */
  async prepare(policy: Policy): Promise<Ready> {
    const { go, abandon } = await this.#parts.readyFor(policy, new Map());
    return {
      commit: async () => (await go()).refused,
      abandon,
    };
  }

  /** What was counted since this was last called. */
  takeFigures(): Figures {
    return this.#parts.metrics.take();
  }

  /**
   * Takes nothing new and waits for what is underway, up to the policy's `drain`. True when all of it ended by itself.
   */
  async drain(): Promise<boolean> {
    const { policy } = this.#parts;
    this.#parts.draining = true;
    for (const open of this.#parts.listeners.all) open.drain();
    const { crew, served } = this.#parts.settings;
    crew?.drain();
    if (served === undefined) void this.#parts.audit?.evidence.note('draining');
    this.#parts.denials.release();
    const ended = Promise.all(this.#parts.listeners.all.map((open) => open.ended));
    const clean = (await within(policy.drainMs, ended)) !== 'late';
    if (!clean) {
      // The time is up: what can be told so is told, WebSockets by a Close frame, and has a moment to take it.
      this.#parts.cutAll();
      await within(FAREWELL_MS, ended);
    }
    await this.stop();
    return clean;
  }

  /** Ends everything at once. What does not end, as on a disk that never answers, is left after a while. */
  async stop(): Promise<void> {
    const ended = await within(LONGEST_STOP_MS, this.#parts.stop());
    if (ended === 'late') this.#parts.settings.log.error('stop.late', 'not everything ended: a disk may not answer');
  }
}

/** More than the last records and the last batch of a delivery may take. */
const LONGEST_STOP_MS = 10_000;
/** For the last words of streams that a drain cuts. */
const FAREWELL_MS = 500;

/** Waits no longer than that; what is late goes on all the same. */
async function within<T>(longestMs: number, work: Promise<T>): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, longestMs, 'late');
  });
  const first = await Promise.race([work, late]);
  clearTimeout(timer);
  return first;
}

const CLOCK: Clock = { now: () => Date.now(), ticks: () => performance.now() };

/** What belongs to one policy. Another brings its own, and a request keeps the one that it began with. */
interface InForce {
  readonly policy: Policy;
  readonly around: Surroundings;
  readonly tls: TlsOfListeners;
  readonly jwks: FetchedKeys;
}

/** What belongs to the process, and is opened once. */
interface Lasting extends Kept {
  readonly underway: OpenExchanges;
  readonly shadow: Shadow | null;
  readonly sink: ExchangeSink;
  readonly events: ConnectionEvents;
}

interface ReadyForPolicy {
  readonly go: () => Promise<{ readonly refused: number; readonly renewed: readonly string[] }>;
  readonly abandon: () => Promise<void>;
}

class Parts {
  readonly settings: AppSettings;
  readonly metrics: Metrics;
  readonly upstreams = new Upstreams();
  readonly bodies = new HeldBodies();
  readonly listeners = new OpenListeners();
  readonly denials: SlowDenials;
  readonly reloads: Reloads;
  readonly admin: OpenAdmin;
  readonly #certificates: ListenerCertificates;
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
  #watch: ExposureWatch | null = null;
  #state: Kept['state'] | null = null;
  #audit: Kept['audit'] = null;
  #underway: OpenExchanges | null = null;
  #owners: Kept['owners'] | null = null;
  #shadow: Shadow | null = null;
  #lasting: Lasting | null = null;
  #inForce: InForce | null = null;
  #started = false;

  constructor(settings: AppSettings) {
    this.settings = settings;
    this.metrics = new Metrics({ policy: settings.policy, version: VERSION, log: settings.log });
    const failures = settings.served?.failures;
    this.denials = new SlowDenials({
      clock: CLOCK,
      delayed: (listener) => {
        this.metrics.authFailureDelayed(listener);
      },
      ...(failures === undefined ? {} : { failures }),
    });
    this.#certificates = new ListenerCertificates({
      log: settings.log,
      metrics: this.metrics,
      issued: () => {
        this.#exchangeCertificates();
      },
    });
    this.reloads = new Reloads({
      readAgain: settings.readAgain,
      goOverTo: (read) => this.#goOverTo(read),
      inForce: () => this.policy,
      stopping: () => this.draining,
      log: settings.log,
      metrics: this.metrics,
      evidence: () => this.#audit?.evidence ?? null,
      watcher: settings.reloads,
    });
    this.admin = new OpenAdmin({
      metrics: {
        text: async () => {
          await settings.crew?.gather();
          return await this.metrics.text();
        },
        contentType: this.metrics.contentType,
      },
      readiness: () => this.#readiness(),
      log: settings.log,
    });
  }

  /** In force. */
  get policy(): Policy {
    return this.#inForce?.policy ?? this.settings.policy;
  }

  get audit(): Kept['audit'] {
    return this.#audit;
  }

  async start(): Promise<void> {
    const { policy, log, redactor, served, crew } = this.settings;
    // Everything that can be wrong is found before the first address is listened on.
    const tls = await this.#certificates.of(policy, null);
    this.#certificates.show(tls);
    let own: State | null = null;
    const state: Kept['state'] =
      served?.state ??
      (own = await State.open(policy, log, {
        noteAccess: async ({ how, by }) => {
          const evidence = this.#audit?.evidence;
          return evidence !== undefined && (await evidence.note('audit_accessed', { by, how }));
        },
        reload: async () => {
          if (this.draining) return { ok: false, error: 'guardbee is being stopped' };
          if (!this.#started) return { ok: false, error: 'guardbee is just starting; try again' };
          return { ok: true, reloaded: await this.reloads.ask() };
        },
      }));
    this.#state = state;
    const { revocations, limits } = state;
    this.metrics.sharedLimits(() => (limits.shared === null ? null : limits.shared.state === 'up'));
    this.metrics.revocationStores(() => revocations.status);
    this.metrics.watchHeldBodies(() => this.bodies.bytes);
    this.metrics.watchReadiness(() => this.#readiness());
    this.metrics.watchJwks(() =>
      [...(this.#inForce?.jwks ?? [])].map(([authenticator, { state }]) => ({
        authenticator,
        ageSeconds: state.ageSeconds,
        failures: state.failures,
      })),
    );
    const rings = await sessionRings(policy);
    const underway = new OpenExchanges((identity, nowMs) => endedBy(revocations, identity, nowMs));
    this.#underway = underway;
    let ownOwners: Ownership | null = null;
    const owners: Kept['owners'] =
      served?.owners ??
      (ownOwners = await Ownership.open(policy, {
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
      }));
    this.#owners = owners;
    const shadow = this.#tryShadow(revocations, owners, rings);
    this.#shadow = shadow;
    const recorder = new AccessRecorder(log, redactor);
    const audit =
      served !== undefined
        ? served.audit
        : policy.audit === null
          ? null
          : await Audit.open(policy.audit, policy, log, redactor);
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
    const events = connectionEvents({
      log,
      redactor,
      metrics: this.metrics,
      sink,
      evidence: audit?.evidence ?? null,
      counted: (by) => {
        this.connections += by;
      },
    });
    const lasting: Lasting = { state, owners, audit, underway, shadow, sink, events };
    this.#lasting = lasting;
    const inForce = this.#inForceOf(policy, tls, rings, lasting, null);
    this.#inForce = inForce;
    for (const source of inForce.jwks.values()) source.start();
    shadow?.start();
    if (served === undefined) {
      await audit?.evidence.note('started', {
        listeners: policy.listeners.map(({ name }) => name),
        version: VERSION,
      });
    }
    if (crew !== undefined && own !== null && ownOwners !== null) {
      this.metrics.watchWorkers(() => crew.workers);
      await crew.start({ state: own, owners: ownOwners, audit, metrics: this.metrics }, policy);
    }
    await this.listeners.open(policy.listeners, (listener) => this.#listen(listener, inForce, events));
    if (served !== undefined) {
      this.#started = true;
      return;
    }
    this.#watchExposure();
    (await this.admin.readyFor(policy.admin)).go();
    const { files } = this.settings;
    this.reloads.watchFiles(files === null ? null : await this.reloads.fileWatchOf(policy, files));
    this.#started = true;
    this.#certificates.careFor(policy);
  }

  async #listen(listener: Listener, { tls, around }: InForce, events: ConnectionEvents): Promise<OpenListener> {
    const { host, port, path } = listener.bind;
    const { crew, served } = this.settings;
    try {
      if (crew !== undefined) return await crew.open(listener, events, this.settings.inherited);
      const contexts = tls.get(listener.name)?.contexts ?? null;
      if (served !== undefined) return served.open(listener, contexts, around, events);
      return await openListener(listener, contexts, around, events, this.settings.inherited);
    } catch (error) {
      const taken = error instanceof Error && 'port' in error && typeof error.port === 'number' ? error.port : port;
      throw new AddressError(listener.name, path ?? hostPort(host, taken), errorCode(error));
    }
  }

  /** Everything that one policy needs of its own. @param before what was in force, for what need not be made anew */
  #inForceOf(
    policy: Policy,
    tls: InForce['tls'],
    rings: Awaited<ReturnType<typeof sessionRings>>,
    { state, owners, audit, underway, shadow, sink }: Lasting,
    before: InForce | null,
  ): InForce {
    const { log } = this.settings;
    const { revocations } = state;
    const jwks = fetchedKeysOf(policy, before?.jwks ?? null, log);
    const jwt = new JwtProver(({ name, keys }) => keysOf(keys, jwks.get(name)), revocations);
    const sessions = new SessionProver(rings, revocations);
    const provers: Provers = {
      ...POLICY_ALONE,
      basic: this.#basic.prove.bind(this.#basic),
      jwt: (...asked) => jwt.prove(...asked),
      session: (...asked) => sessions.prove(...asked),
      ended: (identity, nowMs) => endedBy(revocations, identity, nowMs),
    };
    const around: Surroundings = {
      upstreams: this.upstreams,
      sink,
      clock: CLOCK,
      means: {
        prove: proveWith(provers),
        owners,
        limiter: state.limits,
        holdBody: shadow?.watching(this.bodies.hold) ?? this.bodies.hold,
      },
      open: underway,
      generation: before === null ? underway.generation : underway.generation + 1,
      ...(shadow === null ? {} : { shadow }),
      sessionPages: new SessionPages(sessions, provers, revocations, this.denials),
      denials: this.denials,
      witness: audit?.evidence ?? null,
      ...(policy.acme === null ? {} : { http01: (host, path) => this.#certificates.challenges.http(host, path) }),
      draining: () => this.draining,
      broke: (error, requestId) => {
        log.error('request.broke', 'a request failed inside guardbee', {
          'guardbee.request_id': constant(requestId),
          ...log.errorFields(error),
        });
      },
    };
    return { policy, around, tls, jwks };
  }

  /** All of it or nothing: what can fail comes first, and then everything changes in one turn of the loop. */
  async #goOverTo(read: ReadAgain & { readonly ok: true }): Promise<Reloaded> {
    const lasting = this.#lasting;
    const old = this.#inForce;
    if (lasting === null || old === null || this.draining) throw new StoppingError();
    const { policy } = read;
    const fixed = notReloadable(old.policy, read);
    if (fixed.length > 0) throw new ReloadError(exitCodeFor(fixed), fixed);
    const { go } = await this.readyFor(policy, read.files, read.reading);
    const { refused, renewed } = await go();
    return {
      ok: true,
      before: old.policy.version,
      after: policy.version,
      changes: changesBetween(old.policy, policy, renewed),
      warnings: policy.warnings,
      refused,
    };
  }

  /** All that can fail. What it resolves to fails no more. @param reading for the workers, where there are some */
  async readyFor(policy: Policy, files: FilesRead, reading?: PolicyReading): Promise<ReadyForPolicy> {
    const lasting = this.#lasting;
    const old = this.#inForce;
    if (lasting === null || old === null || this.draining) throw new TypeError('nothing is in force that could change');
    const { crew } = this.settings;
    const tls = await this.#certificates.of(policy, old.tls);
    const rings = await sessionRings(policy);
    const prepared = await lasting.state.prepare(policy, lasting.owners);
    const next = this.#inForceOf(policy, tls, rings, lasting, old);
    let listeners: ReadyListeners | null = null;
    const alone = this.settings.served === undefined;
    const watches = alone && this.settings.files !== null;
    const fileWatch = watches ? await this.reloads.fileWatchOf(policy, files) : null;
    let admin: ReadyAdmin | null = null;
    let others: Ready | null = null;
    const abandon = async (): Promise<void> => {
      listeners?.abandon();
      await admin?.abandon();
      await others?.abandon();
      await prepared.abandon();
    };
    try {
      if (crew !== undefined && reading !== undefined) others = await crew.prepare(policy, reading);
      listeners = await this.listeners.readyFor(policy.listeners, (one) => this.#listen(one, next, lasting.events));
      if (alone) admin = await this.admin.readyFor(policy.admin);
      if (this.#isStopping()) throw new StoppingError();
    } catch (error) {
      await abandon();
      throw error;
    }
    const go = async (): Promise<Awaited<ReturnType<ReadyForPolicy['go']>>> => {
      // Nothing fails here, and nothing is waited for until all is changed.
      this.settings.installing(policy);
      prepared.commit();
      this.#inForce = next;
      const leaveMs = policy.drainMs;
      listeners.go(tls, next.around, leaveMs);
      const elsewhere = others?.commit() ?? 0;
      this.metrics.policyInstalled(policy);
      this.upstreams.policyInstalled(policy.upstreams);
      this.#certificates.show(next.tls);
      this.#certificates.careFor(policy);
      // One may have come while the policy was made ready.
      this.#exchangeCertificates();
      lasting.audit?.policyExchanged(policy.version);
      lasting.audit?.exchangeCredentials(policy.audit);
      this.settings.log.level = policy.log.level;
      for (const [name, source] of old.jwks) if (next.jwks.get(name) !== source) source.stop();
      for (const [name, source] of next.jwks) if (old.jwks.get(name) !== source) source.start();
      if (alone) {
        this.reloads.watchFiles(fileWatch);
        this.#watch?.stop();
        this.#watchExposure();
      }
      admin?.go();
      const refused = await lasting.underway.policyExchanged({
        decide: (permit, caller, nowMs) => decideAgain(policy, permit, caller, nowMs, next.around.means),
        graceMs: leaveMs,
        broke: (error, { requestId }) => {
          next.around.broke(error, requestId);
        },
      });
      const renewed = [...tls].flatMap(([name, one]) => {
        const was = old.tls.get(name);
        return was === undefined || was.digest === one.digest ? [] : [name];
      });
      return { refused: refused + (await elsewhere), renewed };
    };
    return { go, abandon };
  }

  #isStopping(): boolean {
    return this.draining;
  }

  cutAll(): void {
    this.#underway?.cutAll('shutting_down');
  }

  async stop(): Promise<void> {
    this.draining = true;
    this.reloads.watchFiles(null);
    this.#watch?.stop();
    for (const source of this.#inForce?.jwks.values() ?? []) source.stop();
    await this.#certificates.stop();
    for (const open of this.listeners.all) open.destroy();
    // What they still have to say is heard before what keeps it is closed.
    await this.settings.crew?.stop();
    await Promise.all(this.listeners.all.map((open) => open.ended));
    this.#underway?.stop();
    this.denials.release();
    await this.#shadow?.stop();
    this.#shadow = null;
    await this.#passwords.stop();
    this.upstreams.close();
    await this.admin.close();
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

  /** New handshakes get what was issued since; nothing else changes. */
  #exchangeCertificates(): void {
    const inForce = this.#inForce;
    if (inForce === null || this.draining) return;
    const tls = new Map(inForce.tls);
    for (const open of this.listeners.current) {
      const { listener } = open;
      const issued = this.#certificates.issuedSince(listener, tls.get(listener.name));
      if (issued === null) continue;
      tls.set(listener.name, issued);
      open.swap(listener, issued.contexts, inForce.around, inForce.policy.drainMs);
    }
    this.#inForce = { ...inForce, tls };
    this.#certificates.show(tls);
  }

  #watchExposure(): void {
    const { policy } = this;
    const tell = (all: readonly Exposure[]): void => {
      noticeExposures(all, policy, this.metrics, this.settings.log);
    };
    this.#watch = new ExposureWatch({
      upstreams: upstreamsHere(policy),
      ownBinds: this.listeners.current.flatMap(({ listener, address }) => ownBindsOf([listener], () => address.port)),
      onChange: tell,
    });
    tell(this.#watch.start());
  }

  #readiness(): ReadinessReport {
    const { policy } = this;
    const { redactor, shadow, crew } = this.settings;
    return {
      checks: [
        policyCheck(policy, this.reloads.failed, redactor),
        ...(shadow === null ? [] : [shadowCheck(shadow)]),
        { name: 'listeners', status: 'ok', detail: constant(`${String(this.listeners.current.length)} open`) },
        exposureCheck(this.#watch?.current ?? [], policy.upstreamExposure.mode !== 'refuse'),
        certificatesCheck(this.#inForce?.tls ?? new Map()),
        ...(policy.acme === null ? [] : [acmeCheck(this.#certificates.hosts, redactor)]),
        ...(this.#state?.readiness() ?? []),
        ...(crew === undefined ? [] : [workersCheck(crew.workers)]),
        ...(this.#audit === null ? [] : [this.#audit.readiness()]),
        ...[...(this.#inForce?.jwks ?? [])].map(([name, { state }]) => keysCheck(name, state)),
        {
          name: 'draining',
          status: this.draining ? 'failed' : 'ok',
          detail: constant(this.draining ? 'shutting down' : 'no'),
        },
      ],
    };
  }
}
