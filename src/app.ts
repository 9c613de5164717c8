import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { SecureContext } from 'node:tls';
import type { AcmeCertificates, HostState } from './acme/certificates.js';
import { PendingChallenges } from './acme/pending-challenges.js';
import { DENIALS } from './denial.js';
import type { Clock, ExchangeSink } from './exchange.js';
import { decideAgain } from './gate/decide-again.js';
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
import { type Figures, Metrics, type Workers } from './observe/metrics.js';
import { ShadowFindings } from './observe/shadow-findings.js';
import type { ReadinessCheck, ReadinessReport } from './observe/readiness.js';
import { AccessRecorder } from './observe/record.js';
import { type Redactor, constant } from './observe/redact.js';
import { authorityDigest } from './policy/client-authority.js';
import type { Issue, IssueCode } from './policy/issue.js';
import type {
  Bind,
  CertificatePair,
  HttpListener,
  JwtAuthenticator,
  Listener,
  Policy,
  TcpListener,
} from './policy/policy.js';
import { exitCodeFor } from './policy/render-issues.js';
import type { FilesRead } from './secret/files.js';
import { Upstreams } from './proxy/upstream.js';
import {
  CertificateError,
  type SniContexts,
  createSniContexts,
  describeCertificate,
  ensureSelfSigned,
} from './server/certificate.js';
import { type Exposure, ExposureWatch } from './server/exposure.js';
import { ownBindsOf, upstreamsHere } from './server/exposure-issues.js';
import type { Surroundings } from './server/handle.js';
import type { InheritedSockets } from './server/inherited-sockets.js';
import { HeldBodies } from './server/held-bodies.js';
import { type ConnectionEvents, type OpenListener, contextOptions, openListener } from './server/listener.js';
import { OpenExchanges } from './server/open-exchanges.js';
import { Audit } from './server/audit.js';
import type { Crew, Kept, PolicyReading, Served } from './server/together.js';
import { State, StateError } from './server/state.js';
import { PasswordThread } from './server/password-thread.js';
import {
  OneAtATime,
  type ReadAgain,
  ReloadError,
  type Reloaded,
  StoppingError,
  changesBetween,
  digestOfPairs,
  logWarnings,
  notReloadable,
  placed,
} from './server/reloading.js';
import type { FileWatch } from './server/file-watch.js';
import { Shadow } from './server/shadow.js';
import type { Borrowed } from './server/shadow-means.js';
import { SlowDenials } from './server/slow-denials.js';
import { SessionKeyError, sessionRings, shadowRings } from './server/session-key.js';
import { SessionPages } from './server/session-pages.js';
import { Ownership } from './state/ownership.js';
import { VERSION } from './version.js';

/** Of unix sockets alone. */
const OF_SOCKETS: Readonly<Record<string, (address: string) => string>> = {
  NOT_A_SOCKET: (address) => `${address} is there already, and is no socket`,
  DIRECTORY_TOO_OPEN: (address) =>
    `${address} cannot be listened on: others may write to its directory, and put a socket of their own there (chmod 0755, of this user or root)`,
};

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
          : code === 'SOCKET_GONE'
            ? `the socket that systemd opened at ${address} was closed when a reload removed its listener; restart guardbee`
            : (OF_SOCKETS[code]?.(address) ?? `${address} cannot be listened on (${code})`),
    );
    this.listener = listener;
    this.code = code;
  }
}

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

export interface ReloadWatcher {
  began(): void;
  /** @param outcome null: it failed inside guardbee */
  ended(outcome: Reloaded | null): void;
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
    return this.#parts.open.map(({ listener, address }) => ({
      listener: listener.name,
      url: urlOf(listener, address),
    }));
  }

  get admin(): AddressInfo | null {
    return this.#parts.adminAddress;
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
    return this.#parts.draining || this.#parts.open.every((open) => open.listening);
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
    return await this.#parts.reload();
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
    for (const open of this.#parts.all) open.drain();
    const { crew, served } = this.#parts.settings;
    crew?.drain();
    if (served === undefined) void this.#parts.audit?.evidence.note('draining');
    this.#parts.denials.release();
    const ended = Promise.all(this.#parts.all.map((open) => open.ended));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => {
        resolve(false);
      }, policy.drainMs);
    });
    const clean = await Promise.race([ended.then(() => true as const), late]);
    clearTimeout(timer);
    if (!clean) await this.#farewell(ended);
    await this.stop();
    return clean;
  }

  /** The time is up: what can be told so is told, WebSockets by a Close frame, and has a moment to take it. */
  async #farewell(ended: Promise<unknown>): Promise<void> {
    this.#parts.cutAll();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FAREWELL_MS);
    });
    await Promise.race([ended, late]);
    clearTimeout(timer);
  }

  /** Ends everything at once. What does not end, as on a disk that never answers, is left after a while. */
  async stop(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, LONGEST_STOP_MS, 'late');
    });
    const ended = await Promise.race([this.#parts.stop(), late]);
    clearTimeout(timer);
    if (ended === 'late') this.#parts.settings.log.error('stop.late', 'not everything ended: a disk may not answer');
  }
}

