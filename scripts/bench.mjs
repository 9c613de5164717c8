/** `npm run bench`: installs and builds what is missing, then measures. */
import { main as task, setup } from './setup.mjs';

await task(async () => {
  await setup({ build: 'all' });
  await import('../dist/bench/run.js');
});
