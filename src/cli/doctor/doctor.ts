import type { Command } from 'commander';
import { escapeControls } from '../../observe/control-characters.js';
import { EXIT, ending } from '../exit-code.js';
import { type PolicyOptions, namedPolicy, openPolicy, takesPolicy } from '../policy-source.js';
import type { Tone, Voice } from '../voice.js';
import { examine } from './examine.js';
import type { Finding } from './finding.js';

export function registerDoctor(program: Command, voice: Voice): void {
  takesPolicy(program.command('doctor'))
    .description(
      'Looks over the machine (Node, clock), the policy (files, modes, certificates, keys, exposed ports), the shared Redis, and guardbee where it runs: is a request without a credential really refused, and by guardbee? It changes nothing, and nothing that it asks reaches the upstream of a guardbee with this policy. Each check says what to do; exits with 1 when one fails.',
    )
    .option('--json', 'report as JSON: a list of { check, status: ok | warn | failed | skipped, detail, fix }')
    .addHelpText('after', '\nExample:\n  guardbee doctor policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) => {
        const source = namedPolicy(positional, options) === null ? null : await openPolicy(positional, options);
        const findings = await examine(source, Date.now(), (waitingFor) => voice.progress(progressOf(waitingFor)));
        voice.progress(null);
        return report(findings, voice, options.json === true);
      }),
    );
}

function progressOf(waitingFor: readonly string[]): string | null {
  return waitingFor.length === 0 ? null : `looking at ${waitingFor.join(', ')}`;
}

const MARKS: Readonly<Record<Finding['status'], { readonly tone: Tone; readonly text: string }>> = {
  ok: { tone: 'good', text: 'ok  ' },
  warn: { tone: 'warning', text: 'warn' },
  failed: { tone: 'bad', text: 'FAIL' },
  skipped: { tone: 'faint', text: 'skip' },
};

function report(findings: readonly Finding[], voice: Voice, json: boolean): number {
  if (json) voice.json(findings);
  else {
    for (const { check, status, detail, fix } of findings) {
      // What answers on a port, and names of files, are others' words: a line end in them would begin a finding.
      voice.out([MARKS[status], escapeControls(` ${check}: ${detail}${fix === null ? '' : `; fix: ${fix}`}`)]);
    }
  }
  return findings.some(({ status }) => status === 'failed') ? EXIT.policy : EXIT.ok;
}
