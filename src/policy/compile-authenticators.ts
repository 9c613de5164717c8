import * as path from 'node:path';
import { compileBasic } from './compile-basic.js';
import { compileJwt } from './compile-jwt.js';
import { compileMtls } from './compile-mtls.js';
import { compileNetwork } from './compile-network.js';
import { checkGiven } from './compile-holder.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import { deepFreeze } from './freeze.js';
import type { Material } from './material.js';
import type { DeclaredNames } from './names.js';
import { TOKEN_CARRIERS } from './policy.js';
import type { Authenticator, Holder, TokenEntry, TokenSource } from './policy.js';
import type { AuthenticatorEntry, PolicyFile, SecretReference, TokenEntryInFile } from './schema.js';
import { TokenTable } from './token-table.js';

export interface CompiledAuthenticators {
  readonly byName: ReadonlyMap<string, Authenticator>;
  /** Every token of every authenticator. */
  readonly tokens: readonly TokenEntry[];
  /** Everyone whom a password, a certificate or an address stands for. */
  readonly holders: readonly Holder[];
  /** Authenticator name → what any of its credentials is granted. */
  readonly grants: ReadonlyMap<string, ReadonlySet<string>>;
  /** Roles that a token of an issuer may turn out to have. */
  readonly claimedRoles: ReadonlySet<string>;
}

type BearerEntry = Extract<AuthenticatorEntry, { type: 'bearer' }>;

interface Context {
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly names: DeclaredNames;
  readonly material: Material;
  readonly findings: Findings;
  readonly now: number;
  /** Absolute; where relative paths begin. */
  readonly baseDir: string;
}

export function compileAuthenticators(file: PolicyFile, tree: Draft, context: Context): CompiledAuthenticators {
  const byName = new Map<string, Authenticator>();
  const tokens: TokenEntry[] = [];
  const holders: Holder[] = [];
  const grants = new Map<string, ReadonlySet<string>>();
  const claimedRoles = new Set<string>();
  for (const [name, entry] of Object.entries(file.authenticators ?? {})) {
    const node = tree.at(['authenticators', name]);
    if (node === null) continue;
    if (entry.type === 'jwt') {
      const jwt = compileJwt(name, entry, node, context);
      byName.set(name, jwt.authenticator);
      grants.set(name, jwt.grants);
      for (const role of jwt.roles) claimedRoles.add(role);
      continue;
    }
    if (entry.type !== 'bearer') {
      const named =
        entry.type === 'mtls'
          ? compileMtls(name, entry, node, context)
          : entry.type === 'basic'
            ? compileBasic(name, entry, node, context)
            : compileNetwork(name, entry, node, context);
      for (const holder of named.holders) holders.push(holder);
      grants.set(name, new Set(named.holders.flatMap((holder) => [...holder.grants])));
      byName.set(name, named.authenticator);
      continue;
    }
    const own = compileTokens(name, entry, node, context);
    for (const token of own) tokens.push(token);
    grants.set(name, new Set(own.flatMap((token) => [...token.grants])));
    byName.set(name, {
      type: 'bearer',
      name,
      realm: entry.realm ?? 'guardbee',
      carriers: new Set(entry.carriers ?? TOKEN_CARRIERS),
      tokens: new TokenTable(own),
    });
  }
  return { byName, tokens, holders, grants, claimedRoles };
}

