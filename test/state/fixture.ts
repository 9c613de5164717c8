import type { TestContext } from 'node:test';
import type { Revocable } from '../../src/identity/identity.js';
import type { RedisSettings, RevocationSettings } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { RedisRevocations } from '../../src/state/revocation-redis.js';
import type { StoreNotice } from '../../src/state/store.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

export const ISSUER = 'https://idp.example.com';
export const EMBEDDED: RevocationSettings = { store: 'embedded', key: null, onUnavailable: 'deny' };
export const SHARED: RevocationSettings = { store: 'shared', key: null, onUnavailable: 'deny' };
export const RBEE: RevocationSettings = { store: 'shared', key: 'jwt:revoked:{jti}', onUnavailable: 'deny' };

/** A token that is good for a quarter of an hour. */
export function revocable(keys: Partial<Revocable> = {}): Revocable {
  const nowMs = Date.now();
  return {
    settings: SHARED,
    issuer: ISSUER,
    jti: 'token-1',
    subject: 'keeper',
    issuedAtMs: nowMs - 60_000,
    expiresAtMs: nowMs + 900_000,
    ...keys,
  };
}

export interface Sidecar {
  readonly store: RedisRevocations;
  readonly notices: StoreNotice[];
  readonly dir: TemporaryDirectory;
}

/** The shared store as one sidecar has it. @param dir its state directory, where it had one before */
export async function sidecar(
  t: TestContext,
  url: string,
  dir = new TemporaryDirectory(t),
  patienceMs?: number,
): Promise<Sidecar> {
  const notices: StoreNotice[] = [];
  const settings: RedisSettings = { url: Secret.fromText(url), prefix: 'guardbee:' };
  const store = await RedisRevocations.open(settings, dir.path, (notice) => notices.push(notice), patienceMs);
  t.after(() => store.close());
  return { store, notices, dir };
}
