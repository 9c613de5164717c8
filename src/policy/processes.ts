import type { Listener, Policy } from './policy.js';

export const MOST_PROCESSES = 64;

/** What of a policy only one process can do, one clause each. */
export function unfitForMany({
  listeners,
  authenticators,
}: {
  readonly listeners: readonly Listener[];
  readonly authenticators: Policy['authenticators'];
}): string[] {
  const unfit: string[] = [];
  for (const one of authenticators.values()) {
    if (one.type === 'jwt' && one.revocation?.store === 'shared')
      unfit.push(`authenticator "${one.name}" has its revocations in Redis (revocation: shared)`);
  }
  for (const listener of listeners) {
    if (listener.bind.path !== undefined) unfit.push(`listener "${listener.name}" is a unix socket`);
    if (listener.type !== 'redirect' && listener.tls?.kind === 'acme')
      unfit.push(`the certificates of listener "${listener.name}" are issued by an ACME authority`);
    if (listener.type === 'http' && listener.sessions?.revocation.store === 'shared')
      unfit.push(`the sessions of listener "${listener.name}" have their revocations in Redis`);
    if (listener.type !== 'redirect' && listener.proxyProtocol && listener.limits.connectionsPerAddress !== null)
      unfit.push(`listener "${listener.name}" counts connections by the addresses in PROXY headers`);
  }
  return unfit;
}
