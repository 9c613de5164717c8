import { randomBytes } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import {
  fieldValue,
  fieldValues,
  parseResponseHead,
  responseBodyReader,
  UntilCloseReader,
  type BodyReader,
  type FieldList,
  type ResponseHead,
} from './message-reader.js';
import { Watchers } from './wait.js';
import { encodeFrame, FrameReader, websocketAccept, type Frame, type Opcode } from './websocket-frames.js';

/** Where to connect to. With `tls` the certificate is verified against `ca`, always. */
export interface Target {
  readonly host?: string;
  readonly port: number;
  /** The address to come from, e.g. 127.0.0.2: another client on the same machine. */
  readonly localAddress?: string;
  readonly tls?: {
    readonly ca: string;
    readonly servername?: string;
    readonly cert?: string;
    readonly key?: string;
    readonly alpn?: readonly string[];
    readonly minVersion?: 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';
    readonly maxVersion?: 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';
  };
}

export interface RawResponse extends ResponseHead {
  /** 1xx answers (but 101) that came before. */
  readonly informational: readonly ResponseHead[];
  readonly body: Buffer;
  readonly trailers: FieldList;
  /** False where the connection ended before the body did. */
  readonly complete: boolean;
  header(name: string): string | null;
  headerAll(name: string): string[];
  text(): string;
  /** Parsed JSON; what it holds is for the test to check. */
  json(): unknown;
}

/** How a connection ended: `end` is a FIN, `reset` an RST or any other error; open while null. */
export type ConnectionEnd = 'end' | 'reset';

/** A socket to write bytes on and read strictly parsed answers from. Never retries, adds or normalises. */
export class RawConnection implements Disposable {
  readonly socket: Socket | TLSSocket;
  /** `performance.now()` of the first sign that the other side has ended; null while it has not. */
  endedAtMs: number | null = null;
  ended: ConnectionEnd | null = null;
  closed = false;
  /** All bytes received, whether or not a reader has taken them. */
  bytesSeen = 0;
  readonly #watchers = new Watchers();
  #pending: Buffer = Buffer.alloc(0);
  #discarding = false;

  private constructor(socket: Socket | TLSSocket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => {
      this.bytesSeen += bytes.length;
      if (!this.#discarding) this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
      this.#watchers.changed();
    });
    socket.on('end', () => {
      this.#end('end');
    });
    socket.on('error', () => {
      this.#end('reset');
    });
    socket.on('close', () => {
      this.closed = true;
      this.#end('end');
    });
  }

