import WebSocket from 'ws';
import { quantile } from '../load.js';
import { caddy } from '../peers/caddy.js';
import { plain } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import { httpProxy } from '../peers/http-proxy.js';
import { nginx } from '../peers/nginx.js';
import type { Guard } from '../peers/peer.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const SOCKETS = 16;

/** Each socket says something, waits until it hears it, and says it again. */
async function echoes(guard: Guard, bytes: number, seconds: number): Promise<{ count: number; took: number[] }> {
  const took: number[] = [];
  const message = Buffer.alloc(bytes, 0x63);
  await Promise.all(
    Array.from(
      { length: SOCKETS },
      () =>
        new Promise<void>((resolve, reject) => {
          const socket = new WebSocket(`${guard.url.replace(/^http/, 'ws')}/echo`, {
            rejectUnauthorized: false,
            perMessageDeflate: false,
            headers: { authorization: `Bearer ${guard.credential}` },
          });
          const until = performance.now() + seconds * 1000;
          let sent = 0;
          const say = (): void => {
            sent = performance.now();
            socket.send(message);
          };
          socket.on('open', say);
          socket.on('message', () => {
            const now = performance.now();
            took.push(now - sent);
            if (now < until) say();
            else socket.close();
          });
          socket.on('close', () => {
            resolve();
          });
          socket.on('error', reject);
        }),
    ),
  );
  return { count: took.length, took };
}

export const websocket: Workload = {
  name: 'websocket',
  run: (bench) =>
    withPeers(bench, [plain, httpProxy, nginx, haproxy, caddy], async (started) => {
      const measured = [];
      for (const bytes of [64, 65_536]) {
        measured.push(
          await inTurns(bench, started, { warmUp: 1, unit: 'cpu' }, async (guard) => {
            const { count, took } = await echoes(guard, bytes, bench.seconds);
            took.sort((a, b) => a - b);
            return { units: count, figures: { p99: quantile(took, 0.99) } };
          }),
        );
      }
      const [small = [], large = []] = measured;
      return {
        workload: 'websocket',
        about: `${String(SOCKETS)} WebSockets over TLS, one message at a time through and back`,
        columns: [
          { key: 'cpu', title: 'CPU µs, 64 B', digits: 0 },
          { key: 'share', title: 'guardbee to it', digits: 2 },
          { key: 'p99', title: 'p99 ms', digits: 2 },
          { key: 'large', title: 'CPU µs, 64 KiB', digits: 0 },
          { key: 'largeShare', title: 'guardbee to it', digits: 2 },
        ],
        rows: small.map(({ name, cells }, index) => ({
          name,
          cells: { ...cells, large: large[index]?.cells['cpu'], largeShare: large[index]?.cells['share'] },
        })),
      };
    }),
};
