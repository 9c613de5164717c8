/**
 * `npm run bench`: installs and builds what is missing, then measures requests. `npm run bench -- redact [MB]` measures
 * the redaction filter.
 */
import { main as task, setup } from './setup.mjs';

const [what, ...rest] = process.argv.slice(2);
if (what === undefined || (what === 'redact' && rest.length <= 1)) {
  await task(async () => {
    await setup({ build: 'all' });
    await import(what === 'redact' ? '../dist/bench/redact.js' : '../dist/bench/run.js');
  });
} else {
  process.stderr.write('usage: npm run bench [-- redact [MB]]\n');
  process.exitCode = 2;
}
