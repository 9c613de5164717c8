import * as path from 'node:path';
import type { RedisSettings } from '../policy/policy.js';
import { RedisError, RedisLink } from './redis-link.js';
import { RevocationKeys } from './revocation-keys.js';
import { SENTINEL_FILE, readSentinel } from './revocation-redis.js';
import { readStateFile } from './state-directory.js';
import { StateError } from './store.js';

/** How the sentinel is that shows an emptied store (see `RedisRevocations`). */
export type SentinelState =
  /** Nobody has kept revocations there yet. */
  | 'none'
  /** There, and none is remembered in the state directory: others use the store, this guardbee has not begun. */
  | 'of_others'
  | 'same'
  /** Another one, whose loss somebody has accepted. */
  | 'accepted'
  | 'missing'
  | 'another'
  /** What is remembered can't be read. */
  | 'unknown';

export type RedisLook =
  | { readonly kind: 'silent'; readonly why: string }
  | {
      readonly kind: 'answers';
      /** `Redis 7.0.15`; null where the user may not ask. */
      readonly version: string | null;
      readonly isReplica: boolean;
      /** Its `maxmemory-policy` where it drops keys when its memory is full; else null. */
      readonly evicts: string | null;
      readonly sentinel: SentinelState;
    };

/** Connects, asks and leaves; writes nothing, here or there. Never rejects, and nothing in it holds a secret. */
export async function lookAtRedis(settings: RedisSettings, stateDir: string): Promise<RedisLook> {
  let link: RedisLink | null = null;
  try {
    const why = await new Promise<string | null>((resolve) => {
      link = new RedisLink(settings, { ready: () => resolve(null), down: resolve });
      link.start();
    });
    if (why !== null) return { kind: 'silent', why };
    return await ask(link, settings, stateDir);
  } catch (error) {
    return { kind: 'silent', why: error instanceof RedisError ? error.message : 'unknown error' };
  } finally {
    (link as RedisLink | null)?.close();
  }
}

async function ask(link: RedisLink | null, settings: RedisSettings, stateDir: string): Promise<RedisLook> {
  if (link === null) throw new RedisError('there is no connection', null);
  const info = await link.send(['INFO']).then(String, (error: unknown) => {
    // A user that may not ask: then somebody has thought about this server. Without a password, nothing is answered.
    if (error instanceof RedisError && error.reply === 'NOPERM') return '';
    throw error;
  });
  const found = readSentinel(await link.send(['GET', new RevocationKeys(settings).sentinel]));
  const policy = line(info, 'maxmemory_policy', '[a-z-]{1,32}') ?? 'noeviction';
  return {
    kind: 'answers',
    version: versionIn(info),
    isReplica: line(info, 'role', '[a-z]{1,16}') === 'slave',
    evicts: (line(info, 'maxmemory', '[0-9]{1,20}') ?? '0') === '0' || policy === 'noeviction' ? null : policy,
    sentinel: await compare(found, path.join(stateDir, SENTINEL_FILE)),
  };
}

function line(info: string, name: string, form: string): string | null {
  return new RegExp(`^${name}:(${form})\\r?$`, 'm').exec(info)?.[1] ?? null;
}

function versionIn(info: string): string | null {
  const valkey = line(info, 'valkey_version', '[0-9.]{1,24}');
  if (valkey !== null) return `Valkey ${valkey}`;
  const redis = line(info, 'redis_version', '[0-9.]{1,24}');
  return redis === null ? null : `Redis ${redis}`;
}

async function compare(found: ReturnType<typeof readSentinel>, file: string): Promise<SentinelState> {
  let remembered: string | null;
  try {
    remembered = (await readStateFile(file, 4096))?.toString('latin1').trim() ?? null;
  } catch (error) {
    if (error instanceof StateError) return 'unknown';
    throw error;
  }
  if (remembered === null) return found === null ? 'none' : 'of_others';
  if (found === null) return 'missing';
  if (found.id === remembered) return 'same';
  return found.after === remembered ? 'accepted' : 'another';
}
