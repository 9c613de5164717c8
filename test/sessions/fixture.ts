import { createSecretKey } from 'node:crypto';
import { Credential } from '../../src/identity/credential.js';
import type { Identity } from '../../src/identity/identity.js';
import { type SessionKey, beginSession, sealSession, sessionKey } from '../../src/identity/session.js';
import { identityOfToken } from '../../src/identity/static-token.js';
import type { HttpListener, LoginAuthenticator, SessionSettings, TokenEntry } from '../../src/policy/policy.js';
import { NOW, listenerOf, tokenEntry } from '../gate/listeners.js';

export const TOKEN = 'a-token-of-more-than-sixteen';
export const HOUR = 3_600_000;

export function ringOf(letter: string, listener = 'main'): SessionKey {
  return sessionKey(createSecretKey(Buffer.from(letter.repeat(32))), listener);
}

export function settingsOf(loginWith: readonly LoginAuthenticator[], lifetimeMs = 12 * HOUR): SessionSettings {
  return {
    loginWith,
    lifetimeMs,
    sameSite: 'strict',
    keys: [],
    title: 'main',
    revocation: { store: 'embedded', key: null, onUnavailable: 'deny' },
  };
}

export function listenerWith(
  loginWith: readonly LoginAuthenticator[],
  lifetimeMs?: number,
  name = 'main',
): HttpListener {
  return {
    ...listenerOf({ routes: [{ path: '/**' }], authenticators: loginWith }),
    name,
    sessions: settingsOf(loginWith, lifetimeMs),
  };
}

/** The cookie of somebody who logged in at NOW. */
export function cookieOf(
  listener: HttpListener,
  by: LoginAuthenticator,
  identity: Identity,
  secret: string,
  key: SessionKey,
  nowMs = NOW,
): string {
  const credential = new Credential(by.type === 'basic' ? 'basic' : 'authorization', secret);
  const { sessions } = listener;
  if (sessions === null) throw new TypeError('no sessions');
  const session = beginSession(sessions, by, identity, credential, key, '0123456789abcdef0123456789abcdef', nowMs);
  const value = session === null ? null : sealSession(session, key);
  if (value === null) throw new TypeError('no cookie');
  return value;
}

export function keeper(parts: Partial<Parameters<typeof tokenEntry>[0]> = {}): {
  readonly entry: TokenEntry;
  readonly identity: Identity;
} {
  const entry = tokenEntry({ token: TOKEN, ...parts });
  return { entry, identity: identityOfToken(entry) };
}
