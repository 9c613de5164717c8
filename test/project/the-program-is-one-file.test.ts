/** The bundle that a build makes of the program's modules, and when it is run instead of them. */
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import * as module from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, test, type TestContext } from 'node:test';
import { writeFileIn } from '../support/policy-builder.js';
import { GUARDBEE_ENTRY, REPOSITORY, runCommand } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

interface Names {
  readonly first: string;
  readonly staying: readonly string[];
  readonly rest: string;
}

interface Script {
  readonly bundle: (folder: string, entry: string, started: string[], names: Names) => Map<string, string>;
  readonly writeBundle: (folder: string, entry: string, into: string, started: string[], names: Names) => void;
}

const { bundle, writeBundle } = (await import(pathToFileURL(join(REPOSITORY, 'scripts', 'bundle.mjs')).href)) as Script;

const NAMES: Names = { first: 'first.cjs', staying: ['second.cjs', 'third.cjs'], rest: 'fourth.cjs' };

function folderOf(t: TestContext, files: Readonly<Record<string, string>>): TemporaryDirectory {
  const folder = new TemporaryDirectory(t);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(folder.file(name)), { recursive: true });
    writeFileIn(folder, name, text);
  }
  return folder;
}

/** What the bundle of these modules exports; `entry.js` is asked for. */
function exportsOf(t: TestContext, files: Readonly<Record<string, string>>): Record<string, unknown> {
  const folder = folderOf(t, files);
  writeBundle(folder.path, 'entry.js', folder.path, [], NAMES);
  const file = folder.file('first.cjs');
  return module.createRequire(file)(file) as Record<string, unknown>;
}

