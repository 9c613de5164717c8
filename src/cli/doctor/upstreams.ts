import { connect } from 'node:net';
import type { Policy, Upstream } from '../../policy/policy.js';
import { exposureOf } from '../../server/exposure-issues.js';
import { type Finding, failed, ok, warn } from './finding.js';

export function lookAtExposure(policy: Policy): Finding[] {
  const { upstreamExposure } = policy;
  return exposureOf(policy).map(({ upstream, state, why, addresses }) => {
    const check = `exposure ${upstream}`;
    if (state === 'private') return ok(check, why);
    if (state === 'unknown') return warn(check, `not known: ${why}`, 'look at it where the service runs: ss -ltn');
    const seen = `anyone can walk around guardbee: ${why} (${addresses.join(', ')})`;
    if (upstreamExposure.mode === 'firewalled')
      return ok(check, `accepted as firewalled (${upstreamExposure.why}): ${why}`);
    const fix = 'have the service listen on 127.0.0.1 alone, or close its port in the firewall';
    return upstreamExposure.mode === 'refuse' ? failed(check, seen, fix) : warn(check, seen, fix);
  });
}

const REACH_TIMEOUT_MS = 2000;

/** Connects and leaves; nothing is sent. */
export async function lookAtReach(upstream: Upstream): Promise<Finding[]> {
  const check = `upstream ${upstream.name}`;
  const { target } = upstream;
  // Of a range any may be there or not, and `exposure` has looked at which.
  if (target.kind === 'tcp' && target.lastPort !== undefined) return [];
  const why = await new Promise<string | null>((resolve) => {
    const socket = target.kind === 'unix' ? connect(target.path) : connect(target.port, target.host);
    const end = (result: string | null): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(REACH_TIMEOUT_MS, () => end('ETIMEDOUT'));
    socket.on('connect', () => end(null));
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? 'unknown error'));
  });
  return [
    why === null
      ? ok(check, 'it takes connections')
      : warn(check, `it takes no connections (${why}), so callers would get 502`, 'start the service'),
  ];
}
