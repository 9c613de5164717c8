/**
 * `npm test`: sets up, lints, and runs the tests.
 *
 *     npm test                    everything
 *     npm test -- policy gate     test files whose path contains one of the words; no lint
 *     npm test -- --no-lint       everything but lint
 *     npm test -- --lint          lint alone
 *     npm test -- stream --test-name-pattern=stalled    options of `node --test` are passed on
 */
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { spawn } from 'node:child_process';
import { main, ROOT, run, setup, step, StepFailure, walk } from './setup.mjs';

const started = performance.now();
const args = process.argv.slice(2);
const words = args.filter((arg) => !arg.startsWith('-'));
const passedOn = args.filter((arg) => arg.startsWith('--test-'));
const unknown = args.find((arg) => arg.startsWith('-') && !/^--(no-lint|lint|test-.*)$/.test(arg));

await main(async () => {
  if (unknown !== undefined) {
    process.stderr.write(`unknown option ${unknown}; known are --no-lint, --lint and those of node --test\n`);
    throw new StepFailure(2);
  }
  await setup({ build: 'all' });
  if (args.includes('--lint') || (words.length === 0 && !args.includes('--no-lint'))) await lint();
  if (!args.includes('--lint')) await test();
});

async function lint() {
  const bin = (...names) => join(ROOT, 'node_modules', ...names);
  await step('Checking imports', () => run(process.execPath, [join(ROOT, 'scripts', 'check-imports.mjs')]));
  // The two of them use the two cores; all their complaints are wanted, so neither stops the other.
  await step('Linting', async () => {
    const results = await Promise.allSettled([
      run(process.execPath, [bin('eslint', 'bin', 'eslint.js'), '--max-warnings=0', '.']),
      run(process.execPath, [bin('prettier', 'bin', 'prettier.cjs'), '--check', '--log-level=warn', '.']),
    ]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  });
}

async function test() {
  const files = walk(join(ROOT, 'dist', 'test'))
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => relative(ROOT, file))
    .filter((file) => words.length === 0 || words.some((word) => sourceOf(file).includes(word)))
    .sort();
  if (files.length === 0) {
    process.stderr.write(`no test file's path contains ${words.map((word) => JSON.stringify(word)).join(' or ')}\n`);
    throw new StepFailure(1);
  }
  const code = await nodeTest(files);
  // In CI the runner's own summary has the last word.
  if (process.env['CI'] !== 'true') {
    process.stdout.write(`\nTotal ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
  }
  if (code !== 0) throw new StepFailure(code);
}

function sourceOf(file) {
  return file.replace(/^dist\//, '').replace(/\.js$/, '.ts');
}

async function nodeTest(files) {
  const options = [
    '--enable-source-maps',
    '--test',
    // One file more than there are cores: there is always one that waits.
    `--test-concurrency=${String(Math.max(2, availableParallelism()) + 1)}`,
    // A test that hangs is a failure with a name, not a job that never ends.
    '--test-timeout=300000',
    '--test-reporter=spec',
    ...passedOn,
  ];
  const child = spawn(process.execPath, [...options, ...files], { cwd: ROOT, stdio: 'inherit' });
  // The terminal sends Ctrl-C to the whole group: let the runner report what it was doing.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 1));
  });
}
