/**
 * `npm run soak`: minutes of everything at once against the real program, while its policy, its certificate, its
 * upstream and its Redis change under it. What goes wrong that was not brought about here is an error of guardbee's.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ClientHttp2Session } from 'node:http2';
import { Agent, createServer as createHttpsServer, request as httpsRequest } from 'node:https';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocketServer } from 'ws';
import { type KeyPair, TestAuthority, writeKeyPair } from '../test/support/certificates.js';
import { h2Connect, h2Request } from '../test/support/h2-client.js';
import { countOpenFiles, residentBytes } from '../test/support/leak.js';
import { tokenPair, writeFileIn, writePolicy, writeTokens, type TokenLine } from '../test/support/policy-builder.js';
import { GUARDBEE_ENTRY, runGuardbee } from '../test/support/process.js';
import { openWebSocket, RawConnection, request, requestBytes, type Target } from '../test/support/raw-client.js';
import { TemporaryDirectory } from '../test/support/temporary-directory.js';
import { issuerKey, makeToken } from '../test/support/token-issuer.js';
import { waitUntil, within } from '../test/support/wait.js';
import { fileURLToPath } from 'node:url';
import { trendOf, type Trend } from './trend.js';

/** What is counted; each has to happen at least once. */
export const KINDS = [
  ...['http1', 'http2', 'jwt', 'json_body', 'event_stream', 'websocket', 'tcp', 'proxy_protocol', 'bad_input'],
  ...['tcp_over_tls', 'client_certificate', 'outbound'],
  ...['reload', 'certificate', 'broken_policy', 'revoked_token', 'revoked_jwt', 'upstream_restart', 'redis_restart'],
] as const;

export interface SoakOptions {
  readonly minutes: number;
  /** Given a line from time to time. */
  readonly progress?: (line: string) => void;
  /** Of guardbee; left out: one. */
  readonly processes?: number;
  /** Ends it before its time, with a report of what was until then. */
  readonly signal?: AbortSignal;
}

export interface SoakReport {
  /** As long as it really was. */
  readonly minutes: number;
  readonly stoppedEarly: boolean;
  readonly processes: number;
  readonly counts: Readonly<Record<string, number>>;
  /** Ended by an upstream or a Redis that was stopped here. */
  readonly caused: number;
  /** Text by how often it came; none of them was brought about here. */
  readonly errors: Readonly<Record<string, number>>;
  readonly unhandledRejections: number;
  readonly residentBytes: Trend;
  /** What is alive in the heap of the process that was started, garbage collected. */
  readonly liveBytes: Trend;
  readonly descriptors: Trend;
  /** From the SIGHUP of a reload that took its token away to the end of a stream; the slowest. */
  readonly revokedStreamCutMs: number;
  /** The same from when guardbee said that the reload was done; 0 where the stream had ended by then. */
  readonly cutAfterReloadMs: number;
  /** From the end of `guardbee revoke` to the end of the stream of a JWT; the slowest. */
  readonly revokedJwtCutMs: number;
  readonly auditVerified: boolean;
  readonly skipped: readonly string[];
  readonly ok: boolean;
}

/** A resident set that grows by less than this between warm-up and end is flat: V8 takes and returns pages. */
const FLAT_BYTES = 24 * 1024 * 1024;
/** The caches of tokens and texts fill for longer than the warm-up lasts. */
const FLAT_LIVE_BYTES = 8 * 1024 * 1024;
/** Heaps are looked into so often in a run: the look is a pause. */
const LOOKS = 24;
/** Connections come and go while they are counted. */
const FLAT_DESCRIPTORS = 12;
const EVENTS = 40;
const EVERY_MS = 25;
/** A revoked identity's streams are cut within a second; the rest is the machine's. */
const CUT_MS = 3000;

export async function soak(options: SoakOptions): Promise<SoakReport> {
  await using stage = await Stage.start(options);
  return await new Soak(stage, options).run();
}

/** A service that is stopped and started again on its port. */
class Service {
  port = 0;
  readonly #server: Server | ReturnType<typeof createTcpServer>;
  readonly #open = new Set<Socket | Duplex>();