describe('a bundle', () => {
  test('binds names as modules do', (t) => {
    const { seen } = exportsOf(t, {
      'entry.js': `
        import { count, add } from './below/counter.js';
        import * as all from './below/counter.js';
        import { again, Later } from './re-export.js';
        add();
        export const seen = [count, all.count, again, new Later().name, typeof Later];`,
      'below/counter.js': `export let count = 1; export function add() { count += 1; }`,
      're-export.js': `export { count as again } from './below/counter.js'; export * from './classes.js';`,
      'classes.js': `export class Later { name = 'later'; }`,
    });
    assert.deepEqual(seen, [2, 2, 2, 'later', 'function']);
  });

  test('runs a module once, and only when it is asked for', async (t) => {
    const { log, late } = exportsOf(t, {
      'entry.js': `
        import { log } from './log.js';
        export { log };
        export const late = async () => (await import('./below/late.js')).late;`,
      'log.js': `export const log = [];`,
      'below/late.js': `import { log } from '../log.js'; log.push('late'); export const late = 'here';`,
    });
    assert.deepEqual(log, []);
    const ask = late as () => Promise<string>;
    assert.equal(await ask(), 'here');
    assert.equal(await ask(), 'here');
    assert.deepEqual(log, ['late']);
  });

  test('takes in no package, and loads ES modules as such', async (t) => {
    const { plain, late } = exportsOf(t, {
      'node_modules/plain/package.json': `{ "main": "plain.js" }`,
      'node_modules/plain/plain.js': `exports.plain = __filename;`,
      'node_modules/modern/package.json': `{ "type": "module", "exports": { "./way/in": "./modern.js" } }`,
      'node_modules/modern/modern.js': `export const modern = await Promise.resolve(import.meta.url);`,
      'entry.js': `
        import { plain } from 'plain';
        export { plain };
        export const late = async () => (await import('modern/way/in')).modern;`,
    });
    assert.match(String(plain), /node_modules\/plain\/plain\.js$/);
    assert.match(await (late as () => Promise<string>)(), /^file:.*\/node_modules\/modern\/modern\.js$/);
  });

  test('tells each module where it would be', (t) => {
    const { url } = exportsOf(t, {
      'entry.js': `export { url } from './below/here.js';`,
      'below/here.js': `export const url = new URL('../beside.txt', import.meta.url).pathname;`,
    });
    assert.match(String(url), /\/beside\.txt$/);
    assert.doesNotMatch(String(url), /below/);
  });

  test('means the same in ASCII', (t) => {
    const modules = {
      'entry.js': `export const seen = ['naïve…', \`‘\${1}’\`, /^[…😀]$/u.test('😀'), { größe: 1 }];`,
    };
    const { seen } = exportsOf(t, modules);
    assert.deepEqual(seen, ['naïve…', '‘1’', true, { größe: 1 }]);
    for (const text of bundle(folderOf(t, modules).path, 'entry.js', [], NAMES).values()) {
      assert.match(text, /^[\0-\x7f]+$/);
    }
    const raw = folderOf(t, { 'entry.js': 'export const text = String.raw`…`;' });
    assert.throws(() => bundle(raw.path, 'entry.js', [], NAMES), /a tagged template/);
  });

  test('is not made of what is not there, or cannot be known', (t) => {
    const missing = folderOf(t, { 'entry.js': `import './gone.js';` });
    assert.throws(() => bundle(missing.path, 'entry.js', [], NAMES), /entry\.js imports gone\.js, which is not there/);
    const computed = folderOf(t, { 'entry.js': `export const any = (name) => import(name);` });
    assert.throws(
      () => bundle(computed.path, 'entry.js', [], NAMES),
      /entry\.js: an import whose name is made at run time/,
    );
    const waiting = folderOf(t, { 'entry.js': `export const late = await Promise.resolve(1);` });
    assert.throws(() => {
      writeBundle(waiting.path, 'entry.js', waiting.path, [], NAMES);
    }, SyntaxError);
    assert.deepEqual(
      readdirSync(waiting.path).filter((name) => name.endsWith('cjs')),
      [],
    );
    const stray = folderOf(t, { 'entry.js': `export const here = 1;` });
    assert.throws(() => bundle(stray.path, 'entry.js', ['run.js'], NAMES), /^Error: run\.js is .* nothing imports it$/);
  });

  test('of several files: each module in one, and what stays asks for none of the rest', async (t) => {
    const folder = folderOf(t, {
      'entry.js': `
        import { log } from './shared.js';
        export { log };
        export const run = async () => (await import('./run.js')).ask();
        export const verb = async () => (await import('./verb.js')).said;`,
      'shared.js': `export const log = [];`,
      'run.js': `
        import { log } from './shared.js';
        import { both } from './both.js';
        log.push('run', both);
        export const ask = async () => (await import('./when-asked.js')).found;`,
      'both.js': `export const both = 'both';`,
      'when-asked.js': `export const found = import.meta.url;`,
      'verb.js': `import { both } from './both.js'; import { log } from './shared.js'; log.push('verb'); export const said = both;`,
    });
    writeBundle(folder.path, 'entry.js', folder.path, ['run.js'], NAMES);
    // What they are in is what they are in: the modules are gone.
    for (const name of readdirSync(folder.path)) if (name.endsWith('.js')) rmSync(folder.file(name));
    const require = module.createRequire(folder.file('first.cjs'));
    const loaded = (): string[] => Object.keys(require.cache).filter((file) => dirname(file) === folder.path);
    const { log, run, verb } = require('./first.cjs') as {
      readonly log: string[];
      readonly run: () => Promise<string>;
      readonly verb: () => Promise<string>;
    };
    assert.deepEqual(loaded(), [folder.file('first.cjs')]);
    assert.match(await run(), /\/when-asked\.js$/);
    assert.deepEqual(loaded().slice(1).sort(), [folder.file('second.cjs'), folder.file('third.cjs')]);
    assert.equal(await verb(), 'both');
    assert.deepEqual(log, ['run', 'both', 'verb']);
    assert.equal(loaded().length, 4);
  });
});

