/** Measuring in turns: the machine has slow and quick moments, so only what stands beside each other is compared. */
import { median } from './load.js';
import type { Guard, Peer } from './peers/peer.js';
import { has } from './program.js';
import type { Setting } from './setting.js';
import type { Row, Table } from './table.js';

export interface Bench {
  readonly setting: Setting;
  readonly rounds: number;
  readonly seconds: number;
  /** Of those that a workload has, the ones to be measured; null: all. */
  readonly only: ReadonlySet<string> | null;
  /** On a terminal: what is going on. */
  progress(text: string): void;
}

export interface Workload {
  readonly name: string;
  run(bench: Bench): Promise<Table>;
}

/** One thing measured once: figures by column, and how often it was done. */
export interface Turn {
  /** What the CPU time is divided by. */
  readonly units: number;
  /** Where only a part of what was done counts: the CPU time of that part, in microseconds. */
  readonly cpu?: number;
  readonly figures?: Readonly<Record<string, number>>;
}

export interface Started {
  readonly peer: Peer;
  readonly guard: Guard;
}

/** Those that are installed here. */
export function installed(peers: readonly Peer[]): Peer[] {
  return peers.filter(({ package: name }) => name === null || has(name));
}

export async function withPeers<T>(
  bench: Bench,
  peers: readonly Peer[],
  act: (started: readonly Started[]) => Promise<T>,
): Promise<T> {
  const started: Started[] = [];
  try {
    for (const peer of installed(peers)) {
      if (bench.only?.has(peer.name) === false) continue;
      bench.progress(`starting ${peer.name}`);
      started.push({ peer, guard: await peer.start(bench.setting) });
    }
    return await act(started);
  } finally {
    await Promise.all(started.map(({ guard }) => guard.running?.stop() ?? Promise.resolve()));
  }
}

export interface Turns {
  /** Not counted: compilers take some tens of thousands of requests to settle. */
  readonly warmUp: number;
  /** The CPU time of a unit, and the figures of `act`, as the medians of all rounds. */
  readonly unit: string;
  /** The name of a figure: `times` is then that figure to the first's, of the same round. */
  readonly compared?: string;
}

/**
 * `to`: the share of the first's CPU time in this one's, of the same round.
 * @param act does something once and says how often
 */
export async function inTurns(
  bench: Bench,
  started: readonly Started[],
  { warmUp, unit, compared }: Turns,
  act: (guard: Guard, started: Started) => Promise<Turn>,
): Promise<Row[]> {
  const all = started.map(({ peer }) => ({ name: peer.name, cpu: [] as number[], figures: [] as Turn['figures'][] }));
  for (let round = 1 - warmUp; round <= bench.rounds; round += 1) {
    // There and back: whoever goes first meets another machine than whoever goes last.
    const order = [...started.entries()];
    for (const [index, one] of round % 2 === 0 ? order.reverse() : order) {
      bench.progress(
        `${round < 1 ? 'warming up' : `round ${String(round)} of ${String(bench.rounds)}`}: ${one.peer.name}`,
      );
      const before = one.guard.running?.cpu() ?? Number.NaN;
      const { units, cpu, figures } = await act(one.guard, one);
      const after = one.guard.running?.cpu() ?? Number.NaN;
      if (round < 1) continue;
      all[index]?.cpu.push((cpu ?? after - before) / units);
      all[index]?.figures.push(figures ?? {});
    }
  }
  const first = all[0];
  return all.map(({ name, cpu, figures }) => {
    const cells: Record<string, number> = { [unit]: median(cpu) };
    for (const key of Object.keys(figures[0] ?? {})) {
      cells[key] = median(figures.map((one) => one?.[key] ?? Number.NaN));
    }
    if (first !== undefined && first.name !== name)
      cells['share'] = median(cpu.map((one, round) => (first.cpu[round] ?? Number.NaN) / one));
    if (first !== undefined && first.name !== name && compared !== undefined)
      cells['times'] = median(
        figures.map((one, round) => (one?.[compared] ?? Number.NaN) / (first.figures[round]?.[compared] ?? Number.NaN)),
      );
    return { name, cells };
  });
}
