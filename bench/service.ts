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

const tickers = new Map<number, Set<ServerResponse>>();

/** All streams of one pace share a timer, which spreads them over its period. */
function tick(response: ServerResponse, ms: number): void {
  let streams = tickers.get(ms);
  if (streams === undefined) {
    const all = new Set<ServerResponse>();
    tickers.set(ms, all);
    streams = all;
    const slots = 10;
    let slot = 0;
    setInterval(() => {
      slot = (slot + 1) % slots;
      let index = 0;
      for (const stream of all) {
        if (index++ % slots !== slot) continue;
        stream.write(`data: ${String(monotonicMs())}\n\n`);
      }
    }, ms / slots);
  }
  const joined = streams;
  joined.add(response);
  response.once('close', () => joined.delete(response));
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
    for (const streams of tickers.values()) for (const stream of streams) stream.end();
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
