/** `type: network`, and `local_identity`: callers that can send nothing, and are known by where they are. */
import { compileHolder } from './compile-holder.js';
import type { HolderContext, HolderEntry } from './compile-holder.js';
import type { Draft } from './draft.js';
import type { Material } from './material.js';
import type { Holder, NetworkAuthenticator } from './policy.js';
import type { AuthenticatorEntry } from './schema.js';

type NetworkEntry = Extract<AuthenticatorEntry, { type: 'network' }>;

export function compileNetwork(
  name: string,
  entry: NetworkEntry,
  node: Draft,
  context: HolderContext & { readonly material: Material },
): { readonly authenticator: NetworkAuthenticator; readonly holders: readonly Holder[] } {
  const { findings } = context;
  const { gateways } = context.material;
  const hosts = new Map<string, Holder>();
  const lines = new Map<string, number>();
  if (gateways === null) {
    findings.warn(
      'gateway_unknown',
      node,
      'key',
      "this machine's default gateway cannot be found out (/proc/net/route cannot be read), so none of these addresses was compared with it",
      'make sure that none of them is a router: it may speak for everyone behind it',
    );
  }
  for (const [index, one] of entry.identities.entries()) {
    const at = node.at(['identities', index]);
    if (at === null) continue;
    const holder = compileHolder(one, at, context);
    const line = lines.get(one.from);
    if (line !== undefined) {
      findings.error(
        'duplicate_identity',
        at.get('from'),
        'value',
        `${one.from} stands twice, the first is in line ${String(line)}: one host would be two callers`,
        'remove one of them',
      );
      continue;
    }
    if (gateways?.has(one.from) === true) {
      findings.error(
        'gateway_identity',
        at.get('from'),
        'value',
        `${one.from} is the default gateway of this machine: whoever it passes on with its own address would be this caller`,
        'give that caller a token or a certificate',
      );
    }
    lines.set(one.from, at.origin.at.line);
    hosts.set(one.from, holder);
  }
  return {
    authenticator: {
      type: 'network',
      name,
      realm: entry.realm ?? 'guardbee',
      carriers: new Set(['address'] as const),
      hosts,
      local: null,
    },
    holders: [...hosts.values()],
  };
}

/** Its name in logs and in `explain`. */
export const LOCAL_IDENTITY = 'local_identity';

export function compileLocal(entry: HolderEntry, node: Draft, context: HolderContext): NetworkAuthenticator {
  return {
    type: 'network',
    name: LOCAL_IDENTITY,
    realm: 'guardbee',
    carriers: new Set(['address'] as const),
    hosts: new Map(),
    local: compileHolder(entry, node, context),
  };
}
