/**
 * What the schema read → the compiled policy: names resolved, ranges and patterns compiled, the bind policy asked.
 * Pure: what stands outside the file comes as `material`, and the time as `now`.
 */
import * as path from 'node:path';
import { formatBind } from './bind.js';
import { compileAcme } from './compile-acme.js';
import { compileAudit } from './compile-audit.js';
import { compileAuthenticators } from './compile-authenticators.js';
import { compileBind, findDuplicateBinds } from './compile-bind.js';
import { compileListeners } from './compile-listeners.js';
import type { Draft } from './draft.js';
import { Findings } from './findings.js';
import { show } from './found.js';
import { deepFreeze } from './freeze.js';
import type { Issue } from './issue.js';
import type { Material } from './material.js';
import { declaredNames } from './names.js';
import type { DeclaredNames } from './names.js';
import type { Holder, Listener, Policy, UpstreamExposure } from './policy.js';
import { checkRevocation, compileRedis } from './compile-state.js';
import { unfitForMany } from './processes.js';
import { compileTests } from './compile-tests.js';
import { sortIssues } from './render-issues.js';
import type { PolicyFile } from './schema.js';
import type { Validated } from './validate.js';

export interface Surroundings {
  /** Path of the policy, as the user wrote it. */
  readonly file: string;
  /** Absolute; relative paths in the policy start here. */
  readonly baseDir: string;
  /** Absolute; where state lives unless the policy says. */
  readonly stateDir: string;
  /** First 12 hex digits of the SHA-256 of the text. */
  readonly version: string;
  /** Epoch milliseconds. */
  readonly now: number;
  readonly material: Material;
  /** What reading the material had to say. */
  readonly warnings: readonly Issue[];
}

export interface Compiled {
  /** Usable only when nothing has an error: neither this nor what was read before it. */
  readonly policy: Policy | null;
  readonly errors: readonly Issue[];
  readonly warnings: readonly Issue[];
}

export function compile(validated: Validated<PolicyFile>, surroundings: Surroundings): Compiled {
  const { value: file, tree } = validated;
  const findings = new Findings();
  if (file === null || tree === null) return { policy: null, errors: [], warnings: [] };
  const { material, now, baseDir } = surroundings;

  const names = declaredNames(validated, material);
  checkRoles(tree, names, findings);
  const roles = new Map(Object.entries(file.roles ?? {}).map(([role, held]) => [role, [...new Set(held)]] as const));
  const authenticators = compileAuthenticators(file, tree, { roles, names, material, findings, now, baseDir });
  const { listeners, upstreams } = compileListeners(file, tree, {
    authenticators,
    roles,
    names,
    material,
    findings,
    sharedState: tree.get('state')?.declares('redis') === true,
  });
  if (listeners.length === 0 && tree.get('listeners')?.tainted === false) {
    findings.error('missing_key', tree.get('listeners'), 'key', 'found an empty map, needed is one listener at least');
  }
  checkAdmin(file, tree, findings);
  findDuplicateBinds(bindsOf(file, tree), findings);
  const known = [...authenticators.tokens, ...authenticators.holders, ...localHolders(listeners)];
  const held = new Set([...known.flatMap((one) => one.roles), ...authenticators.claimedRoles]);
  warnUnheldRoles(tree, names, held, findings);
  const redis = compileRedis(file, tree, material, findings);
  checkRevocation(tree, authenticators.byName, findings);
  const acme = compileAcme(file, tree, listeners, material, findings);
  checkProcesses(file, tree, { listeners, authenticators: authenticators.byName }, findings);
  const tests = compileTests(file, tree, listeners, names, findings);

  const stateDir = file.state?.dir === undefined ? surroundings.stateDir : path.resolve(baseDir, file.state.dir);

  const warnings = sortIssues([...surroundings.warnings, ...findings.warnings], surroundings.file);
  const policy: Policy = {
    version: surroundings.version,
    file: surroundings.file,
    listeners,
    upstreams,
    upstreamExposure: exposureOf(file, listeners),
    authenticators: authenticators.byName,
    roles,
    stateDir,
    redis,
    secretMounts: file.secret_mounts ?? [],
    log: {
      level: file.log?.level ?? 'info',
      file: file.log?.file === undefined ? null : path.resolve(baseDir, file.log.file),
      format: file.log?.format ?? 'auto',
    },
    acme,
    audit: compileAudit(file.audit, tree.get('audit'), { baseDir, stateDir, material, findings }),
    admin: file.admin === undefined ? null : compileBind(file.admin.bind, tree.at(['admin', 'bind'])),
    drainMs: file.drain ?? 30_000,
    watch: file.watch ?? false,
    processes: file.processes ?? 1,
    tests,
    warnings,
  };
  return { policy: deepFreeze(policy), errors: findings.errors, warnings };
}

