/**
 * `npm run bench`: what guardbee costs, next to a direct connection and to http-proxy, measured in one run. Nothing is
 * asserted here: figures of one machine at one time are read as ratios.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256Hex } from '../src/secret/digest.js';
import { ensureSelfSigned } from '../src/server/certificate.js';

/** Not counted: the compiler takes some tens of thousands of requests to settle. */
const WARM_UP = 3;
const ROUNDS = 6;
const SECONDS = 3;
const CONNECTIONS = 32;
const IDLE_MS = 12_000;

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const has = (command: string): boolean => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;

interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What it printed until `until` matched. */
  readonly said: string;
  readonly readyMs: number;
}

/** Starts a program and waits for what it says when it is ready. */
async function start(command: readonly string[], until: RegExp, core: number | null): Promise<Running> {
  const pinned = core !== null && has('taskset') ? ['taskset', '-c', String(core), ...command] : [...command];
  const began = performance.now();
  const child = spawn(pinned[0] ?? '', pinned.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    let said = '';
    child.once('exit', (code) => {
      reject(new Error(`${command.join(' ')} ended early (${String(code)}): ${said.slice(0, 400)}`));
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (until.test(said)) return;
      said += text;
      if (until.test(said)) resolve({ child, pid: child.pid ?? 0, said, readyMs: performance.now() - began });
    });
  });
}

/** User and system time of a process, in microseconds (proc(5): ticks of 10 ms). */
function cpuMicroseconds(pid: number): number {
  const fields = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

function residentMegabytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1];
  return Number(kilobytes) / 1024;
}

interface Load {
  readonly requests: number;
  readonly perSecond: number;
  /** Milliseconds that 99 of 100 requests took at most; NaN where the program that asks does not say. */
  readonly p99: number;
}

/** A body that is sent with each request: the file it is in, and the script that makes wrk send it. */
interface BodyFiles {
  readonly json: string;
  readonly lua: string;
}

async function load(url: string, token: string, body: BodyFiles | null): Promise<Load> {
  const fields = [
    '-H',
    `Authorization: Bearer ${token}`,
    ...(body === null ? [] : ['-H', 'Content-Type: application/json']),
  ];
  const command = has('wrk')
    ? [
        'wrk',
        '-t1',
        `-c${String(CONNECTIONS)}`,
        `-d${String(SECONDS)}`,
        '--latency',
        ...fields,
        ...(body === null ? [] : ['-s', body.lua]),
      ]
    : [
        'h2load',
        '--h1',
        '-t1',
        `-c${String(CONNECTIONS)}`,
        '-D',
        String(SECONDS),
        ...fields,
        ...(body === null ? [] : ['-d', body.json]),
      ];
  command.push(url);
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await new Promise((resolve) => child.once('close', resolve));
  const requests = Number(/(\d+) requests in|requests: (\d+) total/.exec(said)?.slice(1).find(Boolean) ?? 0);
  const bad = /Non-2xx or 3xx responses: (\d+)|(\d+) 4xx/.exec(said);
  if (requests === 0 || Number(bad?.slice(1).find(Boolean) ?? 0) > 0) throw new Error(`the load went wrong:\n${said}`);
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(said) ?? [];
  const ms = Number(p99) * (unit === 'us' ? 0.001 : unit === 's' ? 1000 : 1);
  return { requests, perSecond: requests / SECONDS, p99: ms };
}

/** 100 kB as a client of a model sends them: a conversation, and a few options. */
function writeBody(dir: string): BodyFiles {
  const files = { json: join(dir, 'body.json'), lua: join(dir, 'body.lua') };
  const messages = [];
  for (let length = 0; length < 100_000; length += 1_000) {
    messages.push({
      role: length % 2_000 === 0 ? 'user' : 'assistant',
      content: 'a line of text, ending\n'.repeat(41),
    });
  }
  writeFileSync(files.json, JSON.stringify({ operation: 'infer', model: 'llama', temperature: 0.7, messages }));
  writeFileSync(
    files.lua,
    `local file = io.open("${files.json}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n`,
  );
  return files;
}

