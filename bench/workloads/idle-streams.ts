import { setTimeout as wait } from 'node:timers/promises';
import { caddy } from '../peers/caddy.js';
import { plain } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import { httpProxy } from '../peers/http-proxy.js';
import { nginx } from '../peers/nginx.js';
import { type Workload, withPeers } from '../rounds.js';
import { EventStreams } from '../streams.js';
import type { Row } from '../table.js';

const STREAMS = 5_000;
/** Node gives back what handshakes took some seconds later. */
const SETTLE_MS = 15_000;

export const idleStreams: Workload = {
  name: 'idle-streams',
  run: (bench) =>
    withPeers(bench, [plain, httpProxy, nginx, haproxy, caddy], async (started) => {
      const rows: Row[] = [];
      for (const { peer, guard } of started) {
        bench.progress(`${String(STREAMS)} streams through ${peer.name}`);
        const streams = new EventStreams();
        try {
          // The first ones bring code and buffers that the others share.
          await streams.open(guard, '/events', 200);
          await wait(2_000);
          const before = guard.running?.residentKilobytes() ?? 0;
          await streams.open(guard, '/events', STREAMS);
          await wait(SETTLE_MS);
          const { lost } = streams.take();
          if (lost > 0) throw new Error(`${String(lost)} streams ended`);
          const after = guard.running?.residentKilobytes() ?? 0;
          rows.push({ name: peer.name, cells: { each: (after - before) / STREAMS, all: after / 1024 } });
        } finally {
          streams.close();
        }
      }
      return {
        workload: 'idle-streams',
        about: `${String(STREAMS)} event streams over TLS in which nothing happens, ${String(SETTLE_MS / 1000)} s after the last was opened`,
        columns: [
          { key: 'each', title: 'KB a stream', digits: 1 },
          { key: 'all', title: 'MB in all', digits: 0 },
        ],
        rows,
      };
    }),
};
