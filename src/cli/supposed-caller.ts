import type { SupposedRequest } from '../gate/policy-tests.js';
import type { Identity } from '../identity/identity.js';
import { didYouMean } from '../policy/did-you-mean.js';
import { show } from '../policy/found.js';
import type { Holder, HttpListener, Policy, TokenEntry } from '../policy/policy.js';

export function guess(name: string, candidates: Iterable<string>): string {
  const meant = didYouMean(name, candidates);
  return meant === undefined ? '' : `, did you mean ${meant}?`;
}

function allTokens(policy: Policy): TokenEntry[] {
  return [...policy.authenticators.values()].flatMap((one) => (one.type === 'bearer' ? one.tokens.entries() : []));
}

export function tokensNamed(policy: Policy, name: string): TokenEntry[] {
  return allTokens(policy).filter((token) => token.name === name);
}

/** Who shows a certificate, or a user name and a password. */
export interface Shown {
  readonly by: 'certificate' | 'user';
  readonly authenticator: string;
  readonly holder: Holder;
}

export function allHolders(policy: Policy): Shown[] {
  return [...policy.authenticators.values()].flatMap((one): Shown[] => {
    const shown = (by: Shown['by'], holder: Holder): Shown => ({ by, authenticator: one.name, holder });
    if (one.type === 'mtls') return one.identities.entries().map(({ holder }) => shown('certificate', holder));
    return one.type === 'basic' ? [...one.users.values()].map(({ holder }) => shown('user', holder)) : [];
  });
}

export function nobodyOfTheName(policy: Policy, name: string): string {
  const names = new Set(
    [...allTokens(policy), ...allHolders(policy).map(({ holder }) => holder)].map((one) => one.name),
  );
  return `there is no token, user or certificate ${show(name)}${guess(name, names)}`;
}

/** Roles of the policy, and those that only its tokens name. */
export function roleNames(policy: Policy): Set<string> {
  return new Set([...policy.roles.keys(), ...allTokens(policy).flatMap((token) => token.roles)]);
}

/** Who asks: nobody known, whoever is at that address, somebody made up, whoever holds a token, or somebody of another policy. */
export type Caller =
  | { readonly kind: 'nobody' }
  | { readonly kind: 'stranger'; readonly name: string }
  | { readonly kind: 'known'; readonly identity: Identity; readonly from: string }
  | { readonly kind: 'supposed'; readonly as: NonNullable<SupposedRequest['as']> }
  | { readonly kind: 'token'; readonly as: NonNullable<SupposedRequest['as']>; readonly token: TokenEntry }
  | { readonly kind: 'shown'; readonly as: NonNullable<SupposedRequest['as']>; readonly shown: Shown };

export function callerOf(
  options: { readonly role?: readonly string[]; readonly permission?: readonly string[] },
  tokens: readonly TokenEntry[],
  holders: readonly Shown[],
  listener: HttpListener,
  now: number,
): Exclude<Caller, { kind: 'known' | 'stranger' }> {
  // While a token is rotated there are two of its name: take the one that gets furthest.
  const asked = new Set(listener.routes.routes.flatMap((route) => route.authenticators.map((one) => one.name)));
  const rank = (token: TokenEntry): number =>
    (asked.has(token.authenticator) ? 2 : 0) + (token.notBeforeMs <= now && now < token.notAfterMs ? 1 : 0);
  const [token] = [...tokens].sort((a, b) => rank(b) - rank(a));
  const shown = holders.find(({ authenticator }) => asked.has(authenticator)) ?? holders[0];
  if (
    shown !== undefined &&
    (token === undefined || (!asked.has(token.authenticator) && asked.has(shown.authenticator)))
  ) {
    const { name, roles, grants } = shown.holder;
    return { kind: 'shown', shown, as: { name, roles, permissions: [...grants] } };
  }
  if (token !== undefined) {
    return { kind: 'token', token, as: { name: token.name, roles: token.roles, permissions: [...token.grants] } };
  }
  const { role: roles = [], permission: permissions = [] } = options;
  if (roles.length + permissions.length === 0) return { kind: 'nobody' };
  return { kind: 'supposed', as: { name: 'somebody', roles, permissions } };
}

export function whoIs(caller: Caller): string {
  if (caller.kind === 'nobody') return 'nobody';
  if (caller.kind === 'stranger') return show(caller.name);
  if (caller.kind === 'known') return `${caller.from} is ${show(caller.identity.name)} by its address, and`;
  if (caller.kind === 'shown') return `${caller.shown.by} ${show(caller.shown.holder.name)}`;
  return caller.kind === 'token' ? `token ${show(caller.token.name)}` : 'the supposed caller';
}

export function heldBy(caller: Caller, policy: Policy): ReadonlySet<string> {
  if (caller.kind === 'nobody' || caller.kind === 'stranger') return new Set();
  if (caller.kind === 'known') return caller.identity.grants;
  const { roles, permissions } = caller.as;
  return new Set([...roles, ...permissions, ...roles.flatMap((role) => policy.roles.get(role) ?? [])]);
}

export function validity(caller: Caller): string {
  if (caller.kind !== 'token') return 'is not valid now';
  const { notBeforeMs, notAfterMs } = caller.token;
  return Date.now() < notBeforeMs
    ? `is not valid before ${new Date(notBeforeMs).toISOString()}`
    : `was valid until ${new Date(notAfterMs).toISOString()}`;
}
