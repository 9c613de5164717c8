import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import * as path from 'node:path';
import { StateError } from './store.js';

/**
 * Makes the state directory (or that of the audit trail), 0700, where there is none. One that is there keeps its mode, as systemd's StateDirectory=
 * has one of its own: what is put into it is 0600. @throws StateError
 */
export async function ensureStateDirectory(dir: string, kind: 'state' | 'audit' = 'state'): Promise<void> {
  const called = `the ${kind} directory ${dir}`;
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    if (!(await stat(dir)).isDirectory()) throw new StateError(`${called} is not a directory`);
  } catch (error) {
    if (error instanceof StateError) throw error;
    throw new StateError(`${called} cannot be made: ${why(error)}; name another with ${kind}: { dir }`);
  }
  if (process.platform === 'win32') return;
  const { mode } = await stat(dir);
  // Whoever can write into it can put another socket and another journal in the place of ours.
  if ((mode & 0o022) !== 0) {
    throw new StateError(
      `${called} can be changed by others (mode 0${(mode & 0o7777).toString(8)}); run chmod go-w on it`,
    );
  }
}

/** The file's text, or null where there is none. Opened without blocking: a FIFO in its place does not hang us. */
export async function readStateFile(file: string, limit: number): Promise<Buffer | null> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw new StateError(`${file} cannot be read: ${why(error)}`);
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new StateError(`${file} is not a file`);
    if (found.size > limit) throw new StateError(`${file} is larger than ${limit / 1024 / 1024} MiB`);
    return await readFile(handle);
  } catch (error) {
    throw error instanceof StateError ? error : new StateError(`${file} cannot be read: ${why(error)}`);
  } finally {
    await handle.close();
  }
}

/** The whole new content or the whole old one, also after a crash; 0600. @throws StateError */
export async function replaceStateFile(file: string, content: string): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncDirectory(path.dirname(file));
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw new StateError(`${file} cannot be written: ${why(error)}`);
  }
}

/** A new name in a directory is safe only once the directory itself is (fsync(2)). */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error';
}

/** Words for what the system says; never its message, which names paths twice. */
export function why(error: unknown): string {
  const code = codeOf(error);
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return 'no permission';
    case 'EROFS':
      return 'the file system is read-only';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'no space is left';
    case 'ENOTDIR':
      return 'a part of the path is not a directory';
    default:
      return code;
  }
}
