import type { DenialReason } from '../denial.js';
import { member } from '../http/strict-json.js';
import type { JwtAuthenticator } from '../policy/policy.js';
import type { Identity } from './identity.js';

/** What the claims of a verified token come to. Times are epoch milliseconds, clock tolerance included. */
export type JudgedClaims =
  | {
      readonly ok: true;
      readonly identity: Identity;
      /** Good from this moment on … */
      readonly fromMs: number;
      /** … and no longer at this one: the earliest of `exp` and `iat` + `max_age`. */
      readonly untilMs: number;
    }
  | { readonly ok: false; readonly reason: DenialReason };

const refused = (reason: DenialReason): JudgedClaims => ({ ok: false, reason });

/** 31 December 9999. Larger numbers are milliseconds, or somebody's attempt at forever. */
const LATEST_SECOND = 253_402_300_799;

/** A NumericDate (RFC 7519 §2) in milliseconds. Null: there is none. Undefined: what stands there is none. */
function numericDate(value: unknown): number | null | undefined {
  if (value === undefined) return null;
  // Never coerced: "1893456000" is no number, and `true` is not 1.
  if (typeof value !== 'number' || !(value >= 0 && value <= LATEST_SECOND)) return undefined;
  return value * 1000;
}

/** Names go into a header field of the request that is forwarded. */
const NAME = /^[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?$/;

/** Longer identifiers of tokens and subjects would make the store of revocations grow at the issuer's whim. */
const LONGEST_ID = 512;

/** @param claims of a token whose signature was verified with a key of this authenticator */
export function judgeClaims(
  authenticator: JwtAuthenticator,
  claims: Readonly<Record<string, unknown>>,
  nowMs: number,
): JudgedClaims {
  const { issuer, audiences, clockToleranceMs, maxAgeMs } = authenticator;
  if (member(claims, 'iss') !== issuer) return refused('credential_invalid');
  if (!isMeantForUs(member(claims, 'aud'), audiences)) return refused('credential_invalid');
  const expMs = numericDate(member(claims, 'exp'));
  const nbfMs = numericDate(member(claims, 'nbf'));
  const iatMs = numericDate(member(claims, 'iat'));
  if (expMs == null || nbfMs === undefined || iatMs === undefined) return refused('credential_invalid');
  if (maxAgeMs !== null && iatMs === null) return refused('credential_invalid');
  const jti = readId(member(claims, 'jti'));
  const subject = readId(member(claims, 'sub'));
  if (jti === undefined || subject === undefined) return refused('credential_invalid');
  const name = at(claims, authenticator.nameFrom);
  if (typeof name !== 'string' || !NAME.test(name)) return refused('credential_invalid');

  const endMs = expMs + clockToleranceMs;
  const oldestMs = maxAgeMs === null || iatMs === null ? Infinity : iatMs + maxAgeMs + clockToleranceMs;
  const untilMs = Math.min(endMs, oldestMs);
  if (nowMs >= untilMs) return refused('credential_expired');
  // A token from the future is one of a clock that is wrong: its end cannot be believed either.
  const fromMs = Math.max(nbfMs ?? -Infinity, iatMs ?? -Infinity) - clockToleranceMs;
  if (nowMs < fromMs) return refused('credential_not_yet_valid');

  const roles = rolesOf(authenticator, claims);
  const { revocation } = authenticator;
  return {
    ok: true,
    fromMs,
    untilMs,
    identity: {
      name,
      authenticator: authenticator.name,
      roles,
      grants: new Set([
        ...roles,
        ...roles.flatMap((role) => authenticator.roles.get(role) ?? []),
        ...permissionsOf(authenticator, claims),
      ]),
      expiresAtMs: untilMs,
      revocables:
        revocation === null
          ? []
          : [{ settings: revocation, issuer, jti, subject, issuedAtMs: iatMs, expiresAtMs: endMs }],
    },
  };
}

/** RFC 7519 §4.1.3: a text, or a list of texts. */
function isMeantForUs(aud: unknown, audiences: readonly string[]): boolean {
  if (typeof aud === 'string') return audiences.includes(aud);
  if (!Array.isArray(aud)) return false;
  const all: readonly unknown[] = aud;
  return all.every((one) => typeof one === 'string') && all.some((one) => audiences.includes(one));
}

/** `jti` and `sub`: texts where they are there at all. Undefined: what stands there is none. */
function readId(value: unknown): string | null | undefined {
  if (value === undefined) return null;
  return typeof value === 'string' && value !== '' && value.length <= LONGEST_ID ? value : undefined;
}

function at(claims: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(member, claims);
}

/** A list of texts, or one text with blanks as `scope` is (RFC 8693 §4.2). What is no text names nothing. */
function texts(claims: unknown, path: readonly string[] | null): readonly string[] {
  const value = path === null ? undefined : at(claims, path);
  if (typeof value === 'string') return value.split(' ');
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}

/** A role that the policy does not have is nobody's: whoever writes claims may write any name. */
function rolesOf(
  { rolesFrom, rolesMap, roles }: JwtAuthenticator,
  claims: Readonly<Record<string, unknown>>,
): readonly string[] {
  const ours = texts(claims, rolesFrom).map((name) => (rolesMap === null ? name : rolesMap.get(name)));
  return [...new Set(ours)].filter((role) => role !== undefined && roles.has(role)) as string[];
}

/** Permissions alone: a claim that names a role here gives nothing, whatever the role holds. */
function permissionsOf(
  { permissionsFrom, permissions }: JwtAuthenticator,
  claims: Readonly<Record<string, unknown>>,
): readonly string[] {
  return texts(claims, permissionsFrom).filter((name) => permissions.has(name));
}