/** `https://192.168.1.10:7833`, `tcp://192.168.1.10:9000-9099`, `tls://…`. */
function urlOf(listener: Listener, { address, port }: AddressInfo): string {
  if (listener.bind.path !== undefined) return `unix:${listener.bind.path}`;
  const at = hostPort(address, port);
  if (listener.type === 'redirect') return `http://${at}`;
  if (listener.type === 'http') return `${listener.tls === null ? 'http' : 'https'}://${at}`;
  const range = listener.lastPort === listener.bind.port ? '' : `-${String(listener.lastPort)}`;
  return `${listener.tls === null ? 'tcp' : 'tls'}://${at}${range}`;
}

/** More than the last records and the last batch of a delivery may take. */
const LONGEST_STOP_MS = 10_000;
/** For the last words of streams that a drain cuts. */
const FAREWELL_MS = 500;

function hostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${String(port)}`;
}

const CLOCK: Clock = { now: () => Date.now(), ticks: () => performance.now() };

/** What belongs to one policy. Another brings its own, and a request keeps the one that it began with. */
interface InForce {
  readonly policy: Policy;
  readonly around: Surroundings;
  /** By the name of the listener. */
  readonly tls: ReadonlyMap<string, ListenerTls>;
  /** By the name of the authenticator. */
  readonly jwks: ReadonlyMap<string, JwksSource>;
}

interface ListenerTls {
  readonly contexts: SniContexts;
  /** The same for all that shows and asks for the same. */
  readonly digest: string;
  /** Null: there is none yet, and an authority is asked. */
  readonly notAfter: Date | null;
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
  /** Of the policy in force. */
  open: OpenListener[] = [];
  /** No longer in the policy; with what is underway there. */
  readonly #leaving = new Set<OpenListener>();
  readonly denials: SlowDenials;
  readonly #reloads = new OneAtATime(() => this.#watchedReload());
  /** Somebody waits for what comes of the next reload, or is to hear of it. */
  #aloud = false;
  #fileWatch: FileWatch | null = null;
  readonly #passwords = new PasswordThread({
    died: (error) => {
      const { log } = this.settings;
      log.error('password.thread_died', 'the thread that checks passwords died; the next login starts another', {
        ...log.errorFields(error),
      });
    },
  });
  readonly #challenges = new PendingChallenges();
  #acme: AcmeCertificates | null = null;
  readonly #basic = new BasicProver(this.#passwords.check);
  draining = false;
  connections = 0;
  #admin: Admin | null = null;
  adminAddress: AddressInfo | null = null;
  #watch: ExposureWatch | null = null;
  #state: Kept['state'] | null = null;
  #audit: Kept['audit'] = null;
  #underway: OpenExchanges | null = null;
  #owners: Kept['owners'] | null = null;
  #shadow: Shadow | null = null;
  #lasting: Lasting | null = null;
  #inForce: InForce | null = null;
  /** Why the last reload changed nothing; null: it did, or there was none. */
  #reloadFailed: string | null = null;
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
  }

  /** In force. */
  get policy(): Policy {
    return this.#inForce?.policy ?? this.settings.policy;
  }

  get audit(): Kept['audit'] {
    return this.#audit;
  }

  /** Listeners that are open, those included that only end what they have. */
  get all(): readonly OpenListener[] {
    return [...this.open, ...this.#leaving];
  }

  async start(): Promise<void> {
    const { policy, log, redactor, served, crew } = this.settings;
    // Everything that can be wrong is found before the first address is listened on.
    await this.#readIssued(policy);
    const tls = await this.#tlsOf(policy, null);
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
          return { ok: true, reloaded: await this.reload() };
        },
      }));
    this.#state = state;
    const { revocations, limits } = state;
    this.metrics.sharedLimits(() => (limits.shared === null ? null : limits.shared.state === 'up'));
    this.metrics.revocationStores(() => revocations.status);
    this.metrics.watchHeldBodies(() => this.bodies.bytes);
    this.metrics.watchReadiness(() => this.#readiness());
    this.metrics.watchJwks(() =>
      [...(this.#inForce?.jwks ?? [])].map(
        ([
          authenticator,
          {
            state: { ageSeconds, failures },
          },
        ]) => ({
          authenticator,
          ageSeconds,
          failures,
        }),
      ),
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
    const events = this.#events(sink, audit?.evidence ?? null);
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
    for (const listener of policy.listeners) this.open.push(await this.#listen(listener, inForce, events));
    if (served !== undefined) {
      this.#started = true;
      return;
    }
    this.#watchExposure();
    if (policy.admin !== null) {
      this.#admin = this.#newAdmin(policy.admin);
      this.adminAddress = await adminListening(this.#admin, policy.admin);
    }
    this.#watchFiles(await this.#fileWatchOf(policy, this.settings.files));
    this.#started = true;
    this.#careForCertificates(policy);
  }

  /** The one that there is, where there is one; another that is not started yet; null where none is wanted. */
  async #fileWatchOf({ watch }: Policy, files: FilesRead | null): Promise<FileWatch | null> {
    if (!watch || files === null || this.settings.files === null) return null;
    if (this.#fileWatch !== null) return this.#fileWatch;
    const { FileWatch } = await import('./server/file-watch.js');
    return new FileWatch({ files, reload: async (aloud) => await this.#filesChanged(aloud) });
  }

  #watchFiles(next: FileWatch | null): void {
    const before = this.#fileWatch;
    if (next === before) return;
    this.#fileWatch = next;
    before?.stop();
    next?.start();
  }

  async #filesChanged(aloud: boolean): Promise<void> {
    if (this.draining) return;
    try {
      if (aloud) this.#aloud = true;
      await this.#reloads.ask();
    } catch (error) {
      const { log } = this.settings;
      log.error('policy.reload_broke', 'a reload failed inside guardbee', log.errorFields(error));
    }
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
    const jwks = this.#jwksOf(policy, before);
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
      ...(policy.acme === null ? {} : { http01: (host, path) => this.#challenges.http(host, path) }),
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

  /** One at a time; logged, counted and recorded. */
  async reload(): Promise<Reloaded> {
    this.#aloud = true;
    return await this.#reloads.ask();
  }

  async #watchedReload(): Promise<Reloaded> {
    const { reloads } = this.settings;
    const aloud = this.#aloud;
    this.#aloud = false;
    if (aloud) reloads?.began();
    let outcome: Reloaded | null = null;
    try {
      outcome = await this.#reload(aloud);
      return outcome;
    } finally {
      if (aloud || outcome?.ok === true) reloads?.ended(outcome);
    }
  }

  /** @param aloud what fails is said; it is not where it may be the middle of a change */
  async #reload(aloud: boolean): Promise<Reloaded> {
    const { log } = this.settings;
    const before = this.policy.version;
    let outcome: Reloaded;
    let files: FilesRead | null = null;
    try {
      const read = await this.settings.readAgain();
      ({ files } = read);
      if (!read.ok) throw new ReloadError(read.exitCode, read.issues);
      outcome = await this.#goOverTo(read);
    } catch (error) {
      if (error instanceof StoppingError) return { ok: false, before, exitCode: 1, issues: [] };
      const failed = problemOf(error, this.policy);
      if (failed === null) throw error;
      outcome = { ok: false, before, exitCode: failed.exitCode, issues: failed.issues };
    }
    const failure = aloud ? 'failed_aloud' : 'failed_quietly';
    if (files !== null) this.#fileWatch?.wasRead(files, outcome.ok ? 'taken_over' : failure);
    if (!outcome.ok && !aloud) {
      log.debug('policy.reload_waits', 'what the files of the policy hold cannot be taken over, or not yet', {
        'guardbee.policy_version': constant(before),
        'error.type': constant(outcome.issues[0]?.code ?? 'unknown'),
      });
      return outcome;
    }
    this.metrics.reloaded(outcome.ok, Date.now());
    if (outcome.ok) {
      this.#reloadFailed = null;
      log.info('policy.reloaded', `the policy was read again: ${outcome.changes.join('; ') || 'nothing has changed'}`, {
        'guardbee.policy': constant(this.policy.file),
        'guardbee.policy_version': constant(outcome.after),
        'guardbee.policy_version_before': constant(before),
        'guardbee.exchanges_refused': outcome.refused,
      });
      logWarnings(outcome.warnings, log);
    } else {
      const [first] = outcome.issues;
      this.#reloadFailed = first === undefined ? 'no reason is known' : placed(first);
      log.error(
        'policy.reload_failed',
        `the policy could not be read again; version ${before} stays in force (${String(outcome.issues.length)} ${outcome.issues.length === 1 ? 'problem' : 'problems'})`,
        { 'guardbee.policy_version': constant(before), 'guardbee.exit_code': outcome.exitCode },
      );
      for (const issue of outcome.issues) log.error(`policy.${issue.code}`, placed(issue));
    }
    await this.#audit?.evidence.note(
      'reloaded',
      outcome.ok ? { before, after: outcome.after } : { before, code: outcome.issues[0]?.code ?? 'unknown' },
      outcome.ok ? {} : { result: 'failed' },
    );
    return outcome;
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
    await this.#readIssued(policy);
    const tls = await this.#tlsOf(policy, old);
    const rings = await sessionRings(policy);
    const prepared = await lasting.state.prepare(policy, lasting.owners);
    const next = this.#inForceOf(policy, tls, rings, lasting, old);
    const staying = new Map<Listener, OpenListener>();
    const opened: OpenListener[] = [];
    const alone = this.settings.served === undefined;
    const fileWatch = alone ? await this.#fileWatchOf(policy, files) : null;
    const admin = !alone || sameBind(old.policy.admin, policy.admin) ? this.#admin : this.#newAdmin(policy.admin);
    let adminAddress = this.adminAddress;
    let others: Ready | null = null;
    const abandon = async (): Promise<void> => {
      for (const open of opened) open.destroy();
      if (admin !== this.#admin) await admin?.close();
      await others?.abandon();
      await prepared.abandon();
    };
    try {
      if (crew !== undefined && reading !== undefined) others = await crew.prepare(policy, reading);
      // What systemd handed over is closed for good if another one can't be opened after it.
      for (const listener of inheritedLast(policy.listeners)) {
        const there = this.open.find((one) => isAt(one.listener, listener) && ![...staying.values()].includes(one));
        if (there === undefined) opened.push(await this.#listen(listener, next, lasting.events));
        else staying.set(listener, there);
      }
      if (admin !== this.#admin)
        adminAddress = admin === null || policy.admin === null ? null : await adminListening(admin, policy.admin);
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
      const byName = new Map(opened.map((open) => [open.listener.name, open]));
      for (const [listener, open] of staying) {
        open.swap(listener, tls.get(listener.name)?.contexts ?? null, next.around, leaveMs);
        byName.set(listener.name, open);
      }
      const elsewhere = others?.commit() ?? 0;
      const stays = new Set(byName.values());
      for (const open of this.open) if (!stays.has(open)) this.#leave(open, leaveMs);
      this.open = policy.listeners.flatMap(({ name }) => byName.get(name) ?? []);
      this.metrics.policyInstalled(policy);
      this.upstreams.policyInstalled(policy.upstreams);
      this.#showCertificates();
      this.#careForCertificates(policy);
      // One may have come while the policy was made ready.
      this.#exchangeCertificates();
      lasting.audit?.policyExchanged(policy.version);
      lasting.audit?.exchangeCredentials(policy.audit);
      this.settings.log.level = policy.log.level;
      for (const [name, source] of old.jwks) if (next.jwks.get(name) !== source) source.stop();
      for (const [name, source] of next.jwks) if (old.jwks.get(name) !== source) source.start();
      if (alone) {
        this.#watchFiles(fileWatch);
        this.#watch?.stop();
        this.#watchExposure();
      }
      const oldAdmin = this.#admin;
      this.#admin = admin;
      this.adminAddress = adminAddress;
      if (oldAdmin !== admin) void oldAdmin?.close();
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

  /** The listener is in the policy no longer: what is underway there may come to its end. */
  #leave(open: OpenListener, leaveMs: number): void {
    this.#leaving.add(open);
    open.leave();
    const timer = setTimeout(() => {
      open.destroy();
    }, leaveMs).unref();
    void open.ended.then(() => {
      clearTimeout(timer);
      this.#leaving.delete(open);
    });
  }

  #isStopping(): boolean {
    return this.draining;
  }

  cutAll(): void {
    this.#underway?.cutAll('shutting_down');
  }

  async stop(): Promise<void> {
    this.draining = true;
    this.#watchFiles(null);
    this.#watch?.stop();
    for (const source of this.#inForce?.jwks.values() ?? []) source.stop();
    await this.#acme?.stop();
    for (const open of this.all) open.destroy();
    // What they still have to say is heard before what keeps it is closed.
    await this.settings.crew?.stop();
    await Promise.all(this.all.map((open) => open.ended));
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

  /** Of every listener that has TLS. Contexts of certificates that are the same as before are the same. */
  async #tlsOf(policy: Policy, before: InForce | null): Promise<InForce['tls']> {
    const all = new Map<string, ListenerTls>();
    for (const listener of policy.listeners) {
      if (listener.type === 'redirect' || listener.tls === null) continue;
      const { tls, name } = listener;
      const pairs =
        tls.kind === 'files'
          ? tls.certificates
          : tls.kind === 'acme'
            ? this.#issuedTo(tls.hosts)
            : await ensureSelfSigned(join(policy.stateDir, 'tls', name), tls.names).then((made) => [
                { certFile: made.certFile, keyFile: made.keyFile, certPem: made.certPem, key: made.keyPem },
              ]);
      all.set(name, this.#contextsOf(listener, pairs, before?.tls.get(name)));
    }
    if (before === null) this.#showCertificates(all);
    return all;
  }

  /** @param known of the same listener before; the same again where nothing has changed */
  #contextsOf(
    listener: HttpListener | TcpListener,
    pairs: readonly CertificatePair[],
    known: ListenerTls | undefined,
  ): ListenerTls {
    const { tls, clientCertificates } = listener;
    const missing = tls?.kind === 'acme' ? tls.hosts.filter((host) => this.#acme?.pairOf(host) == null) : null;
    const judge = clientCertificates === null ? '' : authorityDigest(clientCertificates.authority);
    const digest = `${digestOfPairs(pairs)} ${judge} ${missing?.join(' ') ?? ''}`;
    if (known?.digest === digest) return known;
    const challenged = (servername: string): SecureContext | null => this.#challenges.tls(servername);
    const awaited = missing === null ? null : { missing, challenged };
    const contexts = createSniContexts(pairs, contextOptions(listener), awaited);
    const ends = pairs.map((pair) => describeCertificate(pair.certPem).notAfter.getTime());
    return { contexts, digest, notAfter: ends.length === 0 ? null : new Date(Math.min(...ends)) };
  }

  #issuedTo(hosts: readonly string[]): CertificatePair[] {
    return hosts.flatMap((host) => this.#acme?.pairOf(host) ?? []);
  }

  /** What an authority issued at an earlier time. Nobody is asked anything. @throws CertificateError, StateError */
  async #readIssued(policy: Policy): Promise<void> {
    if (policy.acme === null) return;
    const { log } = this.settings;
    const { AcmeCertificates, AcmeFileError } = await import('./acme/certificates.js');
    this.#acme ??= new AcmeCertificates(policy.stateDir, this.#challenges, {
      notice: ({ level, event, message, host }) => {
        log[level](event, message, { 'guardbee.host': constant(host) });
      },
      exchanged: () => {
        this.#exchangeCertificates();
      },
      broke: (error) => {
        log.error('acme.broke', 'an order failed inside guardbee', log.errorFields(error));
      },
    });
    try {
      await this.#acme.read(acmeHosts(policy));
    } catch (error) {
      throw error instanceof AcmeFileError ? new CertificateError('key_too_open', error.message) : error;
    }
  }

  #careForCertificates(policy: Policy): void {
    this.#acme?.install(policy.acme, acmeHosts(policy));
    if (policy.acme !== null) this.metrics.watchAcme(() => this.#acme?.states() ?? []);
  }

  /** New handshakes get what was issued since; nothing else changes. */
  #exchangeCertificates(): void {
    const inForce = this.#inForce;
    if (inForce === null || this.draining) return;
    const all = new Map(inForce.tls);
    for (const open of this.open) {
      const { listener } = open;
      if (listener.type === 'redirect' || listener.tls?.kind !== 'acme') continue;
      const known = all.get(listener.name);
      const made = this.#contextsOf(listener, this.#issuedTo(listener.tls.hosts), known);
      if (made === known) continue;
      all.set(listener.name, made);
      open.swap(listener, made.contexts, inForce.around, inForce.policy.drainMs);
    }
    this.#inForce = { ...inForce, tls: all };
    this.#showCertificates();
  }

  #showCertificates(tls: InForce['tls'] = this.#inForce?.tls ?? new Map()): void {
    const { log } = this.settings;
    // Those of an ACME authority are renewed, and it is said of each host where they are not.
    const ours = [...tls].flatMap(([name, { notAfter, contexts }]): [string, Date][] =>
      notAfter === null || contexts.challenged !== null ? [] : [[name, notAfter]],
    );
    this.metrics.certificates(ours);
    for (const [name, notAfter] of ours) {
      const days = Math.floor((notAfter.getTime() - Date.now()) / 86_400_000);
      if (days >= 30) continue;
      log.warn('certificate.expiring', `the certificate of listener "${name}" expires in ${String(days)} days`, {
        'guardbee.listener': constant(name),
        'guardbee.days_left': days,
      });
    }
  }

  /** Sources of the keys that are fetched; listening does not wait for them. One that was there goes on. */
  #jwksOf(policy: Policy, before: InForce | null): InForce['jwks'] {
    const { log } = this.settings;
    const sources = new Map<string, JwksSource>();
    for (const authenticator of policy.authenticators.values()) {
      if (authenticator.type !== 'jwt' || authenticator.keys.kind !== 'url') continue;
      const { name } = authenticator;
      const { url } = authenticator.keys;
      const known = before?.jwks.get(name);
      if (known?.url === url) {
        sources.set(name, known);
        continue;
      }
      const source = new JwksSource({
        url,
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
      sources.set(name, source);
    }
    return sources;
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
    const { log } = this.settings;
    const { policy } = this;
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
      upstreams: upstreamsHere(policy),
      ownBinds: this.open.flatMap(({ listener, address }) => ownBindsOf([listener], () => address.port)),
      onChange: tell,
    });
    tell(this.#watch.start());
  }

  #newAdmin(bind: Bind): Admin;
  #newAdmin(bind: Bind | null): Admin | null;
  #newAdmin(bind: Bind | null): Admin | null {
    const { log } = this.settings;
    const { metrics } = this;
    const { crew } = this.settings;
    const text = async (): Promise<string> => {
      await crew?.gather();
      return await metrics.text();
    };
    return bind === null
      ? null
      : createAdmin({
          bind,
          metrics: { text, contentType: metrics.contentType },
          readiness: () => this.#readiness(),
          log,
        });
  }

  #readiness(): ReadinessReport {
    const exposed = (this.#watch?.current ?? []).filter((one) => one.state === 'exposed');
    const unknown = (this.#watch?.current ?? []).filter((one) => one.state === 'unknown');
    const accepted = this.policy.upstreamExposure.mode !== 'refuse';
    const kept = this.#state?.readiness() ?? [];
    const expired = [...(this.#inForce?.tls ?? [])].filter(
      ([, { notAfter }]) => notAfter !== null && notAfter.getTime() <= Date.now(),
    );
    return {
      checks: [
        this.#policyCheck(),
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
        ...(this.policy.acme === null ? [] : [this.#acmeCheck(this.#acme?.states() ?? [])]),
        ...kept,
        ...(this.settings.crew === undefined ? [] : [workersCheck(this.settings.crew.workers)]),
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

  /** A host that cannot be served is a failure; one whose renewal fails is said, and served until its certificate ends. */
  #acmeCheck(states: readonly HostState[]): ReadinessCheck {
    const { redactor } = this.settings;
    const without = states.filter(({ notAfterMs }) => notAfterMs === null || notAfterMs <= Date.now());
    const failing = states.filter(({ failure }) => failure !== null);
    const told = without.length > 0 ? without : failing;
    if (told.length === 0) return { name: 'acme', status: 'ok', detail: constant('every host has its certificate') };
    const detail = told
      .map(({ host, failure }) => `${host}: ${failure ?? 'its certificate is being ordered'}`)
      .join('; ');
    return {
      name: 'acme',
      status: without.length > 0 ? 'failed' : 'unknown',
      detail: redactor.redactText(`${without.length > 0 ? 'without a certificate' : 'not renewed'}: ${detail}`, 512),
    };
  }

  /** That the file is wrong is said, and no reason to send requests elsewhere: the last good one is in force. */
  #policyCheck(): ReadinessCheck {
    const { version } = this.policy;
    return this.#reloadFailed === null
      ? { name: 'policy', status: 'ok', detail: constant(`version ${version}`) }
      : {
          name: 'policy',
          status: 'unknown',
          detail: this.settings.redactor.redactText(
            `version ${version} stays in force, the last reload failed: ${this.#reloadFailed}`,
            512,
          ),
        };
  }
}

