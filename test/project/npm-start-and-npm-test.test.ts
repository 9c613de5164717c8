import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { REPOSITORY, runCommand, type CommandResult } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

/** A repository of a few files with the real scripts and the real compiler. */
function repository(): TemporaryDirectory {
  const directory = new TemporaryDirectory();
  const put = (name: string, text: string): void => {
    mkdirSync(join(directory.file(name), '..'), { recursive: true });
    writeFileSync(directory.file(name), text);
  };
  cpSync(join(REPOSITORY, 'scripts'), directory.file('scripts'), { recursive: true });
  mkdirSync(directory.file('node_modules'));
  symlinkSync(join(REPOSITORY, 'node_modules', 'typescript'), directory.file('node_modules', 'typescript'));
  // What npm would have left behind, for a lockfile that asks for nothing.
  put('package.json', '{ "type": "module" }');
  put('package-lock.json', '{ "lockfileVersion": 3, "packages": { "": {} } }');
  put('node_modules/.package-lock.json', '{ "packages": {} }');
  // Reading Node's types would take most of the time of each build, and they are not what is tested here.
  const config = readFileSync(join(REPOSITORY, 'tsconfig.json'), 'utf8');
  put(
    'tsconfig.json',
    config.replace('"types": ["node"]', '"types": []').replace(/"lib": \[.*?\]/, '"lib": ["ES2015"]'),
  );
  put('tsconfig.build.json', readFileSync(join(REPOSITORY, 'tsconfig.build.json'), 'utf8'));
  put(
    'src/cli/guardbee.ts',
    `declare const console: { log(text: string): void };
    export async function asProgram(argv: readonly string[]): Promise<number> { console.log(JSON.stringify(argv)); return 5; }`,
  );
  put(
    'src/cli/process.ts',
    `export { extra } from '../extra.js';\nexport const later = [import('./run.js'), import('./unexpected.js')];`,
  );
  put('src/cli/run.ts', 'export const run = 1;');
  put('src/cli/unexpected.ts', 'export const unexpected = 1;');
  put('test/node.d.ts', `declare module 'node:test' { export function test(name: string, body: () => void): void; }`);
  put('src/extra.ts', 'export const extra = 1;');
  put('test/one.test.ts', `import { test } from 'node:test';\ntest('one runs', () => undefined);`);
  return directory;
}

async function script(directory: TemporaryDirectory, name: string, ...args: string[]): Promise<CommandResult> {
  return await runCommand(process.execPath, [directory.file('scripts', name), ...args], {
    cwd: directory.path,
    timeoutMs: 60_000,
  });
}

