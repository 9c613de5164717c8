import { createHash } from 'node:crypto';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import {
  ChunkedReader,
  FixedLengthReader,
  fieldValue,
  fieldValues,
  lenientHeadEnd,
  type BodyReader,
  type FieldList,
} from './message-reader.js';
import { Watchers } from './wait.js';
import { encodeFrame, FrameReader, websocketAccept } from './websocket-frames.js';

/** A body as it came; `bytes` holds only the first `recordLimit` of it, `length` and `sha256` are of the whole. */
export interface RecordedBody {
  readonly bytes: Buffer;
  readonly length: number;
  readonly sha256: string;
  readonly trailers: FieldList;
}

/** One request as the lenient upstream read it. Nothing is cleaned, folded or refused. */
export interface RecordedRequest {
  readonly connection: RecordedConnection;
  /** Number of the request on its connection, from 0. */
  readonly index: number;
  readonly method: string;
  readonly target: string;
  readonly version: string;
  /** Names and values as they came, in order. */
  readonly headers: FieldList;
  readonly rawHead: Buffer;
  /** `performance.now()` when the head was complete. */
  readonly atMs: number;
  /** Resolves when the body is complete; rejects when the connection ended before that. */
  readonly body: Promise<RecordedBody>;
  /** Bytes of the body so far. */
  readonly bodyLength: number;
  header(name: string): string | null;
  headerAll(name: string): string[];
}

/** Answers one request. May keep the connection's socket for as long as it likes. */
export type Respond = (request: RecordedRequest, connection: RecordedConnection) => void | Promise<void>;

export interface RecordingUpstreamOptions {
  readonly respond?: Respond;
  /** Called for each connection before anything was read. */
  readonly onConnection?: (connection: RecordedConnection) => void;
  /** A path makes it a unix socket; the default is a free port on 127.0.0.1. */
  readonly listen?: { readonly path: string } | { readonly host: string; readonly port?: number };
  /** Leave our side open when the other side has ended its own. Default: end ours too, as most servers do. */
  readonly allowHalfOpen?: boolean;
  /** Bytes kept for each connection and each body; the rest is counted and hashed only. */
  readonly recordLimit?: number;
  /** Stop reading as soon as a connection is there: a peer that is stalled. */
  readonly paused?: boolean;
}

const DEFAULT_RECORD_LIMIT = 16 * 1024 * 1024;

/** The bytes of one connection, and the means to answer on it. */
export class RecordedConnection {
  readonly id: number;
  readonly socket: Socket;
  readonly openedAtMs = performance.now();
  readonly requests: RecordedRequest[] = [];
  /** Bytes that came after a request was answered with a 101; all of them, up to the record limit. */
  readonly tunnelled: Buffer[] = [];
  bytesSeen = 0;
  /** `performance.now()` when the peer sent FIN or RST; null while it has not. */
  endedAtMs: number | null = null;
  /** `performance.now()` when the socket was gone altogether. */
  closedAtMs: number | null = null;
  /** The peer's end was not a clean FIN. */
  reset = false;

  readonly #watchers: Watchers;
  readonly #recorded: Buffer[] = [];
  readonly #recordLimit: number;
  readonly #respond: Respond;
  #recordedLength = 0;
  #pending: Buffer = Buffer.alloc(0);
  #body: RecordingBody | null = null;
  #onTunnelled: ((bytes: Buffer) => void) | null = null;

  constructor(
    id: number,
    socket: Socket,
    watchers: Watchers,
    options: { respond: Respond; recordLimit: number; allowHalfOpen: boolean },
  ) {
    this.id = id;
    this.socket = socket;
    this.#watchers = watchers;
    this.#respond = options.respond;
    this.#recordLimit = options.recordLimit;
    socket.on('data', (bytes) => {
      this.#read(bytes);
    });
    socket.on('end', () => {
      this.#gone();
      if (!options.allowHalfOpen) socket.end();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') this.reset = true;
    });
    socket.on('close', () => {
      this.closedAtMs = performance.now();
      this.#gone();
    });
  }

