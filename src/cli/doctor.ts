import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import * as path from 'node:path';
import type { Command } from 'commander';
import { LARGEST_DOCUMENT, parseDocument } from '../policy/document.js';
import { ISSUES, type Issue } from '../policy/issue.js';
import { type Reference, references } from '../policy/material.js';
import type { HttpListener, Policy, Upstream } from '../policy/policy.js';
import { policySchema } from '../policy/schema.js';
import { validate } from '../policy/validate.js';
import { currentReader, readFile as readPrivate } from '../secret/files.js';
import { type CertificateDescription, describeCertificate } from '../server/certificate.js';
import { exposureOf } from '../server/exposure-issues.js';
import { daysLeft, validity } from './cert.js';
import { count, failedTests } from './check.js';
import { EXIT, ending } from './exit-code.js';
import { addressText, askAdmin, summaryOf } from './health.js';
import { judgeNode } from './node-line.js';
import { type PolicyOptions, type PolicySource, namedPolicy, openPolicy, takesPolicy } from './policy-source.js';
import type { SentinelState } from '../state/redis-look.js';
import { type Answer, type Question, ask, harmlessQuestion, reachableAt } from './refusal.js';
import type { Tone, Voice } from './voice.js';

export function registerDoctor(program: Command, voice: Voice): void {
  takesPolicy(program.command('doctor'))
    .description(
      'Looks over the machine (Node, clock), the policy (files, modes, certificates, exposed ports), the shared Redis, and guardbee where it runs: is a request without a credential really refused? Each check says what to do; exits with 1 when one fails.',
    )
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee doctor policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) => {
        const source = namedPolicy(positional, options) === null ? null : await openPolicy(positional, options);
        return report(await examine(source, Date.now()), voice, options.json === true);
      }),
    );
}

interface Finding {
  /** What was looked at. */
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly message: string;
  /** What to do. */
  readonly fix: string | null;
}

const ok = (check: string, message: string): Finding => ({ check, level: 'ok', message, fix: null });
const warn = (check: string, message: string, fix: string | null): Finding => ({ check, level: 'warn', message, fix });
const fail = (check: string, message: string, fix: string | null): Finding => ({ check, level: 'fail', message, fix });

const MARKS: Readonly<Record<Finding['level'], { readonly tone: Tone; readonly text: string }>> = {
  ok: { tone: 'good', text: 'ok  ' },
  warn: { tone: 'warning', text: 'warn' },
  fail: { tone: 'bad', text: 'FAIL' },
};

function report(findings: readonly Finding[], voice: Voice, json: boolean): number {
  const failed = findings.filter(({ level }) => level === 'fail').length;
  if (json) {
    voice.json({ ok: failed === 0, checks: findings });
  } else {
    for (const { check, level, message, fix } of findings) {
      voice.out([MARKS[level], ` ${check}: ${message}`, ...(fix === null ? [] : [`; fix: ${fix}`])]);
    }
  }
  return failed === 0 ? EXIT.ok : EXIT.policy;
}

async function examine(source: PolicySource | null, nowMs: number): Promise<Finding[]> {
  const findings: Finding[] = [{ check: 'node', ...judgeNode(process.versions.node, nowMs) }];
  findings.push(...(await examineClock(source, nowMs)));
  if (source === null) {
    return [
      ...findings,
      warn('policy', 'none was named, so only the machine was looked at', 'guardbee doctor policy.yaml'),
    ];
  }
  const loaded = await source.load();
  findings.push(...(await examinePolicyFile(source)));
  if (!loaded.ok) findings.push(...loaded.issues.map(fromIssue));
  // Broken secrets do not keep the rest from being looked at.
  const rules =
    !loaded.ok && loaded.issues.every((issue) => ISSUES[issue.code] === 'secret')
      ? await source.load({ skipSecretFiles: true })
      : loaded;
  if (!rules.ok) return findings;
  const { policy } = rules;
  findings.push(...failedTests(policy, nowMs).map(fromIssue), ...rules.warnings.map(fromIssue));
  findings.push(...(await examineSecretFiles(source, policy)));
  findings.push(...(await examineStateDirectory(policy)));
  findings.push(...(await examineRedis(policy, loaded.ok)));
  for (const listener of policy.listeners) {
    if (listener.type === 'http') findings.push(...(await examineCertificates(policy, listener, nowMs)));
  }
  findings.push(...examineExposure(policy));
  findings.push(...(await Promise.all(policy.upstreams.map(examineReach))));
  for (const listener of policy.listeners) {
    if (listener.type === 'http') findings.push(await examineRefusal(policy, listener, nowMs));
  }
  if (policy.admin !== null) findings.push(await examineReadiness(policy.admin));
  return findings;
}