describe('guardbee', () => {
  /** The real entry between a bundle and modules that say which they are. */
  function program(t: TestContext, parts: { readonly bundle: boolean }): TemporaryDirectory {
    const says = (what: string): string => `asProgram = async () => { process.stdout.write('${what}'); return 6; }`;
    const folder = folderOf(t, {
      'package.json': `{ "type": "module" }`,
      'dist/src/cli/process.js': `export const ${says('modules')};`,
      ...(parts.bundle ? { 'dist/src/guardbee.cjs': `exports.${says('bundle')};` } : {}),
    });
    copyFileSync(GUARDBEE_ENTRY, folder.file('dist/src/cli/guardbee.js'));
    return folder;
  }

  async function whatRuns(folder: TemporaryDirectory, verb = 'check'): Promise<string> {
    const { code, stdout, stderr } = await runCommand(process.execPath, [
      folder.file('dist/src/cli/guardbee.js'),
      verb,
    ]);
    assert.equal(code, 6, stderr);
    return stdout;
  }

  test('is its bundle where it has one', async (t) => {
    assert.equal(await whatRuns(program(t, { bundle: true })), 'bundle');
    assert.equal(await whatRuns(program(t, { bundle: false })), 'modules');
  });

  test('does not load the 50 languages of a package whose messages nobody sees', async (t) => {
    const bundleFile = join(REPOSITORY, 'dist', 'src', 'guardbee.cjs');
    const folder = folderOf(t, { 'policy.yaml': 'version: 1\n' });
    const script = [
      `const { asProgram } = require(${JSON.stringify(bundleFile)});`,
      `asProgram(['check', ${JSON.stringify(folder.file('policy.yaml'))}]).then(() => {`,
      `  console.log(Object.keys(require.cache).filter((file) => /zod/.test(file)).join('\\n'));`,
      `});`,
    ];
    const { stdout } = await runCommand(process.execPath, ['-e', script.join('')]);
    assert.match(stdout, /zod[\\/]index\.cjs/);
    assert.match(stdout, /locales[\\/]en\.cjs/);
    assert.doesNotMatch(stdout, /locales[\\/]de\.cjs/);
  });

  for (const record of ['.tsbuildinfo', '.tsbuildinfo-program']) {
    test(`is never older than what the compiler wrote last (${record})`, async (t) => {
      const folder = program(t, { bundle: true });
      writeFileIn(folder, `dist/${record}`, '{}');
      utimesSync(folder.file('dist/src/guardbee.cjs'), 1000, 1000);
      utimesSync(folder.file(`dist/${record}`), 999, 999);
      assert.equal(await whatRuns(folder), 'bundle');
      utimesSync(folder.file(`dist/${record}`), 1001, 1001);
      assert.equal(await whatRuns(folder), 'modules');
    });
  }

  // Node 20 has nothing of the kind: there it has to run all the same.
  const able = 'enableCompileCache' in module;
  const cases = [
    { title: 'keeps what run compiled where the build has made a place', mode: 0o700, verb: 'run', keeps: able },
    { title: 'keeps nothing of other verbs, which compile less', mode: 0o700, verb: 'check', keeps: false },
    { title: 'keeps nothing where others may look or write', mode: 0o770, verb: 'run', keeps: false },
    { title: 'makes no place by itself', mode: null, verb: 'run', keeps: false },
  ];
  for (const { title, mode, verb, keeps } of cases) {
    test(title, async (t) => {
      const folder = program(t, { bundle: true });
      const cache = folder.file('dist/.compile-cache');
      if (mode !== null) {
        mkdirSync(cache);
        chmodSync(cache, mode);
      }
      assert.equal(await whatRuns(folder, verb), 'bundle');
      const kept = existsSync(cache) ? readdirSync(cache, { recursive: true }) : [];
      assert.equal(kept.length > 0, keeps, kept.join(' '));
      assert.equal(await whatRuns(folder, verb), 'bundle', 'the second time too');
    });
  }
});
