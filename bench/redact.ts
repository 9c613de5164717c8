/**
 * `npm run bench -- redact [MB]`: `guardbee redact` over a log of services, 1024 MB where nothing else is said, through
 * pipes on both sides: CPU time (user and system) and wall time for each megabyte, memory at most, and whether all lines
 * came out, in their order. Without a policy, and with one that knows a token.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256Hex } from '../src/secret/digest.js';
import { logChunks } from './log-lines.js';

const MEGABYTE = 1 << 20;
/** Made once, and written again and again: making lines costs more than redacting them. */
const ROUND = 32;
const megabytes = Number(process.argv[3] ?? 1024);
const GUARDBEE = fileURLToPath(new URL('../src/cli/guardbee.js', import.meta.url));

interface Figures {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakMegabytes: number;
  readonly linesIn: number;
  readonly linesOut: number;
  readonly inOrder: boolean;
}

/**
 * @param round a file with whole lines, read `times` times. What a shell's `|` makes is used on both sides: where a
 *   program is started with `stdio: 'pipe'`, Node makes sockets, which cost more than pipes.
 */
async function measure(args: readonly string[], round: string, times: number): Promise<Figures> {
  const [into, outOf] = [`${round}.in`, `${round}.out`];
  execFileSync('mkfifo', ['-m', '600', into, outOf]);
  const filter = spawn(
    'sh',
    ['-c', 'exec <"$0" >"$1"; shift; exec "$@"', into, outOf, process.execPath, GUARDBEE, 'redact', ...args],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const began = performance.now();
  const exited = once(filter, 'exit');
  let cpu = 0;
  let peak = 0;
  const look = (): void => {
    try {
      const stat = readFileSync(`/proc/${String(filter.pid)}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      cpu = Math.max(cpu, (Number(stat[11]) + Number(stat[12])) / 100);
      const status = readFileSync(`/proc/${String(filter.pid)}/status`, 'utf8');
      peak = Math.max(peak, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // It has ended.
    }
  };
  const feeder = spawn('sh', ['-c', 'exec >"$0"; exec cat "$@"', into, ...Array<string>(times).fill(round)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const fed = once(feeder, 'exit');
  let linesOut = 0;
  let inOrder = true;
  let last = -1;
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(outOf) as AsyncIterable<Buffer>) {
    const bytes = Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, from)) {
      let number = 0;
      for (let at = from; bytes[at] !== 0x20 && at < end; at++) number = number * 10 + (bytes[at] ?? 0) - 0x30;
      inOrder &&= number === last + 1 || number === 0;
      last = number;
      linesOut++;
      from = end + 1;
    }
    rest = bytes.subarray(from);
    look();
  }
  await fed;
  await exited;
  rmSync(into);
  rmSync(outOf);
  const linesIn = readFileSync(round).filter((byte) => byte === 0x0a).length * times;
  return {
    cpuSeconds: cpu,
    wallSeconds: (performance.now() - began) / 1000,
    peakMegabytes: peak,
    linesIn,
    linesOut,
    inOrder,
  };
}

const dir = mkdtempSync(join(tmpdir(), 'guardbee-bench-'));
try {
  const policy = join(dir, 'policy.yaml');
  writeFileSync(
    policy,
    `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    upstream: http://127.0.0.1:17833
    authenticate: [keys]
    routes: [{ name: rest, path: /**, require: access }]
authenticators: { keys: { type: bearer, tokens: [{ name: bench, roles: [user], sha256: ${sha256Hex('a-token-of-the-bench')} }] } }
roles: { user: [access] }
`,
  );
  const lines = Buffer.concat([...logChunks(ROUND * MEGABYTE)]);
  const round = join(dir, 'lines.log');
  writeFileSync(round, lines);
  const times = Math.max(1, Math.round((megabytes * MEGABYTE) / lines.length));
  const total = (lines.length * times) / MEGABYTE;
  for (const [name, args] of [
    ['without a policy', []],
    ['with a policy', ['--policy', policy]],
  ] as const) {
    const { cpuSeconds, wallSeconds, peakMegabytes, linesIn, linesOut, inOrder } = await measure(args, round, times);
    process.stdout.write(
      `redact ${name}: ${total.toFixed(0)} MB, ${(total / cpuSeconds).toFixed(0)} MB a second of CPU, ` +
        `${(total / wallSeconds).toFixed(0)} MB/s by the clock, ${peakMegabytes.toFixed(0)} MB of memory at most, ` +
        `${String(linesOut)} of ${String(linesIn)} lines${inOrder ? ', in order' : ', OUT OF ORDER'}\n`,
    );
    if (linesOut !== linesIn || !inOrder) process.exitCode = 1;
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