function fromIssue({ severity, code, file, line, column, key, message, hint }: Issue): Finding {
  const place = line === 0 ? file : `${file}:${line}:${column}`;
  return {
    check: code === 'test_failed' ? 'test' : ISSUES[code] === 'policy' ? 'policy' : ISSUES[code],
    level: severity === 'error' ? 'fail' : 'warn',
    message: `${place}${key === '' ? '' : ` ${key}`}: ${message}`,
    fix:
      code === 'test_failed' ? 'mend the rule or the test; guardbee explain says which line decides' : (hint ?? null),
  };
}

// ---------------------------------------------------------------------------------------------------------------
// The machine

/** guardbee did not exist before, nor will this version be in use after. */
const EARLIEST_MS = Date.UTC(2026, 0, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);
const TIMESYNC = '/run/systemd/timesync';

async function examineClock(source: PolicySource | null, nowMs: number): Promise<Finding[]> {
  const fix =
    'set the clock, and keep it with NTP (timedatectl set-ntp true): tokens and certificates are judged by it';
  const time = new Date(nowMs).toISOString();
  if (nowMs < EARLIEST_MS || nowMs > LATEST_MS) return [fail('clock', `it says ${time}, which cannot be`, fix)];
  const written = source === null ? null : await stat(source.file).catch(() => null);
  if (written !== null && written.mtimeMs > nowMs + 300_000) {
    return [warn('clock', `it says ${time}, and the policy was written after that`, fix)];
  }
  if (existsSync(TIMESYNC) && !existsSync(path.join(TIMESYNC, 'synchronized'))) {
    return [warn('clock', `it says ${time}, and is not synchronized`, fix)];
  }
  return [ok('clock', `it says ${time}`)];
}

// ---------------------------------------------------------------------------------------------------------------
// Files

async function examinePolicyFile(source: PolicySource): Promise<Finding[]> {
  const found = await stat(source.file).catch(() => null);
  // What is wrong with it is among the issues.
  if (found === null || (found.mode & 0o022) !== 0) return [];
  return [ok('policy', `${source.file} has mode ${octal(found.mode)}`)];
}

function octal(mode: number): string {
  return `0${(mode & 0o777).toString(8)}`;
}

async function examineSecretFiles(source: PolicySource, policy: Policy): Promise<Finding[]> {
  const text = await source.text();
  if (text === null) return [];
  const folder = path.dirname(path.resolve(policy.file));
  const files = references(validate(parseDocument(text, policy.file), policySchema)).flatMap(secretFiles);
  const described = await Promise.all(
    [...new Set(files.map((file) => path.resolve(folder, file)))].map(async (file) => {
      const { bytes, fault } = await readPrivate(
        file,
        'private',
        LARGEST_DOCUMENT,
        currentReader(process.env, policy.secretMounts),
      );
      bytes?.fill(0);
      const found = fault === null ? await stat(file).catch(() => null) : null;
      return found === null ? [] : [`${file} ${octal(found.mode)}`];
    }),
  );
  // The others are among the issues.
  const fine = described.flat();
  return fine.length === 0 ? [] : [ok('secret', `${count(fine.length, 'file')} fine: ${fine.join(', ')}`)];
}

function secretFiles(reference: Reference): string[] {
  switch (reference.kind) {
    case 'tokens_file':
    case 'htpasswd_file':
      return [reference.file];
    case 'certificate':
      return [reference.key];
    case 'secret':
    case 'token':
      return 'file' in reference.reference ? [reference.reference.file] : [];
    case 'key_file':
    case 'host':
    case 'client_authority':
    case 'gateways':
      return [];
  }
}

async function examineStateDirectory(policy: Policy): Promise<Finding[]> {
  const found = await stat(policy.stateDir).catch(() => null);
  if (found === null) return [ok('state', `${policy.stateDir} is made at the first start`)];
  if (!found.isDirectory()) return [fail('state', `${policy.stateDir} is not a folder`, 'move it away')];
  return (found.mode & 0o077) === 0
    ? [ok('state', `${policy.stateDir} has mode ${octal(found.mode)}`)]
    : [
        fail(
          'state',
          `others may enter ${policy.stateDir} (mode ${octal(found.mode)})`,
          `chmod 700 ${policy.stateDir}`,
        ),
      ];
}