describe('setup', () => {
  test('builds what is stale, only then, and removes what has no source', async () => {
    using directory = repository();
    const first = await script(directory, 'build.mjs', '--all');
    assert.equal(first.code, 0, first.stderr);
    assert.equal(first.stderr, 'Building …\n');
    assert.ok(existsSync(directory.file('dist/test/one.test.js')));

    assert.equal((await script(directory, 'build.mjs', '--all')).stderr, '');
    assert.equal((await script(directory, 'build.mjs')).stderr, '', 'building all has built the program');

    writeFileSync(directory.file('src/extra.ts'), 'export const extra = 22;');
    assert.equal((await script(directory, 'build.mjs')).stderr, 'Building …\n');
    assert.match(readFileSync(directory.file('dist/src/extra.js'), 'utf8'), /22/);
    assert.match(readFileSync(directory.file('dist/src/guardbee.cjs'), 'utf8'), /22/);

    writeFileSync(
      directory.file('src/cli/process.ts'),
      `export const later = [import('./run.js'), import('./unexpected.js')];`,
    );
    rmSync(directory.file('src/extra.ts'));
    rmSync(directory.file('dist/src/cli/guardbee.js'));
    assert.equal((await script(directory, 'build.mjs', '--all')).stderr, 'Building …\n');
    assert.equal(existsSync(directory.file('dist/src/extra.js')), false, 'its source is gone');
    assert.ok(existsSync(directory.file('dist/src/cli/guardbee.js')), 'an output that went missing is made again');

    rmSync(directory.file('dist/src/guardbee-run-1.cjs'));
    assert.equal((await script(directory, 'build.mjs')).stderr, 'Building …\n');
    assert.ok(existsSync(directory.file('dist/src/guardbee-run-1.cjs')), 'and so is the program in few files');
  });

  test('start is guardbee run in the same process, with its arguments and its exit code', async () => {
    using directory = repository();
    const started = await script(directory, 'start.mjs', '--upstream', 'http://127.0.0.1:7833');
    assert.deepEqual(JSON.parse(started.stdout), ['run', '--upstream', 'http://127.0.0.1:7833']);
    assert.equal(started.code, 5);
    assert.equal(existsSync(directory.file('dist/test')), false, 'who starts the program needs no tests built');
  });

  test('an error of the compiler ends it, and is not forgotten the next time', async () => {
    using directory = repository();
    writeFileSync(directory.file('src/extra.ts'), `export const extra: number = 'text';`);
    for (let time = 0; time < 2; time += 1) {
      const result = await script(directory, 'start.mjs');
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, /src\/extra\.ts\(1,14\): error TS2322/);
      assert.doesNotMatch(result.stderr, /StepFailure|at file:/);
      assert.equal(result.stdout, '');
    }
    const unchecked = await script(directory, 'build.mjs', '--unchecked');
    assert.equal(unchecked.code, 0, 'the linters say it then');
    assert.match(readFileSync(directory.file('dist/src/extra.js'), 'utf8'), /'text'/);
  });
});

describe('npm test', () => {
  /** Built once, by the first who asks. */
  const directory = repository();
  after(() => {
    directory.remove();
  });

  test('lints beside the tests, and fails where either of them does', async () => {
    const linter = (path: string, code: string): void => {
      mkdirSync(join(directory.file(path), '..'), { recursive: true });
      writeFileSync(directory.file(path), code);
    };
    linter('scripts/check-imports.mjs', '');
    linter('node_modules/prettier/bin/prettier.cjs', '');
    linter('scripts/lint.mjs', `console.log('one.ts: a complaint'); process.exitCode = 1;`);
    const complained = await script(directory, 'test.mjs');
    assert.equal(complained.code, 1);
    assert.match(complained.stdout, /✔ one runs/, 'the tests ran all the same');
    assert.match(complained.stderr, /^one\.ts: a complaint\n/m);
    assert.match(complained.stderr, /what they say stands above\.\n$/);
    assert.equal((await script(directory, 'test.mjs', '--lint')).code, 1);

    linter('scripts/lint.mjs', '');
    const passed = await script(directory, 'test.mjs');
    assert.equal(passed.code, 0, passed.stderr);
    assert.doesNotMatch(passed.stderr, /complain/);
  });

  test('runs the files whose path holds a word, and its exit code is the runner’s', async () => {
    const passed = await script(directory, 'test.mjs', 'one');
    assert.equal(passed.code, 0, passed.stdout + passed.stderr);
    assert.match(passed.stdout, /✔ one runs/);
    assert.match(passed.stdout, /pass 1\n[^]*Total \d+\.\d s\n$/);

    const none = await script(directory, 'test.mjs', 'two', 'three');
    assert.equal(none.code, 1);
    assert.match(none.stderr, /no test file's path contains "two" or "three"/);

    writeFileSync(
      directory.file('test/two.test.ts'),
      `import { test } from 'node:test';\ntest('two', () => { throw new Error('no'); });`,
    );
    assert.equal((await script(directory, 'test.mjs', '--no-lint')).code, 1);
    assert.equal((await script(directory, 'test.mjs', 'two', '--test-name-pattern=nothing')).code, 0);
    assert.equal((await script(directory, 'test.mjs', '--unknown')).code, 2);
  });
});
