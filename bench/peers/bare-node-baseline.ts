import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { type Socket, connect } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

/**
 * What Node takes by itself. Nothing is judged, checked, limited or logged: not a proxy, but how near one could come.
 * `requests`: its server for HTTPS, and a socket to the service that is kept; only whole answers of one piece are
 * understood. `bytes`: its sockets alone, plain and TLS, with no HTTP at all.
 * Arguments: one of the two, certificate, key, URL of the service. Prints its port.
 */
const [what = '', cert = '', key = '', service = ''] = process.argv.slice(2);
const { hostname, port, host } = new URL(service);
const NOT_PASSED_ON = new Set(['host', 'connection', 'keep-alive']);

interface Upstream {
  readonly socket: Socket;
  answer: ServerResponse | null;
}

const idle: Upstream[] = [];
const shared = Buffer.allocUnsafeSlow(64 * 1024);

/** @param heard gets what comes, one character for a byte */
function socketToService(heard: (text: string) => void): Socket {
  const callback = (length: number): boolean => {
    heard(shared.toString('latin1', 0, length));
    return true;
  };
  const socket = connect({ host: hostname, port: Number(port), noDelay: true, onread: { buffer: shared, callback } });
  socket.on('error', () => undefined);
  return socket;
}

function open(): Upstream {
  const socket = socketToService((text) => {
    finish(upstream, text);
  });
  const upstream: Upstream = { socket, answer: null };
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

const pair = { cert: readFileSync(cert), key: readFileSync(key) };
const requests = createServer(pair, (request, response) => {
  const upstream = idle.pop() ?? open();
  upstream.answer = response;
  let head = `${request.method ?? ''} ${request.url ?? ''} HTTP/1.1\r\nhost: ${host}\r\n`;
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? '';
    if (!NOT_PASSED_ON.has(name.toLowerCase())) head += `${name}: ${request.rawHeaders[i + 1] ?? ''}\r\n`;
  }
  upstream.socket.write(`${head}\r\n`, 'latin1');
});
const bytes = createTlsServer(pair, (client) => {
  client.setNoDelay(true);
  const socket = socketToService((text) => {
    client.write(text, 'latin1');
  });
  client.on('data', (piece: Buffer) => socket.write(piece));
  client.on('error', () => undefined);
  client.on('close', () => socket.destroy());
});
const server = what === 'bytes' ? bytes : requests;
server.listen(0, '127.0.0.1', 8_192, () => {
  const address = server.address();
  process.stdout.write(`${String(typeof address === 'object' && address !== null ? address.port : 0)}\n`);
});
process.once('SIGTERM', () => {
  process.exit(0);
});