  /** Everything received on this connection, up to the record limit. */
  get bytes(): Buffer {
    return Buffer.concat(this.#recorded);
  }

  get text(): string {
    return this.bytes.toString('latin1');
  }

  /** Answers with these bytes as they are. False: wait for `drain` on the socket. */
  write(bytes: Buffer | string): boolean {
    if (!this.socket.writable) return false;
    return this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** FIN, after these bytes; reading goes on. */
  end(bytes: Buffer | string = ''): void {
    if (this.socket.writable) this.socket.end(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** RST. */
  resetNow(): void {
    this.socket.resetAndDestroy();
  }

  /** From here on the bytes are no requests: a tunnel. What was already received comes first. */
  tunnel(onBytes: (bytes: Buffer) => void): void {
    this.#onTunnelled = onBytes;
    const early = this.#pending;
    this.#pending = Buffer.alloc(0);
    if (early.length > 0) this.#read(early, { counted: true });
  }

  #gone(): void {
    if (this.endedAtMs === null) {
      this.endedAtMs = performance.now();
      this.#body?.fail(new Error('the connection ended before the body did'));
      this.#body = null;
    }
    this.#watchers.changed();
  }

  #read(bytes: Buffer, options: { counted: boolean } = { counted: false }): void {
    if (!options.counted) {
      this.bytesSeen += bytes.length;
      const room = this.#recordLimit - this.#recordedLength;
      if (room > 0) {
        const kept = bytes.subarray(0, room);
        this.#recorded.push(kept);
        this.#recordedLength += kept.length;
      }
    }
    if (this.#onTunnelled !== null) {
      if (this.bytesSeen <= this.#recordLimit) this.tunnelled.push(bytes);
      this.#onTunnelled(bytes);
    } else {
      this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
      this.#parse();
    }
    this.#watchers.changed();
  }

  #parse(): void {
    // `tunnel` may have been called by a `respond` in here, and then what is left is not ours to parse.
    while (this.#onTunnelled === null) {
      if (this.#body !== null) {
        this.#pending = this.#pending.subarray(this.#body.take(this.#pending));
        if (!this.#body.done) return;
        this.#body = null;
      }
      // RFC 9112 §2.2: empty lines before a request line are skipped.
      while (this.#pending[0] === 0x0d || this.#pending[0] === 0x0a) this.#pending = this.#pending.subarray(1);
      const end = lenientHeadEnd(this.#pending);
      if (end === -1) return;
      const head = this.#pending.subarray(0, end);
      this.#pending = this.#pending.subarray(end);
      this.#request(head);
    }
  }

  #request(rawHead: Buffer): void {
    const [line = '', ...fieldLines] = rawHead.toString('latin1').trimEnd().split(/\r?\n/);
    const [method = '', target = '', version = ''] = line.split(' ');
    const headers: FieldList = fieldLines.map((field): readonly [string, string] => {
      const colon = field.indexOf(':');
      return [field.slice(0, Math.max(colon, 0)).trim(), field.slice(colon + 1).trim()];
    });
    const body = new RecordingBody(bodyReader(headers), this.#recordLimit);
    this.#body = body;
    // A body that ends early matters only to those who wait for it.
    body.whole.catch(() => undefined);
    const request: RecordedRequest = {
      connection: this,
      index: this.requests.length,
      method,
      target,
      version,
      headers,
      rawHead,
      atMs: performance.now(),
      body: body.whole,
      get bodyLength() {
        return body.length;
      },
      header: (name) => fieldValue(headers, name),
      headerAll: (name) => fieldValues(headers, name),
    };
    this.requests.push(request);
    body.take(Buffer.alloc(0));
    const answered = this.#respond(request, this);
    if (answered instanceof Promise) {
      answered.catch((error: unknown) => {
        // A `respond` waiting for a body that never came is no fault of the test.
        if (this.endedAtMs === null) this.socket.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    }
  }
}

/** Lenient on purpose: any Transfer-Encoding that mentions chunked wins, else the first length, whatever it says. */
function bodyReader(headers: FieldList): BodyReader {
  const encoding = fieldValue(headers, 'transfer-encoding');
  if (encoding !== null && /chunked/i.test(encoding)) return new ChunkedReader({ strict: false });
  const length = Number.parseInt(fieldValue(headers, 'content-length') ?? '0', 10);
  return new FixedLengthReader(Number.isNaN(length) ? 0 : Math.max(length, 0));
}

class RecordingBody {
  readonly whole: Promise<RecordedBody>;
  length = 0;
  done = false;
  readonly #reader: BodyReader;
  readonly #recordLimit: number;
  readonly #kept: Buffer[] = [];
  readonly #hash = createHash('sha256');
  #keptLength = 0;
  #resolve: (body: RecordedBody) => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  constructor(reader: BodyReader, recordLimit: number) {
    this.#reader = reader;
    this.#recordLimit = recordLimit;
    this.whole = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Returns how many bytes belonged to the body. */
  take(bytes: Buffer): number {
    const piece = this.#reader.read(bytes);
    for (const data of piece.data) {
      this.length += data.length;
      this.#hash.update(data);
      const kept = data.subarray(0, Math.max(this.#recordLimit - this.#keptLength, 0));
      if (kept.length > 0) this.#kept.push(kept);
      this.#keptLength += kept.length;
    }
    if (piece.done && !this.done) {
      this.done = true;
      this.#resolve({
        bytes: Buffer.concat(this.#kept),
        length: this.length,
        sha256: this.#hash.digest('hex'),
        trailers: this.#reader.trailers,
      });
    }
    return piece.used;
  }

  fail(error: Error): void {
    this.#reject(error);
  }
}

/**
 * A lenient HTTP/1.1 upstream on a raw socket. It records every byte that reaches it, so a test can say that a refused
 * request left no trace, or that what arrived is what was judged. It answers by script: see `respond` below.
 *
 *     await using upstream = await RecordingUpstream.start({ respond: respond.echo() });
 */
export class RecordingUpstream implements Disposable, AsyncDisposable {
  readonly connections: RecordedConnection[] = [];
  /** Change it at any time; it holds for requests after that. */
  respond: Respond;
  readonly #server: Server;
  readonly #watchers = new Watchers();

  private constructor(options: RecordingUpstreamOptions) {
    this.respond = options.respond ?? respond.echo();
    const allowHalfOpen = options.allowHalfOpen ?? false;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: options.paused ?? false });
    this.#server.on('connection', (socket) => {
      const connection = new RecordedConnection(this.connections.length, socket, this.#watchers, {
        respond: (request, on) => this.respond(request, on),
        recordLimit: options.recordLimit ?? DEFAULT_RECORD_LIMIT,
        allowHalfOpen,
      });
      this.connections.push(connection);
      options.onConnection?.(connection);
      this.#watchers.changed();
    });
  }

  static async start(options: RecordingUpstreamOptions = {}): Promise<RecordingUpstream> {
    const upstream = new RecordingUpstream(options);
    const listen = options.listen ?? { host: '127.0.0.1' };
    await new Promise<void>((resolve, reject) => {
      upstream.#server.once('error', reject);
      upstream.#server.listen('path' in listen ? listen : { port: 0, ...listen }, resolve);
    });
    return upstream;
  }

  get #address(): AddressInfo | string {
    const address = this.#server.address();
    if (address === null) throw new Error('the upstream is closed');
    return address;
  }

  /** 0 on a unix socket. */
  get port(): number {
    const address = this.#address;
    return typeof address === 'string' ? 0 : address.port;
  }

  /** As a policy's `upstream:` wants it: `http://127.0.0.1:1234` or `unix:/path`. */
  get url(): string {
    const address = this.#address;
    if (typeof address === 'string') return `unix:${address}`;
    return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${String(address.port)}`;
  }

  /** `127.0.0.1:1234`: what the upstream would call itself. */
  get authority(): string {
    return this.url.replace(/^http:\/\//, '');
  }

  /** Over all connections. 0 after a refusal: the upstream saw nothing. */
  get bytesSeen(): number {
    return this.connections.reduce((sum, connection) => sum + connection.bytesSeen, 0);
  }

  /** Over all connections, in the order of their heads. */
  get requests(): readonly RecordedRequest[] {
    return this.connections.flatMap((connection) => connection.requests).sort((a, b) => a.atMs - b.atMs);
  }

  /** `performance.now()` when the upstream could know that the other side has left; null while it could not. */
  closedAt(connection: RecordedConnection | undefined = this.connections.at(-1)): number | null {
    return connection?.endedAtMs ?? null;
  }

  /** The first request, past or future, that matches. */
  async waitForRequest(
    match: (request: RecordedRequest) => boolean = () => true,
    timeoutMs?: number,
  ): Promise<RecordedRequest> {
    return await this.#watchers.until(
      () => this.requests.find(match),
      () => `a request at the upstream (it saw ${String(this.requests.length)})`,
      timeoutMs,
    );
  }

  async waitForRequests(count: number, timeoutMs?: number): Promise<readonly RecordedRequest[]> {
    return await this.#watchers.until(
      () => (this.requests.length >= count ? this.requests : null),
      () => `${String(count)} requests at the upstream (it saw ${String(this.requests.length)})`,
      timeoutMs,
    );
  }

  async waitForConnection(count = 1, timeoutMs?: number): Promise<RecordedConnection> {
    return await this.#watchers.until(
      () => this.connections[count - 1],
      () => `connection ${String(count)} at the upstream`,
      timeoutMs,
    );
  }

  /** Resolves with the time (`performance.now()`) when the other side left: FIN, RST or gone. */
  async waitForClose(connection?: RecordedConnection, timeoutMs?: number): Promise<number> {
    return await this.#watchers.until(
      () => this.closedAt(connection),
      () => `the other side to leave the upstream's connection ${String(connection?.id ?? 'last opened')}`,
      timeoutMs,
    );
  }

  /** Every connection so far has been left by the other side. */
  async waitForIdle(timeoutMs?: number): Promise<void> {
    await this.#watchers.until(
      () => (this.connections.every((connection) => connection.closedAtMs !== null) ? true : null),
      () => 'all connections of the upstream to close',
      timeoutMs,
    );
  }

