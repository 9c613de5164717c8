import type { Command } from 'commander';
import type { Issue } from '../policy/issue.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { type ControlAnswer, RELOAD_PATIENCE_MS, askControl } from '../server/control.js';
import type { Reloaded } from '../server/reloading.js';
import { StateError } from '../server/state.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { type PolicyOptions, openPolicy, takesPolicy } from './policy-source.js';
import type { Voice } from './voice.js';

export function registerReload(program: Command, voice: Voice): void {
  takesPolicy(program.command('reload'))
    .description(
      'Has a running guardbee read its policy again, with all that it names, and says what came of it. What is wrong is told as by check, with the same exit codes; all stays as it was then. Open streams go on, but for those that the policy now refuses.',
    )
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  guardbee reload --policy policy.yaml\n')
    .action(
      ending(
        async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) =>
          await reload(positional, options, voice, options.json === true),
      ),
    );
}

async function reload(
  positional: string | undefined,
  options: PolicyOptions,
  voice: Voice,
  json: boolean,
): Promise<number> {
  const source = await openPolicy(positional, options);
  const rules = await source.load({ skipSecretFiles: true });
  if (!rules.ok) {
    // Where its state directory is stands in the policy, so it must be readable before anybody can be asked.
    const code = exitCodeFor(rules.issues);
    if (json) voice.json({ ok: false, exit_code: code, issues: rules.issues });
    else voice.err(`${renderIssues(rules.issues)}The running guardbee was not asked.`);
    return code;
  }
  const answer = await asked(rules.policy.stateDir);
  if (answer === null) {
    throw new Ending(EXIT.policy, `no guardbee runs with the state directory ${rules.policy.stateDir}`);
  }
  if (!answer.ok) throw new Ending(EXIT.policy, answer.error);
  const outcome = outcomeOf(answer['reloaded']);
  if (outcome === null) throw new Ending(EXIT.policy, 'the running guardbee is of another version: restart it');
  const code = outcome.ok ? EXIT.ok : outcome.exitCode;
  if (json) {
    voice.json(
      outcome.ok
        ? { ...outcome, exit_code: code }
        : { ok: false, exit_code: code, before: outcome.before, issues: outcome.issues },
    );
    return code;
  }
  if (!outcome.ok) {
    voice.err(`${renderIssues(outcome.issues)}Version ${outcome.before} stays in force.`);
    return code;
  }
  const warnings = renderIssues(outcome.warnings);
  if (warnings !== '') voice.err(warnings);
  voice.out([{ tone: 'good', text: 'reloaded' }, `: version ${outcome.after} is in force`]);
  for (const line of outcome.changes.length === 0 ? ['nothing has changed'] : outcome.changes) voice.out(`  ${line}`);
  if (outcome.refused > 0) voice.out(`  ${String(outcome.refused)} open exchanges are no longer allowed`);
  return code;
}

async function asked(stateDir: string): Promise<ControlAnswer | null> {
  try {
    return await askControl(stateDir, { cmd: 'reload' }, RELOAD_PATIENCE_MS);
  } catch (error) {
    if (error instanceof StateError) throw new Ending(EXIT.policy, error.message);
    throw error;
  }
}

/** What came through the socket; null where it is not what this version says. */
function outcomeOf(value: unknown): Reloaded | null {
  if (typeof value !== 'object' || value === null || !('ok' in value) || !('before' in value)) return null;
  if (typeof value.before !== 'string') return null;
  const { before } = value;
  if (value.ok === false && 'exitCode' in value && 'issues' in value && typeof value.exitCode === 'number') {
    return { ok: false, before, exitCode: value.exitCode, issues: issuesOf(value.issues) };
  }
  if (value.ok !== true || !('after' in value) || !('changes' in value) || !('refused' in value)) return null;
  const { after, changes, refused } = value;
  if (typeof after !== 'string' || typeof refused !== 'number' || !Array.isArray(changes)) return null;
  const warnings = 'warnings' in value ? issuesOf(value.warnings) : [];
  return { ok: true, before, after, refused, changes: changes.map(String), warnings };
}

function issuesOf(value: unknown): Issue[] {
  return Array.isArray(value) ? (value as Issue[]) : [];
}
