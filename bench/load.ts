/** Load from wrk and h2load, on the core that the proxy is not on, where nothing else is said. */
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Guard } from './peers/peer.js';
import { LOAD_CORE, endedCpuMicroseconds, onCore } from './program.js';

export interface Load {
  readonly requests: number;
  readonly perSecond: number;
}

/** Milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
}

async function output(command: readonly string[], core: number | null = LOAD_CORE): Promise<string> {
  const pinned = onCore(core, command);
  const child = spawn(pinned[0] ?? '', pinned.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
  return said;
}

const bearer = ({ credential }: Guard): string[] => ['-H', `Authorization: Bearer ${credential}`];

export interface WrkOptions {
  readonly path: string;
  readonly seconds: number;
  readonly connections: number;
  /** A script for wrk that says what is sent. */
  readonly script?: string;
  /** Every answer is a refusal: what is measured is what those cost. */
  readonly refused?: boolean;
  /** Null: any. */
  readonly core?: number | null;
}

export interface WrkLoad extends Load {
  /** What wrk itself took, in microseconds. */
  readonly cpu: number;
}

/** As many requests as go through, HTTP/1.1, each connection one at a time. */
export async function closedLoad(guard: Guard, options: WrkOptions): Promise<WrkLoad> {
  const { path, seconds, connections, script, refused = false, core = LOAD_CORE } = options;
  const before = endedCpuMicroseconds();
  const said = await output(
    [
      'wrk',
      '-t1',
      `-c${String(connections)}`,
      `-d${String(seconds)}`,
      ...bearer(guard),
      ...(script === undefined ? [] : ['-s', script]),
      `${guard.url}${path}`,
    ],
    core,
  );
  const requests = Number(/(\d+) requests in/.exec(said)?.[1] ?? 0);
  const others = Number(/Non-2xx or 3xx responses: (\d+)/.exec(said)?.[1] ?? 0);
  if (requests === 0 || others !== (refused ? requests : 0) || said.includes('Socket errors'))
    throw new Error(`the load went wrong:\n${said}`);
  return { requests, perSecond: requests / seconds, cpu: endedCpuMicroseconds() - before };
}

/** Connections, as many as are closed, by a server that lets none of them in. */
export async function turnedAway(
  { url }: Guard,
  { seconds, connections }: Pick<WrkOptions, 'seconds' | 'connections'>,
): Promise<Load> {
  // It has nothing to say before TLS, so the load need not speak TLS either.
  const plain = url.replace('https:', 'http:');
  const said = await output(['wrk', '-t1', `-c${String(connections)}`, `-d${String(seconds)}`, plain]);
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+)/.exec(said)?.slice(1) ?? [];
  const closed = errors.reduce((sum, count) => sum + Number(count), 0);
  if (closed === 0 || !said.includes(' 0 requests in')) throw new Error(`somebody was let in:\n${said}`);
  return { requests: closed, perSecond: closed / seconds };
}

/** The same over HTTP/2, `streams` at a time on each connection. */
export async function http2Load(
  guard: Guard,
  { path, seconds, connections, streams }: WrkOptions & { readonly streams: number },
): Promise<Load> {
  const said = await output([
    'h2load',
    `-c${String(connections)}`,
    `-m${String(streams)}`,
    '-D',
    String(seconds),
    ...bearer(guard),
    `${guard.url}${path}`,
  ]);
  const [, done, failed] = /, (\d+) done, \d+ succeeded, (\d+) failed/.exec(said) ?? [];
  const requests = Number(/status codes: (\d+) 2xx/.exec(said)?.[1] ?? 0);
  // What was underway when the time was up is not counted.
  if (requests === 0 || Number(failed) > 0 || requests < Number(done)) throw new Error(`the load went wrong:\n${said}`);
  return { requests, perSecond: requests / seconds };
}

/**
 * Requests at a fixed pace that leaves the proxy time. Connections are many enough that hardly one is busy when its next
 * request is due. Not a number where the pace was not kept: then it would be about the load.
 */
export async function pacedLoad(
  guard: Guard,
  { path, seconds, connections, perSecond, dir }: WrkOptions & { readonly perSecond: number; readonly dir: string },
): Promise<Latency> {
  const log = join(dir, 'paced.tsv');
  rmSync(log, { force: true });
  const said = await output([
    'h2load',
    '--h1',
    `-c${String(connections)}`,
    '-D',
    String(seconds),
    `--rps=${String(perSecond / connections)}`,
    `--log-file=${log}`,
    ...bearer(guard),
    `${guard.url}${path}`,
  ]);
  const took: number[] = [];
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const [, status, us] = line.split('\t');
    if (status === '200') took.push(Number(us) / 1000);
  }
  // h2load begins with a burst; the first second is not of the pace.
  const settled = took.slice(Math.min(perSecond, took.length >> 2)).sort((a, b) => a - b);
  if (took.length === 0) throw new Error(`the load went wrong:\n${said}`);
  if (took.length < perSecond * seconds * 0.9) return { p50: Number.NaN, p99: Number.NaN };
  return { p50: quantile(settled, 0.5), p99: quantile(settled, 0.99) };
}

/** @param sorted ascending */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
