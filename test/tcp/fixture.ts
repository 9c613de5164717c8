import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { testCertificates, writeKeyPair } from '../support/certificates.js';
import { type PolicyValue, writeFileIn, writePolicy } from '../support/policy-builder.js';
import { type LogLine, type WatchedProcess, startGuardbee } from '../support/process.js';
import { RawConnection, type Target } from '../support/raw-client.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { Watchers } from '../support/wait.js';

/** One connection that a service took. */
export class ServiceConnection {
  readonly socket: Socket;
  /** By our own port. */
  readonly port: number;
  ended = false;
  closed = false;
  reset = false;
  bytesSeen = 0;
  readonly #pieces: Buffer[] = [];

  constructor(socket: Socket, changed: () => void) {
    this.socket = socket;
    this.port = socket.localPort ?? 0;
    socket.on('data', (bytes: Buffer) => {
      this.bytesSeen += bytes.length;
      if (this.bytesSeen <= 1024 * 1024) this.#pieces.push(bytes);
      changed();
    });
    socket.on('end', () => {
      this.ended = true;
      changed();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') this.reset = true;
      changed();
    });
    socket.on('close', () => {
      this.closed = true;
      changed();
    });
  }

  get text(): string {
    return Buffer.concat(this.#pieces).toString('latin1');
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}

/** A TCP service that does what the test says, and remembers who came. Its sockets are half open when they end. */
export class TcpService implements AsyncDisposable {
  readonly connections: ServiceConnection[] = [];
  readonly #servers: Server[] = [];
  readonly #watchers = new Watchers();

  /** @param behave given each connection; what it reads is recorded besides */
  static async start(
    behave: (connection: ServiceConnection) => void = () => undefined,
    where: { readonly path: string } | { readonly ports: number } = { ports: 1 },
  ): Promise<TcpService> {
    const service = new TcpService();
    const listen = async (at: string | { host: string; port: number }): Promise<void> => {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        const connection = new ServiceConnection(socket, () => {
          service.#watchers.changed();
        });
        service.connections.push(connection);
        service.#watchers.changed();
        behave(connection);
      });
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(at, resolve);
      });
      service.#servers.push(server);
    };
    if ('path' in where) await listen(where.path);
    else if (where.ports === 1) await listen({ host: '127.0.0.1', port: 0 });
    else for (const port of await freeRange(where.ports)) await listen({ host: '127.0.0.1', port });
    return service;
  }

  get port(): number {
    return (this.#servers[0]?.address() as AddressInfo).port;
  }

  /** Connections on which something was said: guardbee and the tests look whether it listens, and say nothing. */
  get spokenTo(): number {
    return this.connections.filter(({ bytesSeen }) => bytesSeen > 0).length;
  }

  async until<T>(look: () => T | null | undefined | false, what: string, timeoutMs?: number): Promise<T> {
    return await this.#watchers.until(
      () => {
        const found = look();
        return found === false ? null : found;
      },
      () => what,
      timeoutMs,
    );
  }

  async connection(nth = 0): Promise<ServiceConnection> {
    return await this.until(() => this.connections[nth], `connection ${String(nth)} of the service`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

export function echo({ socket }: ServiceConnection): void {
  socket.pipe(socket);
}

/** As many free ports in a row. */
export async function freeRange(count: number): Promise<number[]> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const first = 20_000 + Math.floor(Math.random() * 12_000);
    const ports = Array.from({ length: count }, (_, nth) => first + nth);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) return ports;
  }
  throw new Error('no free range of ports');
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => {
      resolve(false);
    });
    server.listen({ host: '127.0.0.1', port }, () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

export class TcpGuard implements AsyncDisposable {
  readonly process: WatchedProcess;
  readonly directory: TemporaryDirectory;
  readonly ca: string;
  readonly policyFile: string;
  readonly #ports: ReadonlyMap<string, number>;

  constructor(
    process: WatchedProcess,
    directory: TemporaryDirectory,
    ca: string,
    policyFile: string,
    ports: ReadonlyMap<string, number>,
  ) {
    this.process = process;
    this.directory = directory;
    this.ca = ca;
    this.policyFile = policyFile;
    this.#ports = ports;
  }

  port(listener = 'tcp'): number {
    const port = this.#ports.get(listener);
    if (port === undefined) throw new Error(`no listener ${listener}`);
    return port;
  }

  async connect(listener = 'tcp', more: Partial<Target> = {}): Promise<RawConnection> {
    return await RawConnection.connect({ port: this.port(listener), ...more });
  }

  /**
   * Bytes that come back on a connection that is ended from there: at once, it may be over before the client knows that
   * it had begun.
   */
  async heard(listener: string, said: string | Buffer, more: Partial<Target> = {}): Promise<number> {
    const connection = await this.connect(listener, more).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ECONNRESET') return null;
      throw error;
    });
    if (connection === null) return 0;
    connection.write(said);
    await connection.waitForEnd();
    connection.close();
    return connection.bytesSeen;
  }

  /** With a certificate of its own, where one is given. */
  async connectTls(listener: string, pair?: { readonly cert: string; readonly key: string }): Promise<RawConnection> {
    const connection = await this.connect(listener, { tls: { ca: this.ca, servername: 'localhost', ...pair } });
    connection.socket.allowHalfOpen = true;
    return connection;
  }

  /** The line of the access log about the end of a session. */
  async session(match: (line: LogLine) => boolean = () => true): Promise<LogLine> {
    return await this.process.waitForLog((line) => line['guardbee.stream'] === 'tcp' && match(line));
  }

  async refusal(reason: string): Promise<LogLine> {
    return await this.process.waitForLog(
      (line) => line['event.name'] === 'connection.refused' && line['guardbee.reason'] === reason,
    );
  }

  async metrics(): Promise<string> {
    const line = await this.process.waitForLog((one) => String(one['msg']).startsWith('admin'));
    return await (await fetch(`${String(line['url.full'])}/metrics`)).text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.process.stop();
    } finally {
      this.directory.remove();
    }
  }
}

