import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import type { Bind } from '../policy/policy.js';
import type { LogFields } from './log.js';
import { type ReadinessReport, isReady } from './readiness.js';

export interface AdminSettings {
  /** On loopback: the policy allows nothing else. */
  readonly bind: Pick<Bind, 'host' | 'port'>;
  readonly metrics: { text(): Promise<string>; readonly contentType: string };
  readonly readiness: () => ReadinessReport;
  readonly log: {
    error(event: string, msg: string, fields?: LogFields): void;
    errorFields(error: unknown): LogFields;
  };
}

export interface Admin {
  /** Rejects with the system's error when the address can't be had. */
  listen(): Promise<AddressInfo>;
  close(): Promise<void>;
}

interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly allow?: string;
}

const JSON_TYPE = 'application/json; charset=utf-8';
const CLOSE_PATIENCE_MS = 500;

const problem = (status: number, title: string): Page => ({
  status,
  type: 'application/problem+json',
  body: `${JSON.stringify({ type: 'about:blank', title, status })}\n`,
});

/**
 * `/healthz`, `/readyz`, `/metrics`: on an address of their own, never beside the guarded service. Whoever can reach
 * loopback may read them, but not a page in a browser on the same machine: see `refusal`.
 */
export function createAdmin(settings: AdminSettings): Admin {
  const server = createServer(
    {
      maxHeaderSize: 8192,
      headersTimeout: 5_000,
      requestTimeout: 10_000,
      keepAliveTimeout: 30_000,
      connectionsCheckingInterval: 1_000,
      insecureHTTPParser: false,
    },
    (request, response) => {
      answer(settings, request)
        .catch((error: unknown) => {
          settings.log.error('admin.failed', 'an admin page could not be made', settings.log.errorFields(error));
          return problem(500, 'Internal error');
        })
        .then((page) => {
          send(request, response, page);
        })
        // The answer itself could not be sent: the connection is of no more use.
        .catch(() => response.destroy());
    },
  );
  server.maxConnections = 64;
  server.maxHeadersCount = 64;
  server.maxRequestsPerSocket = 1000;
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    else socket.destroy();
  });
  return {
    listen: () => listen(server, settings.bind),
    close: () => close(server),
  };
}

async function answer(settings: AdminSettings, request: IncomingMessage): Promise<Page> {
  const refused = refusal(request);
  if (refused !== null) return refused;
  // An absolute or unusual target is simply not one of the three.
  switch (request.url?.split('?', 1)[0]) {
    case '/healthz':
      return { status: 200, type: JSON_TYPE, body: '{"status":"ok"}\n' };
    case '/readyz':
      return readyPage(settings.readiness());
    case '/metrics':
      return { status: 200, type: settings.metrics.contentType, body: await settings.metrics.text() };
    default:
      return problem(404, 'Not found');
  }
}

/**
 * A page somewhere on the web can make a browser here send requests to loopback. It can't read the answers, unless its
 * own host name resolves to 127.0.0.1 (DNS rebinding): then `Host` carries that name.
 */
function refusal(request: IncomingMessage): Page | null {
  const hosts = fieldValues(request, 'host');
  if (hosts.length > 1) return problem(400, 'The request names its host in more than one way');
  const host = hosts[0];
  // HTTP/1.0 needs none, and no browser speaks it.
  if (host !== undefined && !isLocalName(host)) return problem(421, 'This server does not answer for that host');
  for (const origin of fieldValues(request, 'origin')) {
    if (host === undefined || origin.toLowerCase() !== `http://${host.toLowerCase()}`) {
      return problem(403, 'Not from this origin');
    }
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { ...problem(405, 'This method is not supported'), allow: 'GET, HEAD' };
  }
  return null;
}

/** `localhost` or an IP literal: names that nobody else can make resolve to this machine. */
function isLocalName(host: string): boolean {
  const name = host.replace(/:\d{1,5}$/, '').toLowerCase();
  if (name === 'localhost' || name === 'localhost.') return true;
  return name.startsWith('[') ? name.endsWith(']') && isIP(name.slice(1, -1)) === 6 : isIP(name) === 4;
}

/** All of them: `request.headers` keeps only the first `Host`. */
function fieldValues(request: IncomingMessage, name: string): string[] {
  const { rawHeaders } = request;
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name);
}

function readyPage(report: ReadinessReport): Page {
  const ready = isReady(report);
  const checks = Object.fromEntries(report.checks.map(({ name, status, detail }) => [name, { status, detail }]));
  return {
    status: ready ? 200 : 503,
    type: JSON_TYPE,
    body: `${JSON.stringify({ status: ready ? 'ready' : 'not_ready', checks }, null, 2)}\n`,
  };
}

function send(request: IncomingMessage, response: ServerResponse, page: Page): void {
  const body = Buffer.from(page.body, 'utf8');
  response.statusCode = page.status;
  response.setHeader('content-type', page.type);
  response.setHeader('content-length', body.length);
  response.setHeader('cache-control', 'no-store');
  response.setHeader('x-content-type-options', 'nosniff');
  if (page.allow !== undefined) response.setHeader('allow', page.allow);
  // Nobody here reads a body, so nothing after one can be trusted to be a request.
  if (request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined) {
    response.setHeader('connection', 'close');
  }
  response.end(request.method === 'HEAD' ? undefined : body);
}

async function listen(server: Server, bind: AdminSettings['bind']): Promise<AddressInfo> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: bind.host, port: bind.port, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('a listening server has an address');
  return address;
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      server.closeAllConnections();
    }, CLOSE_PATIENCE_MS);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}
