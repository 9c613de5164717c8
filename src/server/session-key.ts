/**
 * The secret that session keys are derived from where the policy names none: `session-key` in the state directory, 32
 * random bytes that nobody else may read, made once.
 */
import { type KeyObject, createSecretKey, randomBytes } from 'node:crypto';
import { link, mkdir, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type SessionKey, sessionKey } from '../identity/session.js';
import type { Policy } from '../policy/policy.js';
import { currentReader, readFile } from '../secret/files.js';
import type { Secret } from '../secret/secret.js';

const BYTES = 32;

/** The secret cannot be had. The message is one sentence for the operator, with the file and the fix. */
export class SessionKeyError extends Error {
  override readonly name = 'SessionKeyError';
}

/** @throws SessionKeyError */
export async function ensureSessionKey(stateDir: string): Promise<KeyObject> {
  const file = join(stateDir, 'session-key');
  const found = await read(file);
  if (found !== null) return found;
  await make(stateDir, file);
  // Another process may have been first: what is in the file counts.
  const made = await read(file);
  if (made === null) throw new SessionKeyError(`${file}: it is gone as soon as it was made`);
  return made;
}

async function read(file: string): Promise<KeyObject | null> {
  const { bytes, fault } = await readFile(file, 'private', BYTES, currentReader(process.env));
  try {
    switch (fault?.kind) {
      case 'missing':
        return null;
      case 'too_open':
        throw new SessionKeyError(
          `${file}: ${fault.why} (mode ${fault.mode}), and with it begin sessions as anyone; ${fault.fix}, or remove it to end all sessions`,
        );
      case 'unreadable':
        throw new SessionKeyError(`${file}: it cannot be read: ${fault.why}`);
      case 'not_a_file':
        throw new SessionKeyError(`${file}: it is ${fault.what}, not a file`);
      case undefined:
      case 'too_large':
        break;
    }
    if (bytes?.length !== BYTES) {
      throw new SessionKeyError(
        `${file}: it is not the ${String(BYTES)} bytes that guardbee wrote; remove it, which ends all sessions`,
      );
    }
    return createSecretKey(bytes);
  } finally {
    bytes?.fill(0);
  }
}

/** The whole file or none, and never over one that is there: written aside, then linked (which fails where one is). */
async function make(stateDir: string, file: string): Promise<void> {
  const aside = `${file}.${randomBytes(8).toString('hex')}.tmp`;
  const bytes = randomBytes(BYTES);
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const handle = await open(aside, 'wx', 0o600);
    try {
      await handle.writeFile(bytes);
      // The mode given to open() is narrowed by the umask; this one is not.
      await handle.chmod(0o600);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await link(aside, file).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  } catch (error) {
    throw new SessionKeyError(`${file}: it cannot be written (${codeOf(error)})`);
  } finally {
    bytes.fill(0);
    await unlink(aside).catch(() => undefined);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}

/**
 * The ring of every listener with sessions, by its name; the first key of each signs.
 *
 * @throws SessionKeyError
 */
export async function sessionRings(policy: Policy): Promise<ReadonlyMap<string, readonly SessionKey[]>> {
  const rings = new Map<string, readonly SessionKey[]>();
  let own: KeyObject | null = null;
  for (const listener of policy.listeners) {
    if (listener.type !== 'http' || listener.sessions === null) continue;
    const { keys } = listener.sessions;
    if (keys.length > 0) {
      rings.set(listener.name, ringOf(keys, listener.name));
      continue;
    }
    own ??= await ensureSessionKey(policy.stateDir);
    rings.set(listener.name, [sessionKey(own, listener.name)]);
  }
  return rings;
}

/**
 * The same for a policy that is tried beside another, for which no key is made: a listener without `keys` has the ring
 * that it would have in the state directory of the other, where both name the same. Others are left out.
 */
export function shadowRings(
  policy: Policy,
  first: Policy,
  rings: ReadonlyMap<string, readonly SessionKey[]>,
): ReadonlyMap<string, readonly SessionKey[]> {
  const found = new Map<string, readonly SessionKey[]>();
  for (const listener of policy.listeners) {
    if (listener.type !== 'http' || listener.sessions === null) continue;
    const { name, sessions } = listener;
    const namesake = first.listeners.find((one) => one.name === name);
    const made = namesake?.type === 'http' && namesake.sessions?.keys.length === 0 ? rings.get(name) : undefined;
    if (sessions.keys.length > 0) found.set(name, ringOf(sessions.keys, name));
    else if (made !== undefined && policy.stateDir === first.stateDir) found.set(name, made);
  }
  return found;
}

function ringOf(keys: readonly Secret[], listener: string): readonly SessionKey[] {
  return keys.map((key) => sessionKey(createSecretKey(key.reveal(), 'utf8'), listener));
}
