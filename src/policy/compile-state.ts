import { isLoopback, parseAddress } from '../net/address.js';
import { Secret } from '../secret/secret.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { Material } from './material.js';
import type { Authenticator, RedisSettings } from './policy.js';
import type { PolicyFile } from './schema.js';

const FORM = 'redis://[user:password@]host[:port][/database], or rediss:// for TLS';

export function compileRedis(
  file: PolicyFile,
  tree: Draft,
  material: Material,
  findings: Findings,
): RedisSettings | null {
  const state = tree.get('state');
  if (state !== null && !state.declares('dir') && !state.declares('redis')) {
    findings.missing(
      state,
      'dir',
      'missing, needed is dir, redis or both',
      'write dir: /var/lib/guardbee, or remove state',
    );
  }
  const written = file.state?.redis;
  const node = tree.at(['state', 'redis', 'url']);
  if (written === undefined || node === null) return null;
  const prefix = written.prefix ?? 'guardbee:';
  const bytes = material.secrets.get(node);
  // Nothing was read: what is wrong with it has been said, or secrets were not asked for.
  if (bytes === undefined) return { url: Secret.fromText(''), prefix };
  const problem = redisUrlProblem(bytes.toString('utf8'));
  if (problem !== null) {
    findings.error(
      'secret_malformed',
      node,
      'value',
      `the secret is no URL of a Redis: ${problem}; allowed is ${FORM}`,
    );
  } else if (crossesNetworkOpenly(bytes.toString('utf8'))) {
    findings.warn(
      'redis_unencrypted',
      node,
      'value',
      'whoever is on the way to this Redis can read its password, and can say that nothing is revoked',
      'use rediss://, or a Redis on this machine',
    );
  }
  return { url: Secret.fromBytes(bytes), prefix };
}

/** Never repeats any of the text, which holds a password. Null: nothing is wrong. */
function redisUrlProblem(text: string): string | null {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return 'it cannot be read as one (characters such as @ and / in the password are written as %40 and %2F)';
  }
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') return 'it begins with neither redis:// nor rediss://';
  if (url.hostname === '') return 'it names no host';
  if (!/^\/?(?:[0-9]{1,5})?$/.test(url.pathname)) return 'what follows the host is no number of a database';
  if (url.search !== '' || url.hash !== '') return 'there is something after the database';
  try {
    decodeURIComponent(url.username + url.password);
  } catch {
    return 'the password holds a "%" that is not written as %25';
  }
  return null;
}

function crossesNetworkOpenly(text: string): boolean {
  const { protocol, hostname } = new URL(text);
  if (protocol !== 'redis:' || hostname === 'localhost') return false;
  const address = parseAddress(hostname.replace(/^\[(.*)\]$/, '$1'));
  return address === null || !isLoopback(address);
}

/** A shared store needs a place to be. */
export function checkRevocation(
  tree: Draft,
  authenticators: ReadonlyMap<string, Authenticator>,
  findings: Findings,
): void {
  if (tree.get('state')?.declares('redis') === true) return;
  for (const [name, authenticator] of authenticators) {
    if (authenticator.type !== 'jwt' || authenticator.revocation?.store !== 'shared') continue;
    findings.error(
      'missing_key',
      tree.at(['authenticators', name, 'revocation']),
      'key',
      'revocations that are shared need a Redis, and the policy has none',
      'write state: { redis: { url: { file: PATH } } }, or leave revocation out to keep them in the state directory',
    );
  }
}