  /** Resolves when connected and, with TLS, when the handshake is done. Rejects with the socket's error. */
  static async connect(target: Target): Promise<RawConnection> {
    const address = {
      host: target.host ?? '127.0.0.1',
      port: target.port,
      ...(target.localAddress === undefined ? {} : { localAddress: target.localAddress }),
    };
    const { tls } = target;
    const plain = tls === undefined;
    const socket = plain
      ? connectTcp({ ...address, allowHalfOpen: true, noDelay: true })
      : connectTls({
          ...address,
          ca: tls.ca,
          rejectUnauthorized: true,
          ...(tls.servername === undefined ? {} : { servername: tls.servername }),
          ...(tls.cert === undefined ? {} : { cert: tls.cert }),
          ...(tls.key === undefined ? {} : { key: tls.key }),
          ...(tls.alpn === undefined ? {} : { ALPNProtocols: [...tls.alpn] }),
          ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion }),
          ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion }),
        });
    const connection = new RawConnection(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.once('close', () => {
        reject(new Error('the connection closed during the handshake'));
      });
      socket.once(plain ? 'connect' : 'secureConnect', () => {
        socket.off('error', reject);
        resolve();
      });
    });
    return connection;
  }

  #end(how: ConnectionEnd): void {
    this.endedAtMs ??= performance.now();
    this.ended ??= how;
    this.#watchers.changed();
  }

  /** A string is latin1: one character, one byte. */
  write(bytes: Buffer | string): boolean {
    return this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** FIN; reading goes on. */
  end(): void {
    this.socket.end();
  }

  /** RST (or, with TLS, as abrupt as Node can). */
  reset(): void {
    if ('encrypted' in this.socket) this.socket.destroy();
    else this.socket.resetAndDestroy();
  }

  close(): void {
    this.socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** From here on bytes are counted and not kept: for more of them than memory holds. */
  discard(): void {
    this.#discarding = true;
    this.#pending = Buffer.alloc(0);
  }

  /** Resolves when at least `count` bytes have come in all. Stall with `socket.pause()`. */
  async waitForBytes(count: number, timeoutMs?: number): Promise<void> {
    await this.#watchers.until(
      () => (this.bytesSeen >= count ? true : null),
      () => `${String(count)} bytes ${this.#soFar()}`,
      timeoutMs,
    );
  }

  /** Received, and not yet taken by a reader. */
  get pending(): Buffer {
    return this.#pending;
  }

  #take(length: number): Buffer {
    const taken = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return taken;
  }

  /** Exactly `length` bytes. */
  async readBytes(length: number, timeoutMs?: number): Promise<Buffer> {
    return await this.#watchers.until(
      () => {
        if (this.#pending.length >= length) return this.#take(length);
        if (this.ended !== null) throw new Error(`the connection ended (${this.ended}) ${this.#soFar()}`);
        return null;
      },
      () => `${String(length)} bytes ${this.#soFar()}`,
      timeoutMs,
    );
  }

  /** Everything up to and including `marker`. */
  async readUntil(marker: string, timeoutMs?: number): Promise<string> {
    return await this.#watchers.until(
      () => {
        const at = this.#pending.indexOf(marker, 0, 'latin1');
        if (at !== -1) return this.#take(at + Buffer.byteLength(marker, 'latin1')).toString('latin1');
        if (this.ended !== null) throw new Error(`the connection ended (${this.ended}) ${this.#soFar()}`);
        return null;
      },
      () => `${JSON.stringify(marker)} ${this.#soFar()}`,
      timeoutMs,
    );
  }

  /** Everything until the other side ends. */
  async readToEnd(timeoutMs?: number): Promise<Buffer> {
    await this.waitForEnd(timeoutMs);
    return this.#take(this.#pending.length);
  }

  /** Resolves with how the other side ended the connection. */
  async waitForEnd(timeoutMs?: number): Promise<ConnectionEnd> {
    return await this.#watchers.until(
      () => this.ended,
      () => `the other side to end the connection ${this.#soFar()}`,
      timeoutMs,
    );
  }

  #soFar(): string {
    const shown = this.#pending.toString('latin1', 0, 200);
    return `(${String(this.bytesSeen)} bytes so far; unread: ${JSON.stringify(shown)})`;
  }

  async readHead(timeoutMs?: number): Promise<ResponseHead> {
    const text = await this.readUntil('\r\n\r\n', timeoutMs);
    return parseResponseHead(text.slice(0, -4));
  }

  /** One whole answer. `method` is that of the request: it decides whether there is a body. */
  async readResponse(method = 'GET', timeoutMs?: number): Promise<RawResponse> {
    const informational: ResponseHead[] = [];
    let head = await this.readHead(timeoutMs);
    while (head.status < 200 && head.status !== 101) {
      informational.push(head);
      head = await this.readHead(timeoutMs);
    }
    const reader = responseBodyReader(head, method);
    const { body, complete } = await this.#readBody(reader, timeoutMs);
    return rawResponse(head, informational, body, reader?.trailers ?? [], complete);
  }

  async #readBody(reader: BodyReader | null, timeoutMs?: number): Promise<{ body: Buffer; complete: boolean }> {
    if (reader === null) return { body: Buffer.alloc(0), complete: true };
    const pieces: Buffer[] = [];
    return await this.#watchers.until(
      () => {
        const piece = reader.read(this.#pending);
        pieces.push(...piece.data);
        this.#take(piece.used);
        if (piece.done) return { body: Buffer.concat(pieces), complete: true };
        if (this.ended === null) return null;
        const complete = reader instanceof UntilCloseReader && this.ended === 'end';
        return { body: Buffer.concat(pieces), complete };
      },
      () => `the end of the body ${this.#soFar()}`,
      timeoutMs,
    );
  }

  /** The next event of an event stream after its head was read: the text up to the empty line, chunk framing left in. */
  async readEvent(timeoutMs?: number): Promise<string> {
    return await this.readUntil('\n\n', timeoutMs);
  }
}

function rawResponse(
  head: ResponseHead,
  informational: readonly ResponseHead[],
  body: Buffer,
  trailers: FieldList,
  complete: boolean,
): RawResponse {
  return {
    ...head,
    informational,
    body,
    trailers,
    complete,
    header: (name) => fieldValue(head.headers, name),
    headerAll: (name) => fieldValues(head.headers, name),
    text: () => body.toString('utf8'),
    json: () => JSON.parse(body.toString('utf8')) as unknown,
  };
}

/** Bytes in, one answer out, on a connection of its own that is closed afterwards. */
export async function exchangeBytes(
  target: Target,
  bytes: Buffer | string,
  options: { method?: string; timeoutMs?: number } = {},
): Promise<RawResponse> {
  using connection = await RawConnection.connect(target);
  connection.write(bytes);
  return await connection.readResponse(options.method ?? methodOf(bytes), options.timeoutMs);
}

/** Bytes in, every byte that comes back until the other side ends the connection. */
export async function exchangeUntilEnd(
  target: Target,
  bytes: Buffer | string,
  options: { timeoutMs?: number } = {},
): Promise<{ readonly received: Buffer; readonly ended: ConnectionEnd }> {
  using connection = await RawConnection.connect(target);
  connection.write(bytes);
  const ended = await connection.waitForEnd(options.timeoutMs);
  return { received: connection.pending, ended };
}

