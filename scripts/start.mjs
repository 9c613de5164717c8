/**
 * `npm start`: installs and builds what is missing, then is `guardbee run` itself, in this very process, so that
 * signals and the exit code need nobody to pass them on.
 */
import { main as task, setup } from './setup.mjs';

await task(async () => {
  await setup({ build: 'program' });
  const { asProgram } = await import('../dist/src/cli/guardbee.js');
  process.exitCode = await asProgram(['run', ...process.argv.slice(2)]);
});
