/**
 * The access log: one line for one exchange. The line is put together by hand from parts that were serialised before
 * (per ending, per route, per identity); only what came from outside is cleaned and serialised each time, and what
 * comes again is remembered. It costs a few microseconds, which is why it does not go through a general serialiser.
 */
import { DENIALS, DENIAL_REASONS, type DenialReason } from '../denial.js';
import { type ExchangeRecord, OWN_PAGES, type OwnPage } from '../exchange-record.js';
import { FAILURES, FAILURE_REASONS, type FailureReason } from '../failure.js';
import type { Identity } from '../identity/identity.js';
import type { LogLevel, Route } from '../policy/policy.js';
import { BoundedCache } from './bounded-cache.js';
import { type Log, textLine } from './log.js';
import { isKnownMethod } from './method.js';
import { type Redactor, constant } from './redact.js';
import { timestamp } from './timestamp.js';
import { isUuid } from '../http/request-id.js';

declare const accessLine: unique symbol;

/** A finished line: every outside text in it was cleaned. Made here alone. */
export type AccessLine = string & { readonly [accessLine]: true };

interface Ending {
  readonly level: LogLevel;
  readonly msg: string;
  /** `,"level":…` and everything else that the ending alone decides. */
  readonly json: string;
}

function ending(level: LogLevel, msg: string, decision: 'allow' | 'deny' | 'fail', reason: string | null): Ending {
  const error = decision === 'allow' ? '' : `,"error.type":"${reason ?? ''}"`;
  const why = reason === null ? '' : `,"guardbee.reason":"${reason}"${error}`;
  return {
    level,
    msg,
    json: `,"level":"${level.toUpperCase()}","msg":"${msg}","guardbee.decision":"${decision}"${why}`,
  };
}

const ALLOWED = ending('info', 'request', 'allow', null);

/** The words that people search logs for; a 401 is always `authentication failed`. */
const DENIED: ReadonlyMap<DenialReason, Ending> = new Map(
  DENIAL_REASONS.map((reason) => {
    const { status, level } = DENIALS[reason];
    const what = status === 401 ? 'authentication failed' : status === 403 ? 'authorization denied' : 'request refused';
    return [reason, ending(level, `${what}: ${reason}`, 'deny', reason)];
  }),
);

const FAILED: ReadonlyMap<FailureReason, Ending> = new Map(
  FAILURE_REASONS.map((reason) => [
    reason,
    ending(FAILURES[reason].level, `request failed: ${reason}`, 'fail', reason),
  ]),
);

/** Connections that were passed on; what happens to one is no request. */
const PASSED = ending('info', 'session', 'allow', null);
const CUT: ReadonlyMap<FailureReason, Ending> = new Map(
  FAILURE_REASONS.map((reason) => [
    reason,
    ending(FAILURES[reason].level, `session failed: ${reason}`, 'fail', reason),
  ]),
);

/** Pages of our own. Each has its code, so that a login that went well and one that did not are told apart by it. */
const ANSWERED: ReadonlyMap<OwnPage, Ending> = new Map(
  OWN_PAGES.map((page) => [
    page,
    ending('info', page === 'preflight' ? 'cors: preflight' : `session: ${page}`, 'allow', page),
  ]),
);

/** The types allow no such thing; the log says what it can. */
const UNHEARD_OF = ending('error', 'request failed: unknown', 'fail', 'unknown');

function endingOf({ outcome, stream }: ExchangeRecord): Ending {
  if (stream === 'tcp') return (outcome.kind === 'failed' ? CUT.get(outcome.reason) : PASSED) ?? UNHEARD_OF;
  if (outcome.kind === 'permitted') return ALLOWED;
  if (outcome.kind === 'answered') return ANSWERED.get(outcome.by) ?? UNHEARD_OF;
  return (outcome.kind === 'denied' ? DENIED.get(outcome.reason) : FAILED.get(outcome.reason)) ?? UNHEARD_OF;
}

const ADDRESS = /^[0-9a-fA-F:.]{1,45}$/;
const FINGERPRINT = /^[0-9a-f]{6}$/;

const MAX_FIELD = 512;
const REMEMBERED = 512;