function methodOf(bytes: Buffer | string): string {
  const text = typeof bytes === 'string' ? bytes : bytes.toString('latin1', 0, 32);
  return text.slice(0, Math.max(text.indexOf(' '), 0));
}

export interface RequestOptions {
  readonly method?: string;
  readonly path?: string;
  /** Written as they are, in order, after Host (unless they hold a Host) and before the length. */
  readonly headers?: FieldList;
  readonly body?: Buffer | string;
  /** Bearer token: a shorthand for the field. */
  readonly token?: string;
  readonly host?: string;
  readonly timeoutMs?: number;
}

/** A well-formed HTTP/1.1 request as bytes. */
export function requestBytes(target: Target, options: RequestOptions = {}): Buffer {
  const { method = 'GET', path = '/', headers = [], token } = options;
  const body = typeof options.body === 'string' ? Buffer.from(options.body) : options.body;
  const host = options.host ?? `${target.tls?.servername ?? target.host ?? '127.0.0.1'}:${String(target.port)}`;
  const lines = [`${method} ${path} HTTP/1.1`];
  if (fieldValue(headers, 'host') === null) lines.push(`Host: ${host}`);
  if (token !== undefined) lines.push(`Authorization: Bearer ${token}`);
  lines.push(...headers.map(([name, value]) => `${name}: ${value}`));
  if (body !== undefined) lines.push(`Content-Length: ${String(body.length)}`);
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body ?? Buffer.alloc(0)]);
}

/** A well-formed request on a connection of its own. */
export async function request(target: Target, options: RequestOptions = {}): Promise<RawResponse> {
  return await exchangeBytes(target, requestBytes(target, options), {
    method: options.method ?? 'GET',
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
  });
}

export interface WebSocketOptions extends RequestOptions {
  readonly key?: string;
  readonly protocols?: readonly string[];
  /** Bytes in the same write as the handshake, before the 101: early data. */
  readonly early?: Buffer;
}

/** What came of a handshake: a socket where the answer was a valid 101, else null. */
export interface WebSocketHandshake {
  readonly response: RawResponse;
  readonly connection: RawConnection;
  readonly socket: WebSocketClient | null;
}

export const WEBSOCKET_HANDSHAKE_FIELDS: FieldList = Object.freeze([
  ['Upgrade', 'websocket'],
  ['Connection', 'Upgrade'],
  ['Sec-WebSocket-Version', '13'],
] as const);

/** A websocket handshake; throws where a 101 carries a wrong `Sec-WebSocket-Accept`. The caller closes it. */
export async function openWebSocket(target: Target, options: WebSocketOptions = {}): Promise<WebSocketHandshake> {
  const key = options.key ?? randomBytes(16).toString('base64');
  const connection = await RawConnection.connect(target);
  try {
    const bytes = requestBytes(target, {
      ...options,
      headers: [
        ...WEBSOCKET_HANDSHAKE_FIELDS,
        ['Sec-WebSocket-Key', key],
        ...(options.protocols === undefined ? [] : [['Sec-WebSocket-Protocol', options.protocols.join(', ')] as const]),
        ...(options.headers ?? []),
      ],
    });
    connection.write(options.early === undefined ? bytes : Buffer.concat([bytes, options.early]));
    const response = await connection.readResponse('GET', options.timeoutMs);
    if (response.status !== 101) return { response, connection, socket: null };
    if (response.header('sec-websocket-accept') !== websocketAccept(key)) {
      throw new Error('the 101 carries a wrong Sec-WebSocket-Accept');
    }
    return { response, connection, socket: new WebSocketClient(connection) };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Frames over a connection that was upgraded. Answers nothing by itself: no pong, no close. */
export class WebSocketClient implements Disposable {
  readonly connection: RawConnection;
  readonly #frames = new FrameReader();
  readonly #ready: Frame[] = [];

  constructor(connection: RawConnection) {
    this.connection = connection;
  }

  send(payload: Buffer | string, opcode: Opcode = typeof payload === 'string' ? 'text' : 'binary'): boolean {
    return this.connection.write(encodeFrame(opcode, payload, { masked: true }));
  }

  /** The next frame; rejects where the connection ends first. */
  async next(timeoutMs?: number): Promise<Frame> {
    for (;;) {
      const frame = this.#ready.shift();
      if (frame !== undefined) return frame;
      const first = await this.connection.readBytes(1, timeoutMs);
      const rest = await this.connection.readBytes(this.connection.pending.length);
      this.#ready.push(...this.#frames.read(Buffer.concat([first, rest])));
    }
  }

  async nextText(timeoutMs?: number): Promise<string> {
    return (await this.next(timeoutMs)).payload.toString('utf8');
  }

  close(): void {
    this.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
