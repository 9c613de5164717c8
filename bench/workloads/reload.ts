import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { median } from '../load.js';
import { guardbee, plain } from '../peers/guardbee.js';
import { beside } from '../program.js';
import { type Workload, withPeers } from '../rounds.js';
import type { Row } from '../table.js';

const many = guardbee({
  name: 'guardbee, 10,000 tokens',
  tokens: Array.from({ length: 10_000 }, (_, index) =>
    createHash('sha256')
      .update(`reload-${String(index)}`)
      .digest('base64url'),
  ),
});

export const reloading: Workload = {
  name: 'reload',
  run: (bench) =>
    withPeers(bench, [plain, many], async (started) => {
      const rows: Row[] = [];
      for (const { peer, guard } of started) {
        const took: number[] = [];
        const cpu: number[] = [];
        for (let round = 1; round <= bench.rounds; round += 1) {
          bench.progress(`reload ${String(round)} of ${String(bench.rounds)}: ${peer.name}`);
          const before = guard.running?.cpu() ?? Number.NaN;
          const began = performance.now();
          const child = spawn(
            process.execPath,
            [beside('../src/cli/guardbee.js'), 'reload', '--policy', guard.policy ?? ''],
            { stdio: 'ignore' },
          );
          const [code] = (await once(child, 'exit')) as [number | null];
          if (code !== 0) throw new Error(`reload ended with ${String(code)}`);
          took.push(performance.now() - began);
          cpu.push(((guard.running?.cpu() ?? Number.NaN) - before) / 1000);
        }
        rows.push({ name: peer.name, cells: { took: median(took), cpu: median(cpu) } });
      }
      return {
        workload: 'reload',
        about: 'guardbee reload, from the start of the command until it has said that the new policy is in force',
        columns: [
          { key: 'took', title: 'ms', digits: 0 },
          { key: 'cpu', title: 'CPU ms, sidecar', digits: 0 },
        ],
        rows,
      };
    }),
};
