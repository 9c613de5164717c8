import type { Command } from 'commander';
import { type PolicyTestResult, runPolicyTests } from '../gate/policy-tests.js';
import { ISSUES, type Issue } from '../policy/issue.js';
import type { Policy } from '../policy/policy.js';
import { exitCodeFor, renderIssues, sortIssues } from '../policy/render-issues.js';
import { exposureIssues } from '../server/exposure-issues.js';
import { PolicyLimits } from '../state/limits.js';
import { EXIT, ending } from './exit-code.js';
import { type PolicyOptions, type PolicySource, openPolicy, takesPolicy } from './policy-source.js';
import type { Voice } from './voice.js';

export function registerCheck(program: Command, voice: Voice): void {
  takesPolicy(program.command('check'))
    .alias('validate')
    .description(
      'Looks through a policy and all that it names, as run would, and runs its tests. Tells every problem, with its line and the fix.',
    )
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee check policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) => {
        return await check(await openPolicy(positional, options), voice, options.json === true);
      }),
    );
}

async function check(source: PolicySource, voice: Voice, json: boolean): Promise<number> {
  const { policy, errors, warnings, passed } = await judge(source);
  const code = exitCodeFor(errors);
  if (json) {
    voice.json({
      file: source.file,
      ok: code === EXIT.ok,
      exit_code: code,
      ...(policy === null ? {} : { ...sizeOf(policy), tests_passed: passed }),
      errors,
      warnings,
    });
    return code;
  }
  const told = renderIssues([...errors, ...warnings]);
  if (told !== '') voice.err(told);
  if (code === EXIT.ok && policy !== null) {
    const { listeners, routes } = sizeOf(policy);
    const parts = [
      count(listeners, 'listener'),
      count(routes, 'route'),
      passed === 0 ? 'no tests' : `${count(passed, 'test')} passed`,
      ...(warnings.length === 0 ? [] : [count(warnings.length, 'warning')]),
    ];
    voice.out([`${source.file}: `, { tone: 'good', text: 'fine' }, ` (${parts.join(', ')})`]);
  }
  return code;
}

interface Judgement {
  /** Null when its rules could not be read. */
  readonly policy: Policy | null;
  readonly errors: readonly Issue[];
  readonly warnings: readonly Issue[];
  readonly passed: number;
}

async function judge(source: PolicySource): Promise<Judgement> {
  const loaded = await source.load();
  if (loaded.ok) return judgeRules(loaded.policy, [], loaded.warnings);
  // Where only secrets are wanting, the rules can be judged all the same: everything is told in one run.
  const rules = loaded.issues.every((issue) => ISSUES[issue.code] === 'secret')
    ? await source.load({ skipSecretFiles: true })
    : loaded;
  if (!rules.ok) return { policy: null, errors: loaded.issues, warnings: [], passed: 0 };
  return judgeRules(rules.policy, loaded.issues, rules.warnings);
}

function judgeRules(policy: Policy, before: readonly Issue[], warnings: readonly Issue[]): Judgement {
  const failed = failedTests(policy, Date.now());
  return {
    policy,
    errors: sortIssues([...before, ...exposureIssues(policy), ...failed], policy.file),
    warnings: sortIssues(warnings, policy.file),
    passed: policy.tests.length - failed.length,
  };
}

/** Runs the policy's tests, each with limits that nobody has used. */
export function testPolicy(policy: Policy, nowMs: number): PolicyTestResult[] {
  return runPolicyTests(policy, nowMs, () => PolicyLimits.supposed(policy));
}

/** Tests of the policy that do not come out as they should, as issues. */
export function failedTests(policy: Policy, nowMs: number): Issue[] {
  return testPolicy(policy, nowMs).flatMap(({ test, passed, message }, index): Issue[] => {
    if (passed) return [];
    return [
      {
        severity: 'error',
        code: 'test_failed',
        file: policy.file,
        ...test.position,
        key: `tests[${index}]`,
        message: `${JSON.stringify(test.name)}: ${message}`,
      },
    ];
  });
}

function sizeOf(policy: Policy): { readonly listeners: number; readonly routes: number } {
  const routes = policy.listeners.map((listener) => (listener.type === 'http' ? listener.routes.routes.length : 0));
  return { listeners: policy.listeners.length, routes: routes.reduce((sum, one) => sum + one, 0) };
}

/** `1 route`, `9 routes`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
