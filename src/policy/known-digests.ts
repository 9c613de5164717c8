import type { Policy } from './policy.js';

/** What the log must never show, by digest: every token of the policy, and every credential for an upstream. */
export function knownDigests(policy: Policy): ReadonlySet<string> {
  const known = new Set<string>();
  for (const authenticator of policy.authenticators.values()) {
    if (authenticator.type !== 'bearer') continue;
    for (const { sha256 } of authenticator.tokens.entries()) known.add(sha256);
  }
  for (const listener of policy.listeners) {
    if (listener.type !== 'http') continue;
    for (const key of listener.sessions?.keys ?? []) for (const digest of key.digests()) known.add(digest);
    for (const { upstreamAuth } of listener.routes.routes) {
      for (const digest of upstreamAuth?.value.digests() ?? []) known.add(digest);
    }
  }
  for (const digest of policy.audit?.deliver?.token?.digests() ?? []) known.add(digest);
  for (const digest of policy.redis?.url.digests() ?? []) known.add(digest);
  for (const digest of policy.acme?.externalAccount?.key.digests() ?? []) known.add(digest);
  return known;
}
