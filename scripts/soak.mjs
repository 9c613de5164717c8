/** `npm run soak [-- MINUTES] [--processes N] [--json]`: installs and builds what is missing, then bench/soak.ts, for ten minutes. */
import { main as task, setup } from './setup.mjs';

await task(async () => {
  await setup({ build: 'all' });
  await import('../dist/bench/soak-report.js');
});
