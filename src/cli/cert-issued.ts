/** What an ACME authority has issued for the hosts of a policy, as the state directory has it; never a key. */
import type { Command } from 'commander';
import type { Look } from '../acme/look.js';
import { ISSUES } from '../policy/issue.js';
import type { Policy } from '../policy/policy.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { describeCertificate } from '../server/certificate.js';
import { inJson, linesOf, validity } from './certificate-text.js';
import { EXIT, ending } from './exit-code.js';
import { type PolicyOptions, type PolicySource, openPolicy, takesPolicy } from './policy-source.js';
import type { Line, Voice } from './voice.js';

export function registerIssued(cert: Command, voice: Voice): void {
  takesPolicy(cert.command('issued'))
    .description(
      'Says of each host of the policy that an ACME authority issues certificates for whether it has one, until when, and from when on it is renewed. It reads the state directory and asks nobody. Exits with 1 when a host has none that is valid now.',
    )
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee cert issued policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) => {
        return await showIssued(await openPolicy(positional, options), voice, options.json === true);
      }),
    );
}

async function showIssued(source: PolicySource, voice: Voice, json: boolean): Promise<number> {
  const policy = await rulesOf(source, voice);
  if (typeof policy === 'number') return policy;
  const { look } = await import('../acme/look.js');
  const nowMs = Date.now();
  const looks: [string, Look][] = [];
  for (const host of hostsOf(policy)) looks.push([host, await look(policy, host, nowMs)]);
  if (json) {
    voice.json({ file: policy.file, hosts: looks.map(([host, found]) => hostInJson(host, found, nowMs)) });
  } else if (looks.length === 0) {
    voice.out(`${policy.file}: no listener has tls: { acme: true }, so no authority issues a certificate`);
  } else {
    for (const [host, found] of looks) {
      voice.out([{ tone: 'strong', text: host }]);
      for (const line of linesOfHost(found, nowMs)) voice.out(line);
    }
  }
  return looks.every(([, found]) => standing(found, nowMs) === 'valid') ? EXIT.ok : EXIT.policy;
}

/** Or the exit code; then what is wrong has been said. Its secrets do not matter here. */
async function rulesOf(source: PolicySource, voice: Voice): Promise<Policy | number> {
  const whole = await source.load();
  const rules =
    !whole.ok && whole.issues.every((issue) => ISSUES[issue.code] === 'secret')
      ? await source.load({ skipSecretFiles: true })
      : whole;
  if (rules.ok) return rules.policy;
  voice.err(renderIssues(rules.issues));
  return exitCodeFor(rules.issues);
}

function hostsOf({ listeners }: Policy): ReadonlySet<string> {
  return new Set(
    listeners.flatMap((listener) =>
      listener.type !== 'redirect' && listener.tls?.kind === 'acme' ? listener.tls.hosts : [],
    ),
  );
}

type Standing = ReturnType<typeof validity> | 'none' | 'unusable' | 'unreadable';

function standing({ issued, isUnusable, fault }: Look, nowMs: number): Standing {
  if (fault !== null) return 'unreadable';
  if (issued === null) return isUnusable ? 'unusable' : 'none';
  return validity(describeCertificate(issued.pair.certPem), nowMs);
}

function linesOfHost(found: Look, nowMs: number): Line[] {
  const { file, issued, isUnusable, isOfAnother, renewAtMs, status, fault } = found;
  if (fault !== null) return [['  ', { tone: 'bad', text: fault.why }]];
  const { lastFailure } = status;
  const failure: Line[] =
    lastFailure === null
      ? []
      : [['  ', { tone: 'bad', text: 'failed' }, `       on ${iso(lastFailure.atMs)}: ${lastFailure.why}`]];
  const place = `  file         ${file}`;
  if (issued === null) {
    const text = isUnusable
      ? 'the one that is there cannot be served: another is ordered when guardbee runs'
      : 'there is none yet: it is ordered when guardbee runs';
    return [['  ', { tone: 'bad', text }], ...failure, place];
  }
  const renewed = isOfAnother
    ? 'as soon as guardbee runs: it is not of the authority of acme.directory'
    : `from ${iso(renewAtMs ?? nowMs)} on`;
  return [...linesOf(describeCertificate(issued.pair.certPem), nowMs), `  renewed      ${renewed}`, ...failure, place];
}

function hostInJson(host: string, found: Look, nowMs: number): Readonly<Record<string, unknown>> {
  const { file, issued, renewAtMs, status, fault } = found;
  const { lastFailure } = status;
  return {
    host,
    status: standing(found, nowMs),
    file,
    certificate: issued === null ? null : inJson(describeCertificate(issued.pair.certPem), nowMs),
    issued_by: issued === null ? null : issued.directory,
    renewed_from: renewAtMs === null ? null : iso(renewAtMs),
    last_failure: lastFailure === null ? null : { time: iso(lastFailure.atMs), why: lastFailure.why },
    fault: fault === null ? null : fault.why,
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
