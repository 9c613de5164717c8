import { randomBytes } from 'node:crypto';
import { type FileHandle, open, realpath, rename, unlink } from 'node:fs/promises';
import * as path from 'node:path';
import { EXIT, Ending } from './exit-code.js';

/** Whose a file is and who may read it. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Writes a file that must not be there yet: 0600, whatever the umask says. */
export async function createPrivate(file: string, text: string): Promise<void> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'wx', 0o600);
  } catch (error) {
    throw cannotWrite(file, error);
  }
  try {
    await writeAndSync(handle, text, { mode: 0o600, uid: -1, gid: -1 });
  } catch (error) {
    await unlink(file).catch(() => undefined);
    throw cannotWrite(file, error);
  }
}

/**
 * Puts a new content in the place of a file: the whole new one or the whole old one, also after a crash. A symbolic
 * link stays one.
 */
export async function replacePrivate(file: string, text: string, owner: Ownership | null): Promise<void> {
  let temporary: string | null = null;
  try {
    const real = await realpath(file);
    temporary = path.join(path.dirname(real), `.${path.basename(real)}.${randomBytes(8).toString('hex')}.tmp`);
    const handle = await open(temporary, 'wx', 0o600);
    await writeAndSync(handle, text, owner ?? { mode: 0o600, uid: -1, gid: -1 });
    await rename(temporary, real);
  } catch (error) {
    if (temporary !== null) await unlink(temporary).catch(() => undefined);
    throw cannotWrite(file, error);
  }
}

async function writeAndSync(handle: FileHandle, text: string, owner: Ownership): Promise<void> {
  try {
    await handle.writeFile(text);
    if (owner.uid !== -1) {
      const made = await handle.stat();
      // A service that reads the file by its group must still be able to.
      if (made.uid !== owner.uid || made.gid !== owner.gid) await handle.chown(owner.uid, owner.gid);
    }
    // After chown, which may take bits away. The mode given to open() is narrowed by the umask; this one is not.
    await handle.chmod(owner.mode & 0o777);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function cannotWrite(file: string, error: unknown): Ending {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  const why =
    code === 'EEXIST'
      ? 'it is there already'
      : code === 'ENOENT'
        ? 'there is no such folder'
        : code === 'EACCES' || code === 'EPERM'
          ? 'no permission'
          : code;
  return new Ending(EXIT.policy, `cannot write ${file}: ${why}`);
}

/** A word for a line to paste into a shell. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
