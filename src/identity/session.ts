/**
 * A session: what a credential proved, sealed into the value of a cookie, so that nothing need be kept of it here. Pure:
 * keys and time are given.
 *
 * The value is `payload.mac`, both base64url: JSON, and HMAC-SHA256 over the payload's text. The key is derived for one
 * listener and one purpose (HKDF, RFC 5869), so that a cookie of another listener is a forgery here.
 */
import { type KeyObject, createHmac, createSecretKey, hkdfSync, timingSafeEqual } from 'node:crypto';
import type {
  BearerAuthenticator,
  HttpListener,
  JwtAuthenticator,
  LoginAuthenticator,
  RevocationSettings,
  SessionSettings,
} from '../policy/policy.js';
import type { Secret } from '../secret/secret.js';
import type { Credential } from './credential.js';
import type { Identity, Revocable } from './identity.js';
import type { Proof } from './provers.js';
import { identityOfToken } from './static-token.js';

/** Browsers keep 4096 bytes of a cookie, name and attributes included (RFC 6265 §6.1). */
export const LONGEST_SESSION = 3_500;

/** What one secret of the ring becomes for one listener. */
export interface SessionKey {
  readonly sign: KeyObject;
  /** Says which token or password a session came from, without telling it. */
  readonly bind: KeyObject;
}

/** @param secret 32 bytes at least */
export function sessionKey(secret: KeyObject, listener: string): SessionKey {
  const derive = (purpose: string): KeyObject =>
    createSecretKey(Buffer.from(hkdfSync('sha256', secret, '', `guardbee session 1\0${purpose}\0${listener}`, 32)));
  return { sign: derive('sign'), bind: derive('bind') };
}

/** What stands in a cookie. */
export interface Session {
  /** 128 random bits, 32 lowercase hex digits: what is revoked at logout. */
  readonly id: string;
  readonly authenticator: string;
  readonly name: string;
  readonly issuedAtMs: number;
  /** Not after the source's own end. */
  readonly expiresAtMs: number;
  /** Tells the token, the password or the issuer it came from. */
  readonly binding: string;
  /** What the policy cannot say again: roles and permissions that came in a token. Null for all others. */
  readonly granted: { readonly roles: readonly string[]; readonly permissions: readonly string[] } | null;
  /** What could be revoked of the source: its issuer, `jti`, subject, and when it was issued and ends. */
  readonly sources: readonly Omit<Revocable, 'settings'>[];
}

/** Begins a session of what a credential proved. Null: the source cannot be told again. @param id 32 random hex digits */
export function beginSession(
  settings: SessionSettings,
  authenticator: LoginAuthenticator,
  identity: Identity,
  credential: Credential,
  key: SessionKey,
  id: string,
  nowMs: number,
): Session | null {
  const binding = bindingOf(authenticator, identity, credential, key);
  if (binding === null) return null;
  return {
    id,
    authenticator: authenticator.name,
    name: identity.name,
    issuedAtMs: nowMs,
    expiresAtMs: Math.min(nowMs + settings.lifetimeMs, identity.expiresAtMs),
    binding,
    granted:
      authenticator.type === 'jwt'
        ? { roles: identity.roles, permissions: ownPermissions(identity, authenticator) }
        : null,
    sources: identity.revocables.map(({ issuer, jti, subject, issuedAtMs, expiresAtMs }) => ({
      issuer,
      jti,
      subject,
      issuedAtMs,
      expiresAtMs,
    })),
  };
}

/** Grants that came in the token itself; those of roles are the policy's to say. */
function ownPermissions(identity: Identity, { roles }: JwtAuthenticator): string[] {
  const ofRoles = new Set(identity.roles.flatMap((role) => [role, ...(roles.get(role) ?? [])]));
  return [...identity.grants].filter((grant) => !ofRoles.has(grant));
}

function bindingOf(
  authenticator: LoginAuthenticator,
  identity: Identity,
  credential: Credential,
  key: SessionKey,
): string | null {
  switch (authenticator.type) {
    case 'bearer':
      return bind(key, authenticator, credential.sha256);
    case 'jwt':
      return bind(key, authenticator, authenticator.issuer);
    case 'basic': {
      const user = authenticator.users.get(identity.name);
      return user === undefined ? null : bind(key, authenticator, hashDigest(user.hash));
    }
  }
}

function bind(key: SessionKey, { type, name }: LoginAuthenticator, source: string): string {
  return createHmac('sha256', key.bind).update(`${type}\0${name}\0${source}`).digest().toString('base64url', 0, 16);
}