export class AccessRecorder {
  readonly #log: Log;
  readonly #redactor: Redactor;
  readonly #paths: BoundedCache;
  readonly #texts: BoundedCache;
  readonly #hosts: BoundedCache;
  readonly #names = new BoundedCache(REMEMBERED, (text) => JSON.stringify(constant(text)));
  readonly #routes = new WeakMap<Route, string>();
  readonly #identities = new WeakMap<Identity, string>();
  #generation: number;

  constructor(log: Log, redactor: Redactor) {
    this.#log = log;
    this.#redactor = redactor;
    this.#generation = redactor.generation;
    this.#paths = new BoundedCache(REMEMBERED, (path) => JSON.stringify(redactor.redactPath(path)));
    this.#texts = new BoundedCache(REMEMBERED, (text) => JSON.stringify(redactor.redactText(text, MAX_FIELD)));
    this.#hosts = new BoundedCache(REMEMBERED, (host) =>
      JSON.stringify(redactor.redactText(withoutPort(host), MAX_FIELD)),
    );
  }

  /** Writes the line of an exchange that has ended. */
  record(record: ExchangeRecord): void {
    const ended = endingOf(record);
    if (!this.#log.enabled(ended.level)) return;
    this.#log.access(this.#log.format === 'json' ? this.json(record, ended) : this.text(record, ended));
  }

  json(record: ExchangeRecord, ended: Ending = endingOf(record)): AccessLine {
    this.#forgetWhatChanged();
    const session = record.stream === 'tcp';
    let line = `{"time":"${timestamp(record.startedAtMs + record.durationMs)}"${ended.json}`;
    const { requestId, method, route, identity } = record;
    line += isUuid(requestId)
      ? `,"guardbee.request_id":"${requestId}"`
      : `,"guardbee.request_id":${this.#texts.get(requestId)}`;
    if (isKnownMethod(method)) line += `,"http.request.method":"${method}"`;
    else if (method !== '') {
      line += `,"http.request.method":"_OTHER","http.request.method_original":${this.#texts.get(method.slice(0, 64))}`;
    }
    line += session
      ? `,"network.transport":"tcp","guardbee.tls":${record.scheme === 'tls'}`
      : `,"url.scheme":"${record.scheme}"`;
    if (record.path !== '') line += this.#path(record.path);
    // Its names are tame and its values masks: nothing in it needs escaping.
    if (record.query !== null) line += `,"url.query":"${this.#redactor.redactQuery(record.query)}"`;
    if (!session) line += `,"http.response.status_code":${number(record.status)}`;
    if (record.protocol !== 'unknown') line += `,"network.protocol.version":"${record.protocol}"`;
    const peer = this.#address(record.peer);
    if (record.client !== null) {
      line += `,"client.address":${record.client === record.peer ? peer : this.#address(record.client)}`;
    }
    line += `,"network.peer.address":${peer}`;
    if (record.host !== null) line += `,"server.address":${this.#hosts.get(record.host)}`;
    if (record.userAgent !== null) line += `,"user_agent.original":${this.#texts.get(record.userAgent)}`;
    line += route === null ? `,"guardbee.listener":${this.#names.get(record.listener)}` : this.#route(route);
    if (identity !== null) line += this.#identity(identity);
    const fingerprint = record.credentialFingerprint;
    if (fingerprint !== null && FINGERPRINT.test(fingerprint)) line += `,"guardbee.credential":"token:${fingerprint}"`;
    const { invalid } = record;
    if (invalid !== null) {
      line += `,"guardbee.invalid.in":"${invalid.place}","guardbee.invalid.name":${this.#names.get(invalid.name)}`;
      line += `,"guardbee.invalid.rule":"${invalid.rule}"`;
    }
    if (record.upstream !== null) line += `,"guardbee.upstream":${this.#names.get(record.upstream)}`;
    if (record.upstreamMs !== null) line += `,"guardbee.upstream_ms":${ms(record.upstreamMs)}`;
    line += `,"guardbee.duration_ms":${ms(record.durationMs)}`;
    line += `,"guardbee.bytes_in":${number(record.bytesIn)},"guardbee.bytes_out":${number(record.bytesOut)}`;
    line += `,"guardbee.stream":"${record.stream}"}`;
    return line as AccessLine;
  }

  text(record: ExchangeRecord, ended: Ending = endingOf(record)): AccessLine {
    this.#forgetWhatChanged();
    const { route, identity } = record;
    const words: string[] = [];
    if (record.outcome.kind !== 'permitted') words.push(ended.msg);
    if (record.stream === 'tcp') return this.#sessionText(record, ended, words);
    const query = record.query === null ? '' : `?${this.#redactor.redactQuery(record.query)}`;
    words.push(isKnownMethod(record.method) ? record.method : '_OTHER');
    words.push(record.path === '' ? '-' : `${this.#redactor.redactPath(record.path)}${query}`);
    words.push(number(record.status), `${ms(record.durationMs)}ms`);
    words.push(constant(route === null ? record.listener : `${record.listener}/${route.name}`));
    if (identity !== null) words.push(this.#redactor.redactText(identity.name, MAX_FIELD));
    words.push('from', this.#redactor.redactText(record.client ?? record.peer, 64));
    if (record.stream !== 'none') words.push(record.stream);
    const at = record.startedAtMs + record.durationMs;
    return textLine(ended.level, at, words.join(' '), this.#log.colours) as AccessLine;
  }

  #sessionText(record: ExchangeRecord, ended: Ending, words: string[]): AccessLine {
    words.push(record.scheme, `${number(record.bytesIn)}B in`, `${number(record.bytesOut)}B out`);
    words.push(`${ms(record.durationMs)}ms`, constant(record.listener));
    if (record.identity !== null) words.push(this.#redactor.redactText(record.identity.name, MAX_FIELD));
    words.push('from', this.#redactor.redactText(record.client ?? record.peer, 64));
    const at = record.startedAtMs + record.durationMs;
    return textLine(ended.level, at, words.join(' '), this.#log.colours) as AccessLine;
  }

  #forgetWhatChanged(): void {
    if (this.#generation === this.#redactor.generation) return;
    this.#generation = this.#redactor.generation;
    for (const cache of [this.#paths, this.#texts, this.#hosts]) cache.clear();
  }

  #path(path: string): string {
    const ordinary = this.#redactor.ordinaryPath(path);
    return ordinary === null ? `,"url.path":${this.#paths.get(path)}` : `,"url.path":"${ordinary}"`;
  }

  #address(text: string): string {
    return ADDRESS.test(text) ? `"${text}"` : this.#texts.get(text);
  }

  #route(route: Route): string {
    let json = this.#routes.get(route);
    if (json === undefined) {
      const { listener, name, pattern } = route;
      json =
        `,"guardbee.listener":${JSON.stringify(constant(listener))},"guardbee.route":${JSON.stringify(constant(name))}` +
        `,"http.route":${JSON.stringify(constant(pattern))}`;
      this.#routes.set(route, json);
    }
    return json;
  }

  #identity(identity: Identity): string {
    let json = this.#identities.get(identity);
    if (json === undefined) {
      // Names may come out of somebody else's token.
      const clean = (text: string): string => this.#redactor.redactText(text, MAX_FIELD);
      json =
        `,"guardbee.identity":${JSON.stringify(clean(identity.name))}` +
        `,"guardbee.roles":${JSON.stringify(identity.roles.slice(0, 64).map(clean))}`;
      this.#identities.set(identity, json);
    }
    return json;
  }
}

/** `server.address` is the name alone. */
function withoutPort(host: string): string {
  const colon = host.lastIndexOf(':');
  const name = colon > 0 && /^\d{1,5}$/.test(host.slice(colon + 1)) ? host.slice(0, colon) : host;
  return name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name;
}

function number(value: number): string {
  return Number.isFinite(value) ? String(value) : 'null';
}

const FRACTIONS: readonly string[] = Array.from({ length: 1000 }, (_, index) =>
  index === 0 ? '' : `.${String(index).padStart(3, '0').replace(/0+$/, '')}`,
);

/** Microseconds are enough; and two small integers are written faster than one fraction. */
function ms(value: number): string {
  const micros = Math.round(value * 1000);
  if (!(micros >= 0 && micros <= 0x7fffffff)) return number(micros / 1000);
  const whole = Math.floor(micros / 1000);
  return `${whole}${FRACTIONS[micros - whole * 1000] ?? ''}`;
}
