import { randomBytes } from 'node:crypto';
import { sha256Hex } from '../secret/digest.js';

export interface Minted {
  readonly token: string;
  /** 64 lowercase hex digits. */
  readonly sha256: string;
}

/** 256 bits, behind a prefix that secret scanners and our own log know. */
export function mintToken(): Minted {
  const token = `gbee_${randomBytes(32).toString('base64url')}`;
  return { token, sha256: sha256Hex(token) };
}
