import type { Holder, NetworkAuthenticator } from '../policy/policy.js';
import type { Identity } from './identity.js';
import type { Proof } from './provers.js';

/** An identity lives as long as the policy that names its holder. */
const identities = new WeakMap<Holder, Identity>();

/**
 * @param client canonical form, after trusted proxies
 * @param isLocal says whether the client is on this machine; asked where that may make it somebody
 * @returns null: this address is nobody's
 */
export function proveAddress(
  authenticator: NetworkAuthenticator,
  client: string,
  isLocal: () => boolean,
): Proof | null {
  const { hosts, local } = authenticator;
  const holder = hosts.get(client) ?? (local !== null && isLocal() ? local : null);
  if (holder === null) return null;
  let identity = identities.get(holder);
  if (identity === undefined) {
    identity = {
      ...holder,
      authenticator: authenticator.name,
      expiresAtMs: Number.POSITIVE_INFINITY,
      revocables: [],
    };
    identities.set(holder, identity);
  }
  return { ok: true, identity };
}
