import { randomBytes } from 'node:crypto';
import { link, readFile, realpath, rename, unlink, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { EXIT, Ending } from './exit-code.js';
import { shellWord } from './private-file.js';

/** An edit takes milliseconds; a large file on a busy machine, seconds. */
const LONGEST_WAIT_MS = 20_000;
const BETWEEN_TRIES_MS = 25;

/**
 * Does something to a file while nobody else does who asks here too. The lock is a file beside it that holds the id of
 * its process; one whose process is gone is taken over.
 */
export async function withLock<T>(file: string, action: () => Promise<T>): Promise<T> {
  const lock = await lockOf(file);
  await acquire(file, lock);
  try {
    return await action();
  } finally {
    await unlink(lock).catch(() => undefined);
  }
}

/** Beside the file itself, wherever links lead to it from. */
async function lockOf(file: string): Promise<string> {
  const real = await realpath(file).catch(async () => {
    const folder = await realpath(path.dirname(path.resolve(file))).catch(() => null);
    if (folder === null) throw new Ending(EXIT.policy, `cannot write ${file}: there is no such folder`);
    return path.join(folder, path.basename(file));
  });
  return path.join(path.dirname(real), `.${path.basename(real)}.lock`);
}

async function acquire(file: string, lock: string): Promise<void> {
  const own = `${lock}.${randomBytes(8).toString('hex')}`;
  try {
    await writeFile(own, `${process.pid}\n`, { flag: 'wx', mode: 0o600 });
    for (let waited = 0; waited <= LONGEST_WAIT_MS; waited += BETWEEN_TRIES_MS) {
      try {
        // Linked and not written in place: whoever sees the lock sees whose it is.
        await link(own, lock);
        return;
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
      }
      const holder = await readFile(lock, 'latin1').catch(() => null);
      if (holder !== null && !isAlive(Number(holder.trim()))) await takeAway(lock, holder);
      else await wait(BETWEEN_TRIES_MS);
    }
  } catch (error) {
    const code = codeOf(error);
    const why = code === 'EACCES' || code === 'EPERM' ? 'no permission to write beside it' : code;
    throw new Ending(EXIT.policy, `cannot lock ${file}: ${why}`);
  } finally {
    await unlink(own).catch(() => undefined);
  }
  throw new Ending(
    EXIT.policy,
    `another guardbee is at work on ${file}, so nothing was changed; where there is none: rm ${shellWord(lock)}`,
  );
}

/** Whether a process of this id is there; one that we may not send signals to is. */
function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== 'ESRCH';
  }
}

/** Removes the lock of a process that is gone, and no other that has come in its place meanwhile. */
async function takeAway(lock: string, holder: string): Promise<void> {
  const aside = `${lock}.${randomBytes(8).toString('hex')}`;
  try {
    await rename(lock, aside);
    if ((await readFile(aside, 'latin1')) !== holder) await link(aside, lock);
    await unlink(aside);
  } catch (error) {
    const code = codeOf(error);
    // Somebody else was quicker.
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
    await unlink(aside).catch(() => undefined);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}
