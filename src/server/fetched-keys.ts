import { JwksSource } from '../identity/jwks.js';
import { FileKeys, type KeySource } from '../identity/key-source.js';
import type { Log } from '../observe/log.js';
import { constant } from '../observe/redact.js';
import type { JwtAuthenticator, Policy } from '../policy/policy.js';

/** By the name of the authenticator. */
export type FetchedKeys = ReadonlyMap<string, JwksSource>;

/** Sources of the keys that are fetched; listening does not wait for them. One that was there goes on. */
export function fetchedKeysOf(policy: Policy, before: FetchedKeys | null, log: Log): FetchedKeys {
  const sources = new Map<string, JwksSource>();
  for (const authenticator of policy.authenticators.values()) {
    if (authenticator.type !== 'jwt' || authenticator.keys.kind !== 'url') continue;
    const { name } = authenticator;
    const { url } = authenticator.keys;
    const known = before?.get(name);
    if (known?.url === url) {
      sources.set(name, known);
      continue;
    }
    const source = new JwksSource({
      url,
      onFetched: (fetched) => {
        const fields = { 'guardbee.authenticator': constant(name) };
        if (fetched.ok) {
          log.debug('jwks.fetched', 'keys were fetched', { ...fields, 'guardbee.keys': fetched.keys.length });
        } else {
          log.warn('jwks.failed', `the keys of authenticator "${name}" could not be fetched: ${fetched.fault}`, {
            ...fields,
            'guardbee.reason': constant(fetched.fault),
          });
        }
      },
    });
    sources.set(name, source);
  }
  return sources;
}

export function keysOf(keys: JwtAuthenticator['keys'], fetched: JwksSource | undefined): KeySource {
  if (keys.kind === 'url' && fetched !== undefined) return fetched;
  return new FileKeys(keys.kind === 'file' ? keys.keys : []);
}