// ---------------------------------------------------------------------------------------------------------------
// The shared store

const ACCEPT_LOSS = 'revoke again what must be, then run "guardbee revoke --accept-loss"';

/** @param secretsRead false: nothing of the secrets is known, nor the URL */
async function examineRedis({ redis, stateDir }: Policy, secretsRead: boolean): Promise<Finding[]> {
  if (redis === null) return [];
  const check = 'redis';
  if (!secretsRead) {
    return [warn(check, 'not asked: not all secrets of the policy could be read', 'mend what is said of them')];
  }
  // Its client is loaded where there is something to ask.
  const { lookAtRedis } = await import('../state/redis-look.js');
  const look = await lookAtRedis(redis, stateDir);
  if (look.kind === 'silent') {
    return [
      fail(check, `it cannot be asked: ${look.why}`, 'see that it runs, and that its URL and password are right'),
    ];
  }
  const { version, isReplica, evicts, sentinel } = look;
  const findings = [
    isReplica
      ? fail(check, 'it is a replica, which may be behind', 'give the URL of the primary')
      : ok(check, `it answers (${version ?? 'its version is told only to those who may ask'})`),
  ];
  if (evicts !== null) {
    findings.push(
      warn(
        check,
        `it drops keys when its memory is full (maxmemory-policy ${evicts}), revocations among them`,
        'set maxmemory-policy noeviction',
      ),
    );
  }
  findings.push(judgeSentinel(sentinel));
  return findings;
}

