import { lookup } from 'node:dns';
import type { LookupFunction, Socket } from 'node:net';
import { Client, buildConnector } from 'undici';
import { isLoopback, parsePeerAddress } from '../net/address.js';
import type { Upstream } from '../policy/policy.js';

/** An upstream's name led to an address that is not this machine: DNS or /etc/hosts changed after the policy was read. */
export class NotLoopbackError extends Error {
  readonly code = 'GUARDBEE_NOT_LOOPBACK';
  constructor() {
    super('the upstream is not a loopback address');
  }
}

/**
 * Idle connections are dropped after this, well before the 5 s after which uvicorn closes them from its side: a
 * request sent into that closing would be lost, and nothing here is ever sent twice.
 */
const IDLE_MS = 3_000;
const CONNECT_MS = 5_000;
const RESPONSE_HEAD_BYTES = 64 * 1024;
/** Connections to one upstream at once; beyond them the answer is 503. Well above what one listener lets in. */
const MOST_CONNECTIONS = 8_192;
/** Idle clients kept for reuse; the rest are closed. */
const MOST_IDLE = 256;

/**
 * Connections to one upstream, one request each at a time, the latest used first. A plain list of undici clients:
 * a pool that looks for a free client among thousands held by event streams costs by their number.
 */
export class UpstreamPool {
  readonly upstream: Upstream;
  readonly #origin: string;
  readonly #connect: buildConnector.connector;
  readonly #idle: Client[] = [];
  readonly #all = new Set<Client>();

  constructor(upstream: Upstream) {
    this.upstream = upstream;
    const { target } = upstream;
    this.#origin =
      target.kind === 'unix'
        ? 'http://localhost'
        : `http://${target.host.includes(':') ? `[${target.host}]` : target.host}:${String(target.port)}`;
    this.#connect = checkedConnector(upstream);
  }

  /** Connections that are open or being opened. */
  get size(): number {
    return this.#all.size;
  }

  /**
   * A client with nothing to do; null when there are too many already. Give it back with `release`, or `discard` it
   * after any error.
   */
  acquire(): Client | null {
    return this.#idle.pop() ?? (this.#all.size < MOST_CONNECTIONS ? this.#open() : null);
  }

  release(client: Client): void {
    if (client.destroyed || client.closed || this.#idle.length >= MOST_IDLE) this.discard(client);
    else this.#idle.push(client);
  }

  discard(client: Client): void {
    this.#all.delete(client);
    client.destroy().catch(() => undefined);
  }

  /** After an upgrade the socket lives on without the client. */
  detach(client: Client): void {
    this.#all.delete(client);
    client.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    const clients = [...this.#all];
    this.#all.clear();
    this.#idle.length = 0;
    await Promise.allSettled(clients.map((client) => client.destroy()));
  }

  #open(): Client {
    const client = new Client(this.#origin, {
      connect: this.#connect,
      pipelining: 1,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      keepAliveTimeoutThreshold: 1_000,
      maxHeaderSize: RESPONSE_HEAD_BYTES,
      // An event stream is silent between events: only the first byte is waited for, and that is set for each request.
      bodyTimeout: 0,
      strictContentLength: true,
    });
    this.#all.add(client);
    return client;
  }
}

/** Looks a name up and passes on addresses of this machine only. */
const loopbackLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) {
      callback(error, []);
      return;
    }
    const [first] = addresses;
    const sound = addresses.every(({ address }) => {
      const parsed = parsePeerAddress(address);
      return parsed !== null && isLoopback(parsed);
    });
    if (!sound || first === undefined) callback(new NotLoopbackError(), []);
    else if (options.all === true) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};

function checkedConnector(upstream: Upstream): buildConnector.connector {
  const { target } = upstream;
  const options = {
    timeout: CONNECT_MS,
    // A WebSocket's directions end one by one; without this Node closes the other for us.
    allowHalfOpen: true,
    ...(upstream.mustBeLoopback && target.kind === 'tcp' ? { lookup: loopbackLookup } : {}),
    ...(target.kind === 'unix' ? { socketPath: target.path } : {}),
  };
  const connect = buildConnector(options);
  if (!upstream.mustBeLoopback || target.kind === 'unix') return connect;
  return (request, callback) => {
    connect(request, (...result) => {
      const [error, socket] = result;
      if (error !== null) {
        callback(error, null);
      } else if (reachedLoopback(socket)) {
        callback(null, socket);
      } else {
        socket.destroy();
        callback(new NotLoopbackError(), null);
      }
    });
  };
}

/** The address that was really reached; the last word, whatever a resolver said. */
function reachedLoopback(socket: Socket): boolean {
  const address = socket.remoteAddress === undefined ? null : parsePeerAddress(socket.remoteAddress);
  return address !== null && isLoopback(address);
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

  async close(): Promise<void> {
    await Promise.allSettled([...this.#pools.values()].map((pool) => pool.close()));
    this.#pools.clear();
  }
}
