import { closedLoad, turnedAway } from '../load.js';
import { guardbee } from '../peers/guardbee.js';
import type { Guard } from '../peers/peer.js';
import { type Turn, type Workload, inTurns, withPeers } from '../rounds.js';

const CONNECTIONS = 32;

/** What a refusal costs, and not how late it comes. */
const unslowed = guardbee({ name: 'guardbee', listener: '    throttle: off\n' });
const elsewhere = guardbee({ name: 'guardbee, for others', listener: '    throttle: off\n', deniesLoad: true });

export const refusals: Workload = {
  name: 'refusals',
  run: (bench) =>
    withPeers({ ...bench, only: null }, [unslowed, elsewhere], async ([open, closed]) => {
      if (open === undefined || closed === undefined) throw new TypeError('both have been started');
      const asked =
        (path: string, refused: boolean) =>
        async (guard: Guard): Promise<Turn> => {
          const { seconds } = bench;
          const { requests, perSecond } = await closedLoad(guard, { path, seconds, connections: CONNECTIONS, refused });
          return { units: requests, figures: { rate: perSecond } };
        };
      const unknown = { ...open.guard, credential: `${open.guard.credential}x` };
      const acts = new Map<string, { readonly guard: Guard; readonly act: (guard: Guard) => Promise<Turn> }>([
        ['accepted', { guard: open.guard, act: asked('/v1/jobs/job-1', false) }],
        ['denied route', { guard: open.guard, act: asked('/dev/secret', true) }],
        ['no such token', { guard: unknown, act: asked('/v1/jobs/job-1', true) }],
        [
          'address, before TLS',
          {
            guard: closed.guard,
            act: async (guard) => {
              const { requests, perSecond } = await turnedAway(guard, {
                seconds: bench.seconds,
                connections: CONNECTIONS,
              });
              return { units: requests, figures: { rate: perSecond } };
            },
          },
        ],
      ]);
      const each = [...acts].map(([name, { guard }]) => ({ peer: { ...unslowed, name }, guard }));
      return {
        workload: 'refusals',
        about: 'what guardbee spends on what it refuses, and how many refusals cost what one accepted request does',
        columns: [
          { key: 'rate', title: 'a second', digits: 0 },
          { key: 'cpu', title: 'CPU µs each', digits: 1 },
          { key: 'share', title: 'for one request', digits: 1 },
        ],
        rows: await inTurns(bench, each, { warmUp: 2, unit: 'cpu' }, async (guard, { peer }) => {
          const kind = acts.get(peer.name);
          if (kind === undefined) throw new TypeError('each has been listed');
          return await kind.act(guard);
        }),
      };
    }),
};
