import { createHash } from 'node:crypto';
import { closedLoad } from '../load.js';
import { guardbee } from '../peers/guardbee.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const MANY = 10_000;
const MANY_ROUTES = 1_000;

const few = guardbee({ name: 'guardbee, 10 of each' });
const large = guardbee({
  name: 'guardbee, 10,000 of each',
  // Apart from each other, so that no two become one.
  networks: Array.from({ length: MANY }, (_, i) => `11.${String(i >> 8)}.${String(i & 0xff)}.16/28`),
  tokens: Array.from({ length: MANY }, (_, i) => `gbee_${createHash('sha256').update(String(i)).digest('base64url')}`),
  routes: Array.from(
    { length: MANY_ROUTES },
    (_, i) => `      - { name: r${String(i)}, path: "/v1/r${String(i)}/{id}", methods: [GET], require: access }\n`,
  ).join(''),
});

export const policySize: Workload = {
  name: 'policy-size',
  run: (bench) =>
    withPeers(bench, [few, large], async (started) => {
      const rows = await inTurns(bench, started, { warmUp: 3, unit: 'cpu' }, async (guard) => {
        const { requests, perSecond } = await closedLoad(guard, {
          path: '/v1/jobs/job-1',
          seconds: bench.seconds,
          connections: 32,
        });
        return { units: requests, figures: { rate: perSecond } };
      });
      return {
        workload: 'policy-size',
        about: `the same request where the policy has a few networks, tokens and routes, and ${MANY.toLocaleString('en')} networks and tokens and ${MANY_ROUTES.toLocaleString('en')} routes`,
        columns: [
          { key: 'cpu', title: 'CPU µs/request', digits: 1 },
          { key: 'times', title: 'to few', digits: 2 },
          { key: 'start', title: 'start ms', digits: 0 },
          { key: 'memory', title: 'memory MB', digits: 0 },
        ],
        rows: rows.map((row, index) => {
          const running = started[index]?.guard.running;
          const share = row.cells['share'];
          return {
            name: row.name,
            cells: {
              ...row.cells,
              times: share === undefined ? undefined : 1 / share,
              start: running?.readyMs,
              memory: (running?.residentKilobytes() ?? Number.NaN) / 1024,
            },
          };
        }),
      };
    }),
};
