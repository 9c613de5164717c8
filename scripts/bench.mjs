/**
 * `npm run bench`: installs and builds what is missing, then measures requests. `npm run bench -- redact [MB]` measures
 * the redaction filter. `npm run bench -- --help` names the workloads.
 */
import { main as task, setup } from './setup.mjs';

const redact = process.argv[2] === 'redact' && process.argv.length <= 4;
await task(async () => {
  await setup({ build: 'all' });
  await import(redact ? '../dist/bench/redact.js' : '../dist/bench/run.js');
});
