import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { RawConnection } from '../support/raw-client.js';
import { waitUntil } from '../support/wait.js';
import type { Hive } from './hive.js';

const MOST_GROWTH_BYTES = 64 * 1024 * 1024;

/** The most memory a process has held so far, by /proc. */
function peakBytes(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}

/**
 * During a flood and after it others are served within two seconds; memory grows by 64 MB at most; the service is left
 * with no connection that nobody needs.
 */
export async function withstands(hive: Hive, flood: () => Promise<void>): Promise<void> {
  await hive.stillServes();
  await hive.overHttp2(hive.http2('/ordinary'));
  const before = peakBytes(hive.guard.pid);
  await Promise.all([
    flood(),
    (async () => {
      for (let others = 0; others < 3; others += 1) await hive.stillServes();
    })(),
  ]);
  await hive.stillServes();
  const growth = peakBytes(hive.guard.pid) - before;
  assert.ok(growth < MOST_GROWTH_BYTES, `memory grew by ${String(growth)} bytes`);
  await waitUntil(
    () => hive.upstream.connections.filter(({ endedAtMs }) => endedAtMs === null).length <= 4,
    'the connections of the service to be given up',
  );
}

/** Writes what `make` gives, no faster than it is taken, until there is no more or the other side has had enough. */
export async function pour(client: RawConnection, make: (round: number) => Buffer | null): Promise<void> {
  const { socket } = client;
  for (let round = 0; client.ended === null; round += 1) {
    const bytes = make(round);
    if (bytes === null) return;
    if (client.write(bytes)) {
      await new Promise((resolve) => setImmediate(resolve));
      continue;
    }
    await new Promise<void>((resolve) => {
      const on = (): void => {
        for (const event of ['drain', 'end', 'error', 'close']) socket.off(event, on);
        resolve();
      };
      for (const event of ['drain', 'end', 'error', 'close']) socket.on(event, on);
    });
  }
}
