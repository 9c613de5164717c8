/** The roles and permissions that an entry names, as what its holder is granted. */
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import type { DeclaredNames } from './names.js';
import type { Holder } from './policy.js';

export interface HolderEntry {
  readonly name: string;
  readonly roles?: readonly string[] | undefined;
  readonly permissions?: readonly string[] | undefined;
}

export interface HolderContext {
  /** Role name → permissions. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly names: DeclaredNames;
  readonly findings: Findings;
}

export function compileHolder(entry: HolderEntry, node: Draft, { roles, names, findings }: HolderContext): Holder {
  if (!node.declares('roles') && !node.declares('permissions')) {
    findings.missing(node, 'roles', 'missing, needed is roles, permissions or both', 'write roles: [ROLE]');
  }
  checkGiven(entry, node, { names, findings });
  const held = entry.roles ?? [];
  return {
    name: entry.name,
    roles: [...new Set(held)],
    grants: new Set([...held, ...held.flatMap((role) => roles.get(role) ?? []), ...(entry.permissions ?? [])]),
  };
}

/** Roles that there are, and permissions that are no roles: the same for everybody who can be given either. */
export function checkGiven(
  given: Pick<HolderEntry, 'roles' | 'permissions'>,
  node: Draft,
  { names, findings }: Pick<HolderContext, 'names' | 'findings'>,
): void {
  for (const [index, role] of (given.roles ?? []).entries()) {
    if (names.roles.has(role) || !names.allRoles) continue;
    findings.unknownName(node.at(['roles', index]), 'role', role, names.roles);
  }
  for (const [index, permission] of (given.permissions ?? []).entries()) {
    if (!names.roles.has(permission)) continue;
    findings.error(
      'ambiguous_name',
      node.at(['permissions', index]),
      'value',
      `${show(permission)} is a role, and a name is not both a role and a permission`,
      `write roles: [${permission}]`,
    );
  }
}
