import { type ServerResponse, createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { monotonicMs } from './clock.js';

/**
 * The service behind, as quick as Node gives it. Prints its port.
 *
 *     /bytes/N          an answer of N bytes
 *     /events?ms=N      an event stream: the monotonic time every N ms; of N = 0, nothing at all
 *     DELETE /events    ends every event stream: not every proxy does when its client has left
 *     POST anything     reads the body, then answers as to all else
 *     upgrade           a WebSocket that says what it hears
 *     anything else     a small JSON answer
 */
const BODY = Buffer.from('{"status":"ok","model":"llama","workers":[1,2,3]}');
const PIECE = Buffer.alloc(64 * 1024, 0x61);

/** The streams of one pace: of each millisecond of its period, those that send then. */
class Ticker {
  readonly #slots: readonly Set<ServerResponse>[];
  #joined = 0;
  #sent = Math.floor(monotonicMs());

  constructor(periodMs: number) {
    this.#slots = Array.from({ length: periodMs }, () => new Set<ServerResponse>());
    setInterval(() => {
      this.#send();
    }, 1);
  }

  /**
   * Streams that know nothing of each other send at moments of their own. In bursts of 50, as they were sent before, an event would wait
   * for those of its burst, and the latency would be that of the burst.
   */
  join(stream: ServerResponse): void {
    // The golden section of the period further each time: wherever joining ends, they are spread over all of it.
    const slot = this.#slots[Math.floor(((this.#joined * 0.618_034) % 1) * this.#slots.length)];
    this.#joined += 1;
    slot?.add(stream);
    stream.once('close', () => slot?.delete(stream));
  }

  end(): void {
    for (const slot of this.#slots) for (const stream of slot) stream.end();
  }

  /** Timers come late and skip; no millisecond is left out. */
  #send(): void {
    for (const now = Math.floor(monotonicMs()); this.#sent < now; this.#sent += 1) {
      for (const stream of this.#slots[this.#sent % this.#slots.length] ?? []) {
        stream.write(`data: ${String(monotonicMs())}\n\n`);
      }
    }
  }
}

const tickers = new Map<number, Ticker>();

function tick(response: ServerResponse, ms: number): void {
  const ticker = tickers.get(ms) ?? new Ticker(ms);
  tickers.set(ms, ticker);
  ticker.join(response);
}

function sendBytes(response: ServerResponse, count: number): void {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': count });
  let left = count;
  const more = (): void => {
    while (left > 0) {
      const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE;
      left -= piece.length;
      if (!response.write(piece) && left > 0) return;
    }
    response.end();
  };
  response.on('drain', more);
  more();
}

const server = createServer((request, response) => {
  const url = request.url ?? '';
  if (request.method === 'DELETE') {
    for (const ticker of tickers.values()) ticker.end();
    response.end();
    return;
  }
  if (url.startsWith('/events')) {
    const ms = Number(/[?&]ms=(\d+)/.exec(url)?.[1] ?? 0);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    response.write(': open\n\n');
    if (ms > 0) tick(response, ms);
    return;
  }
  if (url.startsWith('/bytes/')) {
    sendBytes(response, Number(url.slice('/bytes/'.length)));
    return;
  }
  const answer = (): void => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': BODY.length });
    response.end(BODY);
  };
  request.resume();
  if (request.method === 'POST' || request.method === 'PUT') request.once('end', answer);
  else answer();
});
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 1024 * 1024 });
server.on('upgrade', (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (echo) => {
    echo.on('message', (data: Buffer, isBinary) => {
      echo.send(data, { binary: isBinary });
    });
    echo.on('error', () => undefined);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', 8_192, () => {
  const address = server.address();
  process.stdout.write(`${String(typeof address === 'object' && address !== null ? address.port : 0)}\n`);
});
process.once('SIGTERM', () => {
  process.exit(0);
});
