import { http2Load } from '../load.js';
import { caddy } from '../peers/caddy.js';
import { jwt, plain } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import { nginx } from '../peers/nginx.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const CONNECTIONS = 4;
const STREAMS = 32;

export const http2: Workload = {
  name: 'http2',
  run: (bench) =>
    withPeers(bench, [plain, jwt, nginx, haproxy, caddy], async (started) => ({
      workload: 'http2',
      about: `small JSON, TLS 1.3, HTTP/2, ${String(CONNECTIONS)} connections with ${String(STREAMS)} streams each`,
      columns: [
        { key: 'rate', title: 'requests/s', digits: 0 },
        { key: 'cpu', title: 'CPU µs/request', digits: 1 },
        { key: 'share', title: 'guardbee to it', digits: 2 },
      ],
      rows: await inTurns(bench, started, { warmUp: 3, unit: 'cpu' }, async (guard) => {
        const { requests, perSecond } = await http2Load(guard, {
          path: '/v1/jobs/job-1',
          seconds: bench.seconds,
          connections: CONNECTIONS,
          streams: STREAMS,
        });
        return { units: requests, figures: { rate: perSecond } };
      }),
    })),
};
