import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { TemporaryDirectory } from './temporary-directory.js';

export interface TokenPair {
  readonly token: string;
  /** 64 lowercase hex digits. */
  readonly sha256: string;
}

/** A fresh token and what a policy holds of it. */
export function tokenPair(token = randomBytes(32).toString('base64url')): TokenPair {
  return { token, sha256: createHash('sha256').update(token).digest('hex') };
}

/** Anything that JSON can say, and so YAML. */
export type PolicyValue =
  string | number | boolean | null | readonly PolicyValue[] | { readonly [key: string]: PolicyValue | undefined };

/** Text as it is; a value becomes JSON over many lines, which YAML reads. */
export function policyText(policy: string | PolicyValue): string {
  return typeof policy === 'string' ? policy : `${JSON.stringify(policy, null, 2)}\n`;
}

/** Writes a file below `directory`, with its folders. Modes are exact, whatever the umask says. */
export function writeFileIn(
  directory: TemporaryDirectory,
  name: string,
  content: string | Buffer,
  mode = 0o600,
): string {
  const path = directory.file(name);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

/** Writes `policy.yaml` (0644); returns its path. Call it again to change the policy. */
export function writePolicy(directory: TemporaryDirectory, policy: string | PolicyValue, name = 'policy.yaml'): string {
  return writeFileIn(directory, name, policyText(policy), 0o644);
}

export interface TokenLine {
  readonly name: string;
  readonly sha256: string;
  readonly roles?: readonly string[];
  readonly permissions?: readonly string[];
  readonly not_before?: string;
  readonly not_after?: string;
}

/** Writes a `tokens_file` (0600); returns its path. */
export function writeTokens(directory: TemporaryDirectory, tokens: readonly TokenLine[], name = 'tokens.yaml'): string {
  return writeFileIn(directory, name, policyText({ tokens: tokens.map((token) => ({ ...token })) }), 0o600);
}

export interface SimplePolicyOptions {
  readonly upstream: string;
  /** Default: a free port on loopback, plain HTTP. */
  readonly bind?: string;
  /** Keys of the listener to add or replace. */
  readonly listener?: Readonly<Record<string, PolicyValue>>;
  readonly routes?: readonly PolicyValue[];
  /** Default: none. Give `tokenPair().sha256` in each. */
  readonly tokens?: readonly TokenLine[];
  /** Top-level keys to add or replace. */
  readonly top?: Readonly<Record<string, PolicyValue>>;
  /** Path of the state directory. */
  readonly stateDir: string;
}

/**
 * One listener `main`, roles `viewer: [read]` and `operator: [read, write]`, and, where no routes are given, a public
 * `/health`, GET for `read` and everything else for `write`. For tests that are about something else than the policy.
 */
export function simplePolicy(options: SimplePolicyOptions): Readonly<Record<string, PolicyValue>> {
  const routes = options.routes ?? [
    { name: 'health', path: '/health', methods: ['GET'], public: true },
    { name: 'read', path: '/**', methods: ['GET', 'HEAD'], require: 'read' },
    { name: 'write', path: '/**', methods: 'any', require: 'write' },
  ];
  const tokens = options.tokens ?? [];
  return {
    version: 1,
    listeners: {
      main: {
        bind: options.bind ?? '127.0.0.1:0',
        upstream: options.upstream,
        ...(tokens.length > 0 ? { authenticate: ['keys'] } : {}),
        // Tests show many bad credentials, all from one address.
        throttle: 'off',
        routes,
        ...options.listener,
      },
    },
    ...(tokens.length > 0
      ? { authenticators: { keys: { type: 'bearer', tokens: tokens.map((token) => ({ ...token })) } } }
      : {}),
    roles: { viewer: ['read'], operator: ['read', 'write'] },
    state: { dir: options.stateDir },
    ...options.top,
  };
}