/** A password is known here by its hash alone, and that by its digest. */
function hashDigest(hash: Secret): string {
  return hash.digests()[0] ?? '';
}

// ---------------------------------------------------------------------------------------------------------------
// The cookie's value

const VERSION = 1;

/** Null: it does not fit into a cookie. */
export function sealSession(session: Session, key: SessionKey): string | null {
  const { granted, sources } = session;
  const payload = Buffer.from(
    JSON.stringify({
      v: VERSION,
      sid: session.id,
      a: session.authenticator,
      n: session.name,
      iat: session.issuedAtMs,
      exp: session.expiresAtMs,
      b: session.binding,
      ...(granted === null ? {} : { r: granted.roles, p: granted.permissions }),
      ...(sources.length === 0
        ? {}
        : {
            // Infinity is no JSON; null is.
            s: sources.map((one) => [
              one.issuer,
              one.jti,
              one.subject,
              one.issuedAtMs,
              Number.isFinite(one.expiresAtMs) ? one.expiresAtMs : null,
            ]),
          }),
    }),
  ).toString('base64url');
  const value = `${payload}.${mac(payload, key)}`;
  return value.length > LONGEST_SESSION ? null : value;
}

function mac(payload: string, { sign }: SessionKey): string {
  return createHmac('sha256', sign).update(payload).digest('base64url');
}

const VALUE = /^([A-Za-z0-9_-]{1,3500})\.([A-Za-z0-9_-]{43})$/;

/** Null: no key of the ring made it. @returns the key too, since the binding was made with the same. */
export function unsealSession(
  value: string,
  keys: readonly SessionKey[],
): { readonly session: Session; readonly key: SessionKey } | null {
  if (value.length > LONGEST_SESSION) return null;
  const found = VALUE.exec(value);
  if (found === null) return null;
  const [, payload = '', shown = ''] = found;
  for (const key of keys) {
    // The texts are compared, not the bytes: the last letter of base64url has bits that nobody reads.
    if (!timingSafeEqual(Buffer.from(mac(payload, key), 'latin1'), Buffer.from(shown, 'latin1'))) continue;
    const session = readPayload(payload);
    return session === null ? null : { session, key };
  }
  return null;
}

/** Only what we signed gets here; it is read strictly all the same, since another version of us may have signed it. */
function readPayload(payload: string): Session | null {
  let read: unknown;
  try {
    read = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
  } catch {
    return null;
  }
  if (typeof read !== 'object' || read === null) return null;
  const { v, sid, a, n, iat, exp, b, r, p, s } = read as Record<string, unknown>;
  if (v !== VERSION || typeof sid !== 'string' || !/^[0-9a-f]{32}$/.test(sid)) return null;
  if (typeof a !== 'string' || typeof n !== 'string' || typeof b !== 'string') return null;
  if (!isMoment(iat) || !isMoment(exp)) return null;
  if ((r === undefined) !== (p === undefined)) return null;
  const granted = r === undefined ? null : isTexts(r) && isTexts(p) ? { roles: r, permissions: p } : undefined;
  const sources = s === undefined ? [] : readSources(s);
  if (granted === undefined || sources === null) return null;
  return { id: sid, authenticator: a, name: n, issuedAtMs: iat, expiresAtMs: exp, binding: b, granted, sources };
}

function readSources(list: unknown): Session['sources'] | null {
  if (!Array.isArray(list)) return null;
  const sources: Omit<Revocable, 'settings'>[] = [];
  for (const one of list as readonly unknown[]) {
    if (!Array.isArray(one) || one.length !== 5) return null;
    const [issuer, jti, subject, issuedAtMs, expiresAtMs] = one as readonly unknown[];
    if (typeof issuer !== 'string' || !isTextOrNull(jti) || !isTextOrNull(subject)) return null;
    if (issuedAtMs !== null && !isMoment(issuedAtMs)) return null;
    if (expiresAtMs !== null && !isMoment(expiresAtMs)) return null;
    sources.push({ issuer, jti, subject, issuedAtMs, expiresAtMs: expiresAtMs ?? Number.POSITIVE_INFINITY });
  }
  return sources;
}

const isMoment = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
const isTextOrNull = (value: unknown): value is string | null => value === null || typeof value === 'string';
const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');

// ---------------------------------------------------------------------------------------------------------------
// The proof

/** `renewed`: the same session, for the first key of the ring to seal. */
export type SessionProof =
  Extract<Proof, { ok: false }> | (Extract<Proof, { ok: true }> & { readonly renewed: Session });

