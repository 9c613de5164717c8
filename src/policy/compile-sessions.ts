import { Secret } from '../secret/secret.js';
import type { CompiledAuthenticators } from './compile-authenticators.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { Material } from './material.js';
import type { DeclaredNames } from './names.js';
import type { Authenticator, LoginAuthenticator, RevocationSettings, SessionSettings } from './policy.js';
import type { SessionsEntry } from './schema-sessions.js';

interface Context {
  readonly authenticators: CompiledAuthenticators;
  readonly names: DeclaredNames;
  readonly material: Material;
  readonly findings: Findings;
}

/** Shorter secrets are weaker than the HMAC-SHA256 they are for (RFC 2104 §3). */
export const LEAST_KEY_BYTES = 32;
const DAY_MS = 86_400_000;

/**
 * @param node that of the listener
 * @param used the authenticators of the listener's routes
 */
export function compileSessions(
  entry: SessionsEntry | undefined,
  node: Draft,
  used: readonly Authenticator[],
  revocation: RevocationSettings,
  context: Context,
): SessionSettings | null {
  const at = node.get('sessions');
  if (entry === undefined || at === null) return null;
  const { findings } = context;
  if (!node.declares('tls')) {
    findings.error(
      'sessions_without_tls',
      at,
      'key',
      'a session is a cookie that browsers keep for TLS alone (__Host-, Secure), and the listener has no tls',
      'write tls: { self_signed: { names: [NAME] } } or tls: { cert: FILE, key: FILE } in the listener',
    );
  }
  return {
    loginWith: compileLoginWith(entry, node, at, used, context),
    lifetimeMs: entry.lifetime ?? DAY_MS / 2,
    sameSite: entry.same_site ?? 'strict',
    keys: compileKeys(entry, at, context),
    title: entry.title ?? node.origin.path.at(-1)?.toString() ?? '',
    revocation,
  };
}

function compileLoginWith(
  entry: SessionsEntry,
  node: Draft,
  at: Draft,
  used: readonly Authenticator[],
  { authenticators, names, findings }: Context,
): LoginAuthenticator[] {
  const listed = at.get('login_with');
  const found: LoginAuthenticator[] = [];
  for (const [index, name] of entry.login_with.entries()) {
    const place = listed?.at([index]) ?? null;
    const authenticator = authenticators.byName.get(name);
    if (authenticator === undefined) {
      if (!names.authenticators.has(name)) {
        findings.unknownName(place, 'authenticator', name, names.authenticators);
      }
      continue;
    }
    if (!mayLogIn(authenticator)) {
      findings.error(
        'wrong_value',
        place,
        'value',
        `${show(name)} is of type ${authenticator.type}, and a session is begun with a credential that somebody types`,
        'name authenticators of type bearer, jwt or basic',
      );
      continue;
    }
    if (found.includes(authenticator)) {
      findings.error('duplicate_name', place, 'value', `the authenticator ${show(name)} stands twice`, 'remove one');
      continue;
    }
    const rival = found.find((one) => one.type === authenticator.type && one.type !== 'jwt');
    if (rival !== undefined) {
      findings.error(
        'ambiguous_authenticators',
        place,
        'value',
        `${show(rival.name)} and ${show(name)} are both of type ${authenticator.type}, so what is typed into the login page would have two judges`,
        'keep one of them',
      );
      continue;
    }
    if (!used.includes(authenticator) && !node.tainted) {
      findings.error(
        'wrong_value',
        place,
        'value',
        `no route of this listener asks ${show(name)}, so such a session would open nothing`,
        used.length === 0
          ? `write authenticate: [${name}] in the listener`
          : `name ${either(namesOf(used))}, or write authenticate: [${name}] in the listener`,
      );
    }
    found.push(authenticator);
  }
  return found;
}

function namesOf(used: readonly Authenticator[]): string[] {
  return [...new Set(used)].slice(0, 5).map((one) => show(one.name));
}

function mayLogIn(authenticator: Authenticator): authenticator is LoginAuthenticator {
  return authenticator.type === 'bearer' || authenticator.type === 'jwt' || authenticator.type === 'basic';
}

function compileKeys(entry: SessionsEntry, at: Draft, { material, findings }: Context): Secret[] {
  const listed = at.get('keys');
  const keys: Secret[] = [];
  for (const index of (entry.keys ?? []).keys()) {
    const node = listed?.at([index]) ?? null;
    const bytes = node === null ? undefined : material.secrets.get(node);
    if (bytes === undefined) continue;
    // What is not ASCII would lose its difference on the way through a text.
    if (bytes.length < LEAST_KEY_BYTES || bytes.some((byte) => byte < 0x21 || byte > 0x7e)) {
      findings.error(
        'secret_malformed',
        node,
        'value',
        `a session key is ${LEAST_KEY_BYTES} printable ASCII characters at least, without blanks`,
        'make one with: openssl rand -base64 32',
      );
      continue;
    }
    keys.push(Secret.fromBytes(Buffer.from(bytes)));
  }
  return keys;
}
