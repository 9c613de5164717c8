#!/usr/bin/env node
import type * as Program from './process.js';
import type { ProcessVoice } from './voice.js';

// Node opens its inspector, and with it this process's memory, to whoever sends SIGUSR1, unless somebody listens for
// the signal. So this stands before everything else, and everything else is imported later.
process.on('SIGUSR1', () => undefined);

/**
 * `guardbee VERB …`: resolves to the exit code. Never rejects, and prints no stack: a stack repeats the message of its
 * error, which may hold what a request or a file held.
 *
 * @param argv without node and script
 * @param voice the process's own when left out
 */
export async function main(argv: readonly string[], voice?: ProcessVoice): Promise<number> {
  const { perform } = await import('./program.js');
  return await perform(argv, voice);
}

/** The same for a process that is nothing else: out of one file where the build has made one (scripts/bundle.mjs). */
export async function asProgram(argv: readonly string[]): Promise<number> {
  if (argv[0] === 'run') await keepCompiled();
  const program = (await bundled()) ?? (await import('./process.js'));
  return await program.asProgram(argv);
}

const RECORDS = ['../../.tsbuildinfo', '../../.tsbuildinfo-program'] as const;

if (await isEntry()) process.exitCode = await asProgram(process.argv.slice(2));

/** Is this file what node was asked to run. npm's bins are symbolic links to it. */
async function isEntry(): Promise<boolean> {
  const [, script] = process.argv;
  if (script === undefined) return false;
  const { realpathSync } = await import('node:fs');
  const { fileURLToPath } = await import('node:url');
  try {
    return realpathSync(script) === realpathSync(fileURLToPath(import.meta.url));
  } catch {
    // `node -e`, or a script that is gone.
    return false;
  }
}

/** Null where there is no bundle, or where the compiler, called by itself, has written newer modules since. */
async function bundled(): Promise<typeof Program | null> {
  const { statSync } = await import('node:fs');
  const { createRequire } = await import('node:module');
  const writtenMs = (path: string): number =>
    statSync(new URL(path, import.meta.url), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const bundle = writtenMs('../guardbee.cjs');
  // What the compiler notes about its work, each time it has done some. A package that is installed has no such notes.
  if (bundle === 0 || RECORDS.some((record) => writtenMs(record) > bundle)) return null;
  return createRequire(import.meta.url)('../guardbee.cjs') as typeof Program;
}

/**
 * Has Node keep for the next start what it compiles in this one, where Node can (22.8) and the build has made a directory
 * for it. Only for `run`: what is kept is what the first process had compiled when it ended. What is kept is code, so
 * nobody else may be able to write there; without it a start takes longer, and that is all.
 */
async function keepCompiled(): Promise<void> {
  const { lstatSync } = await import('node:fs');
  const { enableCompileCache } = (await import('node:module')) as {
    enableCompileCache?: (directory: string) => unknown;
  };
  const directory = new URL('../../.compile-cache', import.meta.url);
  const found = lstatSync(directory, { throwIfNoEntry: false });
  const ours = found?.isDirectory() === true && (found.mode & 0o077) === 0 && found.uid === process.getuid?.();
  if (!ours) return;
  const { fileURLToPath } = await import('node:url');
  enableCompileCache?.(fileURLToPath(directory));
}