  /** At least `count` bytes in all. */
  async waitForBytes(count: number, timeoutMs?: number): Promise<void> {
    await this.#watchers.until(
      () => (this.bytesSeen >= count ? true : null),
      () => `${String(count)} bytes at the upstream (it saw ${String(this.bytesSeen)})`,
      timeoutMs,
    );
  }

  /** Waits for anything that follows from what this upstream saw. */
  async waitFor<T>(look: (upstream: this) => T | null | undefined, what: string, timeoutMs?: number): Promise<T> {
    return await this.#watchers.until(
      () => look(this),
      () => what,
      timeoutMs,
    );
  }

  /** Stops listening: new connections are refused, those that are open go on. */
  stopListening(): void {
    this.#server.close();
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#server.listening) this.#server.once('close', resolve);
      else resolve();
    });
    this[Symbol.dispose]();
    await closed;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const connection of this.connections) connection.socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** An HTTP/1.1 answer as bytes, its length stated. */
export function responseBytes(status: number, headers: FieldList, body: Buffer | string = ''): Buffer {
  const data = typeof body === 'string' ? Buffer.from(body) : body;
  const lines = [
    `HTTP/1.1 ${String(status)} Status`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    `Content-Length: ${String(data.length)}`,
  ];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), data]);
}

const EVENT_STREAM_HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n';

