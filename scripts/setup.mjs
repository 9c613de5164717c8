/**
 * What `npm start` and `npm test` do before anything else: install what is missing, build what is stale. Node's own
 * modules only, since nothing else may be there yet. When there is nothing to do it costs a few milliseconds: one
 * hash of the lockfile and one `stat` for each source file.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Where `guardbee run` has Node keep what it compiled (src/cli/guardbee.ts); what an older build left there is of no use. */
const COMPILE_CACHE = join(ROOT, 'dist', '.compile-cache');
const OLDEST_NODE = [20, 18, 1];
const INSTALL_STAMP = join(ROOT, 'node_modules', '.guardbee-install');
const DIST = join(ROOT, 'dist');
const ENTRY = join(DIST, 'src', 'cli', 'guardbee.js');
/**
 * The program in few files, made of the modules (bundle.mjs): what every verb needs, what `run` does, what other verbs do. `run` is
 * read in pieces, since glibc gives back no block that is smaller than the largest that was ever freed (mallopt(3), M_MMAP_THRESHOLD).
 */
export const BUNDLE = {
  first: 'guardbee.cjs',
  staying: [1, 2, 3, 4, 5, 6].map((piece) => `guardbee-run-${piece}.cjs`),
  rest: 'guardbee-verbs.cjs',
};
const BUNDLE_FILES = [BUNDLE.first, ...BUNDLE.staying, BUNDLE.rest].map((name) => join(DIST, 'src', name));

/** What can be built: the program alone, or the tests and benchmarks too. */
const BUILDS = {
  program: { project: 'tsconfig.build.json', folders: ['src'], info: '.tsbuildinfo-program' },
  all: { project: 'tsconfig.json', folders: ['src', 'test', 'bench'], info: '.tsbuildinfo' },
};

/** Ends the process with a sentence where Node is too old for the program. */
export function requireNode() {
  const have = process.versions.node.split('.').map(Number);
  for (const [index, wanted] of OLDEST_NODE.entries()) {
    if (have[index] > wanted) return;
    if (have[index] < wanted) {
      process.stderr.write(
        `guardbee needs Node.js ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node} (${process.execPath}).\n`,
      );
      process.exit(2);
    }
  }
}

/**
 * Installs and builds as needed; returns what it did.
 * @param {{ build?: keyof typeof BUILDS, checked?: boolean }} [options] `checked: false` leaves the types to the linters
 */
export async function setup({ build = 'all', checked = true } = {}) {
  requireNode();
  const lock = digest(readFileSync(join(ROOT, 'package-lock.json')));
  const installed = readText(INSTALL_STAMP) !== lock && (await install(lock));
  const built = await buildStale(build, lock, checked);
  return { installed, built };
}

/** Builds whether or not anything has changed. */
export async function buildAnew(build, checked = true) {
  rmSync(join(DIST, BUILDS[build].info), { force: true });
  rmSync(stampFile(build), { force: true });
  return await setup({ build, checked });
}

async function install(lock) {
  // Someone may have run `npm install` by hand: then all is there, and only our stamp is missing.
  if (!matchesLockfile()) {
    // Development packages hold the compiler, so they are needed whatever NODE_ENV says.
    const npm = process.env['npm_execpath'];
    const args = ['ci', '--include=dev', '--loglevel=error'];
    const windows = process.platform === 'win32';
    await step('Installing packages', () =>
      npm?.endsWith('.js')
        ? run(process.execPath, [npm, ...args])
        : run(windows ? 'npm.cmd' : 'npm', args, { shell: windows }),
    );
  }
  writeFileSync(INSTALL_STAMP, lock);
  return true;
}

/** Whether what is installed, by npm's own record, is what the lockfile asks for. */
function matchesLockfile() {
  const record = readText(join(ROOT, 'node_modules', '.package-lock.json'));
  if (record === null) return false;
  const have = JSON.parse(record).packages;
  const wanted = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' ||
      (entry.optional === true && have[path] === undefined) ||
      (have[path]?.version === entry.version && have[path]?.integrity === entry.integrity),
  );
}

