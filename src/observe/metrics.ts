/**
 * What is counted. Labels come from the policy and from closed lists, never from a request: whoever can make up a
 * label can fill the memory of everything that scrapes it. While requests run, plain numbers are counted up; the
 * registry reads them when somebody scrapes. It is made for the first scrape: the library behind it takes a tenth of the
 * start and 10 MB, and many a guardbee is never scraped.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import type { DenialReason } from '../denial.js';
import type { ExchangeRecord, Outcome } from '../exchange-record.js';
import type { FailureReason } from '../failure.js';
import type { Policy, Route } from '../policy/policy.js';
import { DurationHistogram, DurationSeries, type Durations } from './duration-histogram.js';
import { type AcmeFigures, registerAcme } from './acme-metrics.js';
import { type AuditFigures, auditDurations, registerAudit } from './audit/audit-metrics.js';
import { METHODS } from './method.js';
import type { ReadinessReport } from './readiness.js';
import { Register } from './register.js';
import { SHADOW_OUTCOMES, type ShadowOutcome } from './shadow-findings.js';

export interface MetricsOptions {
  readonly policy: Policy;
  /** Of guardbee. */
  readonly version: string;
  readonly log: { readonly droppedLines: number };
}

/** As `server/exposure` finds it. */
export type UpstreamExposureState = 'private' | 'exposed' | 'unknown';

/** As `state/` finds it. */
export interface RevocationStoreStatus {
  readonly state: 'up' | 'unknown';
  readonly entries: number;
}

/** The keys of an authenticator, as `identity/jwks` has them. */
export interface JwksFigures {
  readonly authenticator: string;
  /** Since they were last fetched; NaN before that. */
  readonly ageSeconds: number;
  readonly failures: number;
}

/** What came of asking a second policy, by listener. */
export interface ShadowFigures {
  readonly version: string;
  readonly counts: ReadonlyMap<string, Readonly<Record<ShadowOutcome, number>>>;
}

/** What a process has counted since it was last asked, for another that adds it up, and what there is at present. */
export interface Figures {
  readonly routes: readonly {
    readonly listener: string;
    readonly route: string;
    /** By method and status, as they are counted. */
    readonly requests: ReadonlyMap<number, number>;
    readonly allowed: number;
    readonly denied: ReadonlyMap<DenialReason, number>;
    readonly durations: Durations;
  }[];
  readonly upstreams: readonly {
    readonly upstream: string;
    readonly answers: Durations;
    readonly aborts: ReadonlyMap<AbortCause, number>;
    /** Null: nothing was heard of it. */
    readonly up: number | null;
  }[];
  readonly listeners: readonly {
    readonly listener: string;
    readonly refused: ReadonlyMap<DenialReason, number>;
    readonly handshakeFailures: number;
    readonly failuresDelayed: number;
    readonly bytesIn: number;
    readonly bytesOut: number;
    readonly ended: ReadonlyMap<FailureReason | typeof NO_REASON, number>;
    /** At present. */
    readonly streams: Readonly<Record<'sse' | 'ws' | 'tcp', number>>;
  }[];
  readonly droppedLines: number;
  /** At present. */
  readonly heldBytes: number;
}

/** Other processes that work for this one. */
export interface Workers {
  /** At present. */
  readonly ready: number;
  readonly wanted: number;
  /** Those that were begun in the place of one that died, since the start. */
  readonly restarts: number;
}

export type AbortCause = 'client' | 'deadline' | 'upstream';

/** Every 10 ms, which is the default, would wake an idle process a hundred times a second. */
const LOOP_LOOKED_AT_MS = 50;

/** Where no route matched. */
const NO_ROUTE = '-';
const NO_REASON = '-';

const METHOD_INDEX: ReadonlyMap<string, number> = new Map(METHODS.map((method, index) => [method, index]));
const OTHER_METHOD = METHODS.length;
const METHOD_LABELS: readonly string[] = [...METHODS, '_OTHER'];
/** Room for every three-digit status under each method. */
const CODES = 1000;

const READINESS: Readonly<Record<ReadinessReport['checks'][number]['status'], number>> = Object.freeze({
  ok: 1,
  failed: 0,
  unknown: Number.NaN,
});

