/** The programs of a run: started, waited for, measured, ended. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { coresFor } from '../src/workers/cores.js';

/** How many cores this run has for itself. All of this is asked before it keeps itself to one. */
export const CORES = await coresFor('self');

/** As taskset says it: `0-1`, `2,4-7`. */
const ALL_CORES = allCores();

/** The core for what is measured, and the one for all else: the same where there is no other. */
export const [PROXY_CORE, LOAD_CORE] = firstTwo(ALL_CORES);

const READY_MS = 30_000;

export const has = (command: string): boolean =>
  spawnSync('sh', ['-c', 'command -v "$0"', command], { env: { ...process.env, PATH: SEARCHED } }).status === 0;

/** Where Debian puts servers is not on everybody's path. */
export const SEARCHED = `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin`;

export const beside = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Started, and not yet ended. */
export interface Running {
  /** Every process of the program that there is now: of some the first one only watches the others. */
  pids(): number[];
  /** User and system time that it has taken, in microseconds. */
  cpu(): number;
  residentKilobytes(): number;
  /** What `until` matched. */
  readonly said: string;
  /** From its start until it was ready. */
  readonly readyMs: number;
  stop(): Promise<void>;
}

interface Start {
  readonly command: readonly string[];
  /** Null: any. */
  readonly core: number | null;
  /** Ready when this is on stdout… */
  readonly until?: RegExp;
  /** …or when this says so. */
  readonly ready?: () => Promise<boolean>;
  readonly env?: Readonly<Record<string, string>>;
}

const begun = new Set<ChildProcess>();

/** Every program that is still there. */
export async function endAll(): Promise<void> {
  await Promise.all([...begun].map(end));
}

export async function start({ command, core, until, ready, env }: Start): Promise<Running> {
  const pinned = onCore(core, command);
  const began = performance.now();
  const child = spawn(pinned[0] ?? '', pinned.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: SEARCHED, ...env },
  });
  begun.add(child);
  child.once('exit', () => begun.delete(child));
  let said = '';
  let complaints = '';
  const listen = (text: string): void => {
    if (said.length < 4096) said += text;
  };
  child.stdout.setEncoding('utf8').on('data', listen);
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaints.length < 4096) complaints += text;
  });
  const failure: { error: Error | null } = { error: null };
  child.once('error', (error) => {
    failure.error = error;
  });
  for (;;) {
    const gone = child.exitCode !== null || child.signalCode !== null || failure.error !== null;
    if (gone || performance.now() - began > READY_MS) {
      await end(child);
      throw new Error(`${command.join(' ')} did not become ready: ${complaints.slice(0, 800) || said.slice(0, 800)}`);
    }
    const match = until?.exec(said)?.[0];
    if (match !== undefined || (ready !== undefined && (await ready()))) {
      const pid = child.pid ?? 0;
      return {
        pids: () => family(pid),
        cpu: () => family(pid).reduce((sum, one) => sum + cpuMicroseconds(one), 0),
        residentKilobytes: () => family(pid).reduce((sum, one) => sum + residentKilobytes(one), 0),
        said: match ?? '',
        readyMs: performance.now() - began,
        stop: () => end(child),
      };
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000);
  await ended;
  clearTimeout(timer);
}

/** Kept to a core, or on any of them (null), which a child of this process else is not. */
export function onCore(core: number | null, command: readonly string[]): string[] {
  return has('taskset') ? ['taskset', '-c', core === null ? ALL_CORES : String(core), ...command] : [...command];
}

function allCores(): string {
  try {
    return /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  } catch {
    return '0';
  }
}

function firstTwo(list: string): readonly [number, number] {
  const cores = list.split(',').flatMap((range) => {
    const [from = 0, to = from] = range.split('-').map(Number);
    return to > from ? [from, from + 1] : [from];
  });
  const [first = 0, second = first] = cores;
  return [first, second];
}

/** A process and its children, and theirs. */
function family(pid: number): number[] {
  const pids = [pid];
  for (const one of pids) {
    try {
      const children = readFileSync(`/proc/${String(one)}/task/${String(one)}/children`, 'utf8');
      pids.push(...children.split(' ').filter(Boolean).map(Number));
    } catch {
      // It has ended.
    }
  }
  return pids;
}

/** User and system time of one process. proc(5): in ticks of 10 ms. */
export function cpuMicroseconds(pid: number): number {
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** Of all that this process has started and that has ended since. */
export function endedCpuMicroseconds(): number {
  const fields = statFields('self');
  return (Number(fields[13]) + Number(fields[14])) * 10_000;
}

function statFields(pid: number | 'self'): readonly string[] {
  try {
    return readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
  } catch {
    return [];
  }
}

export function residentKilobytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** For programs that can't say which port they were given. Somebody else may take it meanwhile; then the start fails. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new TypeError('a TCP server has a port');
  return address.port;
}
