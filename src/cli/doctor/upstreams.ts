import { connect } from 'node:net';
import type { FailureReason } from '../../failure.js';
import type { Policy, Upstream } from '../../policy/policy.js';
import { SecureConnector } from '../../proxy/secure-connect.js';
import { upstreamFailure } from '../../proxy/upstream-failure.js';
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
  const { target, tls } = upstream;
  if (tls !== null) return [await lookAtFarSide(check, new SecureConnector(upstream, tls))];
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

const TLS_FAULTS: Readonly<Partial<Record<FailureReason, string>>> = {
  upstream_refused: 'it takes no connections, or its name has no address',
  upstream_timeout: 'it does not answer in time',
  upstream_tls_failed: 'what answers there speaks no TLS 1.2 or later',
  upstream_certificate_untrusted: 'its certificate is of no authority that is trusted here (upstream_tls.ca names one)',
  upstream_certificate_expired: 'its certificate has expired or is not valid yet',
  upstream_certificate_wrong_name: 'its certificate is for another name (upstream_tls.server_name says which is meant)',
  upstream_certificate_wrong_key: 'its key is none of upstream_tls.spki',
  upstream_refused_certificate: 'it does not accept the certificate that guardbee shows, or wants one',
};

/**
 * A handshake, and nothing after it. In TLS 1.3 the other side may refuse our certificate later still (RFC 8446 §4.4.2):
 * of that nothing is said.
 */
async function lookAtFarSide(check: string, connector: SecureConnector): Promise<Finding> {
  const fault = await new Promise<FailureReason | null>((resolve) => {
    const timer = setTimeout(() => {
      connecting.cancel();
      resolve('upstream_timeout');
    }, REACH_TIMEOUT_MS);
    const connecting = connector.open((result) => {
      clearTimeout(timer);
      if ('error' in result) {
        resolve(upstreamFailure(result.error));
        return;
      }
      result.on('error', () => undefined);
      result.destroy();
      resolve(null);
    });
  });
  if (fault === null) return ok(check, 'it answers, and is who it should be');
  const words = TLS_FAULTS[fault] ?? 'it ended the handshake';
  return fault === 'upstream_refused' || fault === 'upstream_timeout'
    ? warn(check, `${words}, so callers would get 502`, 'start the service there, and look at the firewall')
    : failed(check, `${words}, so callers get 502`, 'see "Outbound listeners" in the policy reference');
}
