import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { type Socket, connect } from 'node:net';

/**
 * What Node takes by itself: its server for HTTPS, and a socket to the service that is kept. Nothing is judged, checked,
 * limited or logged, and only whole answers of one piece are understood. Not a proxy: it says how near one could come.
 * Arguments: certificate, key, URL of the service. Prints its port.
 */
const [cert = '', key = '', service = ''] = process.argv.slice(2);
const { hostname, port, host } = new URL(service);
const NOT_PASSED_ON = new Set(['host', 'connection', 'keep-alive']);

interface Upstream {
  readonly socket: Socket;
  answer: ServerResponse | null;
}

const idle: Upstream[] = [];
const shared = Buffer.allocUnsafeSlow(64 * 1024);

function open(): Upstream {
  const callback = (length: number): boolean => {
    finish(upstream, shared.toString('latin1', 0, length));
    return true;
  };
  const socket = connect({ host: hostname, port: Number(port), noDelay: true, onread: { buffer: shared, callback } });
  const upstream: Upstream = { socket, answer: null };
  socket.on('error', () => undefined);
  return upstream;
}

function finish(upstream: Upstream, text: string): void {
  const { answer } = upstream;
  if (answer === null) return;
  const end = text.indexOf('\r\n\r\n');
  const [status = '', ...lines] = text.slice(0, end).split('\r\n');
  const fields: string[] = [];
  for (const line of lines) {
    const colon = line.indexOf(': ');
    const name = line.slice(0, colon);
    if (!NOT_PASSED_ON.has(name.toLowerCase())) fields.push(name, line.slice(colon + 2));
  }
  answer.writeHead(Number(status.slice(9, 12)), fields);
  answer.end(text.slice(end + 4), 'latin1');
  upstream.answer = null;
  idle.push(upstream);
}

const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
  const upstream = idle.pop() ?? open();
  upstream.answer = response;
  let head = `${request.method ?? ''} ${request.url ?? ''} HTTP/1.1\r\nhost: ${host}\r\n`;
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? '';
    if (!NOT_PASSED_ON.has(name.toLowerCase())) head += `${name}: ${request.rawHeaders[i + 1] ?? ''}\r\n`;
  }
  upstream.socket.write(`${head}\r\n`, 'latin1');
});
server.listen(0, '127.0.0.1', 8_192, () => {
  const address = server.address();
  process.stdout.write(`${String(typeof address === 'object' && address !== null ? address.port : 0)}\n`);
});
process.once('SIGTERM', () => {
  process.exit(0);
});
