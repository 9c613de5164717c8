import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { closedLoad } from '../load.js';
import { answers } from '../peers/nginx.js';
import { type Terms, guardbee } from '../peers/guardbee.js';
import type { Peer } from '../peers/peer.js';
import { CORES, type Running, beside, cpuMicroseconds, freePort, has, start } from '../program.js';
import { type Bench, type Workload, inTurns, withPeers } from '../rounds.js';
import type { Row } from '../table.js';

const DOCUMENTS = 3_000;
/** Half of them for each of two workers: one is judged while the next ones come. */
const CONNECTIONS = 8;
const SMALL_CONNECTIONS = 32;

const checked = `      - name: batch
        path: /v1/batch
        methods: [POST]
        body:
          json:
            field: operation
            require_by_value: { import: access }
            check:
              /documents/*/id: { type: identifier }
              /documents/*/url: { type: url, schemes: [https], hosts: [files.example] }
`;

/** One process and two that differ in nothing else. */
const oneAndTwo = (about: string, terms: Omit<Terms, 'name'>): Peer[] => [
  guardbee({ ...terms, name: `one process, ${about}` }),
  guardbee({ ...terms, name: `two processes, ${about}`, more: 'processes: 2\n' }),
];

/** A list of which each element is read and checked by itself: much to judge for what there is to send. */
function batch(): string {
  const documents = Array.from({ length: DOCUMENTS }, (_, index) => ({
    id: `d${String(index)}`,
    url: `https://files.example/${String(index)}`,
  }));
  return JSON.stringify({ operation: 'import', documents });
}

/**
 * Reads a body and says little. nginx, which takes a quarter of what Node takes for it, where it is installed: the proxy
 * has both cores, so what the service takes is the proxy's loss.
 */
async function startService(dir: string): Promise<{ readonly url: string; readonly running: Running }> {
  if (!has('nginx')) {
    const node = await start({ command: [process.execPath, beside('./service.js')], core: null, until: /^\d+\n/ });
    return { url: `http://127.0.0.1:${node.said.trim()}`, running: node };
  }
  const port = await freePort();
  const file = join(dir, 'service.conf');
  const spools = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    file,
    `daemon off;
worker_processes 1;
pid ${dir}/service.pid;
error_log ${dir}/service.log crit;
events { worker_connections 1024; }
http {
${spools.map((name) => `  ${name}_temp_path ${dir}/service-${name};`).join('\n')}
  access_log off;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  server {
    listen 127.0.0.1:${String(port)};
    location / { default_type application/json; return 200 '{"status":"ok"}'; }
  }
}
`,
  );
  const running = await start({ command: ['nginx', '-p', dir, '-c', file], core: null, ready: () => answers(port) });
  return { url: `http://127.0.0.1:${String(port)}`, running };
}

/** Nothing is kept to a core: what is asked is what a second process makes of the second one. */
async function largeBodies(bench: Bench, bytes: string): Promise<Row[]> {
  const { dir } = bench.setting;
  const body = join(dir, 'batch.json');
  const script = join(dir, 'batch.lua');
  writeFileSync(body, bytes);
  writeFileSync(
    script,
    `local file = io.open("${body}", "rb")\nwrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = file:read("*a")\nfile:close()\n`,
  );
  const service = await startService(dir);
  const elsewhere: Bench = { ...bench, setting: { ...bench.setting, service: service.url } };
  const peers = oneAndTwo('large bodies on all cores', { routes: checked, core: null });
  try {
    return await withPeers(elsewhere, peers, (started) =>
      inTurns(bench, started, { warmUp: 2, unit: 'cpu', compared: 'rate' }, async ({ url, credential, running }) => {
        const spent = cpuByProcess(running);
        const spentAtService = service.running.cpu();
        const began = performance.now();
        const load = await closedLoad(
          { url, credential, running },
          { path: '/v1/batch', seconds: bench.seconds, connections: CONNECTIONS, script, core: null },
        );
        const tookMs = performance.now() - began;
        const inAll = service.running.cpu() - spentAtService + load.cpu;
        const { cpu, ...shares } = sharesOf(running, spent);
        return {
          units: load.requests,
          cpu,
          figures: {
            rate: load.perSecond,
            cores: cpu / (tookMs * 1000),
            ...shares,
            others: (100 * inAll) / cpu,
          },
        };
      }),
    );
  } finally {
    await service.running.stop();
  }
}

/** All processes on the proxy's core: the second one wins nothing there, and what it costs is what it adds to a request. */
async function smallRequests(bench: Bench): Promise<Row[]> {
  return await withPeers(bench, oneAndTwo('small JSON on one core', {}), (started) =>
    inTurns(bench, started, { warmUp: 3, unit: 'cpu', compared: 'rate' }, async (guard) => {
      const spent = cpuByProcess(guard.running);
      const { requests, perSecond } = await closedLoad(guard, {
        path: '/v1/jobs/job-1',
        seconds: bench.seconds,
        connections: SMALL_CONNECTIONS,
      });
      const { cpu, ...shares } = sharesOf(guard.running, spent);
      return { units: requests, cpu, figures: { rate: perSecond, ...shares } };
    }),
  );
}

function cpuByProcess(running: Running | null): ReadonlyMap<number, number> {
  return new Map(running?.pids().map((pid) => [pid, cpuMicroseconds(pid)]));
}

/**
 * What all processes took since, and how that is shared. Nothing says which worker had a request; requests are alike, so
 * that their time tells. The first process is the owner, where there are workers.
 */
function sharesOf(
  running: Running | null,
  before: ReadonlyMap<number, number>,
): { readonly cpu: number; readonly owner: number; readonly busier: number } {
  const took = [...cpuByProcess(running)].map(([pid, cpu]) => cpu - (before.get(pid) ?? 0));
  const [owner = 0, ...workers] = took;
  if (workers.length === 0) return { cpu: owner, owner: Number.NaN, busier: Number.NaN };
  const served = workers.reduce((sum, one) => sum + one, 0);
  const cpu = owner + served;
  return { cpu, owner: (100 * owner) / cpu, busier: (100 * Math.max(...workers)) / served };
}

/** What a second process wins where the first one has nothing to wait for, and what it costs where it wins nothing. */
export const processes: Workload = {
  name: 'processes',
  run: async (bench) => {
    const bytes = batch();
    const rows: Row[] =
      CORES < 2
        ? [{ name: 'not measured: it takes two cores, and here is one', cells: {} }]
        : [...(await largeBodies(bench, bytes)), ...(await smallRequests(bench))];
    return {
      workload: 'processes',
      about: `JSON bodies of ${String(Math.round(bytes.length / 1000))} kB that are judged, ${String(CONNECTIONS)} connections, nothing kept to a core; small JSON, ${String(SMALL_CONNECTIONS)} connections, the proxy on one core. Load and service in per cent of the proxy's CPU time`,
      columns: [
        { key: 'rate', title: 'requests/s', digits: 0 },
        { key: 'times', title: 'to one', digits: 2 },
        { key: 'cpu', title: 'CPU µs/request', digits: 0 },
        { key: 'cpuTimes', title: 'to one', digits: 2 },
        { key: 'cores', title: 'cores busy', digits: 2 },
        { key: 'busier', title: 'busier worker %', digits: 0 },
        { key: 'owner', title: 'owner %', digits: 1 },
        { key: 'others', title: 'load, service %', digits: 1 },
      ],
      rows: rows.map(({ name, cells }) => {
        const share = cells['share'];
        return { name, cells: { ...cells, cpuTimes: share === undefined ? undefined : 1 / share } };
      }),
    };
  },
};
