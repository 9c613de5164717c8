/** How many cores there are for us. */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import * as path from 'node:path';

/**
 * Cores that a process may use: those that it is let run on, or fewer where its cgroup has a quota (`cpu.max`). Node looks at
 * the quota itself from libuv 1.49 on; in Node 20 a container with two cores' worth of a large machine would count all of it.
 * 1 at least.
 *
 * @param pid whose cgroup is looked at @param root of the file system; `/` but in tests
 */
export async function coresFor(pid: number | 'self', root = '/'): Promise<number> {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(await quotaOf(pid, root))));
}

/** In cores; Infinity: there is none. Each cgroup above may have one too (cgroups(7), version 2). */
async function quotaOf(pid: number | 'self', root: string): Promise<number> {
  const own = /^0::(\/.*)$/m.exec((await textOf(path.join(root, `proc/${pid}/cgroup`))) ?? '')?.[1];
  let least = Infinity;
  for (let at = own; at !== undefined; at = at === '/' ? undefined : path.dirname(at)) {
    const text = await textOf(path.join(root, 'sys/fs/cgroup', at, 'cpu.max'));
    const [, quota, period] = /^(\d+) ([1-9]\d*)$/m.exec(text ?? '') ?? [];
    if (quota !== undefined) least = Math.min(least, Number(quota) / Number(period));
  }
  return least;
}

async function textOf(file: string): Promise<string | null> {
  // None on this system, or not ours to see.
  return await readFile(file, 'utf8').catch(() => null);
}
