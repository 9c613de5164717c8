import type { Issue } from '../policy/issue.js';
import type { HttpListener, Listener, Policy, Position, Upstream } from '../policy/policy.js';
import { type Exposure, type OwnBind, type ReadProc, checkExposure } from './exposure.js';

/** Those that TLS is spoken with are elsewhere, and nobody walks around guardbee there: it stands before their callers. */
export function upstreamsHere({ upstreams }: Policy): Upstream[] {
  return upstreams.filter(({ tls }) => tls === null);
}

/** What is known of each upstream of a policy now. guardbee's own listeners are not taken for upstreams. */
export function exposureOf(policy: Policy, readProc?: ReadProc): Exposure[] {
  return checkExposure(upstreamsHere(policy), ownBindsOf(policy.listeners), readProc);
}

/** Every address and port of them. @param firstPort the one that a listener really has, where that is known */
export function ownBindsOf(
  listeners: readonly Listener[],
  firstPort = (one: Listener): number => one.bind.port,
): OwnBind[] {
  return listeners.flatMap((listener) => {
    const first = firstPort(listener);
    const count = listener.type === 'tcp' ? listener.lastPort - listener.bind.port + 1 : 1;
    return Array.from({ length: count }, (_, nth) => ({ host: listener.bind.host, port: first + nth }));
  });
}

/**
 * Upstreams that could be reached around guardbee, where the policy refuses that. `check` and `run` both ask this, so
 * that they accept the same policies.
 */
export function exposureIssues(policy: Policy, readProc?: ReadProc): Issue[] {
  if (policy.upstreamExposure.mode !== 'refuse') return [];
  const found = exposureOf(policy, readProc);
  return upstreamsHere(policy).flatMap((upstream, index) => {
    const exposure = found[index];
    return exposure?.state === 'exposed' ? [issueAbout(policy, upstream, exposure)] : [];
  });
}

function issueAbout(policy: Policy, upstream: Upstream, exposure: Exposure): Issue {
  const place = placeOf(policy, upstream);
  return {
    severity: 'error',
    code: 'upstream_exposed',
    file: policy.file,
    line: place.position.line,
    column: place.position.column,
    key: place.key,
    message: `upstream ${upstream.name} can be reached around guardbee: ${exposure.why} (seen: ${exposure.addresses.join(', ')})`,
    hint: 'have the service listen on 127.0.0.1 alone, or close its port in the firewall and write upstream_exposure: { firewalled: "how" }',
  };
}

/** The listener, where all that it forwards goes there; else the first route that goes there. */
function placeOf(policy: Policy, upstream: Upstream): { readonly key: string; readonly position: Position } {
  for (const listener of policy.listeners) {
    if (listener.type === 'tcp' && listener.upstream.name === upstream.name)
      return { key: `listeners.${listener.name}.upstream`, position: listener.position };
    if (listener.type !== 'http') continue;
    const route = listener.routes.routes.find((one) => one.upstream?.name === upstream.name);
    if (route === undefined) continue;
    return sharesOneUpstream(listener)
      ? { key: `listeners.${listener.name}.upstream`, position: listener.position }
      : { key: `listeners.${listener.name}.routes[${route.index}].upstream`, position: route.position };
  }
  return { key: 'upstream_exposure', position: { line: 0, column: 0 } };
}

function sharesOneUpstream(listener: HttpListener): boolean {
  const names = listener.routes.routes.flatMap((route) => (route.upstream === null ? [] : [route.upstream.name]));
  return new Set(names).size === 1;
}
