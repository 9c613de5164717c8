import { perform } from './program.js';
import { unexpected } from './unexpected.js';

/** By then what was said is written, and what is still underway never ends. */
const LONGEST_END_MS = 2_000;

/** A process that is `guardbee VERB …` and nothing else: what nobody caught ends it, in one line and without a stack. */
export async function asProgram(argv: readonly string[]): Promise<number> {
  process.on('uncaughtException', (error) => {
    process.stderr.write(`${unexpected(error)}\n`);
    process.exit(1);
  });
  const code = isWorker(argv) ? await (await import('./worker.js')).work() : await perform(argv);
  // Where a thread of Node's waits for a disk that never answers, the process does not end, nor does process.exit() end it.
  setTimeout(() => {
    process.stderr.write('guardbee: something that was underway does not end: ending by force\n');
    process.kill(process.pid, 'SIGKILL');
  }, LONGEST_END_MS).unref();
  return code;
}

/** Begun by another guardbee, with a channel to it; for anybody else there is no such verb. */
function isWorker([verb]: readonly string[]): boolean {
  return verb === 'worker' && process.connected;
}
