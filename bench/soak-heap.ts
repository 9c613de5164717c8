/**
 * Imported into guardbee by the soak: how much of the heap is alive. The resident set cannot tell, since V8 lets garbage
 * lie while there is room. Appends a line to the file that GUARDBEE_SOAK_HEAP names, every GUARDBEE_SOAK_HEAP_MS.
 */
import { appendFileSync } from 'node:fs';
import { memoryUsage } from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';

const file = process.env['GUARDBEE_SOAK_HEAP'];
const everyMs = Number(process.env['GUARDBEE_SOAK_HEAP_MS']);
// Of several processes each has a file of its own; only the one that was started is asked about.
const isAsked = process.env['GUARDBEE_SOAK_HEAP_PARENT'] === String(process.ppid);

if (file !== undefined && everyMs > 0 && isMainThread && isAsked) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setInterval(() => {
    collect();
    const { heapUsed, external } = memoryUsage();
    appendFileSync(file, `${String(heapUsed + external)}\n`);
  }, everyMs).unref();
}
