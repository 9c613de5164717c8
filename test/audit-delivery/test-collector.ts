import assert from 'node:assert/strict';
import { createServer as createPlainServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { GENESIS, readRecord } from '../../src/observe/audit/record.js';
import { Watchers } from '../support/wait.js';
import { testCertificates, type KeyPair } from '../support/certificates.js';

/** One request, as it came. */
export interface ReceivedBatch {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** Without their ends. */
  readonly lines: readonly string[];
  /** Name in the certificate that was shown; null: none. */
  readonly client: string | null;
}

/** What becomes of a batch: a status (with a Retry-After), or what the socket has to suffer. */
export type Treatment =
  | number
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  /** Stored, and never answered. */
  | 'hang'
  /** Stored, and cut. */
  | 'stored_and_cut'
  | 'cut'
  | 'garbage'
  | 'endless_answer'
  /** Answered before anything of the body was read. */
  | 'early';

export interface CollectorOptions {
  readonly plain?: boolean;
  readonly pair?: KeyPair;
  /** PEM: callers need a certificate of this authority. */
  readonly callersFrom?: string;
  readonly port?: number;
  /** Default: 200. */
  readonly treat?: (batch: ReceivedBatch) => Treatment | Promise<Treatment>;
}

/** A collector that does what a test says, and keeps what it took. */
export class TestCollector implements AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Everything that came, taken or not. */
  readonly batches: ReceivedBatch[] = [];
  /** Lines that were taken, in the order in which they came, repeated where they came again. */
  readonly taken: string[] = [];
  treat: (batch: ReceivedBatch) => Treatment | Promise<Treatment>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #watchers = new Watchers();

  private constructor(server: Server, port: number, options: CollectorOptions) {
    this.#server = server;
    this.port = port;
    this.url = `${options.plain === true ? 'http' : 'https'}://127.0.0.1:${String(port)}/audit`;
    this.treat = options.treat ?? (() => 200);
    server.on(options.plain === true ? 'connection' : 'secureConnection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => socket.destroy());
    });
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response);
    });
    server.on('tlsClientError', () => undefined);
  }

  static async start(options: CollectorOptions = {}): Promise<TestCollector> {
    const { server: pair } = await testCertificates();
    const server =
      options.plain === true
        ? createPlainServer({ keepAliveTimeout: 60_000 })
        : createServer({
            ...(options.pair ?? pair),
            keepAliveTimeout: 60_000,
            ...(options.callersFrom === undefined
              ? {}
              : { requestCert: true, rejectUnauthorized: true, ca: options.callersFrom }),
          });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port ?? 0, '127.0.0.1', resolve);
    });
    return new TestCollector(server, (server.address() as AddressInfo).port, options);
  }

  /** Open connections. */
  get connections(): number {
    return this.#sockets.size;
  }

  async until<T>(look: () => T | null | undefined, what: string, timeoutMs?: number): Promise<T> {
    return await this.#watchers.until(look, () => `${what}; ${String(this.batches.length)} batches came`, timeoutMs);
  }

  /** Each record that was taken, once, by its number; asserts that what came twice was the same. */
  get records(): ReadonlyMap<number, string> {
    const records = new Map<number, string>();
    for (const line of this.taken) {
      const seq = numberOf(line);
      assert.equal(line, records.get(seq) ?? line, `two records have the number ${String(seq)}`);
      records.set(seq, line);
    }
    return records;
  }

  async untilHas(seq: number, timeoutMs?: number): Promise<void> {
    await this.until(
      () => (this.taken.some((line) => numberOf(line) >= seq) ? true : null),
      `record ${String(seq)}`,
      timeoutMs,
    );
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    const { socket } = request;
    const seen = (body: Buffer): ReceivedBatch => ({
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body,
      lines: body.toString('utf8').split('\n').slice(0, -1),
      client: clientOf(socket),
    });
    if ((await this.treat(seen(Buffer.alloc(0)))) === 'early') {
      // Nothing is read from here on.
      request.pause();
      response.writeHead(200, { 'content-length': '0' }).end();
      this.batches.push(seen(Buffer.alloc(0)));
      this.#watchers.changed();
      return;
    }
    try {
      for await (const piece of request) pieces.push(piece as Buffer);
    } catch {
      return;
    }
    const batch = seen(Buffer.concat(pieces));
    this.batches.push(batch);
    this.#watchers.changed();
    const treatment = await this.treat(batch);
    const status = typeof treatment === 'number' ? treatment : typeof treatment === 'object' ? treatment.status : 0;
    if ((status >= 200 && status < 300) || treatment === 'hang' || treatment === 'stored_and_cut') {
      this.taken.push(...batch.lines);
    }
    if (treatment === 'endless_answer') {
      this.taken.push(...batch.lines);
      response.writeHead(200);
      const more = (): void => {
        if (!socket.destroyed) response.write(Buffer.alloc(16 * 1024), more);
      };
      more();
    } else if (treatment === 'cut' || treatment === 'stored_and_cut') {
      socket.destroy();
    } else if (treatment === 'garbage') {
      socket.end('ICY 200 OK\r\nnothing: of the kind\r\n\r\n');
    } else if (status > 0) {
      const { headers = {}, body = '' } = typeof treatment === 'object' ? treatment : {};
      response.writeHead(status, headers).end(body);
    }
    this.#watchers.changed();
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
    for (const socket of this.#sockets) socket.destroy();
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

export function numberOf(line: string): number {
  return Number(/,"seq":(\d+),/.exec(line.slice(line.lastIndexOf(',"seq":')))?.[1]);
}

/** From the genesis on, nothing missing, nothing changed, nothing out of order. @returns the last number */
export function assertWholeChain(records: Iterable<string>): number {
  let prev = GENESIS;
  let seq = 0;
  for (const line of records) {
    const read = readRecord(Buffer.from(line, 'utf8'));
    assert.ok(read.ok, `no record: ${line.slice(0, 200)}`);
    assert.equal(read.record.seq, seq + 1);
    assert.equal(read.record.prev, prev);
    ({ seq, hash: prev } = read.record);
  }
  return seq;
}

function clientOf(socket: Socket): string | null {
  if (!('getPeerCertificate' in socket)) return null;
  const { subject } = (socket as Socket & { getPeerCertificate(): { subject?: { CN?: string } } }).getPeerCertificate();
  return subject?.CN ?? null;
}

/** The same lines in the same order; says where they part, not all of them. */
export function assertSameLines(found: readonly string[], expected: readonly string[], what = ''): void {
  const at = expected.findIndex((line, index) => found[index] !== line);
  if (at !== -1)
    assert.fail(`line ${String(at + 1)}: ${found[at] ?? 'nothing'}\nexpected: ${expected[at] ?? ''} ${what}`);
  assert.equal(found.length, expected.length, what);
}
