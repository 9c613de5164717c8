import type { Upstream, UpstreamTls } from '../policy/policy.js';
import { type Connected, type Connecting, openSocket } from './connect.js';
import { SecureConnector } from './secure-connect.js';
import { UpstreamConnection } from './upstream-connection.js';

/**
 * Idle connections are dropped after this, well before the 5 s after which uvicorn closes them from its side: a
 * request sent into that closing would be lost, and nothing here is ever sent twice.
 */
const IDLE_MS = 3_000;
/** To another machine, where each new connection costs a handshake, and where the upstream says that it keeps them. */
const MOST_IDLE_FAR_MS = 60_000;
/** How often connections are looked through for those that have waited or lain idle too long. */
const SWEEP_MS = 500;
/** Connections to one upstream at once; beyond them the answer is 503. Well above what one listener lets in. */
const MOST_CONNECTIONS = 8_192;
/** Idle connections kept for reuse; the rest are closed. */
const MOST_IDLE = 256;

/**
 * Connections to one upstream, one request each at a time, the latest used first. A plain list: a pool that looks for a
 * free one among thousands held by event streams costs by their number (decision 4).
 */
export class UpstreamPool {
  readonly upstream: Upstream;
  readonly #idle: UpstreamConnection[] = [];
  readonly #all = new Set<UpstreamConnection>();
  readonly #connect: (done: Connected) => Connecting;
  #mostIdle = MOST_IDLE;
  #sweep: NodeJS.Timeout | null = null;

  constructor(upstream: Upstream) {
    this.upstream = upstream;
    if (upstream.tls === null) {
      this.#connect = (done) => openSocket(upstream, 'shared buffer', done);
    } else {
      const connector = new SecureConnector(upstream, upstream.tls);
      this.#connect = (done) => connector.open(done);
    }
  }

  /** Connections that are open or being opened. */
  get size(): number {
    return this.#all.size;
  }

  /**
   * A connection with nothing to do; null when there are too many already. Give it back with `release`, or `discard` it
   * after any error.
   */
  acquire(): UpstreamConnection | null {
    const now = performance.now();
    for (;;) {
      const idle = this.#idle.pop();
      if (idle === undefined) return this.#all.size < MOST_CONNECTIONS ? this.#open() : null;
      if (idle.ready(now)) return idle;
      // The sweep may be late, where the process was: by now the upstream may have closed it, too.
      this.discard(idle);
    }
  }

  release(connection: UpstreamConnection): void {
    if (connection.spent || this.#idle.length >= this.#mostIdle) this.discard(connection);
    else this.#idle.push(connection);
  }

  discard(connection: UpstreamConnection): void {
    this.#all.delete(connection);
    connection.destroy();
  }

  /** After an upgrade the socket lives on without its connection. */
  detach(connection: UpstreamConnection): void {
    this.#all.delete(connection);
  }

  /** Keeps no connection for later: what is underway may come to its end. */
  retire(): void {
    this.#mostIdle = 0;
    for (const connection of this.#idle.splice(0)) this.discard(connection);
  }

  close(): void {
    const all = [...this.#all];
    this.#all.clear();
    this.#idle.length = 0;
    this.#stopSweeping();
    for (const connection of all) connection.destroy();
  }

  #open(): UpstreamConnection {
    const mostIdleMs = this.upstream.tls === null ? IDLE_MS : MOST_IDLE_FAR_MS;
    const connection = new UpstreamConnection(this.#connect, IDLE_MS, mostIdleMs);
    connection.onGone = () => {
      this.discard(connection);
    };
    this.#all.add(connection);
    this.#sweep ??= setInterval(() => {
      this.#expire();
    }, SWEEP_MS).unref();
    return connection;
  }

  #expire(): void {
    const now = performance.now();
    for (const connection of this.#all) connection.expire(now);
    // Those that ended while they lay here.
    const alive = this.#idle.filter((connection) => !connection.spent);
    this.#idle.splice(0, Number.POSITIVE_INFINITY, ...alive);
    if (this.#all.size === 0) this.#stopSweeping();
  }

  #stopSweeping(): void {
    if (this.#sweep !== null) clearInterval(this.#sweep);
    this.#sweep = null;
  }
}

/** The pools of all upstreams. */
export class Upstreams {
  /** By name. */
  readonly #pools = new Map<string, UpstreamPool>();
  /** Those behind TLS, by what is trusted and shown there, and name. */
  readonly #secure = new Map<string, UpstreamPool>();

  pool(upstream: Upstream): UpstreamPool {
    if (upstream.tls !== null) return this.#securePool(upstream, upstream.tls);
    const known = this.#pools.get(upstream.name);
    if (known !== undefined) return known;
    const pool = new UpstreamPool(upstream);
    this.#pools.set(upstream.name, pool);
    return pool;
  }

  /** Another policy is in force: no connection lies ready on which other certificates were shown or trusted. */
  policyInstalled(upstreams: readonly Upstream[]): void {
    const current = new Set(upstreams.flatMap((one) => (one.tls === null ? [] : [keyOf(one, one.tls)])));
    for (const [key, pool] of this.#secure) {
      if (current.has(key)) continue;
      this.#secure.delete(key);
      pool.retire();
    }
  }

  close(): void {
    for (const pool of [...this.#pools.values(), ...this.#secure.values()]) pool.close();
    this.#pools.clear();
    this.#secure.clear();
  }

  #securePool(upstream: Upstream, tls: UpstreamTls): UpstreamPool {
    const key = keyOf(upstream, tls);
    let pool = this.#secure.get(key);
    if (pool === undefined) {
      pool = new UpstreamPool(upstream);
      this.#secure.set(key, pool);
    }
    return pool;
  }
}

function keyOf({ name }: Upstream, { digest }: UpstreamTls): string {
  return `${digest} ${name}`;
}
