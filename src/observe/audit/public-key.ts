import { type KeyObject, createPublicKey } from 'node:crypto';
import * as path from 'node:path';
import { readStateFile } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import type { SeenHead } from './chain-check.js';
import { KEY_FOLDER, PUBLIC_KEY_FILE, keyId } from './signing-key.js';

const LONGEST_KEY = 16 * 1024;
const LONGEST_HEAD = 4096;

/** Keys that checkpoints are believed by, by their id. */
export type TrustedKeys = ReadonlyMap<string, KeyObject>;

/** Null: there is no such file. @throws StateError */
export async function readPublicKey(file: string): Promise<TrustedKeys | null> {
  const pem = await readStateFile(file, LONGEST_KEY);
  if (pem === null) return null;
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    // Never the error itself, which may show what it read.
    throw new StateError(`${file} holds no public key`);
  } finally {
    pem.fill(0);
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new StateError(`${file} holds no Ed25519 key`);
  return new Map([[keyId(key), key]]);
}

/** The one that guardbee signs with. Null: there is none yet. @throws StateError */
export async function readOwnKey(stateDir: string): Promise<TrustedKeys | null> {
  return await readPublicKey(path.join(stateDir, KEY_FOLDER, 'key.pem'));
}

/** The one beside the segments. */
export function publicKeyBeside(dir: string): string {
  return path.join(dir, PUBLIC_KEY_FILE);
}

/** What was signed last, as far as the state directory remembers. Null: it does not. @throws StateError */
export async function readOwnHead(stateDir: string): Promise<SeenHead | null> {
  const file = path.join(stateDir, KEY_FOLDER, 'head.json');
  const bytes = await readStateFile(file, LONGEST_HEAD);
  if (bytes === null) return null;
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    if (typeof value === 'object' && value !== null && 'seq' in value && 'hash' in value) {
      const { seq, hash } = value;
      if (typeof seq === 'number' && typeof hash === 'string') return { seq, hash, from: 'state' };
    }
  } catch {
    // Said below.
  }
  throw new StateError(`${file} is not as guardbee writes it`);
}
