/** A service in a process of its own: 8 MiB at `/large`, a word everywhere else. Prints its port. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const large = Buffer.alloc(8 * 1024 * 1024);
const server = createServer((request, response) => {
  if (request.url === '/large') {
    response.end(large);
    return;
  }
  request.resume();
  request.on('end', () => response.end('fine'));
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${String((server.address() as AddressInfo).port)}\n`);
});
