import { type TLSSocket, connect } from 'node:tls';
import { caddy } from '../peers/caddy.js';
import { plain } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import { httpProxy } from '../peers/http-proxy.js';
import { nginx } from '../peers/nginx.js';
import type { Guard } from '../peers/peer.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const AT_ONCE = 8;

/** One connection, one request, and the session of it for the next. */
function once(guard: Guard, session: Buffer | undefined): Promise<Buffer | undefined> {
  const { hostname, port } = new URL(guard.url);
  return new Promise((resolve, reject) => {
    let ticket: Buffer | undefined;
    let answer = '';
    const socket: TLSSocket = connect({
      host: hostname,
      port: Number(port),
      servername: 'localhost',
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
      ...(session === undefined ? {} : { session }),
    });
    socket.setEncoding('latin1');
    socket.on('session', (given: Buffer) => {
      ticket = given;
    });
    socket.once('secureConnect', () => {
      socket.write(
        `GET /v1/jobs/job-1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${guard.credential}\r\nConnection: close\r\n\r\n`,
      );
    });
    socket.on('data', (text: string) => {
      answer += text;
    });
    socket.once('error', reject);
    socket.once('close', () => {
      if (answer.startsWith('HTTP/1.1 200 ')) resolve(ticket);
      else reject(new Error(`${guard.url} answered ${answer.slice(0, 60)}`));
    });
  });
}

async function connections(guard: Guard, seconds: number, resume: boolean): Promise<number> {
  const until = performance.now() + seconds * 1000;
  let count = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      let session: Buffer | undefined;
      while (performance.now() < until) {
        const ticket = await once(guard, resume ? session : undefined);
        session = ticket ?? session;
        count += 1;
      }
    }),
  );
  return count;
}

export const handshakes: Workload = {
  name: 'handshakes',
  run: (bench) =>
    withPeers(bench, [plain, httpProxy, nginx, haproxy, caddy], async (started) => {
      const fresh = await inTurns(bench, started, { warmUp: 1, unit: 'cpu' }, async (guard) => ({
        units: await connections(guard, bench.seconds, false),
      }));
      const resumed = await inTurns(bench, started, { warmUp: 1, unit: 'cpu' }, async (guard) => ({
        units: await connections(guard, bench.seconds, true),
      }));
      return {
        workload: 'handshakes',
        about: 'a new TLS 1.3 connection and one request on it; resumed with the ticket of the one before',
        columns: [
          { key: 'cpu', title: 'CPU µs, full', digits: 0 },
          { key: 'share', title: 'guardbee to it', digits: 2 },
          { key: 'resumed', title: 'CPU µs, resumed', digits: 0 },
          { key: 'resumedShare', title: 'guardbee to it', digits: 2 },
        ],
        rows: fresh.map(({ name, cells }, index) => ({
          name,
          cells: {
            ...cells,
            resumed: resumed[index]?.cells['cpu'],
            resumedShare: resumed[index]?.cells['share'],
          },
        })),
      };
    }),
};
