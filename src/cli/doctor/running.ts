import { readlink } from 'node:fs/promises';
import { askControl } from '../../server/control.js';
import { StateError } from '../../state/store.js';

/** The guardbee that has the state directory, as it says itself through its control socket. */
export interface Running {
  /** Null where it is the id of another machine's or container's process, whose files under /proc cannot be seen here. */
  readonly pid: number | null;
  /** Of the policy that it runs with, as `Policy.version`. */
  readonly version: string;
}

/** It knows what it is asked without a look. */
const PATIENCE_MS = 1000;

/** Null: none runs there, or it does not answer, or we may not ask. */
export async function findRunning(stateDir: string): Promise<Running | null> {
  let answer: Awaited<ReturnType<typeof askControl>>;
  try {
    answer = await askControl(stateDir, { cmd: 'status' }, PATIENCE_MS);
  } catch (error) {
    if (error instanceof StateError) return null;
    throw error;
  }
  if (answer?.ok !== true) return null;
  const { pid, version } = answer;
  if (typeof pid !== 'number' || typeof version !== 'string') return null;
  return { pid: (await isNodeHere(pid)) ? pid : null, version };
}

/** In another container the same number is somebody else. */
async function isNodeHere(pid: number): Promise<boolean> {
  const [theirs, ours] = await Promise.all(
    [pid, 'self'].map((one) => readlink(`/proc/${one}/ns/pid`).catch(() => null)),
  );
  return theirs !== null && theirs === ours;
}
