import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { waitUntil } from './wait.js';

/** What keeps this process busy: how many of each kind of resource (`TCPSocketWrap`, `Timeout`, …). */
export type ResourceCount = ReadonlyMap<string, number>;

export function countResources(): ResourceCount {
  const count = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) count.set(kind, (count.get(kind) ?? 0) + 1);
  return count;
}

/** The kinds that an exchange makes and must give back. */
const COUNTED = ['TCPSocketWrap', 'TCPServerWrap', 'TLSWrap', 'PipeWrap', 'PipeServerWrap', 'Timeout', 'Immediate'];

/**
 * Waits until this process holds no more sockets and timers than `before`; the message of the failure says which
 * kinds are left over. Wait for what you closed to be closed first.
 */
export async function expectResources(before: ResourceCount, timeoutMs = 2000): Promise<void> {
  const surplus = (): string[] => {
    const now = countResources();
    return COUNTED.filter((kind) => (now.get(kind) ?? 0) > (before.get(kind) ?? 0)).map(
      (kind) => `${kind}: ${String(before.get(kind) ?? 0)} before, ${String(now.get(kind) ?? 0)} now`,
    );
  };
  try {
    await waitUntil(() => surplus().length === 0, 'sockets and timers to be given back', timeoutMs);
  } catch {
    throw new Error(`left over: ${surplus().join('; ')}`);
  }
}

export interface OpenFiles {
  readonly total: number;
  readonly sockets: number;
}

/** What each open descriptor of a process stands for, by /proc: a path, or `socket:[INODE]`. */
function* openFiles(pid: number): Generator<string> {
  for (const name of readdirSync(`/proc/${String(pid)}/fd`)) {
    try {
      yield readlinkSync(`/proc/${String(pid)}/fd/${name}`);
    } catch {
      // Closed since the folder was read; so is the descriptor that read the folder, when it is this process.
    }
  }
}

export function countOpenFiles(pid: number): OpenFiles {
  const files = [...openFiles(pid)];
  return { total: files.length, sockets: files.filter(isSocket).length };
}

/** The sockets of a process, each by a name that the kernel gives to no other while it runs. */
export function openSockets(pid: number): ReadonlySet<string> {
  return new Set([...openFiles(pid)].filter(isSocket));
}

function isSocket(file: string): boolean {
  return file.startsWith('socket:');
}

/** Waits until a process has closed each of these sockets, whatever came since. */
export async function expectClosed(pid: number, sockets: ReadonlySet<string>, timeoutMs: number): Promise<void> {
  const left = (): string[] => [...openSockets(pid)].filter((name) => sockets.has(name));
  try {
    await waitUntil(() => left().length === 0, 'sockets', timeoutMs);
  } catch {
    throw new Error(
      `process ${String(pid)} has ${String(left().length)} of ${String(sockets.size)} sockets still open`,
    );
  }
}

/** Waits until a process holds no more open sockets than `sockets`. */
export async function expectSockets(pid: number, sockets: number, timeoutMs = 5000): Promise<void> {
  try {
    await waitUntil(() => countOpenFiles(pid).sockets <= sockets, 'sockets', timeoutMs);
  } catch {
    throw new Error(
      `process ${String(pid)} holds ${String(countOpenFiles(pid).sockets)} sockets, not ${String(sockets)}`,
    );
  }
}

/** Resident set of a process in bytes, by /proc. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kilobytes === undefined) throw new Error(`no VmRSS for process ${String(pid)}`);
  return Number(kilobytes) * 1024;
}
