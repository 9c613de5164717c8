/**
 * `npm run bench`: what guardbee costs next to what people would use instead, measured in one run. Nothing is asserted
 * here: figures of one machine at one time are read as ratios.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { LOAD_CORE, endAll, has } from './program.js';
import type { Bench, Workload } from './rounds.js';
import { prepare } from './setting.js';
import { type Table, medians, tableText } from './table.js';
import { bodies } from './workloads/bodies.js';
import { handshakes } from './workloads/handshakes.js';
import { http2 } from './workloads/http2.js';
import { idleStreams } from './workloads/idle-streams.js';
import { changing, json } from './workloads/json.js';
import { judged } from './workloads/judged.js';
import { jwtFirst } from './workloads/jwt-first.js';
import { policySize } from './workloads/policy-size.js';
import { processes } from './workloads/processes.js';
import { refusals } from './workloads/refusals.js';
import { reloading } from './workloads/reload.js';
import { sse } from './workloads/sse.js';
import { starting } from './workloads/start.js';
import { websocket } from './workloads/websocket.js';

const WORKLOADS: readonly Workload[] = [
  ...[json, changing, http2, handshakes, bodies, sse, websocket, idleStreams],
  ...[jwtFirst, judged, refusals, policySize, processes, starting, reloading],
];

const USAGE = `usage: npm run bench [-- [WORKLOAD…] [--only NAME]… [--starts N] [--rounds N] [--seconds N] [--json FILE]]
       npm run bench -- redact [MB]
workloads: ${WORKLOADS.map(({ name }) => name).join(' ')}
`;

async function main(args: readonly string[]): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        starts: { type: 'string', default: '1' },
        rounds: { type: 'string', default: '6' },
        seconds: { type: 'string', default: '3' },
        json: { type: 'string' },
        only: { type: 'string', multiple: true },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch {
    process.stderr.write(USAGE);
    return 2;
  }
  const { values, positionals } = parsed;
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const starts = Number(values.starts);
  const rounds = Number(values.rounds);
  const seconds = Number(values.seconds);
  const chosen = positionals.length === 0 ? WORKLOADS : WORKLOADS.filter(({ name }) => positionals.includes(name));
  const known = positionals.every((name) => WORKLOADS.some((workload) => workload.name === name));
  if (!known || !isCount(starts) || !isCount(rounds) || !isCount(seconds)) {
    process.stderr.write(USAGE);
    return 2;
  }
  const missing = ['wrk', 'h2load', 'curl'].filter((command) => !has(command));
  if (missing.length > 0) {
    process.stderr.write(`bench needs ${missing.join(', ')} (Debian packages wrk, nghttp2-client, curl)\n`);
    return 1;
  }
  // What clients this process plays itself must not take the proxy's core.
  if (has('taskset')) spawnSync('taskset', ['-apc', String(LOAD_CORE), String(process.pid)]);
  const setting = await prepare();
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interruption.abort();
      void endAll()
        .then(() => setting.stop())
        .finally(() => process.exit(130));
    });
  }
  const tables: Table[] = [];
  try {
    process.stdout.write(
      `${cpus()[0]?.model ?? 'unknown processor'}, ${String(cpus().length)} cores, Node ${process.version}; the proxy on one, load and service on another; medians of ${starts > 1 ? `${String(starts)} starts of ` : ''}${String(rounds)} rounds in turn.\nnot installed: ${
        ['nginx', 'haproxy', 'caddy'].filter((name) => !has(name)).join(', ') || 'none'
      }\n\n`,
    );
    for (const workload of chosen) {
      const bench: Bench = {
        setting,
        rounds,
        seconds,
        only: values.only === undefined ? null : new Set(values.only),
        progress: (text) => {
          if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${workload.name}: ${text}`);
        },
      };
      const found = [await workload.run(bench)];
      while (found.length < starts) found.push(await workload.run(bench));
      const table = medians(found);
      if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
      tables.push(table);
      process.stdout.write(tableText(table));
    }
    if (values.json !== undefined) {
      const about = { node: process.version, processor: cpus()[0]?.model ?? null, starts, rounds, seconds };
      writeFileSync(values.json, `${JSON.stringify({ ...about, tables }, null, 2)}\n`);
    }
    return 0;
  } catch (error) {
    if (!interruption.signal.aborted)
      process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    await setting.stop();
  }
}

const isCount = (value: number): boolean => Number.isInteger(value) && value >= 1 && value <= 1000;

process.exitCode = await main(process.argv.slice(2));