function judgeSentinel(state: SentinelState): Finding {
  const check = 'redis sentinel';
  switch (state) {
    case 'none':
      return ok(check, 'none yet: it is set at the first start that shares revocations');
    case 'of_others':
      return ok(check, 'there, set by another guardbee; this one has not begun to use it');
    case 'same':
      return ok(check, 'the one that was remembered, so nothing was lost');
    case 'accepted':
      return ok(check, 'a new one, after a loss that somebody has accepted');
    case 'missing':
      return fail(check, 'missing: the store was emptied, and with it what was revoked', ACCEPT_LOSS);
    case 'another':
      return fail(
        check,
        'not the one that was remembered: this is another store',
        `see state.redis.url; or ${ACCEPT_LOSS}`,
      );
    case 'unknown':
      return warn(
        check,
        'not known: what was remembered cannot be read',
        'run doctor as the user that guardbee runs as',
      );
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Certificates

async function examineCertificates(policy: Policy, listener: HttpListener, nowMs: number): Promise<Finding[]> {
  const { tls, name } = listener;
  const check = `certificate ${name}`;
  if (tls === null) return [];
  if (tls.kind === 'files') {
    const described = tls.certificates.flatMap(({ certPem, certFile }) => {
      const certificate = certPem === '' ? null : read(certPem);
      return certificate === null ? [] : [{ certificate, certFile }];
    });
    const names = described.flatMap(({ certificate }) => certificate.names);
    return [
      ...described.map(({ certificate, certFile }) => judgeDates(check, certFile, certificate, nowMs)),
      ...(described.length === tls.certificates.length ? uncovered(check, listener, names) : []),
    ];
  }
  const file = path.join(policy.stateDir, 'tls', name, 'self-signed.crt');
  const pem = await readFile(file, 'utf8').catch(() => null);
  const certificate = pem === null ? null : read(pem);
  return certificate === null
    ? [ok(check, `${file} is made at the first start`)]
    : [judgeDates(check, file, certificate, nowMs), ...uncovered(check, listener, certificate.names)];
}

function read(pem: string): CertificateDescription | null {
  try {
    return describeCertificate(pem);
  } catch {
    return null;
  }
}

const SOON_DAYS = 30;

function judgeDates(check: string, file: string, certificate: CertificateDescription, nowMs: number): Finding {
  const fix = 'renew it, then reload guardbee';
  const until = certificate.notAfter.toISOString();
  const state = validity(certificate, nowMs);
  if (state === 'expired') return fail(check, `${file} has expired on ${until}`, fix);
  if (state === 'not_yet_valid') {
    return fail(
      check,
      `${file} is not valid before ${certificate.notBefore.toISOString()}`,
      'look at the clock, or wait',
    );
  }
  const days = daysLeft(certificate, nowMs);
  const left = `${file} has ${count(days, 'day')} left`;
  return days < SOON_DAYS ? warn(check, left, fix) : ok(check, left);
}

/** Hosts that the listener answers for, and no certificate names. */
function uncovered(check: string, listener: HttpListener, names: readonly string[]): Finding[] {
  const missing = [...(listener.hosts ?? [])].filter(
    (host) => !names.includes(host) && !names.includes(host.replace(/^[^.]+/, '*')),
  );
  return missing.length === 0
    ? []
    : [
        warn(
          check,
          `no certificate names ${missing.join(', ')}, so clients will refuse it there`,
          'have these names put in',
        ),
      ];
}

// ---------------------------------------------------------------------------------------------------------------
// Upstreams

function examineExposure(policy: Policy): Finding[] {
  const { upstreamExposure } = policy;
  return exposureOf(policy).map(({ upstream, state, why, addresses }) => {
    const check = `exposure ${upstream}`;
    if (state === 'private') return ok(check, why);
    if (state === 'unknown') return warn(check, `not known: ${why}`, 'look at it where the service runs: ss -ltn');
    const seen = `anyone can walk around guardbee: ${why} (${addresses.join(', ')})`;
    if (upstreamExposure.mode === 'firewalled')
      return ok(check, `accepted as firewalled (${upstreamExposure.why}): ${why}`);
    const fix = 'have the service listen on 127.0.0.1 alone, or close its port in the firewall';
    return upstreamExposure.mode === 'refuse' ? fail(check, seen, fix) : warn(check, seen, fix);
  });
}

const REACH_TIMEOUT_MS = 2000;

async function examineReach(upstream: Upstream): Promise<Finding> {
  const check = `upstream ${upstream.name}`;
  const { target } = upstream;
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
  return why === null
    ? ok(check, 'it takes connections')
    : warn(check, `it takes no connections (${why}), so callers would get 502`, 'start the service');
}

// ---------------------------------------------------------------------------------------------------------------
// guardbee where it runs

async function examineRefusal(policy: Policy, listener: HttpListener, nowMs: number): Promise<Finding> {
  const check = `refusal ${listener.name}`;
  const at = reachableAt(listener);
  if (at === null) return warn(check, 'not asked: its port is chosen at each start', 'give it a port of its own');
  const question = harmlessQuestion(policy, listener, nowMs);
  if (question === null) {
    return warn(check, 'not asked: nothing that can be asked without harm is refused', 'try it by hand');
  }
  return judgeAnswer(check, addressText(at), question, await ask(listener, question));
}

function judgeAnswer(check: string, at: string, question: Question, answer: Answer): Finding {
  const asked = `${question.method} ${question.path} without a credential`;
  if (answer.kind === 'answered') {
    if (answer.status === 503) return warn(check, `${at} answers 503 now`, 'ask again when it is up');
    return answer.status === 401 || answer.status === 403 || answer.status === question.expected.status
      ? ok(check, `${at} refuses ${asked}: ${answer.status}`)
      : fail(
          check,
          `${at} answers ${answer.status} to ${asked}, and the policy says ${question.expected.status}`,
          'see what listens there (ss -ltnp), and whether it runs with this policy',
        );
  }
  if (answer.code === 'ECONNREFUSED') {
    return warn(check, `not asked: nothing listens on ${at}`, 'run guardbee, then ask again');
  }
  if (question.expected.reason === 'address_denied' && (answer.code === 'ECONNRESET' || answer.code === 'EPIPE')) {
    return ok(check, `${at} turns this machine away, as allow_from says`);
  }
  return fail(
    check,
    `${at} does not answer ${asked} as guardbee would (${answer.code})`,
    'see what listens there (ss -ltnp), and whether it runs with this policy',
  );
}

async function examineReadiness(admin: { readonly host: string; readonly port: number }): Promise<Finding> {
  const at = addressText(admin);
  if (admin.port === 0)
    return warn('ready', 'not asked: the admin port is chosen at each start', 'give it a port of its own');
  const answer = await askAdmin(admin, '/readyz');
  if (answer.kind === 'silent') return warn('ready', `not asked: ${at}: ${answer.why}`, 'run guardbee, then ask again');
  return answer.status === 200
    ? ok('ready', `${at} says so`)
    : fail('ready', `${at} answers ${answer.status}${summaryOf(answer.body)}`, 'see what it names, and the log');
}