/** One chunk of a chunked body. */
export function chunk(data: Buffer | string): Buffer {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}

export const LAST_CHUNK = Buffer.from('0\r\n\r\n');

/** What `respond.echo` answers. */
export interface EchoedRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: FieldList;
  readonly bodySha256: string;
  readonly bodyLength: number;
}

/** Ways for the upstream to behave. Each makes a `Respond`; write your own where none fits. */
export const respond = Object.freeze({
  /** These bytes, as they are, valid or not. `then`: what happens to the connection afterwards. */
  bytes(raw: Buffer | string, then: 'keep' | 'end' | 'reset' = 'keep'): Respond {
    return (_request, connection) => {
      if (then === 'keep') connection.write(raw);
      if (then === 'end') connection.end(raw);
      if (then === 'reset') {
        connection.socket.write(typeof raw === 'string' ? Buffer.from(raw, 'latin1') : raw, () => {
          connection.resetNow();
        });
      }
    };
  },

  /** A whole answer after the whole request. */
  status(status: number, headers: FieldList = [], body: Buffer | string = ''): Respond {
    return async (request, connection) => {
      await request.body;
      const bytes = responseBytes(status, headers, body);
      connection.write(request.method === 'HEAD' ? bytes.subarray(0, bytes.indexOf('\r\n\r\n') + 4) : bytes);
    };
  },

  /** JSON that tells what arrived: see `EchoedRequest`. */
  echo(headers: FieldList = []): Respond {
    return async (request, connection) => {
      const body = await request.body;
      const echoed: EchoedRequest = {
        method: request.method,
        target: request.target,
        headers: request.headers,
        bodySha256: body.sha256,
        bodyLength: body.length,
      };
      const bytes = responseBytes(200, [['Content-Type', 'application/json'], ...headers], JSON.stringify(echoed));
      connection.write(request.method === 'HEAD' ? bytes.subarray(0, bytes.indexOf('\r\n\r\n') + 4) : bytes);
    };
  },

  /** An event stream: `first` at once, then silence until the other side leaves. */
  silentEvents(first: readonly string[] = ['ready']): Respond {
    return (_request, connection) => {
      connection.write(EVENT_STREAM_HEAD);
      for (const data of first) connection.write(chunk(`data: ${data}\n\n`));
    };
  },

  /** An event stream that never falls silent: events `0`, `1`, `2`… every `everyMs`, until the other side leaves. */
  chattyEvents(everyMs = 5): Respond {
    return (_request, connection) => {
      connection.write(EVENT_STREAM_HEAD);
      let number = 0;
      const say = (): void => {
        connection.write(chunk(`data: ${String(number)}\n\n`));
        number += 1;
      };
      say();
      const timer = setInterval(say, everyMs);
      connection.socket.once('end', () => {
        clearInterval(timer);
      });
      connection.socket.once('close', () => {
        clearInterval(timer);
      });
    };
  },

  /** An event stream of these events, which then ends. */
  events(events: readonly string[]): Respond {
    return (_request, connection) => {
      connection.write(EVENT_STREAM_HEAD);
      for (const data of events) connection.write(chunk(`data: ${data}\n\n`));
      connection.write(LAST_CHUNK);
    };
  },

  /** `length` zero bytes as fast as the other side takes them, never more than the socket's buffer in memory. */
  flood(length: number, framing: 'length' | 'chunked' | 'close' = 'length'): Respond {
    return async (_request, connection) => {
      const stated = {
        length: `Content-Length: ${String(length)}\r\n`,
        chunked: 'Transfer-Encoding: chunked\r\n',
        close: 'Connection: close\r\n',
      };
      connection.write(`HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n${stated[framing]}\r\n`);
      const block = Buffer.alloc(64 * 1024);
      let left = length;
      while (left > 0 && connection.socket.writable) {
        const data = block.subarray(0, Math.min(left, block.length));
        left -= data.length;
        if (connection.write(framing === 'chunked' ? chunk(data) : data)) continue;
        await new Promise<void>((resolve) => {
          const done = (): void => {
            connection.socket.off('drain', done);
            connection.socket.off('close', done);
            resolve();
          };
          connection.socket.once('drain', done);
          connection.socket.once('close', done);
        });
      }
      if (framing === 'chunked') connection.write(LAST_CHUNK);
      if (framing === 'close') connection.end();
    };
  },

  /** A websocket: a valid 101, then every byte back. See `WebSocketBehaviour`. */
  webSocket(behaviour: WebSocketBehaviour = {}): Respond {
    return (request, connection) => {
      const fields: (readonly [string, string])[] = [
        ['Upgrade', 'websocket'],
        ['Connection', 'Upgrade'],
        ['Sec-WebSocket-Accept', websocketAccept(request.header('sec-websocket-key') ?? '')],
        ...(behaviour.headers ?? []),
      ];
      const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');
      connection.write(
        Buffer.concat([
          Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`, 'latin1'),
          behaviour.early ?? Buffer.alloc(0),
        ]),
      );
      const frames = new FrameReader();
      connection.tunnel((bytes) => {
        if (behaviour.echo === 'none') return;
        if (behaviour.echo === 'bytes') {
          connection.write(bytes);
          return;
        }
        for (const frame of frames.read(bytes)) {
          connection.write(encodeFrame(frame.opcode, frame.payload, { masked: false, final: frame.final }));
          if (frame.opcode === 'close') connection.end();
        }
      });
    };
  },

  /** The request is read and never answered. */
  hang(): Respond {
    return () => undefined;
  },

  /** RST instead of an answer. */
  reset(): Respond {
    return (_request, connection) => {
      connection.resetNow();
    };
  },

  /** FIN instead of an answer. */
  endWithoutAnswer(): Respond {
    return (_request, connection) => {
      connection.end();
    };
  },

  /** A head that promises `promised` bytes, a few of them, then the connection breaks. */
  crashMidBody(options: { promised?: number; sent?: string; how?: 'reset' | 'end' } = {}): Respond {
    const { promised = 1000, sent = 'only this', how = 'reset' } = options;
    const head = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${String(promised)}\r\n\r\n`;
    return respond.bytes(head + sent, how);
  },

  /** An answer whose body ends with our FIN, while we go on reading. */
  halfClose(body = 'until the end'): Respond {
    return respond.bytes(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n${body}`, 'end');
  },

  /** One behaviour for each target (path without the query); `otherwise` for the rest, a 404 by default. */
  byPath(table: Readonly<Record<string, Respond>>, otherwise?: Respond): Respond {
    return (request, connection) => {
      const path = request.target.split('?', 1)[0] ?? '';
      const chosen = Object.hasOwn(table, path) ? table[path] : otherwise;
      return (chosen ?? respond.status(404))(request, connection);
    };
  },
});

export interface WebSocketBehaviour {
  /**
   * `frames` (default): each frame back, unmasked, as a real server would; `bytes`: the very bytes back, a tunnel
   * seen from below; `none`: silence.
   */
  readonly echo?: 'frames' | 'bytes' | 'none';
  /** More fields of the 101, such as `Sec-WebSocket-Protocol`. */
  readonly headers?: FieldList;
  /** Bytes in the same write as the 101. */
  readonly early?: Buffer;
}