const INVALID: SessionProof = { ok: false, reason: 'credential_invalid' };
const EXPIRED: SessionProof = { ok: false, reason: 'credential_expired' };
const GONE: SessionProof = { ok: false, reason: 'credential_revoked' };

/** Issuer of the sessions of a listener, for who revokes them. */
export function sessionIssuer(listener: string): string {
  return `guardbee:session:${listener}`;
}

/**
 * Whose session it is. Roles and permissions are those that the policy gives the name now; and a session lives no longer
 * than its source: a token that was removed or a password that was changed ends it. Revocation is not asked here.
 */
export function proveSession(
  listener: HttpListener,
  keys: readonly SessionKey[],
  value: string,
  nowMs: number,
): SessionProof {
  const settings = listener.sessions;
  if (settings === null) return INVALID;
  const opened = unsealSession(value, keys);
  if (opened === null) return INVALID;
  const { session, key } = opened;
  const authenticator = settings.loginWith.find((one) => one.name === session.authenticator);
  if (authenticator === undefined) return GONE;
  // A lifetime that was made shorter holds for sessions that are open, too.
  const endsAtMs = Math.min(session.expiresAtMs, session.issuedAtMs + settings.lifetimeMs);
  if (nowMs >= endsAtMs) return EXPIRED;
  const source = sourceOf(authenticator, session, key, nowMs);
  if (source === null) return GONE;
  const expiresAtMs = Math.min(endsAtMs, source.expiresAtMs);
  if (nowMs >= expiresAtMs) return EXPIRED;
  const identity: Identity = {
    name: source.name,
    authenticator: authenticator.name,
    roles: source.roles,
    grants: source.grants,
    expiresAtMs,
    revocables: [revocableOf(session, listener.name, settings.revocation, expiresAtMs), ...source.revocables],
  };
  const [first] = keys;
  const binding = first === undefined ? session.binding : bind(first, authenticator, source.boundTo);
  return { ok: true, identity, renewed: { ...session, binding } };
}

function revocableOf(session: Session, listener: string, settings: RevocationSettings, expiresAtMs: number): Revocable {
  const issuer = sessionIssuer(listener);
  return { settings, issuer, jti: session.id, subject: session.name, issuedAtMs: session.issuedAtMs, expiresAtMs };
}

interface Source extends Pick<Identity, 'name' | 'roles' | 'grants' | 'expiresAtMs' | 'revocables'> {
  /** What the binding is made of. */
  readonly boundTo: string;
}

/** Null: it is not there any more. */
function sourceOf(authenticator: LoginAuthenticator, session: Session, key: SessionKey, nowMs: number): Source | null {
  switch (authenticator.type) {
    case 'bearer':
      return ofToken(authenticator, session, key, nowMs);
    case 'jwt':
      return ofJwt(authenticator, session, key);
    case 'basic': {
      const user = authenticator.users.get(session.name);
      const boundTo = user === undefined ? '' : hashDigest(user.hash);
      if (user === undefined || !same(bind(key, authenticator, boundTo), session.binding)) return null;
      return { ...user.holder, expiresAtMs: Number.POSITIVE_INFINITY, revocables: [], boundTo };
    }
  }
}

function ofToken(authenticator: BearerAuthenticator, session: Session, key: SessionKey, nowMs: number): Source | null {
  for (const entry of authenticator.tokens.entries()) {
    if (entry.name !== session.name || nowMs < entry.notBeforeMs) continue;
    if (!same(bind(key, authenticator, entry.sha256), session.binding)) continue;
    return { ...identityOfToken(entry), boundTo: entry.sha256 };
  }
  return null;
}

function ofJwt(authenticator: JwtAuthenticator, session: Session, key: SessionKey): Source | null {
  const { granted, name } = session;
  if (granted === null || !same(bind(key, authenticator, authenticator.issuer), session.binding)) return null;
  // As for the token itself: what the policy no longer knows is nobody's.
  const roles = granted.roles.filter((role) => authenticator.roles.has(role));
  const permissions = granted.permissions.filter((permission) => authenticator.permissions.has(permission));
  const { revocation } = authenticator;
  return {
    name,
    roles,
    grants: new Set([...roles, ...roles.flatMap((role) => authenticator.roles.get(role) ?? []), ...permissions]),
    expiresAtMs: Number.POSITIVE_INFINITY,
    revocables: revocation === null ? [] : session.sources.map((one) => ({ settings: revocation, ...one })),
    boundTo: authenticator.issuer,
  };
}

function same(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
