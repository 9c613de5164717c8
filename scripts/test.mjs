/**
 * `npm test`: sets up, runs the tests, and lints beside them.
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

/** Trees of syntax and types stay until the end. With room for the young, V8 does not copy them from half to half. */
const ROOM = '--max-semi-space-size=128';

await main(async () => {
  if (unknown !== undefined) {
    process.stderr.write(`unknown option ${unknown}; known are --no-lint, --lint and those of node --test\n`);
    throw new StepFailure(2);
  }
  await setup({ build: 'all' });
  const files = args.includes('--lint') ? [] : testFiles();
  if (args.includes('--lint')) await step('Linting', () => lint(run));
  else if (words.length > 0 || args.includes('--no-lint')) await test(files);
  else await testAndLint(files);
});

/**
 * The linters take what the tests leave of the processors: much of a test is waiting. What they say comes out whole,
 * between two lines of the tests.
 */
async function testAndLint(files) {
  const linted = lint(runBehind).then(
    () => null,
    (error) => error,
  );
  const tested = await test(files).then(
    () => null,
    (error) => error,
  );
  const complaint = await linted;
  if (complaint !== null) process.stderr.write('\nThe linters complain; what they say stands above.\n');
  const failure = tested ?? complaint;
  if (failure !== null) throw failure;
}

/** All complaints are wanted, so none stops the others. */
async function lint(runLinter) {
  const bin = (...names) => join(ROOT, 'node_modules', ...names);
  const results = await Promise.allSettled([
    runLinter(process.execPath, [join(ROOT, 'scripts', 'check-imports.mjs')]),
    runLinter(process.execPath, [ROOM, join(ROOT, 'scripts', 'lint.mjs')]),
    runLinter(process.execPath, [bin('prettier', 'bin', 'prettier.cjs'), '--check', '--log-level=warn', '.']),
  ]);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** Runs a command that gives way to all others; its output follows when it has ended. */
async function runBehind(command, args) {
  const [program, ...rest] = process.platform === 'win32' ? [command, ...args] : ['nice', '-n', '19', command, ...args];
  const child = spawn(program, rest, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  process.once('SIGTERM', () => child.kill('SIGTERM'));
  let said = '';
  for (const output of [child.stdout, child.stderr]) output.setEncoding('utf8').on('data', (text) => (said += text));
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  process.stderr.write(said);
  if (code !== 0) throw new StepFailure(code ?? 1);
}

function testFiles() {
  const files = walk(join(ROOT, 'dist', 'test'))
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => relative(ROOT, file))
    .filter((file) => words.length === 0 || words.some((word) => sourceOf(file).includes(word)))
    .sort();
  if (files.length === 0) {
    process.stderr.write(`no test file's path contains ${words.map((word) => JSON.stringify(word)).join(' or ')}\n`);
    throw new StepFailure(1);
  }
  return files;
}

async function test(files) {
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