async function buildStale(build, lock, checked) {
  const { project, folders, info } = BUILDS[build];
  // Taken before the compiler runs: a file that changes meanwhile makes another build, never a stale one.
  const before = fingerprint(folders, lock);
  if (readText(stampFile(build)) === before && existsSync(ENTRY) && BUNDLE_FILES.every((file) => existsSync(file)))
    return false;
  const program = build === 'program' ? before : fingerprint(BUILDS.program.folders, lock);
  await step('Building', async () => {
    await compile(project, checked);
    // The compiler trusts its record of what it wrote. Where an output was removed by hand, have it write them all.
    if (sources(folders).some((file) => !file.endsWith('.d.ts') && !existsSync(outputOf(file)))) {
      rmSync(join(DIST, info), { force: true });
      await compile(project, checked);
    }
    for (const folder of folders) removeStray(join(DIST, folder), join(ROOT, folder));
    // In a process of its own: the compiler would stay in the memory of the program that is started next.
    await run(process.execPath, [join(ROOT, 'scripts', 'bundle.mjs')]);
  });
  if (existsSync(ENTRY)) chmodSync(ENTRY, 0o755);
  rmSync(COMPILE_CACHE, { recursive: true, force: true });
  mkdirSync(COMPILE_CACHE, { recursive: true, mode: 0o700 });
  writeFileSync(stampFile(build), before);
  // Building all has built the program.
  writeFileSync(stampFile('program'), program);
  return true;
}

const stampFile = (build) => join(DIST, `.stamp-${build}`);

const compile = (project, checked) =>
  run(process.execPath, [
    join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'),
    '--project',
    join(ROOT, project),
    ...(checked ? [] : ['--noCheck']),
  ]);

/** Paths, times and sizes of all that goes into a build; contents are not read. */
function fingerprint(folders, lock) {
  const files = [...sources(folders), join(ROOT, 'tsconfig.json'), join(ROOT, 'tsconfig.build.json')];
  const lines = files.map((file) => {
    const { mtimeMs, size } = statSync(file);
    return `${file} ${mtimeMs} ${size}`;
  });
  return digest([lock, ...lines].join('\n'));
}

function sources(folders) {
  return folders.flatMap((folder) => walk(join(ROOT, folder))).filter((file) => file.endsWith('.ts'));
}

const outputOf = (source) => join(DIST, source.slice(ROOT.length)).replace(/\.ts$/, '.js');

/** All files below a folder, none where there is no folder. */
export function walk(folder) {
  const entries = existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : [];
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
}

/** Removes outputs whose source is gone: a deleted test would otherwise go on running. */
function removeStray(outputs, folder) {
  if (!existsSync(outputs)) return;
  for (const entry of readdirSync(outputs, { withFileTypes: true })) {
    const path = join(outputs, entry.name);
    if (entry.isDirectory()) {
      removeStray(path, join(folder, entry.name));
      if (readdirSync(path).length === 0) rmdirSync(path);
    } else if (!BUNDLE_FILES.includes(path) && !existsSync(join(folder, entry.name.replace(/\.js(\.map)?$/, '.ts')))) {
      rmSync(path);
    }
  }
}

const digest = (data) => createHash('sha256').update(data).digest('hex');

function readText(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

/** Runs a command with its output on stderr (stdout belongs to the program); rejects unless it exits with 0. */
export async function run(command, args, options = {}) {
  const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', process.stderr, process.stderr], ...options });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new StepFailure(code ?? 1);
}

/** A step that has already said on stderr what went wrong. */
export class StepFailure extends Error {
  constructor(code) {
    super(`failed with exit code ${String(code)}`);
    this.code = code;
  }
}

/** Tells on stderr what is being done: one line in a pipe, a line that counts seconds on a terminal. */
export async function step(title, work) {
  const { stderr } = process;
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  if (!stderr.isTTY) {
    stderr.write(`${title} …\n`);
    return await work();
  }
  const draw = (mark) => stderr.write(`\r\x1b[K${mark} ${title} ${seconds()}`);
  draw('…');
  const timer = setInterval(() => draw('…'), 100);
  try {
    const result = await work();
    draw('✔');
    return result;
  } catch (error) {
    draw('✖');
    throw error;
  } finally {
    clearInterval(timer);
    stderr.write('\n');
  }
}

/** Runs a script's main function; a failed step ends it with that step's exit code and no stack. */
export async function main(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error;
    process.exitCode = error.code;
  }
}
