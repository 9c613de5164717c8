import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { closedLoad, pacedLoad } from '../load.js';
import { bareNode } from '../peers/bare-node.js';
import { caddy } from '../peers/caddy.js';
import { direct } from '../peers/direct.js';
import { guardbee, jwt, plain } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import { httpProxy } from '../peers/http-proxy.js';
import { nginx } from '../peers/nginx.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const CONNECTIONS = 32;
const PER_SECOND = 1_000;
const PATH = '/v1/jobs/job-1';

const audited = guardbee({ name: 'guardbee, audit', more: 'audit: { on_failure: deny }\n' });
const judging = guardbee({
  name: 'guardbee, rules',
  routes: `      - name: judged
        path: /v1/judged
        methods: [POST]
        body: { json: { field: operation, require_by_value: { status: access, infer: access } } }
`,
});

/** The first line is what the others are compared with. */
export const json: Workload = {
  name: 'json',
  run: (bench) =>
    withPeers(
      bench,
      [plain, audited, jwt, judging, direct, bareNode, httpProxy, nginx, haproxy, caddy],
      async (started) => {
        const rows = await inTurns(bench, started, { warmUp: 3, unit: 'cpu' }, async (guard) => {
          const { requests, perSecond } = await closedLoad(guard, {
            path: PATH,
            seconds: bench.seconds,
            connections: CONNECTIONS,
          });
          return { units: requests, figures: { rate: perSecond } };
        });
        // At a pace that leaves all of them time, what a request takes is not how busy they are.
        const paced = await inTurns(bench, started, { warmUp: 0, unit: 'cpu' }, async (guard) => {
          const seconds = bench.seconds + 1;
          const { p50, p99 } = await pacedLoad(guard, {
            path: PATH,
            seconds,
            connections: CONNECTIONS,
            perSecond: PER_SECOND,
            dir: bench.setting.dir,
          });
          return { units: PER_SECOND * seconds, figures: { p50, p99 } };
        });
        return {
          workload: 'json',
          about: `small JSON, TLS 1.3, HTTP/1.1 keep-alive, ${String(CONNECTIONS)} connections, the same request again; p50 and p99 at ${String(PER_SECOND)} requests a second`,
          columns: [
            { key: 'rate', title: 'requests/s', digits: 0 },
            { key: 'cpu', title: 'CPU µs/request', digits: 1 },
            { key: 'share', title: 'guardbee to it', digits: 2 },
            { key: 'p50', title: 'p50 ms', digits: 2 },
            { key: 'p99', title: 'p99 ms', digits: 2 },
          ],
          rows: rows.map((row, index) => {
            const { p50, p99 } = paced[index]?.cells ?? {};
            return { name: row.name, cells: { ...row.cells, p50, p99 } };
          }),
        };
      },
    ),
};

/** No head is that of the request before: what is kept of the last one is of less use, or of none. */
const CHANGES = [
  { about: 'another path', lua: `return wrk.format("GET", "/v1/jobs/job-" .. n)` },
  {
    about: 'another path and field',
    lua: `wrk.headers["traceparent"] = string.format("00-%032x-00f067aa0ba902b7-01", n)\n  return wrk.format("GET", "/v1/jobs/job-" .. n)`,
  },
] as const;

export const changing: Workload = {
  name: 'changing',
  run: (bench) =>
    withPeers(bench, [plain, jwt, bareNode, httpProxy, nginx, haproxy, caddy], async (started) => {
      const rows = [];
      for (const [index, { about, lua }] of CHANGES.entries()) {
        const script = join(bench.setting.dir, `changing-${String(index)}.lua`);
        writeFileSync(script, `local n = 0\nrequest = function()\n  n = n + 1\n  ${lua}\nend\n`);
        const measured = await inTurns(bench, started, { warmUp: 2, unit: 'cpu' }, async (guard) => {
          const { requests, perSecond } = await closedLoad(guard, {
            path: PATH,
            seconds: bench.seconds,
            connections: CONNECTIONS,
            script,
          });
          return { units: requests, figures: { rate: perSecond } };
        });
        rows.push(...measured.map(({ name, cells }) => ({ name: `${name}, ${about}`, cells })));
      }
      return {
        workload: 'changing',
        about: `small JSON as above, each request another: by its path, or by its path and a field (traceparent)`,
        columns: [
          { key: 'rate', title: 'requests/s', digits: 0 },
          { key: 'cpu', title: 'CPU µs/request', digits: 1 },
          { key: 'share', title: 'guardbee to it', digits: 2 },
        ],
        rows,
      };
    }),
};