  constructor(server: Server | ReturnType<typeof createTcpServer>) {
    this.#server = server;
    server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => this.#open.delete(socket));
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.port, '127.0.0.1', () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.port = (this.#server.address() as AddressInfo).port;
  }

  /** As a crash would: no goodbye. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#open) socket.destroy();
    await closed;
  }
}

function httpService(tls?: KeyPair): Service {
  const sockets = new WebSocketServer({ noServer: true });
  const answering = (asked: IncomingMessage, answer: ServerResponse): void => {
    if (asked.url?.startsWith('/events') === true) {
      answer.writeHead(200, { 'Content-Type': 'text/event-stream' });
      let number = 0;
      const timer = setInterval(() => {
        answer.write(`data: <${String(number)}>\n\n`);
        number += 1;
        if (number === EVENTS && asked.url !== '/events/endless') answer.end();
      }, EVERY_MS);
      answer.once('close', () => {
        clearInterval(timer);
      });
      return;
    }
    const pieces: Buffer[] = [];
    asked.on('data', (piece: Buffer) => pieces.push(piece));
    asked.on('end', () => {
      answer.writeHead(200, { 'Content-Type': 'application/octet-stream' });
      answer.end(pieces.length === 0 ? (asked.url ?? '') : Buffer.concat(pieces));
    });
    asked.on('error', () => undefined);
  };
  const server = tls === undefined ? createServer(answering) : createHttpsServer(tls, answering);
  server.on('upgrade', (asked, socket: Duplex, head: Buffer) => {
    socket.on('error', () => undefined);
    sockets.handleUpgrade(asked, socket, head, (socketOf) => {
      socketOf.on('error', () => undefined);
      socketOf.on('message', (data, binary) => {
        socketOf.send(data as Buffer, { binary });
      });
    });
  });
  return new Service(server);
}

const tcpService = (): Service =>
  new Service(createTcpServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)));

/** A Redis that remembers what it was told when it is started again. */
class Redis {
  readonly port: number;
  readonly #folder: TemporaryDirectory;
  #child: ChildProcess | null = null;

  constructor(port: number, folder: TemporaryDirectory) {
    this.port = port;
    this.#folder = folder;
  }

  static available(): boolean {
    return spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0;
  }

  async start(): Promise<void> {
    const settings = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always', '--dir', this.#folder.path];
    const child = spawn('redis-server', ['--port', String(this.port), '--bind', '127.0.0.1', ...settings], {
      stdio: ['ignore', 'pipe', 'inherit'],
      // Ctrl-C is for the soak, which ends the others in their order.
      detached: true,
    });
    this.#child = child;
    await within(
      new Promise<void>((resolve, reject) => {
        child.once('exit', () => {
          reject(new Error('redis-server ended at its start'));
        });
        createInterface(child.stdout).on('line', (line) => {
          if (line.includes('Ready to accept connections')) resolve();
        });
      }),
      'redis-server',
    );
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

async function freePort(): Promise<number> {
  const service = tcpService();
  await service.start();
  await service.stop();
  return service.port;
}

const HEAP = fileURLToPath(new URL('soak-heap.js', import.meta.url));

/** guardbee, what stands behind it, and what it reads. */
class Stage implements AsyncDisposable {
  readonly folder = new TemporaryDirectory();
  readonly http = httpService();
  readonly tcp = tcpService();
  /** On another machine, as far as guardbee is concerned. */
  readonly far: Service;
  readonly node: KeyPair;
  readonly processes: number;
  readonly redis: Redis | null;
  readonly keeper = tokenPair();
  readonly authority: TestAuthority;
  readonly #issuer = issuerKey('one', 'P-256');
  readonly #reloads: { readonly event: string; readonly atMs: number }[] = [];
  readonly #targets = new Map<string, Target>();
  readonly loggedErrors = new Map<string, number>();
  unhandledRejections = 0;
  exit: number | string | null = null;
  #child: ChildProcess | null = null;
  #stderr = '';
  #ready = false;

  private constructor(
    authority: TestAuthority,
    { redis, far, node, processes }: Pick<Stage, 'redis' | 'far' | 'node' | 'processes'>,
  ) {
    this.authority = authority;
    this.redis = redis;
    this.far = far;
    this.node = node;
    this.processes = processes;
  }

  static async start({ minutes, processes = 1 }: SoakOptions): Promise<Stage> {
    const authority = await TestAuthority.create();
    const folder = new TemporaryDirectory();
    const stage = new Stage(authority, {
      redis: Redis.available() ? new Redis(await freePort(), folder) : null,
      far: httpService(await authority.issue()),
      node: await authority.issue({ names: ['node.test'], usage: 'client' }),
      processes,
    });
    try {
      await Promise.all([stage.http.start(), stage.tcp.start(), stage.far.start(), stage.redis?.start()]);
      writeKeyPair(stage.folder, await authority.issue());
      writeFileIn(stage.folder, 'authority.pem', authority.ca, 0o644);
      stage.writeTokens([]);
      const key = stage.#issuer.publicKey.export({ type: 'spki', format: 'pem' });
      writeFileIn(stage.folder, 'issuer.pem', key, 0o644);
      writeFileIn(stage.folder, 'redis-url.txt', `redis://127.0.0.1:${String(stage.redis?.port ?? 0)}\n`);
      stage.writePolicy(0);
      await stage.#startGuardbee((minutes * 60_000) / LOOKS);
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    } finally {
      // Redis keeps what is in it open; nobody else looks there. Whoever cannot wait for the end leaves nothing either.
      process.once('exit', () => {
        stage.kill();
        folder.remove();
      });
    }
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  target(listener: string): Target {
    const target = this.#targets.get(listener);
    if (target === undefined) throw new Error(`nothing is known of the listener ${listener}`);
    return target;
  }

  writeTokens(more: readonly TokenLine[]): void {
    writeTokens(this.folder, [{ name: 'keeper', sha256: this.keeper.sha256, roles: ['operator'] }, ...more]);
  }

  /** @param round makes it another policy than the one before */
  writePolicy(round: number): void {
    const shared = this.redis !== null;
    // In one process alone.
    const revocation = shared && this.processes === 1 ? { revocation: 'shared' } : {};
    const upstream = `http://127.0.0.1:${String(this.http.port)}`;
    const tls = { cert: 'server.crt', key: 'server.key' };
    const whole = {
      bind: '127.0.0.1:0',
      upstream,
      authenticate: ['keys', 'sso'],
      // All clients have one address here, and many of them show bad credentials.
      throttle: 'off',
      limits: {
        rate: { requests: 1_000_000, per: '1m', ...(shared ? { shared: true, on_unavailable: 'local' } : {}) },
        streams: 1000,
        connections: 5000,
      },
      routes: [
        { name: 'health', path: '/health', methods: ['GET'], public: true },
        { name: 'closed', path: '/closed/**', methods: 'any', deny: true },
        {
          name: 'jobs',
          path: '/v1/jobs',
          methods: ['POST'],
          body: {
            max: '64KiB',
            json: { field: 'operation', require_by_value: { status: 'read', infer: 'write' } },
          },
        },
        { name: 'read', path: '/**', methods: ['GET', 'HEAD'], require: 'read' },
        { name: 'write', path: '/**', methods: 'any', require: 'write' },
      ],
    };
    const bytes = { type: 'tcp', bind: '127.0.0.1:0', upstream: `tcp://127.0.0.1:${String(this.tcp.port)}` };
    const proxied = { trusted_proxies: ['127.0.0.1'], proxy_protocol: 'require' };
    writePolicy(this.folder, {
      version: 1,
      listeners: {
        plain: whole,
        secure: { ...whole, tls },
        proxied: { ...whole, ...proxied },
        bytes: { ...bytes, allow_from: ['127.0.0.1'] },
        bytes_told: { ...bytes, ...proxied, from: ['198.51.100.0/24'] },
        bytes_secure: { ...bytes, tls, authenticate: ['nodes'], require: 'write' },
        nodes: { ...whole, tls, authenticate: ['nodes'] },
        link: {
          bind: '127.0.0.1:0',
          outbound: true,
          local_identity: { name: 'runner', roles: ['operator'] },
          upstream: `https://localhost:${String(this.far.port)}`,
          upstream_tls: { ca: 'authority.pem' },
          routes: [{ name: 'all', path: '/**', methods: 'any', require: 'write' }],
        },
      },
      authenticators: {
        keys: { type: 'bearer', tokens_file: 'tokens.yaml' },
        sso: {
          ...{ type: 'jwt', issuer: 'https://idp.example', audience: ['soak'], public_key: { file: 'issuer.pem' } },
          ...{ algorithms: ['ES256'], roles_from: 'roles', ...revocation },
        },
        nodes: {
          type: 'mtls',
          ca: 'authority.pem',
          identities: [{ san: 'DNS:node.test', name: 'node', roles: ['operator'] }],
        },
      },
      roles: { viewer: ['read'], operator: ['read', 'write'], [`round_${String(round)}`]: ['read'] },
      state: { dir: 'state', ...(shared ? { redis: { url: { file: 'redis-url.txt' } } } : {}) },
      audit: { dir: 'trail', min_free: '1KiB' },
      admin: { bind: '127.0.0.1:0' },
      ...(this.processes === 1 ? {} : { processes: this.processes }),
    });
  }

  jwt(): string {
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: 'https://idp.example',
      aud: 'soak',
      sub: 'anna',
      roles: ['operator'],
      iat: now,
      exp: now + 60,
    };
    return makeToken(
      { alg: 'ES256', kid: 'one' },
      { ...claims, jti: randomBytes(12).toString('hex') },
      this.#issuer.privateKey,
    );
  }

  async #startGuardbee(lookMs: number): Promise<void> {
    const heap = {
      GUARDBEE_SOAK_HEAP: this.folder.file('heap'),
      GUARDBEE_SOAK_HEAP_MS: String(lookMs),
      GUARDBEE_SOAK_HEAP_PARENT: String(process.pid),
    };
    const run = ['--import', HEAP, GUARDBEE_ENTRY, 'run', '--policy', this.folder.file('policy.yaml')];
    const child = spawn(process.execPath, run, {
      cwd: this.folder.path,
      env: { PATH: process.env['PATH'], HOME: this.folder.path, TZ: 'UTC', ...heap },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-8000);
      if (/unhandled/i.test(text)) this.unhandledRejections += 1;
    });
    createInterface(child.stdout).on('line', (line) => {
      this.#hear(line);
    });
    child.once('exit', (code, signal) => {
      this.exit = code ?? signal;
    });
    await waitUntil(() => {
      if (this.exit !== null) throw new Error(`guardbee ended at its start: ${this.#stderr}`);
      return this.#ready;
    }, 'guardbee to be ready');
  }

  #hear(text: string): void {
    if (!text.startsWith('{')) return;
    const line = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const event = line['event.name'];
    const message = String(line['msg']);
    if (message === 'ready') this.#ready = true;
    if (message.startsWith('listening on ')) {
      const url = new URL(String(line['url.full']));
      const target = {
        port: Number(url.port),
        ...(url.protocol === 'https:' ? { tls: { ca: this.authority.ca } } : {}),
      };
      this.#targets.set(String(line['guardbee.listener']), target);
    }
    if (event === 'policy.reloaded' || event === 'policy.reload_failed') {
      this.#reloads.push({ event, atMs: performance.now() });
    }
    if (/unhandled|uncaught/i.test(text)) this.unhandledRejections += 1;
    const level = String(line['level'] ?? line['log.level']);
    if (level === 'error' || level === 'fatal') {
      const what = `log: ${String(event)} ${message}`.slice(0, 160);
      this.loggedErrors.set(what, (this.loggedErrors.get(what) ?? 0) + 1);
    }
  }

  /** Its memory and its open files, with those of the processes that it has begun. */
  get pids(): readonly number[] {
    const begun = readFileSync(`/proc/${String(this.pid)}/task/${String(this.pid)}/children`, 'utf8');
    return [this.pid, ...begun.split(' ').filter(Boolean).map(Number)];
  }

  /** In bytes, the first first. */
  get liveBytes(): readonly number[] {
    const file = this.folder.file('heap');
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean).map(Number) : [];
  }