export interface TcpGuardOptions {
  /** Each with the keys it adds to those of a loopback tcp listener; `tls: true` stands for the test certificate. */
  readonly listeners: Readonly<Record<string, Readonly<Record<string, PolicyValue>>>>;
  readonly authenticators?: PolicyValue;
  readonly top?: Readonly<Record<string, PolicyValue>>;
  /** Files to write beside the policy. */
  readonly files?: Readonly<Record<string, string>>;
}

export async function startTcpGuard(options: TcpGuardOptions): Promise<TcpGuard> {
  const { ca, server } = await testCertificates();
  const directory = new TemporaryDirectory();
  writeKeyPair(directory, server);
  for (const [name, content] of Object.entries(options.files ?? {})) writeFileIn(directory, name, content, 0o644);
  const listeners: Record<string, PolicyValue> = {};
  for (const [name, keys] of Object.entries(options.listeners)) {
    const tls = keys['tls'] === true ? { tls: { cert: 'server.crt', key: 'server.key' } } : {};
    listeners[name] = { type: 'tcp', bind: '127.0.0.1:0', ...keys, ...tls };
  }
  const policyFile = writePolicy(directory, {
    version: 1,
    listeners,
    ...(options.authenticators === undefined ? {} : { authenticators: options.authenticators }),
    roles: { node: ['connect'], viewer: ['read'] },
    state: { dir: directory.file('state') },
    ...options.top,
  });
  const child = startGuardbee({ args: ['run', '--policy', policyFile] });
  try {
    const ports = new Map<string, number>();
    for (const name of Object.keys(listeners)) {
      const line = await child.waitForLog(
        (one) => String(one['msg']).startsWith('listening on ') && one['guardbee.listener'] === name,
      );
      ports.set(name, Number(/:(\d+)(?:-\d+)?$/.exec(String(line['url.full']))?.[1]));
    }
    return new TcpGuard(child, directory, ca, policyFile, ports);
  } catch (error) {
    await child.stop();
    directory.remove();
    throw error;
  }
}