/** Exchanges that ended because of what happened between us and the upstream. */
const ABORTS: Readonly<Partial<Record<FailureReason, AbortCause>>> = Object.freeze({
  client_gone: 'client',
  client_body_broken: 'client',
  client_body_timeout: 'client',
  client_body_too_large: 'client',
  deadline_exceeded: 'deadline',
  stream_expired: 'deadline',
  upstream_timeout: 'deadline',
  upstream_gone: 'upstream',
  upstream_malformed: 'upstream',
});

/** Nobody answers there, or nobody who may. */
const UNREACHABLE: ReadonlySet<FailureReason> = new Set<FailureReason>([
  'upstream_refused',
  'upstream_tls_failed',
  'upstream_certificate_untrusted',
  'upstream_certificate_expired',
  'upstream_certificate_wrong_name',
  'upstream_certificate_wrong_key',
  'upstream_refused_certificate',
]);

/** Everything that is counted of one route. */
class RouteSeries {
  readonly listener: string;
  readonly route: string;
  /** By method and status: `index * 1000 + status`. */
  readonly requests = new Map<number, number>();
  allowed = 0;
  readonly denied = new Map<DenialReason, number>();
  readonly durations = new DurationSeries();

  constructor(listener: string, route: string) {
    this.listener = listener;
    this.route = route;
  }
}

class UpstreamSeries {
  readonly answers = new DurationSeries();
  readonly aborts = new Map<AbortCause, number>();
  /** NaN: not known. */
  up = Number.NaN;
  /** `up` was heard of since somebody last asked for it. */
  heard = false;
  exposed = Number.NaN;
  /** Of the policy that is in force. */
  current = true;
}

/** What is counted of a tcp listener. */
class SessionSeries {
  bytesIn = 0;
  bytesOut = 0;
  /** By how they ended; `-` is both sides' own end. */
  readonly ended = new Map<FailureReason | typeof NO_REASON, number>([[NO_REASON, 0]]);
}

class ListenerSeries {
  connections = 0;
  readonly refused = new Map<DenialReason, number>();
  handshakeFailures = 0;
  failuresDelayed = 0;
  readonly streams = { sse: 0, ws: 0, tcp: 0 };
  /** Null: it passes no connections on. */
  sessions: SessionSeries | null = null;
  certificateNotAfter: number | null = null;
}

