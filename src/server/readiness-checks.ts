import type { HostState } from '../acme/certificates.js';
import type { JwksState } from '../identity/jwks.js';
import type { Workers } from '../observe/metrics.js';
import type { ReadinessCheck } from '../observe/readiness.js';
import { type Redactor, constant } from '../observe/redact.js';
import type { Policy } from '../policy/policy.js';
import type { Exposure } from './exposure.js';
import type { TlsOfListeners } from './listener-certificates.js';

/** That the file is wrong is said, and no reason to send requests elsewhere: the last good one is in force. */
export function policyCheck({ version }: Policy, reloadFailed: string | null, redactor: Redactor): ReadinessCheck {
  return reloadFailed === null
    ? { name: 'policy', status: 'ok', detail: constant(`version ${version}`) }
    : {
        name: 'policy',
        status: 'unknown',
        detail: redactor.redactText(`version ${version} stays in force, the last reload failed: ${reloadFailed}`, 512),
      };
}

export function shadowCheck({ version, file }: Policy): ReadinessCheck {
  return { name: 'shadow', status: 'ok', detail: constant(`version ${version} of ${file} is tried, to no effect`) };
}

/** @param accepted one that is exposed is no reason to send requests elsewhere */
export function exposureCheck(found: readonly Exposure[], accepted: boolean): ReadinessCheck {
  const exposed = found.filter((one) => one.state === 'exposed');
  if (exposed.length > 0) {
    return {
      name: 'upstream_exposure',
      status: accepted ? 'ok' : 'failed',
      detail: constant(exposed.map((one) => `${one.upstream}: ${one.why}`).join('; ')),
    };
  }
  const unknown = found.filter((one) => one.state === 'unknown');
  return {
    name: 'upstream_exposure',
    status: unknown.length > 0 ? 'unknown' : 'ok',
    detail: constant(unknown.map((one) => `${one.upstream}: ${one.why}`).join('; ') || 'no upstream is exposed'),
  };
}

export function certificatesCheck(tls: TlsOfListeners): ReadinessCheck {
  const expired = [...tls].filter(([, { notAfter }]) => notAfter !== null && notAfter.getTime() <= Date.now());
  return {
    name: 'certificates',
    status: expired.length > 0 ? 'failed' : 'ok',
    detail: constant(expired.length > 0 ? `expired: ${expired.map(([name]) => name).join(', ')}` : 'valid'),
  };
}

/** A host that cannot be served is a failure; one whose renewal fails is said, and served until its certificate ends. */
export function acmeCheck(states: readonly HostState[], redactor: Redactor): ReadinessCheck {
  const without = states.filter(({ notAfterMs }) => notAfterMs === null || notAfterMs <= Date.now());
  const failing = states.filter(({ failure }) => failure !== null);
  const told = without.length > 0 ? without : failing;
  if (told.length === 0) return { name: 'acme', status: 'ok', detail: constant('every host has its certificate') };
  const detail = told
    .map(({ host, failure }) => `${host}: ${failure ?? 'its certificate is being ordered'}`)
    .join('; ');
  return {
    name: 'acme',
    status: without.length > 0 ? 'failed' : 'unknown',
    detail: redactor.redactText(`${without.length > 0 ? 'without a certificate' : 'not renewed'}: ${detail}`, 512),
  };
}

/** One that serves is enough to be sent requests; that others are missing is said. */
export function workersCheck({ ready, wanted, restarts }: Workers): ReadinessCheck {
  const died = restarts === 0 ? '' : `, ${String(restarts)} begun again`;
  return {
    name: 'workers',
    status: ready === 0 ? 'failed' : ready < wanted ? 'unknown' : 'ok',
    detail: constant(`${String(ready)} of ${String(wanted)} serve${died}`),
  };
}

/** Stale keys still verify; without any nobody with a token gets in. */
export function keysCheck(name: string, { state, ageSeconds, fault }: JwksState): ReadinessCheck {
  const age = `fetched ${String(Math.floor(ageSeconds))} s ago`;
  const since = fault === null ? '' : `, last attempt: ${fault}`;
  switch (state) {
    case 'fresh':
      return { name: `jwks:${name}`, status: 'ok', detail: constant(`${age}${since}`) };
    case 'stale':
      return { name: `jwks:${name}`, status: 'unknown', detail: constant(`stale, ${age}${since}`) };
    case 'never_loaded':
      return { name: `jwks:${name}`, status: 'failed', detail: constant(`never loaded${since}`) };
  }
}
