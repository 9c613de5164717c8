/** `npm run build`: the program, as it is packed. `--all` adds tests and benchmarks; `--force` asks no stamp. */
import { buildAnew, main, setup } from './setup.mjs';

const options = process.argv.slice(2);
const unknown = options.find((option) => !['--all', '--force'].includes(option));
if (unknown === undefined) {
  const build = options.includes('--all') ? 'all' : 'program';
  await main(() => (options.includes('--force') ? buildAnew(build) : setup({ build })));
} else {
  process.stderr.write(`unknown option ${unknown}; known are --all and --force\n`);
  process.exitCode = 2;
}
