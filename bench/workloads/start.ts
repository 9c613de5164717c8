import { request } from 'node:https';
import { setTimeout as wait } from 'node:timers/promises';
import { median } from '../load.js';
import { plain } from '../peers/guardbee.js';
import type { Guard } from '../peers/peer.js';
import type { Workload } from '../rounds.js';

/** Memory of the start is given back some seconds later; idle is what stays. */
const IDLE_MS = 20_000;

function ask(guard: Guard): Promise<void> {
  return new Promise((resolve, reject) => {
    request(`${guard.url}/v1/jobs/job-1`, {
      rejectUnauthorized: false,
      agent: false,
      headers: { authorization: `Bearer ${guard.credential}` },
    })
      .on('response', (response) => {
        response.resume();
        if (response.statusCode === 200) response.once('end', resolve);
        else reject(new Error(`answered ${String(response.statusCode)}`));
      })
      .on('error', reject)
      .end();
  });
}

export const starting: Workload = {
  name: 'start',
  run: async (bench) => {
    const answered: number[] = [];
    const cpu: number[] = [];
    let idle = Number.NaN;
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`start ${String(round)} of ${String(bench.rounds)}`);
      const began = performance.now();
      const guard = await plain.start(bench.setting);
      try {
        await ask(guard);
        answered.push(performance.now() - began);
        cpu.push((guard.running?.cpu() ?? Number.NaN) / 1000);
        if (round < bench.rounds) continue;
        await wait(IDLE_MS);
        idle = (guard.running?.residentKilobytes() ?? Number.NaN) / 1024;
      } finally {
        await guard.running?.stop();
      }
    }
    return {
      workload: 'start',
      about: `from the start of the program until its first request was answered; memory after ${String(IDLE_MS / 1000)} s without any`,
      columns: [
        { key: 'answered', title: 'ms', digits: 0 },
        { key: 'best', title: 'best, ms', digits: 0 },
        { key: 'cpu', title: 'CPU ms', digits: 0 },
        { key: 'idle', title: 'idle MB', digits: 1 },
      ],
      rows: [
        {
          name: 'guardbee',
          cells: { answered: median(answered), best: Math.min(...answered), cpu: median(cpu), idle },
        },
      ],
    };
  },
};