/** A token of an issuer of its own, good for an hour, and the public key in PEM. */
function makeJwt(): { readonly jwt: string; readonly pem: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: 'bench', aud: 'bench', sub: 'bench', roles: ['user'], jti: 'bench', iat: now, exp: now + 3600 };
  const input = [{ alg: 'ES256' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return {
    jwt: `${input}.${signature.toString('base64url')}`,
    pem: publicKey.export({ type: 'spki', format: 'pem' }) as string,
  };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

async function main(): Promise<number> {
  if (!has('wrk') && !has('h2load')) {
    process.stderr.write('bench needs wrk or h2load (Debian packages wrk, nghttp2-client)\n');
    return 1;
  }
  const dir = mkdtempSync(join(tmpdir(), 'guardbee-bench-'));
  const running: Running[] = [];
  const keep = async (starting: Promise<Running>): Promise<Running> => {
    const one = await starting;
    one.child.removeAllListeners('exit');
    running.push(one);
    return one;
  };
  try {
    const token = `gbee_${randomBytes(32).toString('base64url')}`;
    const tls = await ensureSelfSigned(join(dir, 'tls'), ['localhost', '127.0.0.1']);
    const { jwt, pem } = makeJwt();
    writeFileSync(join(dir, 'jwt.pem'), pem, { mode: 0o600 });
    const node = process.execPath;
    const upstream = await keep(start([node, here('./upstream.js')], /^\d+\n/, 1));
    const upstreamPort = upstream.said.trim();
    const body = writeBody(dir);
    const policyWith = (name: string, routes: string, more = ''): string => {
      const policy = join(dir, `${name}.yaml`);
      writeFileSync(
        policy,
        `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    tls: { cert: ${tls.certFile}, key: ${tls.keyFile} }
    allow_from: [127.0.0.0/8, 10.0.0.0/8]
    upstream: http://127.0.0.1:${upstreamPort}
    authenticate: [keys, sso]
    routes:
      - { name: health, path: /health, methods: [GET], public: true }
      - { name: dev, path: /dev/**, deny: true }
${routes}      - { name: job, path: "/v1/jobs/{job_id}", methods: [GET], from: [127.0.0.1], require: access }
authenticators:
  keys: { type: bearer, tokens: [{ name: bench, roles: [user], sha256: ${sha256Hex(token)} }] }
  sso: { type: jwt, issuer: bench, audience: bench, public_key: { file: jwt.pem }, roles_from: roles }
roles: { user: [access] }
state: { dir: ${join(dir, name)} }
log: { file: ${join(dir, `${name}.log`)} }
${more}`,
        { mode: 0o600 },
      );
      return policy;
    };
    const started = (name: string, routes: string, more = ''): Promise<Running> =>
      keep(startGuardbee(node, policyWith(name, routes, more), join(dir, `${name}.log`)));
    const guardbee = await started('plain', '');
    const audited = await started('audited', '', 'audit: { on_failure: deny }\n');
    const judging = await started(
      'judging',
      `      - { name: passed, path: /v1/passed, methods: [POST], require: access }
      - name: judged
        path: /v1/judged
        methods: [POST]
        body:
          json:
            field: operation
            require_by_value: { status: access, infer: access }
            check: { model: { type: model_ref }, temperature: { type: range, min: 0, max: 2 }, /messages/*/content: { type: prompt } }
`,
    );
    const baseline = await keep(
      start(
        [
          node,
          here('./http-proxy-baseline.js'),
          tls.certFile,
          tls.keyFile,
          sha256Hex(token),
          `http://127.0.0.1:${upstreamPort}`,
        ],
        /^\d+\n/,
        0,
      ),
    );
    const path = '/v1/jobs/job-1';
    const rows = [
      { name: 'direct', url: `http://127.0.0.1:${upstreamPort}${path}`, pid: null, token, body: null },
      { name: 'guardbee', url: `${guardbee.said}${path}`, pid: guardbee.pid, token, body: null },
      { name: 'guardbee, audit', url: `${audited.said}${path}`, pid: audited.pid, token, body: null },
      { name: 'guardbee, JWT', url: `${guardbee.said}${path}`, pid: guardbee.pid, token: jwt, body: null },
      { name: 'guardbee, rules', url: `${judging.said}${path}`, pid: judging.pid, token, body: null },
      {
        name: 'http-proxy',
        url: `https://127.0.0.1:${baseline.said.trim()}${path}`,
        pid: baseline.pid,
        token,
        body: null,
      },
      { name: '100 kB passed', url: `${judging.said}/v1/passed`, pid: judging.pid, token, body },
      { name: '100 kB judged', url: `${judging.said}/v1/judged`, pid: judging.pid, token, body },
    ] as const;
    // Node gives memory back some seconds after a start; idle is what stays.
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const idle = residentMegabytes(guardbee.pid);
    const figures = new Map<string, Figures>(rows.map((row) => [row.name, { cpu: [], rate: [], p99: [] }]));
    for (let round = 1 - WARM_UP; round <= ROUNDS; round += 1) {
      for (const row of rows) {
        if (process.stderr.isTTY)
          process.stderr.write(
            `${round < 1 ? 'warming up' : `round ${String(round)} of ${String(ROUNDS)}`}: ${row.name}      \r`,
          );
        const before = row.pid === null ? 0 : cpuMicroseconds(row.pid);
        const { requests, perSecond, p99 } = await load(row.url, row.token, row.body);
        const after = row.pid === null ? 0 : cpuMicroseconds(row.pid);
        if (round < 1) continue;
        figures.get(row.name)?.rate.push(perSecond);
        figures.get(row.name)?.p99.push(p99);
        if (row.pid !== null) figures.get(row.name)?.cpu.push((after - before) / requests);
      }
    }
    report(figures, guardbee.readyMs, idle);
    return 0;
  } finally {
    for (const { child } of running) child.kill('SIGTERM');
    await Promise.all(
      running
        .filter(({ child }) => child.exitCode === null)
        .map(({ child }) => new Promise((resolve) => child.once('exit', resolve))),
    );
    rmSync(dir, { recursive: true, force: true });
  }
}

/** guardbee logs to a file in this run, so its address is read from there. */
async function startGuardbee(node: string, policy: string, logFile: string): Promise<Running> {
  const began = performance.now();
  const command = [node, here('../src/cli/guardbee.js'), 'run', '--policy', policy];
  const pinned = has('taskset') ? ['taskset', '-c', '0', ...command] : command;
  const child = spawn(pinned[0] ?? '', pinned.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
  for (;;) {
    if (child.exitCode !== null) throw new Error(`guardbee ended early (${String(child.exitCode)})`);
    const url = /"url\.full":"(https:[^"]+)"/.exec(readFileSync(logFile, { encoding: 'utf8', flag: 'a+' }))?.[1];
    if (url !== undefined) return { child, pid: child.pid ?? 0, said: url, readyMs: performance.now() - began };
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Of each round. */
interface Figures {
  readonly cpu: number[];
  readonly rate: number[];
  readonly p99: number[];
}

function report(figures: ReadonlyMap<string, Figures>, readyMs: number, idle: number): void {
  const of = (name: string): { cpu: number; rate: number } => ({
    cpu: median(figures.get(name)?.cpu ?? []),
    rate: median(figures.get(name)?.rate ?? []),
  });
  // The machine has slow and quick moments: what stands beside each other in one round is compared, not what does not.
  const ratio = (name: string, to: string): string => {
    const others = figures.get(to)?.cpu ?? [];
    return median((figures.get(name)?.cpu ?? []).map((one, round) => one / (others[round] ?? Number.NaN))).toFixed(2);
  };
  const later = (name: string, than: string): string => {
    const others = figures.get(than)?.p99 ?? [];
    return median((figures.get(name)?.p99 ?? []).map((one, round) => one - (others[round] ?? Number.NaN))).toFixed(2);
  };
  const line = (cells: readonly string[]): string =>
    cells.map((cell, index) => (index === 0 ? cell.padEnd(16) : cell.padStart(16))).join('');
  const out = [
    `TLS 1.3, HTTP/1.1 keep-alive, small JSON, ${String(CONNECTIONS)} connections, proxy on one core, load and service on the other;`,
    `medians of ${String(ROUNDS)} rounds of ${String(SECONDS)} s in turn. guardbee: token, CIDR, routes, access log to a file, metrics.`,
    'guardbee, audit: the same with an audit trail on the disk that the files of this run are on.',
    'guardbee, JWT: the same with an ES256 token seen before, asking each time whether it was revoked.',
    'guardbee, rules: the same request where other routes of the policy judge bodies. 100 kB: a JSON body, streamed through',
    'or held, judged and sent on. http-proxy 1.18.1: the same token check, nothing else. direct: no TLS, no checks.',
    '',
    line(['', 'requests/s', 'CPU µs/request', 'to http-proxy']),
  ];
  for (const name of figures.keys()) {
    const { cpu, rate } = of(name);
    out.push(
      line([
        name,
        rate.toFixed(0),
        Number.isNaN(cpu) ? '-' : cpu.toFixed(1),
        Number.isNaN(cpu) ? '-' : ratio(name, 'http-proxy'),
      ]),
    );
  }
  out.push(
    '',
    `to guardbee: audit ${ratio('guardbee, audit', 'guardbee')} (p99 ${later('guardbee, audit', 'guardbee')} ms later), JWT ${ratio('guardbee, JWT', 'guardbee')}, rules ${ratio('guardbee, rules', 'guardbee')} · ` +
      `judging 100 kB: ${((of('100 kB judged').cpu - of('100 kB passed').cpu) / 1_000).toFixed(2)} ms of CPU`,
    `guardbee start-up to listening: ${readyMs.toFixed(0)} ms · RSS after ${String(IDLE_MS / 1000)} s idle: ${idle.toFixed(1)} MB`,
    '',
  );
  process.stdout.write(out.join('\n'));
}

process.exitCode = await main();