function compileTokens(authenticator: string, entry: BearerEntry, node: Draft, context: Context): TokenEntry[] {
  const { findings, material } = context;
  if (!node.declares('tokens') && !node.declares('tokens_file')) {
    findings.missing(
      node,
      'tokens',
      'missing, needed is tokens, tokens_file or both',
      'write tokens_file: tokens.yaml, and run "guardbee token new" for what to put into it',
    );
  }
  const lists: { readonly tokens: readonly TokenEntryInFile[]; readonly node: Draft | null }[] = [];
  if (entry.tokens !== undefined) lists.push({ tokens: entry.tokens, node: node.get('tokens') });
  const fileNode = node.get('tokens_file');
  const read = fileNode === null ? undefined : material.tokensFiles.get(fileNode);
  if (read?.value != null) lists.push({ tokens: read.value.tokens, node: read.tree?.get('tokens') ?? null });

  const compiled: TokenEntry[] = [];
  const byDigest = new Map<string, Draft>();
  const countByName = new Map<string, number>();
  for (const list of lists) {
    for (const [index, token] of list.tokens.entries()) {
      const tokenNode = list.node?.at([index]) ?? null;
      if (tokenNode === null) continue;
      const count = (countByName.get(token.name) ?? 0) + 1;
      countByName.set(token.name, count);
      if (count === 3) {
        findings.error(
          'duplicate_name',
          tokenNode.get('name'),
          'value',
          `there are three tokens of the name ${show(token.name)}, allowed are two: the old and the new one while it is rotated`,
          'remove the oldest',
        );
      }
      const sha256 = digestOf(token, tokenNode, byDigest.size, context);
      const earlier = byDigest.get(sha256);
      if (earlier !== undefined) {
        const { file, at } = earlier.origin;
        const where = file === tokenNode.origin.file ? `line ${at.line}` : `${file}, line ${at.line}`;
        findings.error(
          'duplicate_token',
          tokenNode.get('sha256') ?? tokenNode.get('token'),
          'value',
          `${token.sha256 === undefined ? 'this token' : 'this digest'} stands twice, the first is in ${where}: one token would stand for two callers`,
          'run "guardbee token new" for one of them',
        );
        continue;
      }
      byDigest.set(sha256, tokenNode);
      // The table keeps it where nothing that freezes the policy comes.
      compiled.push(deepFreeze(compileToken(authenticator, token, sha256, tokenNode, context)));
    }
  }
  return compiled;
}

/** The digest that stands there, or that of the token that is named. */
function digestOf(token: TokenEntryInFile, node: Draft, serial: number, { findings, material }: Context): string {
  if (!node.declares('sha256') && !node.declares('token')) {
    findings.missing(
      node,
      'sha256',
      'missing, needed is exactly one of sha256 (the digest of the token) and token (where the token stands)',
      'run "guardbee token new", and paste what it prints',
    );
  } else if (node.declares('sha256') && node.declares('token')) {
    findings.error(
      'wrong_value',
      node.get('token') ?? node,
      'key',
      'cannot stand beside sha256, allowed is exactly one of the two',
      'keep one of them',
    );
  }
  const referred = node.get('token');
  return token.sha256 ?? (referred === null ? undefined : material.digests.get(referred)) ?? `unread ${serial}`;
}

/** @param file Absolute; the file that the reference stands in. */
function sourceOf(reference: SecretReference | undefined, file: string): TokenSource | null {
  if (reference === undefined) return null;
  if ('file' in reference) return { kind: 'file', name: path.resolve(path.dirname(file), reference.file) };
  if ('credential' in reference) return { kind: 'credential', name: reference.credential };
  return 'env' in reference ? { kind: 'env', name: reference.env } : { kind: 'env_file', name: reference.env_file };
}

function compileToken(
  authenticator: string,
  token: TokenEntryInFile,
  sha256: string,
  node: Draft,
  context: Context,
): TokenEntry {
  const { findings, roles, now } = context;
  if (!node.declares('roles') && !node.declares('permissions')) {
    findings.missing(node, 'roles', 'missing, needed is roles, permissions or both', 'write roles: [ROLE]');
  }
  checkGiven(token, node, context);
  const notBeforeMs = token.not_before ?? -Infinity;
  const notAfterMs = token.not_after ?? Infinity;
  if (notBeforeMs >= notAfterMs) {
    findings.error('wrong_value', node.get('not_after'), 'value', 'the token ends before it begins (not_before)');
  } else if (notAfterMs <= now) {
    findings.warn(
      'token_expired',
      node.get('not_after'),
      'value',
      `the token ${show(token.name)} is expired, and is refused`,
      'remove it, or run "guardbee token new" for a new one',
    );
  }
  const held = token.roles ?? [];
  return {
    name: token.name,
    authenticator,
    sha256,
    source: sourceOf(token.token, node.origin.file),
    roles: [...new Set(held)],
    permissions: [...new Set(token.permissions ?? [])],
    grants: new Set([...held, ...held.flatMap((role) => roles.get(role) ?? []), ...(token.permissions ?? [])]),
    notBeforeMs,
    notAfterMs,
  };
}
