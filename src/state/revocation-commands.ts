/** What `guardbee revoke` asks for: of the running program through its control socket, or of the stores themselves. */
import type { Policy } from '../policy/policy.js';
import { type RevocationTarget, revocationTargets, targetsOf } from './revocation-targets.js';
import type { PolicyRevocations } from './revocations.js';
import { type Revocation, StateError } from './store.js';

export type Command =
  | { readonly cmd: 'revoke'; readonly issuer: string; readonly jti: string; readonly expiresMs: number | null }
  | {
      readonly cmd: 'revoke';
      readonly issuer: string;
      readonly subject: string;
      readonly beforeMs: number;
      readonly expiresMs: number | null;
    }
  | { readonly cmd: 'accept_loss' }
  | { readonly cmd: 'list' }
  | { readonly cmd: 'status' };

export type CommandAnswer =
  | { readonly ok: true; readonly [key: string]: unknown }
  /** A sentence for people. */
  | { readonly ok: false; readonly error: string };

/** As long as any token lives, and longer: for revocations of which nobody has said when the credential ends. */
const KEPT_MS = 366 * 86_400_000;
const MOST_LISTED = 1000;
const LONGEST_TEXT = 8192;
/** The last moment that a Date can hold. */
const LAST_MS = 8.64e15;

/** Null: it is no command that there is, or something in it is not what it must be. */
export function readCommand(request: Readonly<Record<string, unknown>>): Command | null {
  const { cmd, issuer, jti, subject, beforeMs, expiresMs } = request;
  switch (cmd) {
    case 'accept_loss':
    case 'list':
    case 'status':
      return { cmd };
    case 'revoke': {
      if (!isText(issuer) || (expiresMs !== null && !isMoment(expiresMs))) return null;
      if (isText(jti) && subject === undefined) return { cmd, issuer, jti, expiresMs };
      if (isText(subject) && jti === undefined && isMoment(beforeMs))
        return { cmd, issuer, subject, beforeMs, expiresMs };
      return null;
    }
    default:
      return null;
  }
}

/** Which stores a command is about. */
export function targetsFor(policy: Policy, command: Command): readonly RevocationTarget[] {
  return command.cmd === 'revoke' ? targetsOf(policy, command.issuer) : revocationTargets(policy);
}

/** Never rejects but for a bug of ours. */
export async function perform(
  command: Command,
  policy: Policy,
  revocations: PolicyRevocations,
  nowMs: number,
): Promise<CommandAnswer> {
  try {
    switch (command.cmd) {
      case 'revoke':
        return await revoke(command, policy, revocations, nowMs);
      case 'accept_loss': {
        const accepted: string[] = [];
        for (const [name, store] of revocations.stores) if (await store.acceptLoss(nowMs)) accepted.push(name);
        return { ok: true, accepted };
      }
      case 'list':
        return { ok: true, ...list(revocations, nowMs) };
      case 'status':
        return {
          ok: true,
          pid: process.pid,
          policy: policy.file,
          version: policy.version,
          stores: stores(revocations),
        };
    }
  } catch (error) {
    if (error instanceof StateError) return { ok: false, error: error.message };
    throw error;
  }
}

/** What is wrong with an issuer that nothing is revoked of; null where there is something. */
export function unknownIssuer(policy: Policy, issuer: string): string | null {
  const all = [...new Set(revocationTargets(policy).map((target) => target.issuer))];
  if (all.includes(issuer)) return null;
  if (all.length === 0)
    return 'the policy has no authenticator whose credentials can be revoked (jwt with revocation, or sessions)';
  return `the policy revokes nothing of this issuer; there ${all.length === 1 ? 'is' : 'are'} ${all.join(', ')}`;
}

async function revoke(
  command: Extract<Command, { cmd: 'revoke' }>,
  policy: Policy,
  revocations: PolicyRevocations,
  nowMs: number,
): Promise<CommandAnswer> {
  const { issuer, expiresMs } = command;
  const unknown = unknownIssuer(policy, issuer);
  if (unknown !== null) return { ok: false, error: unknown };
  const kept: { readonly store: string; readonly until: string }[] = [];
  const failed: string[] = [];
  for (const { settings, toleranceMs } of targetsOf(policy, issuer)) {
    const untilMs = (expiresMs ?? nowMs + KEPT_MS) + toleranceMs;
    if (untilMs <= nowMs) continue;
    const revocation: Revocation =
      'jti' in command
        ? { kind: 'jti', issuer, jti: command.jti, untilMs }
        : { kind: 'subject', issuer, subject: command.subject, beforeMs: command.beforeMs, untilMs };
    try {
      await revocations.put(revocation, settings, nowMs);
      kept.push({ store: settings.store, until: date(untilMs) });
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      failed.push(error.message);
    }
  }
  return failed.length === 0 ? { ok: true, kept } : { ok: false, error: failed.join('; ') };
}

function list(
  revocations: PolicyRevocations,
  nowMs: number,
): { readonly total: number; readonly revocations: unknown[] } {
  let total = 0;
  const listed: unknown[] = [];
  for (const [store, one] of revocations.stores) {
    const found = one.list(nowMs, MOST_LISTED);
    total += found.total;
    for (const entry of found.entries) {
      listed.push({
        store,
        issuer: entry.issuer,
        ...(entry.kind === 'jti' ? { jti: entry.jti } : { subject: entry.subject, before: date(entry.beforeMs) }),
        until: Number.isFinite(entry.untilMs) ? date(entry.untilMs) : null,
      });
    }
  }
  return { total, revocations: listed };
}

function stores(revocations: PolicyRevocations): Record<string, unknown> {
  return Object.fromEntries(revocations.status);
}

function date(ms: number): string {
  return new Date(Math.min(ms, LAST_MS)).toISOString();
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= LONGEST_TEXT;
}

function isMoment(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= LAST_MS;
}
