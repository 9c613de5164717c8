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
  /** Permissions of roles, of tokens, and of whoever else has a name. */
  readonly permissions: ReadonlySet<string>;
  /** False where something that may declare roles could not be read: then no role is said to be unknown. */
  readonly allRoles: boolean;
  /** The same for permissions. */
  readonly allPermissions: boolean;
  /** False where tokens or identities exist that could not be read: then nobody is said to hold nothing. */
  readonly allTokens: boolean;
}

export function declaredNames(validated: Validated<PolicyFile>, material: Material): DeclaredNames {
  const tree = validated.tree;
  const permissions = new Set<string>();
  const rolesNode = tree?.get('roles') ?? null;
  let allPermissions = rolesNode !== null || tree?.dropped.has('roles') !== true;
  if (rolesNode !== null) allPermissions = gatherEntries(rolesNode.origin, permissions) && allPermissions;

  let allTokens = true;
  if (tree?.dropped.has('authenticators') === true) allTokens = allPermissions = false;
  for (const authenticator of tree?.get('authenticators')?.entries.values() ?? []) {
    // What is broken in it may be where its roles come from.
    if (authenticator.get('type')?.value === 'jwt' && authenticator.tainted) allTokens = false;
    const lists: (Draft | null)[] = ['tokens', 'identities', 'users'].map((key) => authenticator.get(key));
    const shared = authenticator.get('permissions');
    if (shared !== null) allPermissions = gather(shared.origin, permissions) && allPermissions;
    if (!knowsItsUsers(authenticator, material)) allTokens = false;
    if (['permissions', 'users'].some((key) => authenticator.dropped.has(key))) allTokens = allPermissions = false;
    if (authenticator.declares('tokens_file')) {
      const file = authenticator.get('tokens_file');
      const read = file === null ? undefined : material.tokensFiles.get(file);
      lists.push(read?.tree?.get('tokens') ?? null);
      if (read?.tree?.get('tokens') == null) allTokens = allPermissions = false;
    }
    if (authenticator.dropped.has('tokens') || authenticator.dropped.has('identities')) {
      allTokens = allPermissions = false;
    }
    for (const list of lists) {
      if (list === null) continue;
      if (list.tainted) allTokens = false;
      if (!gatherOfTokens(list, permissions)) allPermissions = false;
    }
  }
  for (const name of tree?.get('authenticators')?.dropped ?? []) {
    allTokens = false;
    const written = tree?.get('authenticators')?.origin;
    if (written?.kind === 'map' && namesPermissions(written.entries.get(name))) allPermissions = false;
  }
  for (const listener of tree?.get('listeners')?.entries.values() ?? []) {
    const local = listener.get('local_identity');
    if (listener.dropped.has('local_identity') || local?.tainted === true) allTokens = false;
    const own = local?.get('permissions');
    if (own != null) gather(own.origin, permissions);
    if (listener.dropped.has('local_identity') || local?.dropped.has('permissions') === true) allPermissions = false;
  }
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
    allPermissions,
    allTokens,
  };
}

/** The permissions of a list of tokens, those of broken tokens included. False where some cannot be known. */
function gatherOfTokens(list: Draft, into: Set<string>): boolean {
  let all = true;
  for (const token of list.items) {
    const own = token.get('permissions');
    if (own !== null) gather(own.origin, into);
  }
  if (list.origin.kind !== 'list') return false;
  for (const item of list.origin.items) {
    const own = item.kind === 'map' ? item.entries.get('permissions') : null;
    if (own === null) all = false;
    else if (own !== undefined) all = gather(own, into) && all;
  }
  return all;
}

/** Who is in an htpasswd file; where it was not read, anyone may be. */
function knowsItsUsers(authenticator: Draft, material: Material): boolean {
  if (!authenticator.declares('htpasswd_file')) return true;
  const file = authenticator.get('htpasswd_file');
  const read = file === null ? undefined : material.htpasswdFiles.get(file);
  return read !== undefined && !read.issues.some((issue) => issue.severity === 'error');
}

/** Types whose entries may list permissions. */
const NAMING = ['basic', 'bearer', 'mtls', 'network'];

/** An authenticator of another type names nobody's permissions, whatever else is wrong with it. */
function namesPermissions(node: DocumentNode | undefined): boolean {
  if (node?.kind !== 'map') return true;
  const type = node.entries.get('type');
  return type?.kind !== 'scalar' || typeof type.value !== 'string' || NAMING.includes(type.value);
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
