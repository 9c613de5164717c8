import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocketServer } from 'ws';
import { PAGE, PAGE_CONTENT_SECURITY_POLICY } from './page.js';

export interface DemoOptions {
  /** Loopback only: the demo believes whatever it is told about who is calling. */
  readonly host: '127.0.0.1' | '::1';
  /** 0 picks a free one. */
  readonly port: number;
  /** Time between two tokens of `/api/stream`. */
  readonly tokenEveryMs?: number;
}

export interface Demo {
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

export const SENTENCE = 'The bee at the gate knows who may enter, and tells you who tried.';

const STREAM_END = 'data: [DONE]\n\n';

/** A service of the kind that guardbee stands in front of: it asks nobody who they are. For the first five minutes. */
export async function startDemo(options: DemoOptions): Promise<Demo> {
  const service = new DemoService(options.tokenEveryMs ?? 150);
  const { server } = service;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port } = server.address() as AddressInfo;
  const host = options.host === '::1' ? '[::1]' : options.host;
  return { url: `http://${host}:${port}`, port, close: () => service.close() };
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

interface Resource {
  /** Null: any method. */
  readonly methods: readonly string[] | null;
  readonly answer: Answer;
}

const READ = ['GET', 'HEAD'];

class DemoService {
  readonly server: Server;
  readonly #tokenEveryMs: number;
  readonly #resources: ReadonlyMap<string, Resource>;
  readonly #requests = new Map<string, number>();
  #openStreams = 0;
  #webSockets: Promise<WebSocketServer> | null = null;

  constructor(tokenEveryMs: number) {
    this.#tokenEveryMs = tokenEveryMs;
    this.#resources = new Map<string, Resource>([
      ['/', { methods: READ, answer: page }],
      ['/health', { methods: READ, answer: health }],
      ['/api/hello', { methods: null, answer: hello }],
      ['/api/stream', { methods: READ, answer: (request, response) => this.#stream(request, response) }],
      ['/metrics', { methods: READ, answer: (_request, response) => this.#metrics(response) }],
    ]);
    this.server = createServer((request, response) => this.#answer(request, response));
    this.server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    if (this.#webSockets !== null) for (const client of (await this.#webSockets).clients) client.terminate();
    this.server.closeAllConnections();
    await closed;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const path = pathOf(request);
    const resource = this.#resources.get(path);
    // Only known paths are counted, so that callers can't make up labels.
    this.#count(resource === undefined ? 'other' : path);
    if (resource === undefined) {
      sendJson(response, 404, { error: 'not found' });
    } else if (resource.methods?.includes(request.method ?? '') === false) {
      response.setHeader('Allow', resource.methods.join(', '));
      sendJson(response, 405, { error: 'method not allowed' });
    } else {
      resource.answer(request, response);
    }
  }

  #count(path: string): void {
    this.#requests.set(path, (this.#requests.get(path) ?? 0) + 1);
  }

  #stream(request: IncomingMessage, response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    const tokens = SENTENCE.split(/(?= )/);
    let next = 0;
    const say = (): void => {
      const token = tokens[next];
      next += 1;
      if (token === undefined) response.end(STREAM_END);
      else response.write(`data: ${token}\n\n`);
    };
    const timer = setInterval(say, this.#tokenEveryMs);
    this.#openStreams += 1;
    // Comes after the end as well as when the caller has gone.
    response.once('close', () => {
      clearInterval(timer);
      this.#openStreams -= 1;
    });
    say();
  }

  #metrics(response: ServerResponse): void {
    const lines = [
      '# HELP demo_requests_total Requests answered.',
      '# TYPE demo_requests_total counter',
      ...[...this.#requests].map(([path, count]) => `demo_requests_total{path="${path}"} ${count}`),
      '# HELP demo_open_streams Event streams that are open now.',
      '# TYPE demo_open_streams gauge',
      `demo_open_streams ${this.#openStreams}`,
      '',
    ];
    send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', lines.join('\n'));
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    if (pathOf(request) !== '/ws') {
      socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      return;
    }
    this.#count('/ws');
    this.#webSockets ??= webSocketServer();
    this.#webSockets.then(
      (server) =>
        server.handleUpgrade(request, socket, head, (client) => {
          client.on('error', () => client.terminate());
          client.on('message', (data, binary) => client.send(data, { binary }));
        }),
      () => socket.destroy(),
    );
  }
}

/** Loaded when the first WebSocket comes: most starts never see one. */
async function webSocketServer(): Promise<WebSocketServer> {
  const { WebSocketServer } = await import('ws');
  return new WebSocketServer({ noServer: true, maxPayload: 1024 * 1024 });
}

const pathOf = (request: IncomingMessage): string => (request.url ?? '').split('?', 1)[0] ?? '';

const page: Answer = (_request, response) => {
  response.setHeader('Content-Security-Policy', PAGE_CONTENT_SECURITY_POLICY);
  send(response, 200, 'text/html; charset=utf-8', PAGE);
};

const health: Answer = (_request, response) => sendJson(response, 200, { status: 'ok' });

/** Says who it was told the caller is: behind guardbee that is true, and only there. */
const hello: Answer = (request, response) => {
  const roles = fieldOf(request, 'x-auth-roles');
  sendJson(response, 200, {
    message: 'hello from the service behind guardbee',
    method: request.method,
    user: fieldOf(request, 'x-auth-user'),
    roles: roles === null ? [] : roles.split(',').map((role) => role.trim()),
  });
};

function fieldOf(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return typeof value === 'string' ? value : null;
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json', `${JSON.stringify(value)}\n`);
}

function send(response: ServerResponse, status: number, type: string, text: string): void {
  const body = Buffer.from(text);
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  });
  // Node leaves the body out of an answer to HEAD by itself.
  response.end(body);
}
