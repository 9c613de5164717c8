import { createServer } from 'node:http';

/** The service behind: a small JSON answer, as quick as Node gives it. Prints its port. */
const BODY = Buffer.from('{"status":"ok","model":"llama","workers":[1,2,3]}');

const server = createServer((request, response) => {
  request.resume();
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': BODY.length });
  response.end(BODY);
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${String(typeof address === 'object' && address !== null ? address.port : 0)}\n`);
});
process.once('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
