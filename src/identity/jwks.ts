/** The keys of an issuer from its JWKS URL. The one file of this folder that looks outside. */
import { type ClientRequest, type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isThisMachine, lookupThisMachine } from '../net/this-machine.js';
import { type TlsFault, tlsFault } from '../net/tls-fault.js';
import type { JwsAlgorithm } from '../policy/jws-algorithms.js';
import { LARGEST_KEY_SET, type VerificationKey, readJwkSet } from '../policy/verification-key.js';
import { type FittingKeys, type KeySource, pickKeys } from './key-source.js';

/** Why there are no new keys. A closed list: nothing that a server sent ends up in a log. */
export type JwksFault =
  | 'unreachable'
  | 'untrusted_certificate'
  | 'not_loopback'
  | 'timeout'
  | 'redirect'
  | 'status'
  | 'encoded'
  | 'too_large'
  | 'no_keys';

export type Fetched =
  { readonly ok: true; readonly keys: readonly VerificationKey[] } | { readonly ok: false; readonly fault: JwksFault };

export interface FetchLimits {
  /** From the look-up of the name to the last byte. */
  readonly timeoutMs: number;
  readonly bytes: number;
}

const LIMITS: FetchLimits = { timeoutMs: 5_000, bytes: LARGEST_KEY_SET };

/** A fetch that is underway. `keys` never rejects. */
export interface Fetching {
  readonly keys: Promise<Fetched>;
  abort(): void;
}

/**
 * Asks for a JWK Set: once, without following redirects, with TLS verified whatever the environment says, and on plain
 * HTTP from this machine alone.
 *
 * @param onDate told of the Date field of the answer, where it has one
 */
export function fetchJwks(url: string, limits: FetchLimits = LIMITS, onDate?: (date: string) => void): Fetching {
  const target = new URL(url);
  const plain = target.protocol === 'http:';
  let end = (_: Fetched): void => undefined;
  const keys = new Promise<Fetched>((resolve) => {
    end = resolve;
  });
  const options = {
    method: 'GET',
    headers: { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' },
    // A connection of its own: nothing idles between two fetches that are minutes apart.
    agent: false as const,
  };
  const asked: ClientRequest = plain
    ? requestHttp(target, { ...options, lookup: lookupThisMachine })
    : requestHttps(target, { ...options, rejectUnauthorized: true, minVersion: 'TLSv1.2' });
  const timer = setTimeout(() => {
    settle({ ok: false, fault: 'timeout' });
  }, limits.timeoutMs);
  timer.unref();
  const settle = (fetched: Fetched): void => {
    clearTimeout(timer);
    end(fetched);
    asked.destroy();
  };
  asked.on('error', (error) => {
    settle({ ok: false, fault: faultOf(error) });
  });
  asked.on('response', (response) => {
    if (response.headers.date !== undefined) onDate?.(response.headers.date);
    if (plain && !cameFromHere(response)) {
      settle({ ok: false, fault: 'not_loopback' });
      return;
    }
    const refused = judgeHead(response, limits);
    if (refused !== null) {
      settle({ ok: false, fault: refused });
      return;
    }
    readBody(response, limits, settle);
  });
  asked.end();
  return {
    keys,
    abort: () => {
      settle({ ok: false, fault: 'unreachable' });
    },
  };
}

function judgeHead(response: IncomingMessage, limits: FetchLimits): JwksFault | null {
  const { statusCode = 0, headers } = response;
  // A redirect would let whoever writes it say where the keys are.
  if (statusCode >= 300 && statusCode < 400) return 'redirect';
  if (statusCode !== 200) return 'status';
  // A few bytes could become gigabytes, and nobody asked for it.
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') return 'encoded';
  return Number(headers['content-length'] ?? 0) > limits.bytes ? 'too_large' : null;
}

function readBody(response: IncomingMessage, limits: FetchLimits, settle: (fetched: Fetched) => void): void {
  const pieces: Buffer[] = [];
  let length = 0;
  response.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length > limits.bytes) settle({ ok: false, fault: 'too_large' });
    else pieces.push(piece);
  });
  response.on('end', () => {
    const read = readJwkSet(Buffer.concat(pieces));
    settle(read.ok ? { ok: true, keys: read.value } : { ok: false, fault: 'no_keys' });
  });
  response.on('error', () => {
    settle({ ok: false, fault: 'unreachable' });
  });
}

/** The address that was really reached; the last word. */
function cameFromHere(response: IncomingMessage): boolean {
  return isThisMachine(response.socket.remoteAddress);
}

/** It is there, but its certificate is not to be believed. */
const UNTRUSTED: ReadonlySet<TlsFault | null> = new Set(['wrong_name', 'expired', 'untrusted']);

function faultOf(error: NodeJS.ErrnoException): JwksFault {
  const { code = '' } = error;
  if (code === 'GUARDBEE_NOT_LOOPBACK') return 'not_loopback';
  return UNTRUSTED.has(tlsFault(code)) ? 'untrusted_certificate' : 'unreachable';
}

export interface JwksTimings {
  /** Between two refreshes that nobody asked for. */
  readonly refreshMs: number;
  /** After an answer no token makes us ask again for so long, whatever key it names. */
  readonly coolDownMs: number;
  /** The first wait while there are no keys at all; doubles up to the cool-down. */
  readonly retryMs: number;
  /** Without an answer for so long the keys are called stale. */
  readonly staleMs: number;
}

