import { sessionIssuer } from '../identity/session.js';
import type { Policy, RevocationSettings } from '../policy/policy.js';

/** An issuer whose credentials can be revoked, and where that is kept. */
export interface RevocationTarget {
  readonly issuer: string;
  readonly settings: RevocationSettings;
  /** How long after its `exp` a credential is still taken. */
  readonly toleranceMs: number;
}

/** Every issuer of a policy whose credentials can be revoked. One issuer may be there for several stores. */
export function revocationTargets(policy: Policy): RevocationTarget[] {
  const targets: RevocationTarget[] = [];
  for (const authenticator of policy.authenticators.values()) {
    if (authenticator.type !== 'jwt' || authenticator.revocation === null) continue;
    const { issuer, revocation: settings, clockToleranceMs: toleranceMs } = authenticator;
    targets.push({ issuer, settings, toleranceMs });
  }
  for (const listener of policy.listeners) {
    if (listener.type !== 'http' || listener.sessions === null) continue;
    targets.push({ issuer: sessionIssuer(listener.name), settings: listener.sessions.revocation, toleranceMs: 0 });
  }
  return targets;
}

/** Those of one issuer, each place once. */
export function targetsOf(policy: Policy, issuer: string): RevocationTarget[] {
  const places = new Map<string, RevocationTarget>();
  for (const target of revocationTargets(policy)) {
    if (target.issuer !== issuer) continue;
    const place = `${target.settings.store} ${target.settings.key ?? ''}`;
    const known = places.get(place);
    if (known === undefined || known.toleranceMs < target.toleranceMs) places.set(place, target);
  }
  return [...places.values()];
}