function checkRoles(tree: Draft, names: DeclaredNames, findings: Findings): void {
  for (const [role, node] of tree.get('roles')?.entries ?? []) {
    for (const permission of node.items) {
      if (typeof permission.value !== 'string' || !names.roles.has(permission.value)) continue;
      findings.error(
        'ambiguous_name',
        permission,
        'value',
        permission.value === role
          ? `${show(role)} is the role itself, and a name is not both a role and a permission`
          : `${show(permission.value)} is a role, and a name is not both a role and a permission; roles do not hold roles`,
        'give the permission another name',
      );
    }
  }
}

/** Who is somebody by `local_identity`. */
function localHolders(listeners: readonly Listener[]): Holder[] {
  return listeners.flatMap((listener) => (listener.type === 'http' && listener.local !== null ? [listener.local] : []));
}

function warnUnheldRoles(tree: Draft, names: DeclaredNames, held: ReadonlySet<string>, findings: Findings): void {
  if (!names.allTokens) return;
  for (const [role, node] of tree.get('roles')?.entries ?? []) {
    if (held.has(role)) continue;
    findings.warn('role_unheld', node, 'key', `nobody has the role ${show(role)}`);
  }
}

function checkAdmin(file: PolicyFile, tree: Draft, findings: Findings): void {
  if (file.admin === undefined || file.admin.bind.loopback) return;
  const { bind } = file.admin;
  findings.error(
    'bind_without_authentication',
    tree.at(['admin', 'bind']),
    'value',
    `refusing ${formatBind(bind)}: the admin endpoints ask for no credential, so they answer on loopback only`,
    `write bind: 127.0.0.1:${bind.port}; to scrape /metrics from elsewhere, give it a listener with this as its upstream`,
  );
}

function checkProcesses(
  file: PolicyFile,
  tree: Draft,
  policy: Parameters<typeof unfitForMany>[0],
  findings: Findings,
): void {
  if ((file.processes ?? 1) === 1) return;
  for (const why of unfitForMany(policy)) {
    findings.error(
      'unfit_for_processes',
      tree.get('processes'),
      'value',
      `${why}, which only one process can do`,
      'write processes: 1, or leave it out',
    );
  }
}

function bindsOf(file: PolicyFile, tree: Draft): Parameters<typeof findDuplicateBinds>[0] {
  const binds = Object.entries(file.listeners).map(([name, { bind }]) => ({
    bind,
    node: tree.at(['listeners', name, 'bind']),
  }));
  if (file.admin === undefined) return binds;
  return [...binds, { bind: file.admin.bind, node: tree.at(['admin', 'bind']) }];
}

function exposureOf(file: PolicyFile, listeners: readonly Listener[]): UpstreamExposure {
  const written = file.upstream_exposure;
  if (written === undefined) {
    return { mode: listeners.some((listener) => !listener.bind.loopback) ? 'refuse' : 'warn' };
  }
  return typeof written === 'string' ? { mode: written } : { mode: 'firewalled', why: written.firewalled };
}
