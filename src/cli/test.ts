import type { Command } from 'commander';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { count, failedTests, testPolicy } from './check.js';
import { EXIT, ending } from './exit-code.js';
import { type PolicyOptions, type PolicySource, openPolicy, takesPolicy } from './policy-source.js';
import type { Voice } from './voice.js';

export function registerTest(program: Command, voice: Voice): void {
  takesPolicy(program.command('test'))
    .description(
      "Runs a policy's own tests. Secrets and certificates are not read, so this also works where they are not.",
    )
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee test policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: PolicyOptions & { readonly json?: true }) => {
        return await test(await openPolicy(positional, options), voice, options.json === true);
      }),
    );
}

async function test(source: PolicySource, voice: Voice, json: boolean): Promise<number> {
  const loaded = await source.load({ skipSecretFiles: true });
  if (!loaded.ok) {
    if (json) voice.json({ file: source.file, ok: false, errors: loaded.issues });
    else voice.err(renderIssues(loaded.issues));
    return exitCodeFor(loaded.issues);
  }
  const { policy } = loaded;
  const now = Date.now();
  const results = testPolicy(policy, now);
  const failed = results.filter((result) => !result.passed).length;
  if (json) {
    voice.json({
      file: policy.file,
      ok: failed === 0,
      passed: results.length - failed,
      failed,
      tests: results.map(({ test: one, passed, message }) => ({
        name: one.name,
        line: one.position.line,
        column: one.position.column,
        listener: one.listener,
        passed,
        message,
      })),
    });
  } else if (results.length === 0) {
    voice.out(`${policy.file}: no tests`);
  } else {
    for (const { file, line, column, key, message } of failedTests(policy, now)) {
      voice.out([`${file}:${line}:${column} ${key} `, { tone: 'bad', text: 'failed' }, `: ${message}`]);
    }
    const passed = results.length - failed;
    voice.out(
      failed === 0
        ? [`${policy.file}: `, { tone: 'good', text: `${count(passed, 'test')} passed` }]
        : [`${policy.file}: ${passed} passed, `, { tone: 'bad', text: `${failed} failed` }],
    );
  }
  return failed === 0 ? EXIT.ok : EXIT.policy;
}
