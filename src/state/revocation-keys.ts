import { createHash } from 'node:crypto';
import type { Revocable } from '../identity/identity.js';
import type { RedisSettings, RevocationSettings } from '../policy/policy.js';
import type { Revocation } from './store.js';

/** A key of the shared store. `foreign`: its form is the policy's, so somebody else may write it, and as any type. */
export interface StoreKey {
  readonly text: string;
  readonly foreign: boolean;
}

/** The keys under which a credential may be void. */
export interface RevocableKeys {
  readonly jti: StoreKey | null;
  readonly subject: StoreKey | null;
}

/** Longer names stand as their digest: keys of Redis are cheap up to about this length. */
const LONGEST_NAME = 256;

/**
 * How revocations are called in Redis: `PREFIXrevoked:jti:ISSUER:JTI` and `PREFIXrevoked:sub:ISSUER:SUBJECT`, where
 * ISSUER is the first 16 hex digits of its SHA-256, so that no issuer's text can reach into another's names. Where the
 * policy has a form of its own (`jwt:revoked:{jti}`), that is used for `jti`, as it stands.
 */
export class RevocationKeys {
  readonly #prefix: string;

  constructor(settings: RedisSettings) {
    this.#prefix = settings.prefix;
  }

  /** Random text that shows whether the store is still the one that it was. */
  get sentinel(): string {
    return `${this.#prefix}sentinel`;
  }

  of(revocable: Revocable): RevocableKeys {
    const { issuer, jti, subject, settings } = revocable;
    return {
      jti: jti === null ? null : this.#jti(issuer, jti, settings),
      subject: subject === null ? null : this.#subject(issuer, subject),
    };
  }

  for(revocation: Revocation, settings: RevocationSettings): StoreKey {
    return revocation.kind === 'jti'
      ? this.#jti(revocation.issuer, revocation.jti, settings)
      : this.#subject(revocation.issuer, revocation.subject);
  }

  #jti(issuer: string, jti: string, settings: RevocationSettings): StoreKey {
    if (settings.key === null) return { text: this.#own('jti', issuer, jti), foreign: false };
    // One pass: what stands in a jti is not a place to put an issuer.
    const text = settings.key.replace(/\{(jti|issuer)\}/g, (_whole, name) => (name === 'jti' ? jti : issuer));
    return { text, foreign: true };
  }

  #subject(issuer: string, subject: string): StoreKey {
    return { text: this.#own('sub', issuer, subject), foreign: false };
  }

  #own(kind: 'jti' | 'sub', issuer: string, name: string): string {
    const short = name.length <= LONGEST_NAME ? name : `sha256:${sha256(name)}`;
    return `${this.#prefix}revoked:${kind}:${sha256(issuer).slice(0, 16)}:${short}`;
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
