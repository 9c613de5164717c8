/**
 * Input and expected output side by side: test/policies/good and test/policies/bad, each policy with what is said of it.
 * `UPDATE_GOLDEN=1` writes the expected files anew; read the difference before it is committed.
 */
import assert from 'node:assert/strict';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { after, describe, test } from 'node:test';
import { ISSUES } from '../../src/policy/issue.js';
import type { Issue } from '../../src/policy/issue.js';
import { loadPolicy, loadPolicyText } from '../../src/policy/load.js';
import type { Loaded } from '../../src/policy/load.js';
import { exitCodeFor, renderIssues } from '../../src/policy/render-issues.js';
import { POLICIES, preparePolicy } from './policy-fixture.js';

/** Planted in the policies wherever a secret may have ended up; never to be seen again. */
const PLANTED = /hunter2|s3cr3t/;

/** Said by others than the loader, or about what no policy file can show here. */
const ELSEWHERE = new Set([
  ...['test_failed', 'upstream_exposed', 'too_large', 'file_unreadable'],
  // Of what the process was started with: test/systemd.
  ...['socket_missing', 'socket_elsewhere'],
  // Of a reload: test/reload.
  ...['not_reloadable', 'address_unavailable', 'state_unusable', 'worker_failed'],
]);

const seen = new Set<string>();

function tell(loaded: Loaded, clean: (text: string) => string): string {
  const issues = loaded.ok ? loaded.warnings : loaded.issues;
  for (const issue of issues) seen.add(issue.code);
  const codes = [...new Set(issues.map((issue) => issue.code))].join(', ');
  return `${clean(renderIssues(issues))}exit ${exitCodeFor(issues)}${codes === '' ? '' : ` (${codes})`}\n`;
}

async function yamlFiles(folder: string): Promise<string[]> {
  return (await readdir(path.join(POLICIES, folder))).filter((name) => name.endsWith('.yaml')).sort();
}

for (const folder of ['good', 'bad']) {
  describe(`policies/${folder}`, async () => {
    for (const name of await yamlFiles(folder)) {
      test(name, async () => {
        const source = path.join(POLICIES, folder, name);
        const fixture = await preparePolicy(source);
        try {
          const loaded = await loadPolicy(fixture.file, fixture.options);
          const told = tell(loaded, fixture.clean);
          const expectedFile = source.replace(/\.yaml$/, '.expected');
          if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(expectedFile, told);
          assert.equal(told, await readFile(expectedFile, 'utf8'));
          assert.equal(loaded.ok, folder === 'good');
          assert.doesNotMatch(told, PLANTED);
          assertPointsIntoTheFile(loaded, await readFile(source, 'utf8'), fixture.file);
          await assertRulesCanBeAskedWithoutFiles(fixture.file, loaded, fixture.options.now);
        } finally {
          await fixture.remove();
        }
      });
    }
  });
}

/** Every issue of the policy stands at a character of the policy. */
function assertPointsIntoTheFile(loaded: Loaded, text: string, file: string): void {
  const lines = text.split('\n');
  for (const issue of loaded.ok ? loaded.warnings : loaded.issues) {
    if (issue.file !== file || issue.line === 0) continue;
    const line = lines[issue.line - 1];
    assert.ok(line !== undefined && issue.column >= 1 && issue.column <= line.length + 1, JSON.stringify(issue));
  }
}

/** What `guardbee test` and `explain` do: the same rules, without a look at secrets. */
async function assertRulesCanBeAskedWithoutFiles(file: string, loaded: Loaded, now: number): Promise<void> {
  const asked = await loadPolicyText(await readFile(file, 'utf8'), file, { env: {}, now, skipSecretFiles: true });
  if (loaded.ok) assert.equal(asked.ok, true, 'a good policy must be good without its files');
}

after(() => {
  const unseen = (Object.keys(ISSUES) as Issue['code'][]).filter((code) => !seen.has(code) && !ELSEWHERE.has(code));
  assert.deepEqual(unseen, [], 'issue codes that no policy of test/policies shows');
});
