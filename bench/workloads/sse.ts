import { setTimeout as wait } from 'node:timers/promises';
import { quantile } from '../load.js';
import { bareSockets } from '../peers/bare-node.js';
import { caddy } from '../peers/caddy.js';
import { direct } from '../peers/direct.js';
import { plain } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import { httpProxy } from '../peers/http-proxy.js';
import { nginx } from '../peers/nginx.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';
import { EventStreams } from '../streams.js';

const STREAMS = 500;
/** Each, so that service, proxy and reader together leave the machine some room. */
const EVERY_MS = 250;

export const sse: Workload = {
  name: 'sse',
  run: (bench) =>
    withPeers(bench, [plain, direct, bareSockets, httpProxy, nginx, haproxy, caddy], async (started) => ({
      workload: 'sse',
      about: `${String(STREAMS)} event streams over TLS, ${String((STREAMS * 1000) / EVERY_MS)} events a second; from the service's write until the reader has it`,
      columns: [
        { key: 'cpu', title: 'CPU µs/event', digits: 1 },
        { key: 'share', title: 'guardbee to it', digits: 2 },
        { key: 'p50', title: 'p50 ms', digits: 2 },
        { key: 'p99', title: 'p99 ms', digits: 2 },
      ],
      rows: await inTurns(bench, started, { warmUp: 1, unit: 'cpu' }, async (guard) => {
        const streams = new EventStreams();
        try {
          await streams.open(guard, `/events?ms=${String(EVERY_MS)}`, STREAMS);
          await wait(1_000);
          streams.take();
          const before = guard.running?.cpu() ?? Number.NaN;
          await wait(bench.seconds * 1_000);
          const cpu = (guard.running?.cpu() ?? Number.NaN) - before;
          const { events, took, lost } = streams.take();
          if (lost > 0 || events === 0) throw new Error(`${String(lost)} streams ended, ${String(events)} events came`);
          const sorted = [...took].sort((a, b) => a - b);
          // Without what it took to open the streams.
          return { units: events, cpu, figures: { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) } };
        } finally {
          streams.close();
          // http-proxy 1.18.1 goes on reading for clients that have left: its next turn would be for twice as many.
          await fetch(`${bench.setting.service}/events`, { method: 'DELETE' });
        }
      }),
    })),
};
