import { type KeyObject, createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { chmod, lstat, mkdir } from 'node:fs/promises';
import * as path from 'node:path';
import { readStateFile, replaceStateFile, why } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import type { Seal } from './record.js';

/** Below the state directory. */
export const KEY_FOLDER = 'audit';
const KEY_FILE = 'key.pem';
/** Beside the segments, for whoever verifies them. */
export const PUBLIC_KEY_FILE = 'audit.pub.pem';
const LONGEST_KEY = 16 * 1024;

/** What a checkpoint says of its key: first 16 hex digits of the SHA-256 of the public key (SPKI, DER). */
export function keyId(publicKey: KeyObject): string {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 16);
}

/**
 * The Ed25519 key (RFC 8032) that signs checkpoints. It lives in the state directory and not beside the segments, so that
 * who may write those cannot sign for them.
 */
export class SigningKey implements Seal {
  readonly key: string;
  readonly #private: KeyObject;

  private constructor(privateKey: KeyObject) {
    this.#private = privateKey;
    this.key = keyId(createPublicKey(privateKey));
  }

  /** Made at the first start. @throws StateError */
  static async open(stateDir: string, auditDir: string): Promise<SigningKey> {
    const folder = path.join(stateDir, KEY_FOLDER);
    const file = path.join(folder, KEY_FILE);
    const pem = await readOwn(folder, file);
    let privateKey: KeyObject;
    if (pem === null) {
      privateKey = generateKeyPairSync('ed25519').privateKey;
      await replaceStateFile(file, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
    } else {
      privateKey = parse(file, pem);
    }
    const own = new SigningKey(privateKey);
    await own.publish(auditDir);
    return own;
  }

  /** Puts the public key beside the segments. @throws StateError */
  async publish(auditDir: string): Promise<void> {
    const publicFile = path.join(auditDir, PUBLIC_KEY_FILE);
    const publicPem = createPublicKey(this.#private).export({ type: 'spki', format: 'pem' }).toString();
    const there = await readStateFile(publicFile, LONGEST_KEY);
    if (there?.toString('latin1') !== publicPem) await replaceStateFile(publicFile, publicPem);
    // Whoever verifies is seldom the user that writes.
    await chmod(publicFile, 0o644).catch(() => undefined);
  }

  sign(text: string): string {
    return sign(null, Buffer.from(text, 'utf8'), this.#private).toString('base64');
  }
}

async function readOwn(folder: string, file: string): Promise<Buffer | null> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const found = await lstat(file).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
      throw error;
    });
    if (found === null) return null;
    if (!found.isFile()) throw new StateError(`${file} is not a file`);
    if ((found.mode & 0o077) !== 0) {
      throw new StateError(
        `${file} can be read or changed by others (mode 0${(found.mode & 0o777).toString(8)}); run chmod 600 on it`,
      );
    }
  } catch (error) {
    throw error instanceof StateError ? error : new StateError(`${file} cannot be read: ${why(error)}`);
  }
  return await readStateFile(file, LONGEST_KEY);
}

function parse(file: string, pem: Buffer): KeyObject {
  const advice = 'put it back, or move it away: another is made then, and the trail says so';
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(pem);
  } catch {
    // Never the error itself, which may show what it read.
    throw new StateError(`${file} holds no private key; ${advice}`);
  }
  if (privateKey.asymmetricKeyType !== 'ed25519') throw new StateError(`${file} holds no Ed25519 key; ${advice}`);
  return privateKey;
}
