import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { createServer } from 'node:https';
import httpProxy from 'http-proxy';

/**
 * What people write today: http-proxy 1.18.1 behind `https`, with the same token check and nothing else (no log, no
 * metrics, no rules). Arguments: certificate, key, SHA-256 of the token, URL of the service. Prints its port.
 */
const [cert = '', key = '', sha256 = '', target = ''] = process.argv.slice(2);
const proxy = httpProxy.createProxyServer({ target, agent: new Agent({ keepAlive: true }), xfwd: true });
proxy.on('error', (_error, _request, response) => {
  if ('writeHead' in response && !response.headersSent) response.writeHead(502);
  response.end();
});
const wanted = Buffer.from(sha256, 'hex');
const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) => {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  if (!timingSafeEqual(createHash('sha256').update(token).digest(), wanted)) {
    response.writeHead(401, { 'www-authenticate': 'Bearer' });
    response.end();
    return;
  }
  proxy.web(request, response);
});
server.on('upgrade', (request, socket, head) => {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  if (timingSafeEqual(createHash('sha256').update(token).digest(), wanted)) proxy.ws(request, socket, head);
  else socket.destroy();
});
server.listen(0, '127.0.0.1', 8_192, () => {
  const address = server.address();
  process.stdout.write(`${String(typeof address === 'object' && address !== null ? address.port : 0)}\n`);
});
process.once('SIGTERM', () => {
  process.exit(0);
});