export class Metrics {
  /** Of prom-client's page. */
  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';
  readonly #options: Pick<MetricsOptions, 'version' | 'log'>;
  #registry: Promise<Registry> | null = null;
  /** By listener and route name: a route that comes back after a reload goes on counting. */
  readonly #byName = new Map<string, RouteSeries>();
  #byRoute = new WeakMap<Route, RouteSeries>();
  readonly #upstreams = new Map<string, UpstreamSeries>();
  readonly #listeners = new Map<string, ListenerSeries>();
  readonly #durations = new DurationHistogram(
    'guardbee_http_request_duration_seconds',
    "From a request's head to the end of its answer; event streams and WebSockets are not counted here.",
    ['listener', 'route'],
  );
  readonly #answers = new DurationHistogram(
    'guardbee_upstream_response_seconds',
    "From the start of the exchange to the first byte of the upstream's answer.",
    ['upstream'],
  );
  #policyVersion = '';
  readonly #reloads = { ok: 0, failed: 0 };
  #lastReloadOk = true;
  #loadedAtSeconds = Date.now() / 1000;
  #revocationStores: () => ReadonlyMap<string, RevocationStoreStatus> = () => new Map();
  /** Null: nothing is shared. */
  #sharedLimitsUp: () => boolean | null = () => null;
  #jwks: () => readonly JwksFigures[] = () => [];
  #acme: () => readonly AcmeFigures[] = () => [];
  #heldBodies: () => number = () => 0;
  /** Null: no second policy is tried. */
  #shadow: ShadowFigures | null = null;
  #readiness: () => ReadinessReport = () => ({ checks: [] });
  #audit: (() => AuditFigures) | null = null;
  /** Null: there is this process alone. */
  #workers: (() => Workers) | null = null;
  /** What workers have at present, by their numbers. */
  readonly #elsewhere = new Map<number, Figures>();
  #droppedElsewhere = 0;
  #toldDropped = 0;

  constructor(options: MetricsOptions) {
    this.#options = { version: options.version, log: options.log };
    this.policyInstalled(options.policy);
  }

  /** The page that Prometheus reads. */
  async text(): Promise<string> {
    this.#registry ??= this.#makeRegistry();
    const others = await (await this.#registry).metrics();
    const routes = [...this.#byName.values()].map((one) => ({
      labels: [one.listener, one.route],
      series: one.durations,
    }));
    const upstreams = [...this.#upstreams].map(([name, one]) => ({ labels: [name], series: one.answers }));
    const audit = this.#audit === null ? '' : `${auditDurations(this.#audit())}\n`;
    return `${this.#durations.text(routes)}\n${this.#answers.text(upstreams)}\n${audit}${others}`;
  }

  /** One exchange has ended. */
  observe(record: ExchangeRecord): void {
    if (record.stream === 'tcp') {
      this.#observeSession(record);
      return;
    }
    const series = this.#seriesOf(record.listener, record.route);
    const { outcome, status } = record;
    const method = METHOD_INDEX.get(record.method) ?? OTHER_METHOD;
    const key = method * CODES + (status >= 0 && status < CODES ? Math.trunc(status) : 0);
    series.requests.set(key, (series.requests.get(key) ?? 0) + 1);
    if (outcome.kind === 'denied') series.denied.set(outcome.reason, (series.denied.get(outcome.reason) ?? 0) + 1);
    else series.allowed++;
    if (record.stream === 'none') series.durations.observe(record.durationMs / 1000);
    else {
      const { streams } = this.#listener(record.listener);
      streams[record.stream] = Math.max(0, streams[record.stream] - 1);
    }
    if (record.upstream !== null) this.#observeUpstream(record.upstream, record.upstreamMs, outcome);
  }

  /** Routes begin at zero, so that the first denial is an increase; upstreams that are gone are no longer shown. */
  policyInstalled(policy: Policy): void {
    this.#policyVersion = policy.version;
    this.#byRoute = new WeakMap();
    for (const listener of policy.listeners) {
      const series = this.#listener(listener.name);
      if (listener.type === 'tcp') series.sessions ??= new SessionSeries();
      else this.#named(listener.name, NO_ROUTE);
      if (listener.type === 'http') for (const route of listener.routes.routes) this.#seriesOf(listener.name, route);
    }
    for (const one of this.#upstreams.values()) one.current = false;
    for (const { name } of policy.upstreams) this.#upstream(name).current = true;
  }

  connectionOpened(listener: string): void {
    this.#listener(listener).connections++;
  }

  connectionClosed(listener: string): void {
    this.#listener(listener).connections--;
  }

  connectionRefused(listener: string, reason: DenialReason): void {
    const { refused } = this.#listener(listener);
    refused.set(reason, (refused.get(reason) ?? 0) + 1);
  }

  /** Bytes of clients and to clients that a tcp listener passed on. */
  bytesPassed(listener: string, bytesIn: number, bytesOut: number): void {
    const series = (this.#listener(listener).sessions ??= new SessionSeries());
    series.bytesIn += bytesIn;
    series.bytesOut += bytesOut;
  }

  tlsHandshakeFailed(listener: string): void {
    this.#listener(listener).handshakeFailures++;
  }

  authFailureDelayed(listener: string): void {
    this.#listener(listener).failuresDelayed++;
  }

  /** Its end is seen in its record. */
  streamOpened(listener: string, kind: 'sse' | 'ws' | 'tcp'): void {
    this.#listener(listener).streams[kind]++;
  }

  /** Asked whenever somebody scrapes. */
  revocationStores(status: () => ReadonlyMap<string, RevocationStoreStatus>): void {
    this.#revocationStores = status;
  }

  /** Asked whenever somebody scrapes. @param up null where no limit is shared */
  sharedLimits(up: () => boolean | null): void {
    this.#sharedLimitsUp = up;
  }

  upstreamUp(upstream: string, up: boolean): void {
    this.#upstream(upstream).up = up ? 1 : 0;
  }

  upstreamExposure(upstream: string, state: UpstreamExposureState): void {
    this.#upstream(upstream).exposed = state === 'unknown' ? Number.NaN : state === 'exposed' ? 1 : 0;
  }

  /** Of every listener that has one of its own to be renewed, by its name. */
  certificates(all: Iterable<readonly [listener: string, notAfter: Date]>): void {
    for (const one of this.#listeners.values()) one.certificateNotAfter = null;
    for (const [listener, notAfter] of all) this.#listener(listener).certificateNotAfter = notAfter.getTime() / 1000;
  }

  /** @param atMs epoch milliseconds */
  reloaded(ok: boolean, atMs: number): void {
    this.#reloads[ok ? 'ok' : 'failed']++;
    this.#lastReloadOk = ok;
    if (ok) this.#loadedAtSeconds = atMs / 1000;
  }

  /** @param read asked at every scrape */
  watchAcme(read: () => readonly AcmeFigures[]): void {
    this.#acme = read;
  }

  /** @param read asked at every scrape */
  watchJwks(read: () => readonly JwksFigures[]): void {
    this.#jwks = read;
  }

  /** Asked at every scrape, and not called where no trail is written. */
  watchAudit(read: () => AuditFigures): void {
    this.#audit = read;
  }

  /** @param read bytes; asked at every scrape */
  watchHeldBodies(read: () => number): void {
    this.#heldBodies = read;
  }

  /** @param figures read at every scrape */
  watchShadow(figures: ShadowFigures): void {
    this.#shadow = figures;
  }

  /** @param read asked at every scrape */
  watchReadiness(read: () => ReadinessReport): void {
    this.#readiness = read;
  }

  /** @param read asked at every scrape */
  watchWorkers(read: () => Workers): void {
    this.#workers = read;
  }

  /** What was counted since this was last called: it is counted elsewhere from here on. */
  take(): Figures {
    const dropped = this.#options.log.droppedLines;
    const figures: Figures = {
      routes: [...this.#byName.values()].flatMap((one) => {
        const { listener, route, allowed } = one;
        if (one.requests.size === 0) return [];
        one.allowed = 0;
        return [
          {
            listener,
            route,
            allowed,
            requests: taken(one.requests),
            denied: taken(one.denied),
            durations: one.durations.take(),
          },
        ];
      }),
      upstreams: [...this.#upstreams].flatMap(([upstream, one]) => {
        if (!one.heard && one.aborts.size === 0) return [];
        const up = one.heard ? one.up : null;
        one.heard = false;
        return [{ upstream, up, aborts: taken(one.aborts), answers: one.answers.take() }];
      }),
      listeners: [...this.#listeners].map(([listener, one]) => {
        const { handshakeFailures, failuresDelayed, sessions } = one;
        const { bytesIn, bytesOut } = sessions ?? { bytesIn: 0, bytesOut: 0 };
        one.handshakeFailures = 0;
        one.failuresDelayed = 0;
        if (sessions !== null) {
          sessions.bytesIn = 0;
          sessions.bytesOut = 0;
        }
        return {
          listener,
          refused: taken(one.refused),
          handshakeFailures,
          failuresDelayed,
          bytesIn,
          bytesOut,
          ended: sessions === null ? new Map() : taken(sessions.ended),
          streams: { ...one.streams },
        };
      }),
      droppedLines: dropped - this.#toldDropped,
      heldBytes: this.#heldBodies(),
    };
    this.#toldDropped = dropped;
    return figures;
  }

  /** Adds what a worker has counted. */
  absorb(worker: number, figures: Figures): void {
    this.#elsewhere.set(worker, figures);
    this.#droppedElsewhere += figures.droppedLines;
    for (const { listener, route, requests, allowed, denied, durations } of figures.routes) {
      const one = this.#named(listener, route);
      one.allowed += allowed;
      addAll(one.requests, requests);
      addAll(one.denied, denied);
      one.durations.add(durations);
    }
    for (const { upstream, answers, aborts, up } of figures.upstreams) {
      const one = this.#upstream(upstream);
      one.answers.add(answers);
      addAll(one.aborts, aborts);
      if (up !== null) one.up = up;
    }
    for (const {
      listener,
      refused,
      handshakeFailures,
      failuresDelayed,
      bytesIn,
      bytesOut,
      ended,
    } of figures.listeners) {
      const one = this.#listener(listener);
      addAll(one.refused, refused);
      one.handshakeFailures += handshakeFailures;
      one.failuresDelayed += failuresDelayed;
      if (one.sessions === null) continue;
      one.sessions.bytesIn += bytesIn;
      one.sessions.bytesOut += bytesOut;
      addAll(one.sessions.ended, ended);
    }
  }

  /** A worker is gone, and all that it had open. */
  forgetWorker(worker: number): void {
    this.#elsewhere.delete(worker);
  }

  /** Here and in workers. */
  #streamsOf(name: string, here: ListenerSeries['streams']): ListenerSeries['streams'] {
    if (this.#elsewhere.size === 0) return here;
    const sum = { ...here };
    for (const { listeners } of this.#elsewhere.values()) {
      for (const { listener, streams } of listeners) {
        if (listener !== name) continue;
        sum.sse += streams.sse;
        sum.ws += streams.ws;
        sum.tcp += streams.tcp;
      }
    }
    return sum;
  }

  #observeSession({ listener, outcome, upstream, upstreamMs }: ExchangeRecord): void {
    const one = this.#listener(listener);
    one.streams.tcp = Math.max(0, one.streams.tcp - 1);
    const { ended } = (one.sessions ??= new SessionSeries());
    const how = outcome.kind === 'failed' ? outcome.reason : NO_REASON;
    ended.set(how, (ended.get(how) ?? 0) + 1);
    if (upstream !== null) this.#observeUpstream(upstream, upstreamMs, outcome);
  }

  #observeUpstream(name: string, upstreamMs: number | null, outcome: Outcome): void {
    const series = this.#upstream(name);
    if (upstreamMs !== null) {
      series.answers.observe(upstreamMs / 1000);
      series.up = 1;
      series.heard = true;
    }
    if (outcome.kind !== 'failed') return;
    if (UNREACHABLE.has(outcome.reason)) {
      series.up = 0;
      series.heard = true;
    }
    const cause = ABORTS[outcome.reason];
    if (cause !== undefined) series.aborts.set(cause, (series.aborts.get(cause) ?? 0) + 1);
  }

  #seriesOf(listener: string, route: Route | null): RouteSeries {
    if (route === null) return this.#named(listener, NO_ROUTE);
    let series = this.#byRoute.get(route);
    if (series === undefined) {
      series = this.#named(route.listener, route.name);
      this.#byRoute.set(route, series);
    }
    return series;
  }

  #named(listener: string, route: string): RouteSeries {
    const key = `${listener}\n${route}`;
    let series = this.#byName.get(key);
    if (series === undefined) {
      series = new RouteSeries(listener, route);
      this.#byName.set(key, series);
    }
    return series;
  }

  #upstream(name: string): UpstreamSeries {
    let series = this.#upstreams.get(name);
    if (series === undefined) {
      series = new UpstreamSeries();
      this.#upstreams.set(name, series);
    }
    return series;
  }

  #listener(name: string): ListenerSeries {
    let series = this.#listeners.get(name);
    if (series === undefined) {
      series = new ListenerSeries();
      this.#listeners.set(name, series);
    }
    return series;
  }

  async #makeRegistry(): Promise<Registry> {
    const prometheus = await import('prom-client');
    const registry = new prometheus.Registry();
    this.#register(new Register(prometheus, registry));
    // Counts the processor's time from here on; what was spent before belongs to it too.
    const spent = process.cpuUsage();
    prometheus.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LOOP_LOOKED_AT_MS });
    const add = (name: string, micros: number): void => {
      const metric = registry.getSingleMetric(`process_cpu_${name}`);
      if (metric instanceof prometheus.Counter) metric.inc(micros / 1e6);
    };
    add('user_seconds_total', spent.user);
    add('system_seconds_total', spent.system);
    add('seconds_total', spent.user + spent.system);
    // Until the loop was looked at twice its lag is unknown, and shown as NaN and as 292 years.
    await sleep(3 * LOOP_LOOKED_AT_MS);
    return registry;
  }

  #register(into: Register): void {
    into.counter('http_requests_total', 'Exchanges that ended.', ['listener', 'route', 'method', 'code'], (put) => {
      for (const { listener, route, requests } of this.#byName.values()) {
        for (const [key, count] of requests) {
          const method = METHOD_LABELS[Math.floor(key / CODES)] ?? '_OTHER';
          put([listener, route, method, String(key % CODES)], count);
        }
      }
    });
    into.counter(
      'auth_decisions_total',
      'What the policy said, by reason code.',
      ['listener', 'route', 'result', 'reason'],
      (put) => {
        for (const { listener, route, allowed, denied } of this.#byName.values()) {
          if (route !== NO_ROUTE) put([listener, route, 'allow', NO_REASON], allowed);
          for (const [reason, count] of denied) put([listener, route, 'deny', reason], count);
        }
      },
    );
    into.counter(
      'upstream_aborts_total',
      'Exchanges that were cut: by the client, by a deadline of ours, by the upstream.',
      ['upstream', 'cause'],
      (put) => {
        for (const [upstream, { aborts }] of this.#upstreams) {
          for (const [cause, count] of aborts) put([upstream, cause], count);
        }
      },
    );
    into.counter(
      'connections_refused_total',
      'Connections refused before any request was read.',
      ['listener', 'reason'],
      (put) => {
        for (const [listener, { refused }] of this.#listeners) {
          for (const [reason, count] of refused) put([listener, reason], count);
        }
      },
    );
    into.counter(
      'tcp_sessions_total',
      'Connections that tcp listeners passed on and that ended; reason - is the own end of both sides.',
      ['listener', 'reason'],
      (put) => {
        for (const [listener, { sessions }] of this.#listeners) {
          for (const [reason, count] of sessions?.ended ?? []) put([listener, reason], count);
        }
      },
    );
    into.counter(
      'tcp_bytes_total',
      'Bytes that tcp listeners passed on: in is from clients, out is to them.',
      ['listener', 'direction'],
      (put) => {
        for (const [listener, { sessions }] of this.#listeners) {
          if (sessions === null) continue;
          put([listener, 'in'], sessions.bytesIn);
          put([listener, 'out'], sessions.bytesOut);
        }
      },
    );
    into.counter('tls_handshake_failures_total', 'TLS handshakes that failed.', ['listener'], (put) => {
      for (const [listener, { handshakeFailures }] of this.#listeners) put([listener], handshakeFailures);
    });
    into.counter(
      'auth_failures_delayed_total',
      'Answers to bad credentials that were held back, because there had been many.',
      ['listener'],
      (put) => {
        for (const [listener, { failuresDelayed }] of this.#listeners) put([listener], failuresDelayed);
      },
    );
    into.counter('log_lines_dropped_total', 'Log lines lost to a slow reader or a full disk.', [], (put) => {
      put([], this.#options.log.droppedLines + this.#droppedElsewhere);
    });
    into.gauge('connections', 'Open connections.', ['listener'], (put) => {
      for (const [listener, { connections }] of this.#listeners) put([listener], connections);
    });
    into.gauge(
      'open_streams',
      'Open event streams (sse), WebSockets (ws) and sessions of tcp listeners (tcp).',
      ['listener', 'kind'],
      (put) => {
        for (const [listener, { streams: here, sessions }] of this.#listeners) {
          const streams = this.#streamsOf(listener, here);
          if (sessions !== null) {
            put([listener, 'tcp'], streams.tcp);
            continue;
          }
          put([listener, 'sse'], streams.sse);
          put([listener, 'ws'], streams.ws);
        }
      },
    );
    into.gauge('upstream_up', '1 if the upstream took the last connection, 0 if not.', ['upstream'], (put) => {
      for (const [upstream, { up, current }] of this.#upstreams) if (current) put([upstream], up);
    });
    into.gauge(
      'upstream_exposed',
      "1 if the upstream's port can be reached from outside, around guardbee; NaN if that can't be seen.",
      ['upstream'],
      (put) => {
        for (const [upstream, { exposed, current }] of this.#upstreams) if (current) put([upstream], exposed);
      },
    );
    into.gauge(
      'tls_cert_not_after_seconds',
      'When the certificate expires that expires first, in seconds since 1970; those that an ACME authority renews are not here.',
      ['listener'],
      (put) => {
        for (const [listener, { certificateNotAfter }] of this.#listeners) {
          if (certificateNotAfter !== null) put([listener], certificateNotAfter);
        }
      },
    );
    registerAcme(into, () => this.#acme());
    into.gauge(
      'revocation_store_up',
      '1 if the store of revocations can be asked and has lost nothing, 0 if not.',
      ['store'],
      (put) => {
        for (const [store, { state }] of this.#revocationStores()) put([store], state === 'up' ? 1 : 0);
      },
    );
    into.gauge(
      'limit_store_up',
      '1 if shared limits are counted in Redis, 0 while each goes by its on_unavailable.',
      ['store'],
      (put) => {
        const up = this.#sharedLimitsUp();
        if (up !== null) put(['shared'], up ? 1 : 0);
      },
    );
    into.gauge('revocations', 'Revocations that this process knows of.', ['store'], (put) => {
      for (const [store, { entries }] of this.#revocationStores()) put([store], entries);
    });
    into.gauge(
      'jwks_age_seconds',
      'Since the keys of an authenticator were last fetched; NaN if they never were.',
      ['authenticator'],
      (put) => {
        for (const { authenticator, ageSeconds } of this.#jwks()) put([authenticator], ageSeconds);
      },
    );
    into.counter(
      'jwks_refresh_failures_total',
      'Fetches of keys that gave none; those from before go on to count.',
      ['authenticator'],
      (put) => {
        for (const { authenticator, failures } of this.#jwks()) put([authenticator], failures);
      },
    );
    into.gauge('held_body_bytes', 'Request bodies that are held to be judged; 64 MiB is the most.', [], (put) => {
      let bytes = this.#heldBodies();
      for (const { heldBytes } of this.#elsewhere.values()) bytes += heldBytes;
      put([], bytes);
    });
    into.counter(
      'shadow_decisions_total',
      'Decisions of the policy that is tried, held against those of the policy in force.',
      ['listener', 'outcome'],
      (put) => {
        for (const [listener, counts] of this.#shadow?.counts ?? []) {
          for (const outcome of SHADOW_OUTCOMES) put([listener, outcome], counts[outcome]);
        }
      },
    );
    into.gauge('shadow_policy_info', 'The policy that is tried.', ['version'], (put) => {
      if (this.#shadow !== null) put([this.#shadow.version], 1);
    });
    into.gauge(
      'readiness',
      'What /readyz looks at: 1 if fine, 0 if failed, NaN if not known. Ready is what has no 0.',
      ['check'],
      (put) => {
        for (const { name, status } of this.#readiness().checks) put([name], READINESS[status]);
      },
    );
    if (this.#audit !== null) registerAudit(into, this.#audit);
    if (this.#workers !== null) registerWorkers(into, this.#workers);
    into.counter('reloads_total', 'Times that the policy was read again, and what came of it.', ['result'], (put) => {
      for (const result of ['ok', 'failed'] as const) put([result], this.#reloads[result]);
    });
    into.gauge(
      'reload_last_success_timestamp_seconds',
      'When the policy in force was read, in seconds since 1970.',
      [],
      (put) => {
        put([], this.#loadedAtSeconds);
      },
    );
    into.gauge(
      'reload_last_successful',
      '1 if the last reload went well or there was none, 0 if the policy from before stays in force.',
      [],
      (put) => {
        put([], this.#lastReloadOk ? 1 : 0);
      },
    );
    into.gauge('policy_info', 'The policy in force.', ['version'], (put) => {
      put([this.#policyVersion], 1);
    });
    into.gauge('build_info', 'What runs.', ['version', 'node'], (put) => {
      put([this.#options.version, process.version], 1);
    });
  }
}

function registerWorkers(into: Register, read: () => Workers): void {
  into.gauge('workers', 'Processes that serve connections.', ['state'], (put) => {
    const { ready, wanted } = read();
    put(['ready'], ready);
    put(['wanted'], wanted);
  });
  into.counter('worker_restarts_total', 'Workers that died and had another begun in their place.', [], (put) => {
    put([], read().restarts);
  });
}

function taken<K>(counts: Map<K, number>): ReadonlyMap<K, number> {
  const all = new Map(counts);
  counts.clear();
  return all;
}

function addAll<K>(to: Map<K, number>, counts: ReadonlyMap<K, number>): void {
  for (const [key, count] of counts) to.set(key, (to.get(key) ?? 0) + count);
}
