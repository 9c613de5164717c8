/** What guardbee runs in: limits of the system, a service of systemd, a container. Hints; nothing of it fails. */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import type { Policy } from '../../policy/policy.js';
import { type Finding, ok, skipped, warn } from './finding.js';
import { type ProcessFacts, commandOf, processFacts } from './process-facts.js';
import type { Running } from './running.js';

/** Besides connections: listeners, files, the log, DNS, Redis, what Node itself opens. */
const OTHER_FILES = 64;

/** @param root of the file system; `/` but in tests */
export async function lookAtSurroundings(
  policy: Policy,
  running: Running | null,
  root = '/',
): Promise<readonly Finding[]> {
  // Where none runs, what doctor itself was started in tells what guardbee would have here.
  const pid = running?.pid ?? 'self';
  const facts = await processFacts(pid, root);
  if (facts === null) {
    return [skipped('process', 'not known: this system does not say what its processes may do', 'none is needed')];
  }
  return [
    judgeOpenFiles(policy, facts),
    judgeCore(facts),
    ...judgeUser(facts),
    ...judgeService(facts, running, root),
    ...(await judgeContainer(facts, running, root)),
  ];
}

/** Each connection may need another one to an upstream. */
function judgeOpenFiles(policy: Policy, { openFiles }: ProcessFacts): Finding {
  const check = 'open files';
  const most = policy.listeners.reduce((sum, { limits }) => sum + limits.connections, 0);
  const needed = 2 * most + OTHER_FILES;
  if (openFiles === null) return skipped(check, 'not known how many it may have', 'ulimit -n');
  const may = `${String(openFiles)} may be open, ${String(needed)} are needed for ${String(most)} connections and as many to upstreams`;
  return openFiles >= needed
    ? ok(check, may)
    : warn(
        check,
        may,
        `LimitNOFILE=${String(needed)} in the unit, --ulimit nofile=${String(needed)} for a container, or lower limits.connections`,
      );
}

function judgeCore({ coreBytes }: ProcessFacts): Finding {
  const check = 'core dumps';
  if (coreBytes === null) return skipped(check, 'not known whether any are written', 'ulimit -c');
  return coreBytes === 0
    ? ok(check, 'none are written')
    : warn(
        check,
        'a crash may write one, with tokens and keys in it',
        'LimitCORE=0 in the unit, --ulimit core=0 for a container, ulimit -c 0 in a shell',
      );
}

function judgeUser({ uid }: ProcessFacts): Finding[] {
  if (uid === null) return [];
  return [
    uid === 0
      ? warn(
          'user',
          'it runs as root: a flaw in it would be one in everything',
          'give it a user of its own (DynamicUser=yes in the unit, --user for a container); for ports below 1024 CAP_NET_BIND_SERVICE is enough',
        )
      : ok('user', `it runs as user ${String(uid)}`),
  ];
}

/** CAP_NET_BIND_SERVICE of capabilities(7). */
const BIND_LOW_PORTS = 1n << 10n;

function judgeService(facts: ProcessFacts, running: Running | null, root: string): Finding[] {
  const check = 'service';
  if (running === null || facts.unit === null) {
    // Made by systemd where it runs the system (sd_booted(3)).
    if (!existsSync(path.join(root, 'run/systemd/system'))) return [];
    return [
      skipped(
        check,
        running === null ? 'guardbee does not run here, or may not be asked' : 'no unit of systemd runs it',
        'examples/systemd/guardbee.service is a unit to begin with',
      ),
    ];
  }
  const absent = [
    facts.noNewPrivileges ? null : 'NoNewPrivileges=yes',
    facts.filtersSystemCalls ? null : 'SystemCallFilter=',
    (facts.capabilities & ~BIND_LOW_PORTS) === 0n ? null : 'CapabilityBoundingSet=',
    facts.rootIsReadOnly ? null : 'ProtectSystem=strict',
  ].filter((key) => key !== null);
  return [
    absent.length === 0
      ? ok(check, `${facts.unit} holds it tight`)
      : warn(
          check,
          `${facts.unit} goes without ${absent.join(', ')}`,
          'take them from examples/systemd/guardbee.service',
        ),
    ok(
      'credentials',
      facts.credentialsDirectory === null
        ? 'none come by LoadCredential=, so its user reads the files themselves'
        : `they come by LoadCredential=, in ${facts.credentialsDirectory}`,
    ),
  ];
}

const SHELLS: ReadonlySet<string> = new Set(['sh', 'bash', 'dash', 'ash', 'ksh', 'zsh']);

async function judgeContainer(facts: ProcessFacts, running: Running | null, root: string): Promise<Finding[]> {
  const check = 'container';
  // Docker's and Podman's marks, and what kubelet puts into every pod.
  const marks = ['.dockerenv', 'run/.containerenv', 'var/run/secrets/kubernetes.io'];
  if (!marks.some((mark) => existsSync(path.join(root, mark)))) return [];
  const findings = [
    facts.rootIsReadOnly
      ? ok(check, 'its file system cannot be written to')
      : warn(
          check,
          'its file system can be written to',
          'read_only: true (--read-only, readOnlyRootFilesystem), with a volume for state.dir',
        ),
  ];
  const first = running !== null && facts.parent === 1 ? await commandOf(1, root) : null;
  if (first !== null && SHELLS.has(first)) {
    findings.push(
      warn(
        check,
        `process 1 is ${first}, which passes no SIGTERM on: a stop cuts what is open`,
        'begin the command with exec, or name guardbee itself in its JSON form; init: true (--init) does it too',
      ),
    );
  }
  return findings;
}
