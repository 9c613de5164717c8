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