/** Each once, in the order of the listeners. */
function acmeHosts({ listeners }: Policy): string[] {
  const hosts = listeners.flatMap((one) => (one.type !== 'redirect' && one.tls?.kind === 'acme' ? one.tls.hosts : []));
  return [...new Set(hosts)];
}

async function adminListening(admin: Admin, bind: Bind): Promise<AddressInfo> {
  try {
    return await admin.listen();
  } catch (error) {
    throw new AddressError('admin', hostPort(bind.host, bind.port), errorCode(error));
  }
}

function sameBind(one: Bind | null, other: Bind | null): boolean {
  return (
    one?.host === other?.host && one?.port === other?.port && one?.socket === other?.socket && one?.path === other?.path
  );
}

function inheritedLast(listeners: readonly Listener[]): readonly Listener[] {
  return [true, false].flatMap((own) => listeners.filter(({ bind }) => (bind.socket === null) === own));
}

/** The socket that the one has serves the other as well. Any free port is a listener's by its name alone. */
function isAt(open: Listener, listener: Listener): boolean {
  const last = (one: Listener): number => (one.type === 'tcp' ? one.lastPort : one.bind.port);
  if (!sameBind(open.bind, listener.bind) || last(open) !== last(listener)) return false;
  return open.bind.port !== 0 || open.bind.path !== undefined || open.name === listener.name;
}

