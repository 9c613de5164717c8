/** An entry of type `jwt` → its authenticator. */
import * as path from 'node:path';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import { JWS_ALGORITHMS, type JwsAlgorithm } from './jws-algorithms.js';
import type { Material } from './material.js';
import type { DeclaredNames } from './names.js';
import { type JwtAuthenticator, type JwtKeys, type RevocationSettings, TOKEN_CARRIERS } from './policy.js';
import type { JwtEntry } from './schema-jwt.js';

interface Context {
  readonly roles: ReadonlyMap<string, readonly string[]>;
  readonly names: DeclaredNames;
  readonly material: Material;
  readonly findings: Findings;
  /** Absolute; where relative paths begin. */
  readonly baseDir: string;
}

export interface CompiledJwt {
  readonly authenticator: JwtAuthenticator;
  /** Roles that a token may turn out to have. */
  readonly roles: ReadonlySet<string>;
  /** Roles and permissions that a token may turn out to have. */
  readonly grants: ReadonlySet<string>;
}

const TOLERANCE_MS = 300_000;

export function compileJwt(name: string, entry: JwtEntry, node: Draft, context: Context): CompiledJwt {
  const { findings, roles, names } = context;
  checkSource(node, findings);
  const rolesMap = compileRolesMap(entry.roles_map, node, context);
  if (rolesMap !== null && entry.roles_from === undefined && !node.declares('roles_from')) {
    findings.error(
      'wrong_value',
      node.get('roles_map'),
      'key',
      'nothing is looked up in it: without roles_from no claim holds roles',
      'write roles_from: CLAIM beside it',
    );
  }
  const keys = compileKeys(entry, node, context);
  const authenticator: JwtAuthenticator = {
    type: 'jwt',
    name,
    realm: entry.realm ?? 'guardbee',
    carriers: new Set(entry.carriers ?? TOKEN_CARRIERS),
    issuer: entry.issuer,
    audiences: [...new Set(typeof entry.audience === 'string' ? [entry.audience] : entry.audience)],
    algorithms: compileAlgorithms(entry, keys, node, findings),
    keys,
    clockToleranceMs: entry.clock_tolerance ?? TOLERANCE_MS,
    maxAgeMs: entry.max_age ?? null,
    nameFrom: entry.name_from ?? ['sub'],
    rolesFrom: entry.roles_from ?? null,
    permissionsFrom: entry.permissions_from ?? null,
    rolesMap,
    roles,
    permissions: names.permissions,
    revocation: compileRevocation(entry.revocation, node, findings),
  };
  const possible = new Set(authenticator.rolesFrom === null ? [] : (rolesMap?.values() ?? roles.keys()));
  return {
    authenticator,
    roles: possible,
    grants: new Set([
      ...possible,
      ...[...possible].flatMap((role) => roles.get(role) ?? []),
      ...(authenticator.permissionsFrom === null ? [] : names.permissions),
    ]),
  };
}

/** Exactly one place for keys. */
function checkSource(node: Draft, findings: Findings): void {
  const jwks = node.declares('jwks');
  const pem = node.declares('public_key');
  if (!jwks && !pem) {
    findings.missing(
      node,
      'jwks',
      'missing, needed is exactly one of jwks and public_key: the keys that tokens are verified with',
      'write jwks: { url: https://… }, jwks: { file: PATH } or public_key: { file: PATH }',
    );
  }
  if (jwks && pem) {
    findings.error(
      'wrong_value',
      node.get('public_key'),
      'key',
      'cannot stand beside jwks: it would not be said which of them a token must be signed by',
      'keep one of them; a JWK Set may hold several keys',
    );
  }
}

function compileKeys(entry: JwtEntry, node: Draft, { material, baseDir }: Context): JwtKeys {
  if (entry.jwks !== undefined && 'url' in entry.jwks) return { kind: 'url', url: entry.jwks.url };
  const from = entry.jwks === undefined ? 'public_key' : 'jwks';
  const file = entry.jwks?.file ?? entry.public_key?.file ?? '';
  const fileNode = node.at([from, 'file']);
  const keys = (fileNode === null ? undefined : material.keyFiles.get(fileNode)) ?? [];
  return { kind: 'file', from, file: path.resolve(baseDir, file), keys };
}

/** What is listed; else all that the keys are for, as far as they are known. */
function compileAlgorithms(entry: JwtEntry, keys: JwtKeys, node: Draft, findings: Findings): readonly JwsAlgorithm[] {
  const known = keys.kind === 'file' && keys.keys.length > 0 ? keys.keys : null;
  const fitting = new Set<JwsAlgorithm>(known?.flatMap((key) => key.algorithms) ?? JWS_ALGORITHMS);
  if (entry.algorithms === undefined) return JWS_ALGORITHMS.filter((one) => fitting.has(one));
  const listed = [...new Set(entry.algorithms)];
  for (const [index, algorithm] of entry.algorithms.entries()) {
    if (fitting.has(algorithm)) continue;
    findings.error(
      'wrong_value',
      node.at(['algorithms', index]),
      'value',
      `no key is for ${algorithm}; ${known?.length === 1 ? 'the key is' : 'the keys are'} for ${either([...fitting])}`,
      'leave algorithms out: then those count that fit the keys',
    );
  }
  return listed;
}

function compileRolesMap(
  map: JwtEntry['roles_map'],
  node: Draft,
  { names, findings }: Context,
): ReadonlyMap<string, string> | null {
  if (map === undefined) return null;
  for (const [theirs, ours] of Object.entries(map)) {
    if (names.roles.has(ours) || !names.allRoles) continue;
    findings.unknownName(node.at(['roles_map', theirs]), 'role', ours, names.roles);
  }
  return new Map(Object.entries(map));
}

function compileRevocation(entry: JwtEntry['revocation'], node: Draft, findings: Findings): RevocationSettings | null {
  if (entry === 'none') return null;
  const {
    store,
    key = null,
    on_unavailable = 'deny',
  } = typeof entry === 'object' ? entry : { store: entry ?? ('embedded' as const) };
  if (key !== null && store === 'embedded') {
    findings.error(
      'wrong_value',
      node.at(['revocation', 'key']),
      'key',
      `${show('key')} names keys of the shared store, and this is the embedded one`,
      'remove it, or write store: shared',
    );
  }
  return { store, key, onUnavailable: on_unavailable };
}
