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

/** Open file descriptors of a process, by /proc. */
export function countOpenFiles(pid: number): OpenFiles {
  let total = 0;
  let sockets = 0;
  for (const name of readdirSync(`/proc/${String(pid)}/fd`)) {
    try {
      if (readlinkSync(`/proc/${String(pid)}/fd/${name}`).startsWith('socket:')) sockets += 1;
      total += 1;
    } catch {
      // Closed since the folder was read; so is the descriptor that read the folder, when it is this process.
    }
  }
  return { total, sockets };
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