  /** SIGHUP; what came of it, and when that was said. */
  async reload(): Promise<{ readonly event: string; readonly atMs: number }> {
    const before = this.#reloads.length;
    this.#child?.kill('SIGHUP');
    return await waitUntil(() => this.#reloads[before], 'the end of a reload', 30_000);
  }

  /** SIGTERM; the code that it ends with. */
  async end(): Promise<number | string> {
    this.#child?.kill('SIGTERM');
    return await waitUntil(() => (this.exit === null ? null : { code: this.exit }), 'guardbee to drain', 60_000).then(
      ({ code }) => code,
    );
  }

  /** At once; nothing is waited for. */
  kill(): void {
    if (this.exit === null) this.#child?.kill('SIGKILL');
    this.redis?.kill();
    this.folder.remove();
  }

  get lastWords(): string {
    return this.#stderr;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.exit === null) this.#child?.kill('SIGKILL');
    await Promise.all([this.http.stop(), this.tcp.stop(), this.far.stop(), this.redis?.stop()]);
    this.folder.remove();
  }
}

const PROXY = 'PROXY TCP4 198.51.100.7 127.0.0.1 4711 443\r\n';

/** Requests that two readers could read in two ways, or that nobody may send; all of them are refused. */
const BAD: readonly (readonly [name: string, bytes: (host: string, token: string) => string])[] = [
  ['two Hosts', (host) => `GET / HTTP/1.1\r\nHost: ${host}\r\nHost: other\r\n\r\n`],
  [
    'two framings',
    (host) => `POST / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`,
  ],
  ['a folded field', (host) => `GET / HTTP/1.1\r\nHost: ${host}\r\nX: a\r\n b\r\n\r\n`],
  [
    'dot segments',
    (host, token) => `GET /a/%2e%2e/b HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  ],
  ['TRACE', (host, token) => `TRACE / HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\n\r\n`],
  ['no token', (host) => `GET /secret HTTP/1.1\r\nHost: ${host}\r\n\r\n`],
  [
    'a wrong token',
    (host) => `GET /secret HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${'x'.repeat(43)}\r\n\r\n`,
  ],
  [
    'what is closed',
    (host, token) => `GET /closed/x HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  ],
  ['no HTTP', () => '\u0016\u0003\u0001\u0002 this is nothing\r\n\r\n'],
  ['a large head', (host) => `GET / HTTP/1.1\r\nHost: ${host}\r\nX: ${'a'.repeat(100_000)}\r\n\r\n`],
];

/** An answer that is not the one that was to come. */
class Wrong extends Error {}

function same(found: unknown, wanted: unknown, what: string): void {
  if (found !== wanted) throw new Wrong(`${what}: ${String(found)} where ${String(wanted)} was to come`);
}

const isNotRising = ({ meaning }: Trend): boolean => meaning !== 'rising';

class Soak {
  readonly #stage: Stage;
  readonly #minutes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #progress: (line: string) => void;
  readonly #counts = new Map<string, number>(KINDS.map((kind) => [kind, 0]));
  readonly #errors = new Map<string, number>();
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 });
  readonly #sizes: (readonly [seconds: number, bytes: number])[] = [];
  readonly #descriptors: (readonly [seconds: number, count: number])[] = [];
  readonly #stopped = new AbortController();
  #session: ClientHttp2Session | null = null;
  /** Something behind guardbee is away, or `performance.now()` when it last came back. */
  #away = false;
  #backAt = -Infinity;
  #caused = 0;
  #round = 0;
  #slowestCutMs = 0;
  #slowestAfterReloadMs = 0;
  #slowestJwtCutMs = 0;

  constructor(stage: Stage, options: SoakOptions) {
    this.#stage = stage;
    this.#minutes = options.minutes;
    this.#signal = options.signal;
    this.#progress = options.progress ?? (() => undefined);
  }

  async run(): Promise<SoakReport> {
    const { folder, redis } = this.#stage;
    const began = performance.now();
    const lengthMs = this.#minutes * 60_000;
    const abort = (): void => {
      this.#stopped.abort();
    };
    const stop = setTimeout(abort, lengthMs);
    this.#signal?.addEventListener('abort', abort);
    if (this.#isStoppedEarly()) abort();
    // Bounded, so that a crowd of samples needs no more memory than a few.
    const sampler = setInterval(
      () => {
        const seconds = (performance.now() - began) / 1000;
        if (this.#stage.exit !== null) return;
        let [size, files] = [0, 0];
        for (const pid of this.#stage.pids) {
          size += residentBytes(pid);
          files += countOpenFiles(pid).total;
        }
        this.#sizes.push([seconds, size]);
        this.#descriptors.push([seconds, files]);
      },
      Math.max(100, lengthMs / 600),
    );
    const teller = setInterval(() => {
      this.#tell(began);
    }, 1000);
    const plain = this.#stage.target('plain');
    try {
      await Promise.all([
        this.#again('http1', 2, async () => await this.#http1()),
        this.#again('http2', 2, async () => await this.#http2()),
        this.#again('jwt', 1, async () => {
          const answer = await request(plain, { path: '/jwt', token: this.#stage.jwt() });
          same(answer.status, 200, 'a JWT');
        }),
        this.#again('json_body', 1, async () => await this.#jsonBody()),
        this.#again('event_stream', 6, async () => await this.#eventStream()),
        this.#again('websocket', 4, async () => await this.#webSocket()),
        this.#again('tcp', 2, async () => await this.#bytes()),
        this.#again('tcp_over_tls', 1, async () => await this.#bytesOverTls()),
        this.#again('client_certificate', 1, async () => await this.#clientCertificate()),
        this.#again('outbound', 1, async () => await this.#outbound()),
        this.#again('proxy_protocol', 2, async () => await this.#proxied()),
        this.#again('bad_input', 1, async () => await this.#badInput()),
        this.#change(lengthMs),
      ]);
    } finally {
      clearTimeout(stop);
      this.#signal?.removeEventListener('abort', abort);
      clearInterval(sampler);
      clearInterval(teller);
      this.#session?.destroy();
      this.#agent.destroy();
    }
    const lastedMs = performance.now() - began;
    const live = this.#stage.liveBytes.map(
      (bytes, index, all) => [((index + 1) * Math.min(lastedMs, lengthMs)) / 1000 / all.length, bytes] as const,
    );
    const endedEarly = this.#stage.exit;
    const code = endedEarly ?? (await this.#stage.end());
    if (endedEarly !== null) this.#error(`guardbee ended by itself (${String(endedEarly)}): ${this.#stage.lastWords}`);
    else if (code !== 0) this.#error(`guardbee ended with ${String(code)} when it was asked to`);
    const verified = await runGuardbee(['audit', 'verify', folder.file('trail')], { timeoutMs: 120_000 });
    if (verified.code !== 0) this.#error(`audit verify: ${(verified.stdout + verified.stderr).slice(0, 400)}`);
    for (const [what, times] of this.#stage.loggedErrors) this.#errors.set(what, times);
    const skipped = redis === null ? ['redis_restart: there is no redis-server here'] : [];
    for (const [kind, times] of this.#counts) {
      if (times === 0 && !this.#isStoppedEarly() && !skipped.some((one) => one.startsWith(`${kind}:`)))
        this.#error(`${kind} never succeeded`);
    }
    // Each of several processes may grow by as much as one.
    const { processes } = this.#stage;
    const sizes = trendOf(this.#sizes, FLAT_BYTES * processes);
    const alive = trendOf(live, FLAT_LIVE_BYTES);
    const descriptors = trendOf(this.#descriptors, FLAT_DESCRIPTORS * processes);
    const rejections = this.#stage.unhandledRejections;
    return {
      minutes: this.#isStoppedEarly() ? lastedMs / 60_000 : this.#minutes,
      stoppedEarly: this.#isStoppedEarly(),
      processes,
      counts: Object.fromEntries(this.#counts),
      caused: this.#caused,
      errors: Object.fromEntries(this.#errors),
      unhandledRejections: rejections,
      residentBytes: sizes,
      liveBytes: alive,
      descriptors,
      revokedStreamCutMs: Math.round(this.#slowestCutMs),
      cutAfterReloadMs: Math.round(this.#slowestAfterReloadMs),
      revokedJwtCutMs: Math.round(this.#slowestJwtCutMs),
      auditVerified: verified.code === 0,
      skipped,
      ok: this.#errors.size === 0 && rejections === 0 && [sizes, alive, descriptors].every(isNotRising),
    };
  }

  #isStoppedEarly(): boolean {
    return this.#signal?.aborted === true;
  }

  #tell(began: number): void {
    const sum = [...this.#counts.values()].reduce((total, times) => total + times, 0);
    const megabytes = (this.#sizes.at(-1)?.[1] ?? 0) / 1024 / 1024;
    this.#progress(
      `${((performance.now() - began) / 1000).toFixed(0)} s of ${(this.#minutes * 60).toFixed(0)}, ${String(sum)} done, ` +
        `${String(this.#errors.size)} kinds of errors, ${megabytes.toFixed(0)} MB, ${String(this.#descriptors.at(-1)?.[1] ?? 0)} descriptors`,
    );
  }

  #count(kind: (typeof KINDS)[number]): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }

  #error(what: string): void {
    // Bounded: numbers of ports and processes would make each a text of its own.
    const text = what.replace(/\d{4,}/g, 'N').slice(0, 600);
    if (this.#errors.size < 200) this.#errors.set(text, (this.#errors.get(text) ?? 0) + 1);
  }

  /** Does the same again and again, `width` at a time, with short rests, until the end. */
  async #again(kind: (typeof KINDS)[number], width: number, work: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopped;
    // In a short time everything may fall together with a restart: then once more, for as long as that may take.
    const last = performance.now() + this.#minutes * 60_000 + 30_000;
    const isWanted = (): boolean =>
      !signal.aborted || (this.#counts.get(kind) === 0 && performance.now() < last && !this.#isStoppedEarly());
    const one = async (): Promise<void> => {
      while (isWanted() && this.#stage.exit === null) {
        const began = performance.now();
        try {
          await work();
          this.#count(kind);
        } catch (error) {
          if (this.#away || began < this.#backAt) this.#caused += 1;
          else this.#error(`${kind}: ${error instanceof Error ? error.message : String(error)}`);
        }
        await pause(20);
      }
    };
    await Promise.all(Array.from({ length: width }, one));
  }

  async #http1(): Promise<void> {
    const { port } = this.#stage.target('secure');
    const body = randomBytes(64 + Math.floor(Math.random() * 60_000));
    const { token } = this.#stage.keeper;
    const answered = await within(
      new Promise<{ status: number; body: Buffer }>((resolve, reject) => {
        const asked = httpsRequest(
          {
            ...{ host: '127.0.0.1', port, agent: this.#agent, ca: this.#stage.authority.ca, method: 'POST' },
            ...{ path: '/echo', headers: { Authorization: `Bearer ${token}`, 'Content-Length': body.length } },
          },
          (answer) => {
            const pieces: Buffer[] = [];
            answer.on('data', (piece: Buffer) => pieces.push(piece));
            answer.once('error', reject);
            answer.once('end', () => {
              resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(pieces) });
            });
          },
        );
        asked.once('error', reject);
        asked.end(body);
      }),
      'an answer',
    );
    same(answered.status, 200, 'a request');
    same(answered.body.equals(body), true, 'the body came back as it went');
  }

  async #http2(): Promise<void> {
    const closed = this.#session === null || this.#session.closed || this.#session.destroyed;
    const session = closed ? await h2Connect(this.#stage.target('secure')) : this.#session;
    if (session === null) return;
    this.#session = session;
    const body = randomBytes(5000);
    const answer = await h2Request(
      session,
      { ':method': 'POST', ':path': '/echo', authorization: `Bearer ${this.#stage.keeper.token}` },
      body,
    );
    same(answer.status, 200, 'a request');
    same(answer.body.equals(body), true, 'the body came back as it went');
  }

  async #jsonBody(): Promise<void> {
    const target = this.#stage.target('plain');
    const headers = [['Content-Type', 'application/json']] as const;
    const { token } = this.#stage.keeper;
    const ask = async (body: string): Promise<number> =>
      (await request(target, { method: 'POST', path: '/v1/jobs', headers, token, body })).status;
    same(await ask('{"operation":"infer","prompt":"hello"}'), 200, 'a listed operation');
    same(await ask('{"operation":"shutdown"}'), 403, 'an operation that is not listed');
  }

  async #eventStream(): Promise<void> {
    const target = this.#stage.target(Math.random() < 0.5 ? 'plain' : 'secure');
    using client = await RawConnection.connect(target);
    client.write(requestBytes(target, { path: '/events', token: this.#stage.keeper.token }));
    const answer = await client.readResponse('GET', 30_000);
    same(answer.status, 200, 'a stream');
    const numbers = [...answer.text().matchAll(/<(\d+)>/g)].map(([, number]) => Number(number));
    same(numbers.join(), Array.from({ length: EVENTS }, (_, number) => number).join(), 'the events');
  }

  async #webSocket(): Promise<void> {
    const target = this.#stage.target(Math.random() < 0.5 ? 'plain' : 'secure');
    const { connection, response, socket } = await openWebSocket(target, {
      path: '/socket',
      token: this.#stage.keeper.token,
    });
    try {
      if (socket === null) throw new Wrong(`a handshake was answered with ${String(response.status)}`);
      for (let number = 0; number < EVENTS; number += 1) {
        socket.send(`message ${String(number)}`);
        same(await socket.nextText(), `message ${String(number)}`, 'a message');
        await pause(EVERY_MS / 2);
      }
    } finally {
      connection.close();
    }
  }

  /** Sent, ended, and back as it went: half-close is kept. */
  async #bytes(): Promise<void> {
    for (const [listener, header] of [
      ['bytes', ''],
      ['bytes_told', PROXY],
    ] as const) {
      const bytes = randomBytes(1000 + Math.floor(Math.random() * 200_000));
      using client = await RawConnection.connect(this.#stage.target(listener));
      client.write(header);
      client.write(bytes);
      client.end();
      same((await client.readToEnd()).equals(bytes), true, 'the bytes came back as they went');
    }
  }

  /** @param listener that asks for the certificate of a node */
  #asNode(listener: string): Target {
    const { node, authority } = this.#stage;
    return { port: this.#stage.target(listener).port, tls: { ca: authority.ca, ...node } };
  }

  async #bytesOverTls(): Promise<void> {
    const bytes = randomBytes(1000 + Math.floor(Math.random() * 200_000));
    using client = await RawConnection.connect(this.#asNode('bytes_secure'));
    client.write(bytes);
    client.end();
    same((await client.readToEnd()).equals(bytes), true, 'the bytes came back as they went');
  }

  async #clientCertificate(): Promise<void> {
    same((await request(this.#asNode('nodes'), { path: '/node' })).status, 200, 'a request of a node');
    const { port, tls } = this.#stage.target('nodes');
    const unknown = { port, ...(tls === undefined ? {} : { tls }) };
    same((await request(unknown, { path: '/node' })).status, 401, 'a request of nobody');
  }

  async #outbound(): Promise<void> {
    const answer = await request(this.#stage.target('link'), { method: 'POST', path: '/echo', body: 'from here' });
    same(answer.status, 200, 'a request to elsewhere');
    same(answer.text(), 'from here', 'the body came back as it went');
  }

  async #proxied(): Promise<void> {
    const target = this.#stage.target('proxied');
    using client = await RawConnection.connect(target);
    client.write(PROXY);
    client.write(requestBytes(target, { path: '/who', token: this.#stage.keeper.token }));
    same((await client.readResponse()).status, 200, 'a request of whom a proxy names');
    using rude = await RawConnection.connect(target);
    rude.write('PROXY TCP4 198.51.100.7\r\n\r\n');
    await rude.waitForEnd();
    same(rude.bytesSeen, 0, 'bytes in answer to a PROXY header that is none');
  }

  async #badInput(): Promise<void> {
    for (const [name, bytes] of BAD) {
      const target = this.#stage.target(Math.random() < 0.5 ? 'plain' : 'secure');
      using client = await RawConnection.connect(target);
      client.write(bytes(`127.0.0.1:${String(target.port)}`, this.#stage.keeper.token));
      const { status } = await client.readHead();
      // 501 is for methods that are none, or that nobody may use.
      const refused = (status >= 400 && status <= 499) || status === 501;
      if (!refused) throw new Wrong(`${name} was answered with ${String(status)}`);
    }
    // Somebody who leaves in the middle of a handshake, and of a head.
    using half = await RawConnection.connect({ port: this.#stage.target('secure').port });
    half.write(Buffer.from('160301020001', 'hex'));
    half.reset();
    using begun = await RawConnection.connect(this.#stage.target('plain'));
    begun.write('GET / HTTP/1.1\r\nHo');
    begun.reset();
  }

  #isOver(): boolean {
    return this.#stopped.signal.aborted;
  }

  /** One change after the other, so that it is known what each of them did. */
  async #change(lengthMs: number): Promise<void> {
    const { redis } = this.#stage;
    const changes: (readonly [kind: (typeof KINDS)[number], work: () => Promise<void>])[] = [
      ['reload', async () => await this.#reload()],
      ['certificate', async () => await this.#newCertificate()],
      ['broken_policy', async () => await this.#brokenPolicy()],
      ['revoked_token', async () => await this.#revokedToken()],
      ['revoked_jwt', async () => await this.#revokedJwt()],
      ['upstream_restart', async () => await this.#restart(this.#stage.http, '/back', this.#stage.keeper.token)],
      ...(redis === null ? [] : ([['redis_restart', async () => await this.#restart(redis, '/jwt', null)]] as const)),
    ];
    const restMs = Math.min(5000, lengthMs / 60);
    while (!this.#isOver() && this.#stage.exit === null) {
      for (const [kind, work] of changes) {
        // All of them once, however short the time.
        if (this.#isOver() && ((this.#counts.get(kind) ?? 0) > 0 || this.#isStoppedEarly())) return;
        try {
          await work();
          this.#count(kind);
        } catch (error) {
          this.#error(`${kind}: ${error instanceof Error ? error.message : String(error)}`);
        }
        if (!this.#isOver()) await this.#rest(restMs);
      }
    }
  }

  async #rest(ms: number): Promise<void> {
    await pause(ms, undefined, { signal: this.#stopped.signal }).catch(() => undefined);
  }

  /** @throws Wrong */
  async #reloads(): Promise<number> {
    const { event, atMs } = await this.#stage.reload();
    same(event, 'policy.reloaded', 'a reload');
    return atMs;
  }

  async #reload(): Promise<void> {
    this.#round += 1;
    this.#stage.writePolicy(this.#round);
    await this.#reloads();
  }

  async #newCertificate(): Promise<void> {
    const pair = await this.#stage.authority.issue();
    writeKeyPair(this.#stage.folder, pair);
    await this.#reloads();
    using fresh = await RawConnection.connect(this.#stage.target('secure'));
    const shown = 'getPeerX509Certificate' in fresh.socket ? fresh.socket.getPeerX509Certificate() : undefined;
    same(pair.cert.includes(shown?.toString().trim() ?? '-'), true, 'a new handshake gets the new certificate');
  }

  async #brokenPolicy(): Promise<void> {
    writeFileIn(this.#stage.folder, 'policy.yaml', 'version: 1\nlisteners: {', 0o644);
    same((await this.#stage.reload()).event, 'policy.reload_failed', 'a reload of half a policy');
    this.#stage.writePolicy(this.#round);
    await this.#reloads();
  }

  /** A token that is given and taken away: its open stream is cut, and it is good for nothing more. */
  async #revokedToken(): Promise<void> {
    const guest = tokenPair();
    this.#stage.writeTokens([{ name: 'guest', sha256: guest.sha256, roles: ['viewer'] }]);
    await this.#reloads();
    const target = this.#stage.target('secure');
    using client = await RawConnection.connect(target);
    client.write(requestBytes(target, { path: '/events/endless', token: guest.token }));
    same((await client.readHead()).status, 200, 'a stream of a token');
    this.#stage.writeTokens([]);
    client.discard();
    const began = performance.now();
    const cut = client.waitForEnd(30_000).then(() => performance.now());
    cut.catch(() => undefined);
    const doneAt = await this.#reloads();
    const cutAt = await within(cut, 'a stream to be cut', CUT_MS);
    this.#slowestCutMs = Math.max(this.#slowestCutMs, cutAt - began);
    this.#slowestAfterReloadMs = Math.max(this.#slowestAfterReloadMs, cutAt - doneAt);
    same((await request(target, { path: '/x', token: guest.token })).status, 401, 'a token that was taken away');
  }

  /** A JWT that somebody takes back before its time. */
  async #revokedJwt(): Promise<void> {
    const token = this.#stage.jwt();
    const target = this.#stage.target('secure');
    using client = await RawConnection.connect(target);
    client.write(requestBytes(target, { path: '/events/endless', token }));
    same((await client.readHead()).status, 200, 'a stream of a JWT');
    client.discard();
    const policy = this.#stage.folder.file('policy.yaml');
    const cut = client.waitForEnd(60_000).then(() => performance.now());
    cut.catch(() => undefined);
    const { code, stderr } = await runGuardbee(['revoke', '--policy', policy, '--token', '-'], { input: token });
    const began = performance.now();
    if (code !== 0) throw new Wrong(`guardbee revoke ended with ${String(code)}: ${stderr.slice(0, 300)}`);
    const cutAt = await within(cut, 'the stream of a revoked JWT to be cut', CUT_MS);
    this.#slowestJwtCutMs = Math.max(this.#slowestJwtCutMs, cutAt - began);
    same((await request(target, { path: '/x', token })).status, 401, 'a JWT that was revoked');
  }

  /** Stops something behind guardbee; whoever asks meanwhile may fail. Ends when requests are answered again. */
  async #restart(what: Service | Redis, path: string, token: string | null): Promise<void> {
    this.#away = true;
    try {
      await what.stop();
      await pause(200);
      await what.start();
      const target = this.#stage.target('plain');
      await waitUntil(
        async () => (await request(target, { path, token: token ?? this.#stage.jwt() })).status === 200,
        'requests to be answered again',
        30_000,
      );
    } finally {
      this.#backAt = performance.now();
      this.#away = false;
    }
  }
}