function keysOf(keys: JwtAuthenticator['keys'], fetched: JwksSource | undefined): KeySource {
  if (keys.kind === 'url' && fetched !== undefined) return fetched;
  return new FileKeys(keys.kind === 'file' ? keys.keys : []);
}

/** What an operator can mend, as issues; null: a bug of ours. */
function problemOf(
  error: unknown,
  policy: Policy,
): { readonly exitCode: number; readonly issues: readonly Issue[] } | null {
  if (error instanceof ReloadError) return error;
  const issue = (code: IssueCode, key = ''): Issue => ({
    severity: 'error',
    code,
    file: policy.file,
    line: 0,
    column: 0,
    key,
    message: error instanceof Error ? error.message : '',
  });
  if (error instanceof AddressError) {
    const key = error.listener === 'admin' ? 'admin.bind' : `listeners.${error.listener}.bind`;
    return { exitCode: 5, issues: [issue('address_unavailable', key)] };
  }
  if (error instanceof StateError) return { exitCode: 1, issues: [issue('state_unusable')] };
  if (error instanceof SessionKeyError) return { exitCode: 4, issues: [issue('state_unusable')] };
  if (error instanceof CertificateError) {
    const tooOpen = error.code === 'key_too_open' || error.code === 'dir_too_open';
    return { exitCode: tooOpen ? 4 : 1, issues: [issue('bad_certificate')] };
  }
  return null;
}

/** One that serves is enough to be sent requests; that others are missing is said. */
function workersCheck({ ready, wanted, restarts }: Workers): ReadinessCheck {
  const died = restarts === 0 ? '' : `, ${String(restarts)} begun again`;
  return {
    name: 'workers',
    status: ready === 0 ? 'failed' : ready < wanted ? 'unknown' : 'ok',
    detail: constant(`${String(ready)} of ${String(wanted)} serve${died}`),
  };
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
