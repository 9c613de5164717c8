import { ISSUES, type Issue } from '../../policy/issue.js';
import type { HttpListener, JwtAuthenticator, Policy, TcpListener } from '../../policy/policy.js';
import { failedTests } from '../check.js';
import { judgeNode } from '../node-line.js';
import type { PolicySource } from '../policy-source.js';
import { lookAtAudit } from './audit.js';
import { lookAtCertificates } from './certificates.js';
import { judgeJump, lookAtClock } from './clock.js';
import { lookAtFiles, lookAtStateDirectory } from './files.js';
import { type Finding, warn } from './finding.js';
import { lookAtJwks } from './jwks.js';
import { type Probe, lookAtAll } from './probe.js';
import { lookAtProcesses } from './processes.js';
import { lookAtReadiness } from './readiness.js';
import { lookAtRedis } from './redis.js';
import { lookAtRefusal } from './refusal.js';
import { type Running, findRunning } from './running.js';
import { lookAtSurroundings } from './surroundings.js';
import { lookAtTcp } from './tcp.js';
import { lookAtExposure, lookAtReach } from './upstreams.js';

/**
 * Looks at everything; what takes time is asked at once.
 *
 * @param source null: no policy was named, so only the machine is looked at
 * @param tell told what is being waited for
 */
export async function examine(
  source: PolicySource | null,
  nowMs: number,
  tell: (waitingFor: readonly string[]) => void,
): Promise<Finding[]> {
  const began = performance.now();
  const found = await examineAll(source, nowMs, tell);
  return [...found, ...judgeJump(Date.now() - nowMs, performance.now() - began)];
}

async function examineAll(
  source: PolicySource | null,
  nowMs: number,
  tell: (waitingFor: readonly string[]) => void,
): Promise<Finding[]> {
  const machine = (policy: Policy | null): Probe[] => [
    { check: 'node', look: () => [{ check: 'node', ...judgeNode(process.versions.node, nowMs) }] },
    { check: 'clock', look: () => lookAtClock(source, policy, nowMs) },
  ];
  if (source === null) {
    return [
      ...(await lookAtAll(machine(null), tell)),
      warn('policy', 'none was named, so only the machine was looked at', 'guardbee doctor policy.yaml'),
    ];
  }
  const loaded = await source.load();
  const said = loaded.ok ? [] : loaded.issues.map(fromIssue);
  // Broken secrets do not keep the rest from being looked at.
  const rules =
    !loaded.ok && loaded.issues.every((issue) => ISSUES[issue.code] === 'secret')
      ? await source.load({ skipSecretFiles: true })
      : loaded;
  if (!rules.ok) {
    const file: Probe = { check: 'policy', look: () => lookAtFiles(source, null) };
    return [...(await lookAtAll([...machine(null), file], tell)), ...said];
  }
  const { policy } = rules;
  const issues: Probe = {
    check: 'policy',
    look: () => [...said, ...[...failedTests(policy, nowMs), ...rules.warnings].map(fromIssue)],
  };
  const http = policy.listeners.filter((listener): listener is HttpListener => listener.type === 'http');
  const tcp = policy.listeners.filter((listener): listener is TcpListener => listener.type === 'tcp');
  const jwt = [...policy.authenticators.values()].filter((one): one is JwtAuthenticator => one.type === 'jwt');
  // Several ask it; it is looked for once.
  const running = findRunning(policy.stateDir);
  return await lookAtAll(
    [
      ...machine(policy),
      issues,
      { check: 'file', look: () => lookAtFiles(source, policy) },
      { check: 'state', look: () => lookAtStateDirectory(policy) },
      ...(policy.redis === null ? [] : [{ check: 'redis', look: () => lookAtRedis(policy, loaded.ok) }]),
      ...jwt.map((authenticator) => ({
        check: `jwks ${authenticator.name}`,
        look: () => lookAtJwks(policy, authenticator, loaded.ok, nowMs),
      })),
      ...tcp.map((listener) => ({ check: `tcp ${listener.name}`, look: () => lookAtTcp(listener) })),
      ...[...http, ...tcp].map((listener) => ({
        check: `certificate ${listener.name}`,
        look: () => lookAtCertificates(policy, listener, nowMs),
      })),
      { check: 'exposure', look: () => lookAtExposure(policy) },
      ...policy.upstreams.map((upstream) => ({
        check: `upstream ${upstream.name}`,
        look: () => lookAtReach(upstream),
      })),
      ...atWork(policy, http, running, nowMs),
    ],
    tell,
  );
}

/** guardbee where it runs. */
function atWork(
  policy: Policy,
  http: readonly HttpListener[],
  running: Promise<Running | null>,
  nowMs: number,
): Probe[] {
  const { admin, audit } = policy;
  return [
    ...(audit === null ? [] : [{ check: 'audit', look: async () => lookAtAudit(policy, audit, await running, nowMs) }]),
    { check: 'processes', look: async () => lookAtProcesses(policy, await running) },
    { check: 'surroundings', look: async () => lookAtSurroundings(policy, await running) },
    ...http.map((listener) => ({
      check: `refusal ${listener.name}`,
      look: async () => lookAtRefusal(policy, listener, await running, nowMs),
    })),
    ...(admin === null ? [] : [{ check: 'ready', look: () => lookAtReadiness(admin) }]),
  ];
}

function fromIssue({ severity, code, file, line, column, key, message, hint }: Issue): Finding {
  const place = line === 0 ? file : `${file}:${line}:${column}`;
  return {
    check: code === 'test_failed' ? 'test' : ISSUES[code],
    status: severity === 'error' ? 'failed' : 'warn',
    detail: `${place}${key === '' ? '' : ` ${key}`}: ${message}`,
    fix:
      code === 'test_failed'
        ? 'mend the rule or the test; guardbee explain says which line decides'
        : (hint ??
          (severity === 'error' ? 'change that line to what is allowed' : 'nothing, if that is what you want')),
  };
}
