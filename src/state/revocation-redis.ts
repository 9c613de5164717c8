import { randomBytes } from 'node:crypto';
import * as path from 'node:path';
import type { Revocable } from '../identity/identity.js';
import type { Standing } from '../identity/revocation.js';
import type { RedisSettings, RevocationSettings } from '../policy/policy.js';
import { RedisError, RedisLink } from './redis-link.js';
import { type RevocableKeys, RevocationKeys, type StoreKey } from './revocation-keys.js';
import { readStateFile, replaceStateFile } from './state-directory.js';
import {
  type Revocation,
  type RevocationStore,
  StateError,
  type StoreStatus,
  type Tell,
  isBefore,
  revocationOf,
} from './store.js';

/** Between two polls while credentials are in use. */
const POLL_MS = 400;
/** While none are: only whether the store is there, and still the same. */
const IDLE_POLL_MS = 1000;
/** An answer is good for this long from the moment it was asked for. */
const FRESH_MS = 900;
/** Who has not been asked about for so long is no longer in use. */
const IN_USE_MS = 10_000;
/** Keys that are polled; whoever comes when all are taken is asked about each time. */
const MOST_WATCHED = 20_000;
/** Keys in one command. */
const BATCH = 1000;
/** Revocations that are remembered here, so that they outlive the store's memory. */
const MOST_REMEMBERED = 100_000;
/** In the state directory: the sentinel that was seen last. */
export const SENTINEL_FILE = 'shared-store-sentinel';

/** A key that is polled, and what was last said of it. */
interface Watch {
  readonly key: StoreKey;
  value: string | null;
  /** When the answer was asked for; monotonic milliseconds. */
  askedAt: number;
  usedAt: number;
}

interface Remembered {
  readonly revocation: Revocation;
  readonly key: StoreKey;
  /** False: the store was away when it was made, and must still be told. */
  written: boolean;
}

/** What the store said: value by key; a key that is not there has none. */
type Answers = ReadonlyMap<string, string>;

/**
 * Revocations that several sidecars share through Redis or Valkey. The first sight of a credential asks; while it is
 * in use its keys are polled, so that later requests are decided at once and nothing is believed longer than FRESH_MS.
 *
 * A store that was emptied looks like one in which nothing is revoked. So a random sentinel lies in it, remembered in
 * the state directory: when it is missing or another, nobody is known to be good until an operator accepts the loss.
 * What this process has seen revoked it remembers until the credential ends, whatever becomes of the store.
 */
export class RedisRevocations implements RevocationStore {
  readonly #keys: RevocationKeys;
  readonly #link: RedisLink;
  readonly #tell: Tell;
  readonly #sentinelFile: string;
  readonly #keysOf = new WeakMap<Revocable, RevocableKeys>();
  readonly #watched = new Map<string, Watch>();
  readonly #remembered = new Map<string, Remembered>();
  #state: 'connecting' | 'up' | 'down' | 'lost' = 'connecting';
  #detail = 'connecting';
  /** Of the sentinel; null: none has been seen yet. */
  #sentinel: string | null = null;
  /** First sights of this turn of the loop, asked together. */
  #batch: { readonly keys: Map<string, StoreKey>; readonly answers: Promise<Answers | null> } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #timerAt = 0;
  #checking = false;
  #closed = false;
  #toldEviction = false;
  #settled: (() => void) | null = null;