const TIMINGS: JwksTimings = { refreshMs: 300_000, coolDownMs: 30_000, retryMs: 1_000, staleMs: 900_000 };

export interface JwksSettings {
  readonly url: string;
  /** Told of each answer, good or bad. */
  readonly onFetched?: (fetched: Fetched) => void;
  readonly fetch?: (url: string) => Fetching;
  /** Milliseconds of a clock that is never set. */
  readonly ticks?: () => number;
  readonly timings?: Partial<JwksTimings>;
}

export interface JwksState {
  /** `stale`: the last good keys are used, and their server has not given any for long. */
  readonly state: 'fresh' | 'stale' | 'never_loaded';
  /** Since the last good answer, seconds; NaN before the first. */
  readonly ageSeconds: number;
  readonly failures: number;
  /** Of the last attempt; null when it went well, and before there was one. */
  readonly fault: JwksFault | null;
}

/**
 * Keys that are fetched ahead of need, so that hardly a request waits for them. One fetch at a time; a token with an
 * unknown `kid` causes one, at most every cool-down, however many such tokens come. What was loaded stays until something
 * better is: a server that is down, slow or wrong takes nothing away.
 */
export class JwksSource implements KeySource {
  readonly #settings: JwksSettings;
  readonly #timings: JwksTimings;
  readonly #fetch: (url: string) => Fetching;
  readonly #ticks: () => number;
  #keys: ReadonlySet<VerificationKey> | null = null;
  #loadedAt = Number.NaN;
  #answeredAt = -Infinity;
  #failures = 0;
  /** Since the last good answer. */
  #failuresInARow = 0;
  #fault: JwksFault | null = null;
  #underway: { readonly fetching: Fetching; readonly done: Promise<void> } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(settings: JwksSettings) {
    this.#settings = settings;
    this.#timings = { ...TIMINGS, ...settings.timings };
    this.#fetch = settings.fetch ?? ((url) => fetchJwks(url));
    this.#ticks = settings.ticks ?? (() => performance.now());
  }

  get url(): string {
    return this.#settings.url;
  }

  /** Begins to fetch, and goes on doing so now and then. Nothing waits for it. */
  start(): void {
    void this.#refresh();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#underway?.fetching.abort();
  }

  get state(): JwksState {
    const ageMs = this.#ticks() - this.#loadedAt;
    return {
      state: this.#keys === null ? 'never_loaded' : ageMs > this.#timings.staleMs ? 'stale' : 'fresh',
      ageSeconds: ageMs / 1000,
      failures: this.#failures,
      fault: this.#fault,
    };
  }

  fitting(kid: string | null, algorithm: JwsAlgorithm): FittingKeys | Promise<FittingKeys> {
    const known = this.#pick(kid, algorithm);
    if (known !== null && known.length > 0) return known;
    // An answer that just came would only be the same again.
    if (this.#stopped || (this.#underway === null && this.#ticks() < this.#nextAskAt())) return known;
    return this.#refresh().then(() => this.#pick(kid, algorithm));
  }

  holds(key: VerificationKey): boolean {
    return this.#keys?.has(key) === true;
  }

  #pick(kid: string | null, algorithm: JwsAlgorithm): FittingKeys {
    return this.#keys === null ? null : pickKeys(this.#keys, kid, algorithm);
  }

  #nextAskAt(): number {
    return this.#answeredAt + (this.#keys === null ? this.#patience() : this.#timings.coolDownMs);
  }

  /** While there are no keys at all nobody gets in, so it is tried more often, but not by whoever sends most tokens. */
  #patience(): number {
    const { retryMs, coolDownMs } = this.#timings;
    return Math.min(coolDownMs, retryMs * 2 ** Math.min(16, Math.max(0, this.#failuresInARow - 1)));
  }

  #refresh(): Promise<void> {
    if (this.#underway !== null) return this.#underway.done;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const fetching = this.#fetch(this.#settings.url);
    const done = fetching.keys.then((fetched) => {
      this.#underway = null;
      if (this.#stopped) return;
      this.#take(fetched);
      this.#timer = setTimeout(() => void this.#refresh(), this.#nextRefreshMs());
      this.#timer.unref();
    });
    this.#underway = { fetching, done };
    return done;
  }

  #nextRefreshMs(): number {
    if (this.#keys === null) return this.#patience();
    return this.#fault === null ? this.#timings.refreshMs : this.#timings.coolDownMs;
  }

  #take(fetched: Fetched): void {
    this.#answeredAt = this.#ticks();
    if (fetched.ok) {
      // A key that stays is the same object, by which tokens that were verified with it are known.
      const before = new Map([...(this.#keys ?? [])].map((key) => [key.digest, key]));
      this.#keys = new Set(fetched.keys.map((key) => before.get(key.digest) ?? key));
      this.#loadedAt = this.#answeredAt;
      this.#fault = null;
      this.#failuresInARow = 0;
    } else {
      this.#fault = fetched.fault;
      this.#failures += 1;
      this.#failuresInARow += 1;
    }
    this.#settings.onFetched?.(fetched);
  }
}
