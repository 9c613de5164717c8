/**
 * `npm run build`: the program, as it is packed. `--all` adds tests and benchmarks; `--force` asks no stamp; `--unchecked`
 * leaves the types to `npm run lint`, which reads them anyway.
 */
import { buildAnew, main, setup } from './setup.mjs';

const options = process.argv.slice(2);
const unknown = options.find((option) => !['--all', '--force', '--unchecked'].includes(option));
if (unknown === undefined) {
  const build = options.includes('--all') ? 'all' : 'program';
  const checked = !options.includes('--unchecked');
  await main(() => (options.includes('--force') ? buildAnew(build, checked) : setup({ build, checked })));
} else {
  process.stderr.write(`unknown option ${unknown}; known are --all, --force and --unchecked\n`);
  process.exitCode = 2;
}
