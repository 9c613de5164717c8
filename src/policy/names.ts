import type { DocumentNode } from './document.js';
import type { Draft } from './draft.js';
import type { Material } from './material.js';
import type { PolicyFile } from './schema.js';
import type { Validated } from './validate.js';

/**
 * The names a policy declares, those of broken entries included: a role whose list is broken is still no unknown role.
 */
export interface DeclaredNames {
  readonly listeners: ReadonlySet<string>;
  readonly authenticators: ReadonlySet<string>;
  readonly roles: ReadonlySet<string>;
  /** Permissions of roles and of tokens. */
  readonly permissions: ReadonlySet<string>;
  /** False where something that may declare roles could not be read: then no role is said to be unknown. */
  readonly allRoles: boolean;
  /** The same for permissions. */
  readonly allPermissions: boolean;
  /** False where tokens exist that could not be read: then nobody is said to hold nothing. */
  readonly allTokens: boolean;
}

export function declaredNames(validated: Validated<PolicyFile>, material: Material): DeclaredNames {
  const tree = validated.tree;
  const permissions = new Set<string>();
  const rolesNode = tree?.get('roles') ?? null;
  let allPermissions = rolesNode !== null || tree?.dropped.has('roles') !== true;
  if (rolesNode !== null) allPermissions = gatherEntries(rolesNode.origin, permissions) && allPermissions;

  let allTokens = tree?.dropped.has('authenticators') !== true;
  for (const authenticator of tree?.get('authenticators')?.entries.values() ?? []) {
    const lists: (Draft | null)[] = [authenticator.get('tokens')];
    if (authenticator.declares('tokens_file')) {
      const file = authenticator.get('tokens_file');
      const read = file === null ? undefined : material.tokensFiles.get(file);
      lists.push(read?.tree?.get('tokens') ?? null);
      if (read?.tree?.get('tokens') == null) allTokens = false;
    }
    if (authenticator.dropped.has('tokens')) allTokens = false;
    for (const list of lists) {
      if (list === null) continue;
      if (list.tainted) allTokens = false;
      for (const token of list.items) {
        const own = token.get('permissions');
        if (own !== null) gather(own.origin, permissions);
        if (token.dropped.has('permissions')) allTokens = false;
      }
    }
  }
  if ((tree?.get('authenticators')?.dropped.size ?? 0) > 0) allTokens = false;
  const keys = (section: string): Set<string> => {
    const node = tree?.get(section);
    return new Set([...(node?.entries.keys() ?? []), ...(node?.dropped ?? [])]);
  };
  return {
    listeners: keys('listeners'),
    authenticators: keys('authenticators'),
    roles: keys('roles'),
    permissions,
    allRoles: tree?.dropped.has('roles') !== true,
    allPermissions: allPermissions && allTokens,
    allTokens,
  };
}

function gatherEntries(node: DocumentNode, into: Set<string>): boolean {
  if (node.kind !== 'map') return false;
  let all = true;
  for (const entry of node.entries.values()) all = gather(entry, into) && all;
  return all;
}

/** Every text in a list, or the text itself. False when something else stands there. */
function gather(node: DocumentNode, into: Set<string>): boolean {
  if (node.kind === 'scalar') {
    if (typeof node.value === 'string') into.add(node.value);
    return typeof node.value === 'string';
  }
  if (node.kind !== 'list') return false;
  let all = true;
  for (const item of node.items) all = gather(item, into) && all;
  return all;
}
