import { connect } from 'node:net';
import { closedLoad } from '../load.js';
import { guardbee } from '../peers/guardbee.js';
import type { Guard } from '../peers/peer.js';
import { type Started, type Turn, type Workload, inTurns, withPeers } from '../rounds.js';
import type { Row } from '../table.js';

const CONNECTIONS = 32;
const AT_ONCE = 16;

/** Connections from an address that is not let in, until each has been closed. */
async function turnedAway(guard: Guard, seconds: number): Promise<number> {
  const port = Number(new URL(guard.url).port);
  const until = performance.now() + seconds * 1000;
  let count = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (performance.now() < until) {
        await new Promise<void>((resolve) => {
          const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.9' });
          socket.on('error', () => undefined);
          socket.once('close', () => {
            resolve();
          });
          socket.resume();
        });
        count += 1;
      }
    }),
  );
  return count;
}

/** What a refusal costs, and not how late it comes. */
const unslowed = guardbee({ name: 'guardbee', listener: '    throttle: off\n' });

export const refusals: Workload = {
  name: 'refusals',
  run: (bench) =>
    withPeers(bench, [unslowed], async (started) => {
      const measured = async (name: string, act: (guard: Guard, started: Started) => Promise<Turn>): Promise<Row> => {
        const [row] = await inTurns(bench, started, { warmUp: 2, unit: 'cpu' }, act);
        return { name, cells: row?.cells ?? {} };
      };
      const asked = async (guard: Guard, path: string, refused: boolean): Promise<Turn> => {
        const { seconds } = bench;
        const { requests, perSecond } = await closedLoad(guard, { path, seconds, connections: CONNECTIONS, refused });
        return { units: requests, figures: { rate: perSecond } };
      };
      const rows = [
        await measured('accepted', (guard) => asked(guard, '/v1/jobs/job-1', false)),
        await measured('denied route', (guard) => asked(guard, '/dev/secret', true)),
        await measured('no such token', (guard) =>
          asked({ ...guard, credential: `${guard.credential}x` }, '/v1/jobs/job-1', true),
        ),
        await measured('address, before TLS', async (guard) => {
          const count = await turnedAway(guard, bench.seconds);
          return { units: count, figures: { rate: count / bench.seconds } };
        }),
      ];
      const accepted = rows[0]?.cells['cpu'] ?? Number.NaN;
      return {
        workload: 'refusals',
        about: 'what guardbee spends on what it refuses, and how many refusals cost what one accepted request does',
        columns: [
          { key: 'rate', title: 'a second', digits: 0 },
          { key: 'cpu', title: 'CPU µs each', digits: 1 },
          { key: 'times', title: 'for one request', digits: 1 },
        ],
        rows: rows.map(({ name, cells }) => ({
          name,
          cells: { ...cells, times: accepted / (cells['cpu'] ?? Number.NaN) },
        })),
      };
    }),
};
