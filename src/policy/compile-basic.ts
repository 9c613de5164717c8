import { checkGiven } from './compile-holder.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { Material } from './material.js';
import type { DeclaredNames } from './names.js';
import type { BasicAuthenticator, BasicUser, Holder } from './policy.js';
import type { BasicEntry } from './schema-basic.js';

interface Context {
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly names: DeclaredNames;
  readonly material: Material;
  readonly findings: Findings;
}

interface Given {
  readonly roles?: readonly string[] | undefined;
  readonly permissions?: readonly string[] | undefined;
}

export interface CompiledBasic {
  readonly authenticator: BasicAuthenticator;
  readonly holders: readonly Holder[];
}

/** Who is in the file comes from the file; what each of them may do from the policy. */
export function compileBasic(name: string, entry: BasicEntry, node: Draft, context: Context): CompiledBasic {
  const { findings, material } = context;
  if (!node.declares('roles') && !node.declares('permissions') && !node.declares('users')) {
    findings.missing(
      node,
      'roles',
      'missing, needed is what the users of the file may do: roles, permissions or users',
      'write roles: [ROLE] for all of them, or users: [{ name: NAME, roles: [ROLE] }] for some',
    );
  }
  checkGiven(entry, node, context);
  const fileNode = node.get('htpasswd_file');
  const read = fileNode === null ? undefined : material.htpasswdFiles.get(fileNode);
  const own = compileOwn(entry, node, read === undefined ? null : new Set(read.names), context);

  const users = new Map<string, BasicUser>();
  const without: string[] = [];
  for (const { name: user, hash, cost } of read?.entries ?? []) {
    const given = own.get(user) ?? entry;
    if (given.roles === undefined && given.permissions === undefined) without.push(user);
    users.set(user, { hash, cost, holder: holderOf(user, given, context) });
  }
  if (without.length > 0 && !node.tainted) {
    const shown = without.slice(0, 3).map(show);
    findings.warn(
      'user_without_grants',
      fileNode,
      'value',
      `nothing is said of ${without.length === 1 ? 'the user' : `${without.length} users, like`} ${either(shown).replace(' or ', ' and ')}, so ${without.length === 1 ? 'this password opens' : 'their passwords open'} nothing`,
      'write roles: [ROLE] beside htpasswd_file for all that users does not name',
    );
  }
  return {
    authenticator: { type: 'basic', name, realm: entry.realm ?? 'guardbee', carriers: new Set(['basic']), users },
    holders: [...users.values()].map(({ holder }) => holder),
  };
}

/** What `users` says, by name. @param known the names of the file; null: it was not read */
function compileOwn(
  entry: BasicEntry,
  node: Draft,
  known: ReadonlySet<string> | null,
  context: Context,
): ReadonlyMap<string, Given> {
  const { findings } = context;
  const own = new Map<string, Given>();
  for (const [index, user] of (entry.users ?? []).entries()) {
    const userNode = node.at(['users', index]);
    if (userNode === null) continue;
    if (!userNode.declares('roles') && !userNode.declares('permissions')) {
      findings.missing(userNode, 'roles', 'missing, needed is roles, permissions or both', 'write roles: [ROLE]');
    }
    checkGiven(user, userNode, context);
    if (own.has(user.name)) {
      findings.error(
        'duplicate_name',
        userNode.get('name'),
        'value',
        `the user ${show(user.name)} stands twice`,
        'keep one of them',
      );
    } else if (known?.has(user.name) === false) {
      findings.unknownUser(userNode.get('name'), user.name, known);
    }
    own.set(user.name, user);
  }
  return own;
}

function holderOf(name: string, given: Given, { roles }: Context): Holder {
  const held = [...new Set(given.roles ?? [])];
  return {
    name,
    roles: held,
    grants: new Set([...held, ...held.flatMap((role) => roles.get(role) ?? []), ...(given.permissions ?? [])]),
  };
}
