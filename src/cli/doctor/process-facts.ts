/** What the kernel says of a process (proc(5)); everywhere but on Linux it says nothing. */
import { readFile } from 'node:fs/promises';
import * as path from 'node:path';

export interface ProcessFacts {
  /** Effective. */
  readonly uid: number | null;
  readonly parent: number | null;
  readonly noNewPrivileges: boolean;
  /** Its system calls are filtered (`Seccomp: 2`). */
  readonly filtersSystemCalls: boolean;
  /** Capabilities that it could ever have. */
  readonly capabilities: bigint;
  /** Soft limits; Infinity: none. Null: not known. */
  readonly openFiles: number | null;
  readonly coreBytes: number | null;
  /** `guardbee.service`; null where no service of systemd runs it. */
  readonly unit: string | null;
  /** It cannot write to `/`. */
  readonly rootIsReadOnly: boolean;
  /** Of `$CREDENTIALS_DIRECTORY`; null where it has none, or where we may not see its environment. */
  readonly credentialsDirectory: string | null;
}

/** Null where there is no such process, or nothing is said of it. @param root of the file system; `/` but in tests */
export async function processFacts(pid: number | 'self', root = '/'): Promise<ProcessFacts | null> {
  const [status, limits, cgroup, mounts, environment] = await Promise.all(
    ['status', 'limits', 'cgroup', 'mountinfo', 'environ'].map((name) => textOf(root, `proc/${pid}/${name}`)),
  );
  if (status == null) return null;
  const field = (name: string): string | null => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? null;
  return {
    uid: numberIn(field('Uid')?.split(/\s+/)[1]),
    parent: numberIn(field('PPid')),
    noNewPrivileges: field('NoNewPrivs') === '1',
    filtersSystemCalls: field('Seccomp') === '2',
    capabilities: BigInt(`0x${field('CapBnd') ?? '0'}`),
    openFiles: softLimit(limits, 'Max open files'),
    coreBytes: softLimit(limits, 'Max core file size'),
    unit: /^\d+:(?:name=systemd)?:.*\/([^/\n]+\.service)$/m.exec(cgroup ?? '')?.[1] ?? null,
    rootIsReadOnly: isReadOnly(mounts ?? ''),
    credentialsDirectory:
      environment
        ?.split('\0')
        .find((one) => one.startsWith('CREDENTIALS_DIRECTORY='))
        ?.replace(/^[^=]*=/, '') ?? null,
  };
}

/** What a process is called; null where there is none. */
export async function commandOf(pid: number, root = '/'): Promise<string | null> {
  return (await textOf(root, `proc/${pid}/comm`))?.trim() ?? null;
}

async function textOf(root: string, name: string): Promise<string | null> {
  // Gone, or somebody else's.
  return await readFile(path.join(root, name), 'utf8').catch(() => null);
}

function numberIn(text: string | null | undefined): number | null {
  return text != null && /^\d+$/.test(text) ? Number(text) : null;
}

function softLimit(limits: string | null | undefined, name: string): number | null {
  const [, soft] = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(limits ?? '') ?? [];
  return soft === 'unlimited' ? Infinity : numberIn(soft);
}

/** The last mount on `/` is the one that is seen. */
function isReadOnly(mounts: string): boolean {
  const options = mounts
    .split('\n')
    .map((line) => line.split(' '))
    .findLast((fields) => fields[4] === '/')?.[5];
  return options?.split(',').includes('ro') === true;
}
