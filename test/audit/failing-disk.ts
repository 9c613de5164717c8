/**
 * Loaded into a guardbee that a test runs (`--import`): its disk does as the file says that DISK_DOES names. Empty: it
 * works; `hang`: it does not answer; `stuck`: nor does the thread of Node's that asks it, ever; a code such as `EROFS`:
 * every write fails with that.
 */
import { readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const LOOK_AGAIN_MS = 5;

function does(): string {
  return readFileSync(process.env['DISK_DOES'] ?? '', 'utf8');
}

async function works(): Promise<void> {
  for (let how = does(); how !== ''; how = does()) {
    // Nobody writes into it.
    if (how === 'stuck') await open(`${process.env['DISK_DOES'] ?? ''}.fifo`);
    if (how !== 'hang') throw Object.assign(new Error(`${how}: as the test wants it`), { code: how });
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

const handle = await open('/dev/null');
// The class is not exported; what every handle inherits from is.
const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, 'datasync'>;
await handle.close();
const { datasync } = prototype;
prototype.datasync = async function (this: FileHandle): Promise<void> {
  await works();
  await datasync.call(this);
};