  private constructor(settings: RedisSettings, stateDir: string, tell: Tell) {
    this.#keys = new RevocationKeys(settings);
    this.#tell = tell;
    this.#sentinelFile = path.join(stateDir, SENTINEL_FILE);
    this.#link = new RedisLink(settings, {
      ready: () => {
        void this.#check();
      },
      down: (why) => {
        this.#fell(why);
      },
    });
  }

  /**
   * Waits for the store, but not for long: a store that is away at the start is no different from one that goes away
   * later. @throws StateError when the remembered sentinel can't be read
   */
  static async open(
    settings: RedisSettings,
    stateDir: string,
    tell: Tell,
    patienceMs = 1500,
  ): Promise<RedisRevocations> {
    const store = new RedisRevocations(settings, stateDir, tell);
    const bytes = await readStateFile(store.#sentinelFile, 4096);
    store.#sentinel = bytes === null ? null : bytes.toString('latin1').trim();
    const settled = new Promise<void>((resolve) => {
      store.#settled = resolve;
    });
    store.#link.start();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patienceMs);
    });
    await Promise.race([settled, late]);
    clearTimeout(timer);
    return store;
  }

  get status(): StoreStatus {
    return {
      state: this.#state === 'up' ? 'up' : 'unknown',
      detail: this.#detail,
      lost: this.#state === 'lost',
      entries: this.#remembered.size,
    };
  }

  standing(of: Revocable, nowMs: number): Standing | Promise<Standing> {
    const keys = this.#keysFor(of);
    if (this.#remembers(keys, of, nowMs)) return 'revoked';
    if (this.#state !== 'up') return 'unknown';
    const fresh = this.#fresh(keys, of, nowMs);
    if (fresh !== null) return fresh;
    return this.#ask(keys).then((answers) => (answers === null ? 'unknown' : this.#judge(keys, of, answers, nowMs)));
  }

  known(of: Revocable, nowMs: number): Standing {
    const keys = this.#keysFor(of);
    if (this.#remembers(keys, of, nowMs)) return 'revoked';
    if (this.#state !== 'up') return 'unknown';
    const fresh = this.#fresh(keys, of, nowMs);
    if (fresh !== null) return fresh;
    // Whoever asks again in a moment hears the answer; one that says revoked is remembered.
    void this.#ask(keys).then((answers) => {
      if (answers !== null) this.#judge(keys, of, answers, nowMs);
    });
    return 'unknown';
  }

  async revoke(of: Revocable, nowMs: number): Promise<void> {
    await this.put(revocationOf(of), of.settings, nowMs);
  }

  async put(revocation: Revocation, settings: RevocationSettings, nowMs: number): Promise<void> {
    if (revocation.untilMs <= nowMs) return;
    const key = this.#keys.for(revocation, settings);
    const remembered = this.#remember(revocation, key, false, nowMs);
    try {
      if (this.#state !== 'up') throw new RedisError(this.#detail, null);
      await this.#write(remembered, nowMs);
    } catch (error) {
      const why = error instanceof RedisError ? error.message : 'unknown error';
      throw new StateError(
        `the shared store did not take the revocation: ${why}; it holds in this process alone, and is written when the store is back`,
      );
    }
  }

  list(nowMs: number, most: number): { readonly entries: readonly Revocation[]; readonly total: number } {
    this.#forgetEnded(nowMs);
    const entries = [...this.#remembered.values()].map((one) => one.revocation);
    return { entries: entries.slice(-most).reverse(), total: entries.length };
  }

  async acceptLoss(nowMs: number): Promise<boolean> {
    if (this.#state !== 'lost') {
      if (this.#state === 'up') return false;
      throw new StateError(`the shared store cannot be asked: ${this.#detail}`);
    }
    try {
      // The others' knowledge comes back as each of them sees that the loss was accepted (`#follow`).
      await this.#writeAll(nowMs, true);
      const made = sentinelText(randomId(), this.#sentinel);
      await this.#link.send(['SET', this.#keys.sentinel, made, 'NX']);
      const found = readSentinel(await this.#link.send(['GET', this.#keys.sentinel]));
      if (found === null)
        throw new RedisError('its sentinel cannot be set: delete the key, then accept the loss again', null);
      await this.#follow(found.id);
    } catch (error) {
      if (error instanceof RedisError) throw new StateError(`the shared store cannot be written: ${error.message}`);
      throw error;
    }
    await this.#check();
    return true;
  }

  close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#link.close();
    this.#settled?.();
    return Promise.resolve();
  }

  // What is known without asking.

  #keysFor(of: Revocable): RevocableKeys {
    let keys = this.#keysOf.get(of);
    if (keys === undefined) {
      keys = this.#keys.of(of);
      this.#keysOf.set(of, keys);
    }
    return keys;
  }

  #remembers(keys: RevocableKeys, of: Revocable, nowMs: number): boolean {
    if (this.#remembered.size === 0) return false;
    const byJti = keys.jti === null ? undefined : this.#remembered.get(keys.jti.text)?.revocation;
    if (byJti !== undefined && nowMs < byJti.untilMs) return true;
    const all = keys.subject === null ? undefined : this.#remembered.get(keys.subject.text)?.revocation;
    return all?.kind === 'subject' && nowMs < all.untilMs && isBefore(of, all.beforeMs);
  }

  /** Null: must be asked. */
  #fresh(keys: RevocableKeys, of: Revocable, nowMs: number): Standing | null {
    const now = performance.now();
    const byJti = this.#peek(keys.jti, now);
    const bySubject = this.#peek(keys.subject, now);
    if (byJti === undefined || bySubject === undefined) return null;
    return this.#verdict(keys, of, byJti, bySubject, nowMs);
  }

  /** What was said of a key a moment ago, and that it is in use; undefined: nothing that still counts. */
  #peek(key: StoreKey | null, now: number): string | null | undefined {
    if (key === null) return null;
    const watch = this.#watched.get(key.text);
    if (watch === undefined) return undefined;
    watch.usedAt = now;
    return now - watch.askedAt > FRESH_MS ? undefined : watch.value;
  }

  #judge(keys: RevocableKeys, of: Revocable, answers: Answers, nowMs: number): Standing {
    const value = (key: StoreKey | null): string | null => (key === null ? null : (answers.get(key.text) ?? null));
    return this.#verdict(keys, of, value(keys.jti), value(keys.subject), nowMs);
  }

  #verdict(
    keys: RevocableKeys,
    of: Revocable,
    byJti: string | null,
    bySubject: string | null,
    nowMs: number,
  ): Standing {
    const { issuer, jti, subject, expiresAtMs: untilMs } = of;
    if (byJti !== null && keys.jti !== null && jti !== null) {
      this.#remember({ kind: 'jti', issuer, jti, untilMs }, keys.jti, true, nowMs);
      return 'revoked';
    }
    if (bySubject === null || keys.subject === null || subject === null) return 'good';
    // What is no number was not written by us; that it stands there means that somebody wanted it void.
    const beforeMs = /^\d{1,15}$/.test(bySubject) ? Number(bySubject) : Number.MAX_SAFE_INTEGER;
    if (!isBefore(of, beforeMs)) return 'good';
    this.#remember({ kind: 'subject', issuer, subject, beforeMs, untilMs }, keys.subject, true, nowMs);
    return 'revoked';
  }

  #remember(revocation: Revocation, key: StoreKey, written: boolean, nowMs: number): Remembered {
    const known = this.#remembered.get(key.text);
    if (known !== undefined && covers(known.revocation, revocation)) return known;
    const remembered: Remembered = {
      revocation: known === undefined ? revocation : merged(known.revocation, revocation),
      key,
      written: written && known?.written !== false,
    };
    if (known === undefined && this.#remembered.size >= MOST_REMEMBERED) {
      this.#forgetEnded(nowMs);
      // The oldest has been in the store for longest.
      for (const [text, one] of this.#remembered) {
        if (this.#remembered.size < MOST_REMEMBERED) break;
        if (one.written) this.#remembered.delete(text);
      }
    }
    if (known !== undefined || this.#remembered.size < MOST_REMEMBERED) this.#remembered.set(key.text, remembered);
    return remembered;
  }

  #forgetEnded(nowMs: number): void {
    for (const [text, { revocation }] of this.#remembered) {
      if (revocation.untilMs <= nowMs) this.#remembered.delete(text);
    }
  }

  // Asking.

  /** Together with all others of this turn of the loop; null: there was no answer. Never rejects. */
  #ask(keys: RevocableKeys): Promise<Answers | null> {
    let batch = this.#batch;
    if (batch === null || batch.keys.size >= BATCH) {
      const asked = new Map<string, StoreKey>();
      const answers = new Promise<void>((resolve) => {
        setImmediate(resolve);
      }).then(() => {
        if (this.#batch?.keys === asked) this.#batch = null;
        return this.#look([...asked.values()]);
      });
      batch = { keys: asked, answers };
      this.#batch = batch;
    }
    for (const key of [keys.jti, keys.subject]) if (key !== null) batch.keys.set(key.text, key);
    return batch.answers;
  }

  /** Asks for these keys, and whether the store is still the same after they were read. Null: nothing is known. */
  async #look(keys: readonly StoreKey[]): Promise<Answers | null> {
    const askedAt = performance.now();
    try {
      const [answers, sentinel] = await Promise.all([this.#read(keys), this.#readSentinel()]);
      if (!(await this.#isTheSame(sentinel)) || this.#state !== 'up') return null;
      this.#note(keys, answers, askedAt);
      return answers;
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  async #read(keys: readonly StoreKey[]): Promise<Answers> {
    const answers = new Map<string, string>();
    const own = keys.filter((key) => !key.foreign).map((key) => key.text);
    const foreign = keys.filter((key) => key.foreign).map((key) => key.text);
    await Promise.all([
      ...batches(own).map(async (some) => {
        const values = await this.#link.send(['MGET', ...some]);
        if (!Array.isArray(values) || values.length !== some.length)
          throw new RedisError('the answer is no list', null);
        for (const [index, text] of some.entries()) {
          const value: unknown = values[index];
          if (value !== null) answers.set(text, typeof value === 'string' ? value : '');
        }
      }),
      ...batches(foreign).map(async (some) => {
        // Mostly none is there: one number says so for all of them.
        if ((await this.#link.send(['EXISTS', ...some])) === 0) return;
        const each = await Promise.all(some.map((text) => this.#link.send(['EXISTS', text])));
        for (const [index, text] of some.entries()) if (each[index] !== 0) answers.set(text, '1');
      }),
    ]);
    return answers;
  }

  #note(keys: readonly StoreKey[], answers: Answers, askedAt: number): void {
    for (const key of keys) {
      const value = answers.get(key.text) ?? null;
      const watch = this.#watched.get(key.text);
      if (watch !== undefined) {
        watch.value = value;
        watch.askedAt = Math.max(watch.askedAt, askedAt);
      } else if (this.#watched.size < MOST_WATCHED) {
        this.#watched.set(key.text, { key, value, askedAt, usedAt: askedAt });
      }
    }
    if (this.#watched.size > 0) this.#pollIn(POLL_MS);
  }

  #pollIn(ms: number): void {
    const at = performance.now() + ms;
    if (this.#closed || (this.#timer !== null && this.#timerAt <= at)) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#poll();
    }, ms);
    this.#timer.unref();
  }

  async #poll(): Promise<void> {
    if (this.#closed) return;
    if (this.#state === 'up') {
      const idleSince = performance.now() - IN_USE_MS;
      for (const [text, watch] of this.#watched) if (watch.usedAt < idleSince) this.#watched.delete(text);
      await this.#look([...this.#watched.values()].map((watch) => watch.key));
    } else if (this.#link.ready) {
      await this.#check();
    }
    this.#pollIn(this.#watched.size > 0 ? POLL_MS : IDLE_POLL_MS);
  }

  // Is it there, and is it the same.

  /** After connecting, and for as long as something is wrong: is the store what it should be. */
  async #check(): Promise<void> {
    if (this.#checking || this.#closed) return;
    this.#checking = true;
    try {
      if (this.#sentinel === null) {
        const made = sentinelText(randomId(), null);
        await this.#link.send(['SET', this.#keys.sentinel, made, 'NX']);
      }
      const found = await this.#readSentinel();
      if (await this.#isTheSame(found)) {
        await this.#writeAll(Date.now(), false);
        this.#rose();
        await this.#warnOfEviction();
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#checking = false;
      this.#pollIn(this.#watched.size > 0 ? POLL_MS : IDLE_POLL_MS);
    }
  }

  /** Asked after keys were read. A write that changes nothing comes with it: a replica may be behind, and refuses it. */
  async #readSentinel(): Promise<Sentinel | null> {
    const [written, value] = await Promise.all([
      this.#link.send(['PERSIST', this.#keys.sentinel]).then(
        () => null,
        (error: unknown) => error,
      ),
      this.#link.send(['GET', this.#keys.sentinel]),
    ]);
    // Full, or unable to save: what is in it is still right.
    if (written !== null && !(written instanceof RedisError && /^(?:MISCONF|OOM)$/.test(written.reply ?? ''))) {
      throw written instanceof RedisError ? written : new RedisError('unknown error', null);
    }
    return readSentinel(value);
  }

  async #isTheSame(found: Sentinel | null): Promise<boolean> {
    if (this.#closed) return false;
    if (found !== null && found.id === this.#sentinel) return true;
    if (found !== null && (this.#sentinel === null || found.after === this.#sentinel)) {
      // The first that we see; or somebody has accepted, elsewhere, the very loss that we would complain of.
      const ours = this.#sentinel !== null;
      await this.#follow(found.id);
      if (ours) await this.#writeAll(Date.now(), true);
      return true;
    }
    if (this.#state !== 'lost') {
      this.#state = 'lost';
      this.#detail =
        found === null
          ? 'the shared store was emptied: its sentinel is missing'
          : 'the shared store is another one: its sentinel is not the one that was remembered';
      this.#watched.clear();
      this.#settled?.();
      this.#tell({
        store: 'shared',
        level: 'error',
        event: 'revocations.lost',
        message: `${this.#detail}, and with it what was revoked; revoke again what must be, then run "guardbee revoke --accept-loss"`,
      });
    }
    return false;
  }

  async #follow(id: string): Promise<void> {
    if (this.#sentinel === id) return;
    this.#sentinel = id;
    try {
      await replaceStateFile(this.#sentinelFile, `${id}\n`);
    } catch (error) {
      this.#tell({
        store: 'shared',
        level: 'warn',
        event: 'revocations.sentinel_not_kept',
        message: `an emptied store will not be noticed after a restart: ${error instanceof StateError ? error.message : 'unknown error'}`,
      });
    }
  }

  /** @param all false: only what the store has not been told yet */
  async #writeAll(nowMs: number, all: boolean): Promise<void> {
    this.#forgetEnded(nowMs);
    for (const some of batches([...this.#remembered.values()].filter((one) => all || !one.written))) {
      await Promise.all(some.map((one) => this.#write(one, nowMs)));
    }
  }

  async #write(one: Remembered, nowMs: number): Promise<void> {
    const { revocation, key } = one;
    const leftMs = Math.ceil(revocation.untilMs - nowMs);
    if (leftMs <= 0) return;
    const ttl = Number.isFinite(leftMs) ? leftMs : -1;
    if (revocation.kind === 'subject') {
      await this.#link.send(['EVAL', LATER_WINS, '1', key.text, String(Math.ceil(revocation.beforeMs)), String(ttl)]);
    } else {
      const made = await this.#link.send(['SET', key.text, '1', ...(ttl === -1 ? [] : ['PX', String(ttl)]), 'NX']);
      if (made === null) {
        const left = await this.#link.send(['PTTL', key.text]);
        if (ttl === -1) await this.#link.send(['PERSIST', key.text]);
        else if (typeof left === 'number' && left >= 0 && left < ttl) {
          await this.#link.send(['PEXPIRE', key.text, String(ttl)]);
        }
      }
    }
    one.written = true;
  }

  async #warnOfEviction(): Promise<void> {
    if (this.#toldEviction) return;
    let text: string;
    try {
      text = String(await this.#link.send(['INFO', 'memory']));
    } catch {
      // A user that may not ask: then somebody has thought about this server.
      return;
    }
    const limit = /^maxmemory:(\d{1,20})\r?$/m.exec(text)?.[1] ?? '0';
    const policy = /^maxmemory_policy:([a-z-]{1,32})\r?$/m.exec(text)?.[1] ?? 'noeviction';
    if (limit === '0' || policy === 'noeviction') return;
    this.#toldEviction = true;
    this.#tell({
      store: 'shared',
      level: 'warn',
      event: 'revocations.may_be_evicted',
      message: `the shared store drops keys when its memory is full (maxmemory-policy ${policy}), revocations among them; use noeviction`,
    });
  }

  #failed(error: unknown): void {
    if (this.#closed) return;
    const why = error instanceof RedisError ? error.message : 'unknown error';
    if (this.#link.ready) this.#link.giveUp(why);
    else this.#fell(why);
  }

  #fell(why: string): void {
    if (this.#closed) return;
    this.#settled?.();
    const before = this.#state;
    const detail = `the shared store cannot be asked: ${why}`;
    this.#detail = detail;
    // What was lost stays lost; when it is back, that is looked at again.
    this.#state = 'down';
    if (before === 'down') return;
    this.#tell({ store: 'shared', level: 'error', event: 'revocations.store_down', message: detail });
  }

  #rose(): void {
    this.#link.settled();
    if (this.#state === 'up') return;
    this.#state = 'up';
    this.#detail = 'connected';
    this.#settled?.();
    this.#tell({
      store: 'shared',
      level: 'info',
      event: 'revocations.store_up',
      message: 'the shared store is connected',
    });
  }
}

/** The later moment and the longer life win, whoever writes first: KEYS[1]; ARGV moment, milliseconds to live or -1. */
const LATER_WINS = `
local before, ttl = ARGV[1], tonumber(ARGV[2])
local old = redis.call('GET', KEYS[1])
if old then
  if #old > #before or (#old == #before and old > before) then before = old end
  local left = redis.call('PTTL', KEYS[1])
  if left == -1 or ttl == -1 then ttl = -1 elseif left > ttl then ttl = left end
end
if ttl == -1 then redis.call('SET', KEYS[1], before) else redis.call('SET', KEYS[1], before, 'PX', ttl) end
return before`;

/** `after`: the one whose loss was accepted when this one was set. */
export interface Sentinel {
  readonly id: string;
  readonly after: string | null;
}

function randomId(): string {
  return randomBytes(16).toString('hex');
}

/** @param after as remembered; a file that somebody has changed may hold anything */
function sentinelText(id: string, after: string | null): string {
  return `guardbee:${id}:${after !== null && /^[0-9a-f]{32}$/.test(after) ? after : '-'}`;
}

/** Null where it is missing, or is none of ours. */
export function readSentinel(value: unknown): Sentinel | null {
  const found = /^guardbee:([0-9a-f]{32}):(-|[0-9a-f]{32})$/.exec(typeof value === 'string' ? value : '');
  if (found === null) return null;
  const after = found[2] ?? '-';
  return { id: found[1] ?? '', after: after === '-' ? null : after };
}

function covers(known: Revocation, revocation: Revocation): boolean {
  if (known.untilMs < revocation.untilMs) return false;
  return known.kind === 'jti' || revocation.kind === 'jti' || known.beforeMs >= revocation.beforeMs;
}

function merged(known: Revocation, revocation: Revocation): Revocation {
  const untilMs = Math.max(known.untilMs, revocation.untilMs);
  if (known.kind === 'jti' || revocation.kind === 'jti') return { ...known, untilMs };
  return { ...known, untilMs, beforeMs: Math.max(known.beforeMs, revocation.beforeMs) };
}

function batches<T>(all: readonly T[]): T[][] {
  const made: T[][] = [];
  for (let start = 0; start < all.length; start += BATCH) made.push(all.slice(start, start + BATCH));
  return made;
}
