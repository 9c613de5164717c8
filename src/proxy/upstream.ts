import type { Upstream } from '../policy/policy.js';
import { openSocket } from './connect.js';
import { UpstreamConnection } from './upstream-connection.js';

/**
 * Idle connections are dropped after this, well before the 5 s after which uvicorn closes them from its side: a
 * request sent into that closing would be lost, and nothing here is ever sent twice.
 */
const IDLE_MS = 3_000;
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
  #sweep: NodeJS.Timeout | null = null;

  constructor(upstream: Upstream) {
    this.upstream = upstream;
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
    if (connection.spent || this.#idle.length >= MOST_IDLE) this.discard(connection);
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

  close(): void {
    const all = [...this.#all];
    this.#all.clear();
    this.#idle.length = 0;
    this.#stopSweeping();
    for (const connection of all) connection.destroy();
  }

  #open(): UpstreamConnection {
    const connection = new UpstreamConnection((done) => openSocket(this.upstream, done), IDLE_MS);
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

/** The pools of all upstreams, by name. */
export class Upstreams {
  readonly #pools = new Map<string, UpstreamPool>();

  pool(upstream: Upstream): UpstreamPool {
    const known = this.#pools.get(upstream.name);
    if (known !== undefined) return known;
    const pool = new UpstreamPool(upstream);
    this.#pools.set(upstream.name, pool);
    return pool;
  }

  close(): void {
    for (const pool of this.#pools.values()) pool.close();
    this.#pools.clear();
  }
}
